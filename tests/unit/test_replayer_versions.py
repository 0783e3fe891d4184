"""The version that holds at a moment: the vectorised rule equals the sentence it was made from."""

from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.model import END_OF_TIME, Columns, Op
from cdc.replayer.versions import (
    ABSENT,
    NO_GUARD,
    Action,
    Certainty,
    for_clone,
    for_rewind,
    same_content,
    states,
)


@dataclass(frozen=True)
class Change:
    digest: bytes
    offset: int
    op: int
    effective_at: int
    unobserved_since: int
    void_time: int
    consecutive: bool


def by_digest_and_offset(change: Change) -> tuple[bytes, int]:
    return change.digest, change.offset


def columns_of(changes: list[Change]) -> Columns:
    n = len(changes)
    zeros = np.zeros(n, np.int64)
    return Columns(
        digest=np.frombuffer(b"".join(c.digest for c in changes), np.uint8).reshape(n, 20),
        op=np.array([c.op for c in changes], np.uint8),
        origin=np.zeros(n, np.uint8),
        lut=zeros,
        generation=np.ones(n, np.int32),
        void_time=np.array([c.void_time for c in changes], np.int64),
        effective_at=np.array([c.effective_at for c in changes], np.int64),
        unobserved_since=np.array([c.unobserved_since for c in changes], np.int64),
        observed_at=zeros,
        consecutive=np.array([c.consecutive for c in changes], np.bool_),
        set_hash=np.zeros(n, np.uint64),
        checksum=np.arange(n, dtype=np.uint64),
    )


def plain_state(changes: list[Change], at: int, reconciled_at: int) -> tuple[Change | None, Change, Certainty]:
    """The rule of docs/architecture.md, for the changes of one digest, word by word."""
    by_offset = sorted(changes, key=lambda c: c.offset)
    chosen = max((c for c in by_offset if c.effective_at <= at), key=lambda c: c.offset, default=None)
    later = [c for c in by_offset if c.effective_at > at and (chosen is None or c.offset > chosen.offset)]
    certainty = Certainty.EXACT
    if later and later[0].unobserved_since < at < later[0].effective_at:
        certainty = Certainty.PRESUMED if later[0].consecutive else Certainty.FUZZY
    absent = chosen is None or chosen.op != Op.WRITE or (chosen.void_time != 0 and chosen.void_time <= at)
    if not absent and at > reconciled_at and certainty is Certainty.EXACT:
        certainty = Certainty.PRESUMED
    return (None if absent else chosen), by_offset[-1], certainty


# Few distinct digests that share long prefixes, so that ties in the first eight bytes are common.
DIGESTS = [
    b"\x00" * 20,
    b"\x00" * 19 + b"\x01",
    b"\x00" * 8 + b"\x01" + b"\x00" * 11,
    b"\xff" * 20,
    b"\x80" + b"\x07" * 19,
]


@st.composite
def histories(draw: st.DrawFn) -> list[Change]:
    n = draw(st.integers(0, 14))
    offsets = draw(st.lists(st.integers(0, 1000), min_size=n, max_size=n, unique=True))
    changes = []
    for offset in offsets:
        effective = draw(st.integers(1, 60))
        changes.append(
            Change(
                digest=draw(st.sampled_from(DIGESTS)),
                offset=offset,
                op=draw(st.sampled_from([0, 0, 0, 1, 2, 3, 4])),
                effective_at=effective,
                unobserved_since=draw(st.integers(0, effective)),
                void_time=draw(st.sampled_from([0, 0, 20, 40, 80])),
                consecutive=draw(st.booleans()),
            )
        )
    return sorted(changes, key=by_digest_and_offset)


@settings(max_examples=100, deadline=None)
@given(histories(), st.integers(0, 61), st.integers(0, 61))
def test_states_equal_the_sentence_in_the_architecture(changes: list[Change], at: int, reconciled_at: int) -> None:
    got = states(columns_of(changes), at, reconciled_at)
    by_digest: dict[bytes, list[Change]] = {}
    for c in changes:
        by_digest.setdefault(c.digest, []).append(c)
    assert [d.tobytes() for d in got.digest] == sorted(by_digest)
    for i, digest in enumerate(sorted(by_digest)):
        held, last, certainty = plain_state(by_digest[digest], at, reconciled_at)
        assert (None if got.held[i] == ABSENT else changes[got.held[i]]) == held
        assert changes[got.last[i]] == last
        assert got.certainty[i] == certainty


@settings(max_examples=40, deadline=None)
@given(histories(), st.integers(0, 61))
def test_working_in_digest_ranges_says_the_same_as_all_at_once(changes: list[Change], at: int) -> None:
    whole = states(columns_of(changes), at, 61)
    said = [(d.tobytes(), changes[h] if h != ABSENT else None, c) for d, h, c in _zip(whole)]
    pieces = []
    for low, high in [(b"", b"\x00" * 8 + b"\x01"), (b"\x00" * 8 + b"\x01", b"\x90"), (b"\x90", b"\xff" * 21)]:
        part = [c for c in changes if low <= c.digest < high]
        got = states(columns_of(part), at, 61)
        pieces += [(d.tobytes(), part[h] if h != ABSENT else None, c) for d, h, c in _zip(got)]
    assert pieces == said


def _zip(s):  # type: ignore[no-untyped-def]
    return zip(s.digest, s.held, s.certainty, strict=True)


@settings(max_examples=40, deadline=None)
@given(histories(), st.integers(0, 61))
def test_a_row_given_twice_changes_nothing(changes: list[Change], at: int) -> None:
    once = states(columns_of(changes), at, 61)
    doubled = sorted(changes + changes[::2], key=by_digest_and_offset)
    twice = states(columns_of(doubled), at, 61)
    assert np.array_equal(once.certainty, twice.certainty)
    assert [changes[h] if h != ABSENT else None for h in once.held] == [
        doubled[h] if h != ABSENT else None for h in twice.held
    ]


def test_the_edges_of_a_blind_interval_are_exact() -> None:
    digest = DIGESTS[0]
    changes = [
        Change(digest, 1, Op.WRITE, 10, 0, 0, False),
        Change(digest, 2, Op.WRITE, 30, 20, 0, False),
        Change(digest, 3, Op.WRITE, 50, 40, 0, True),
    ]
    said = {at: Certainty(states(columns_of(changes), at, 99).certainty[0]) for at in range(8, 60)}
    fuzzy = {at for at, c in said.items() if c is Certainty.FUZZY}
    presumed = {at for at, c in said.items() if c is Certainty.PRESUMED}
    assert fuzzy == {8, 9, *range(21, 30)}
    assert presumed == set(range(41, 50))


@pytest.mark.parametrize(("checksum", "void_time", "same"), [(0, 0, True), (1, 0, False), (0, 5, False)])
def test_same_content_needs_equal_checksum_and_expiry(checksum: int, void_time: int, same: bool) -> None:
    columns = columns_of([Change(DIGESTS[0], 1, 0, 1, 0, 0, False), Change(DIGESTS[0], 2, 0, 1, 0, void_time, False)])
    columns.checksum[1] = checksum
    assert same_content(columns, np.array([0]), np.array([1])).tolist() == [same]


def alive(change: Change, now: int) -> bool:
    return change.op == Op.WRITE and (change.void_time == 0 or change.void_time > now)


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 61), st.integers(0, 30))
def test_a_clone_writes_what_held_and_has_not_expired_since(changes: list[Change], at: int, later: int) -> None:
    columns = columns_of(changes)
    got = states(columns, at, 61)
    decided = for_clone(got, columns, at + later)
    for held, action, guard, expired in zip(got.held, decided.action, decided.guard, decided.expired, strict=True):
        live = held != ABSENT and alive(changes[held], at + later)
        assert action == (Action.WRITE if live else Action.NOTHING)
        assert expired == (held != ABSENT and not live)
        assert guard == NO_GUARD


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 61), st.integers(0, 30), st.randoms())
def test_a_rewind_brings_the_last_version_to_the_one_that_held(
    changes: list[Change], at: int, later: int, random: Random
) -> None:
    columns, now = columns_of(changes), at + later
    columns.checksum[:] = [random.randrange(2) for _ in changes]
    columns.generation[:] = [random.randrange(1, 9) for _ in changes]
    got = states(columns, at, 61)
    decided = for_rewind(got, columns, at, now)
    for i in range(len(got)):
        held, last = int(got.held[i]), int(got.last[i])
        should = (
            (columns.checksum[held], changes[held].void_time) if held != ABSENT and alive(changes[held], now) else None
        )
        there = (columns.checksum[last], changes[last].void_time) if alive(changes[last], now) else None
        if decided.action[i] in (Action.LEAVE, Action.NOTHING):
            assert should == there
        elif decided.action[i] == Action.WRITE:
            assert should is not None
            assert should != there
        else:
            assert should is None
            assert there is not None
        assert decided.guard[i] == (columns.generation[last] if there is not None else 0)
        assert decided.expired[i] == (held != ABSENT and should is None)


def test_of_a_record_kept_aside_nothing_is_sure_until_its_next_change_and_only_what_came_later_is_undone() -> None:
    digest = DIGESTS[0]
    first = Change(digest, 1, Op.WRITE, 10, 5, 0, False)
    aside = Change(digest, 2, Op.ASIDE, END_OF_TIME, 20, 0, False)
    columns = columns_of([first, aside])
    columns.generation[:] = [1, 7]
    columns.observed_at[:] = [11, 30]

    def at(moment: int, of: Columns = columns) -> tuple[Certainty, Action, int]:
        got = states(of, moment, 100)
        decided = for_rewind(got, of, moment, 100)
        return Certainty(got.certainty[0]), Action(decided.action[0]), int(decided.guard[0])

    assert at(15) == (Certainty.EXACT, Action.WRITE, 7)
    assert at(25) == (Certainty.FUZZY, Action.WRITE, 7)
    assert at(9) == (Certainty.FUZZY, Action.REMOVE, 7)
    assert at(40)[:2] == (Certainty.FUZZY, Action.LEAVE)
    mended = columns_of([first, aside, Change(digest, 3, Op.WRITE, 50, 45, 0, False)])
    assert at(47, mended)[0] == Certainty.FUZZY
    assert at(50, mended)[:2] == (Certainty.EXACT, Action.LEAVE)
