"""The version that holds at a moment: the vectorised rule equals the sentence it was made from."""

from dataclasses import dataclass
from random import Random

import numpy as np
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
    seen_after: int = 0  # how long after effective_at it was observed


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
        observed_at=np.array([c.effective_at + c.seen_after for c in changes], np.int64),
        consecutive=np.array([c.consecutive for c in changes], np.bool_),
        set_hash=np.zeros(n, np.uint64),
        checksum=np.arange(n, dtype=np.uint64),
    )


def plain_state(
    changes: list[Change], at: int, reconciled_at: int
) -> tuple[Change | None, Change, Certainty, Change | None]:
    """The rule of docs/architecture.md, for the changes of one digest, word by word."""
    by_offset = sorted(changes, key=lambda c: c.offset)
    chosen = max((c for c in by_offset if c.effective_at <= at), key=lambda c: c.offset, default=None)
    later = [c for c in by_offset if c.effective_at > at and (chosen is None or c.offset > chosen.offset)]
    blind = [c for c in later if c.unobserved_since < at < c.effective_at]
    certainty = Certainty.EXACT
    if blind:
        certainty = Certainty.PRESUMED if all(c.consecutive for c in blind) else Certainty.FUZZY
    absent = chosen is None or chosen.op != Op.WRITE or (chosen.void_time != 0 and chosen.void_time <= at)
    unfound = not absent and at > reconciled_at
    untimed = chosen is not None and chosen.op == Op.TRUNCATION and at < chosen.effective_at + chosen.seen_after
    if (unfound or untimed) and certainty is Certainty.EXACT:
        certainty = Certainty.PRESUMED
    return (None if absent else chosen), by_offset[-1], certainty, (blind[0] if blind else None)


# Few distinct digests that share long prefixes, so that ties in the first eight bytes are common.
DIGESTS = [
    b"\x00" * 20,
    b"\x00" * 19 + b"\x01",
    b"\x00" * 8 + b"\x01" + b"\x00" * 11,
    b"\xff" * 20,
    b"\x80" + b"\x07" * 19,
]


@st.composite
def histories(draw: st.DrawFn, asides: bool = True) -> list[Change]:
    n = draw(st.integers(0, 14))
    offsets = draw(st.lists(st.integers(0, 1000), min_size=n, max_size=n, unique=True))
    changes = []
    for offset in offsets:
        effective, op = draw(st.integers(1, 60)), draw(st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, *[5] * asides]))
        changes.append(
            Change(
                digest=draw(st.sampled_from(DIGESTS)),
                offset=offset,
                op=op,
                effective_at=END_OF_TIME if op == Op.ASIDE else effective,
                unobserved_since=draw(st.integers(0, effective)),
                void_time=draw(st.sampled_from([0, 0, 20, 40, 80])),
                consecutive=op != Op.ASIDE and draw(st.booleans()),
                seen_after=draw(st.integers(0, 30)),
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
        held, last, certainty, blind = plain_state(by_digest[digest], at, reconciled_at)
        assert (None if got.held[i] == ABSENT else changes[got.held[i]]) == held
        assert changes[got.last[i]] == last
        assert got.certainty[i] == certainty
        assert (None if got.blind[i] == ABSENT else changes[got.blind[i]]) == blind


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


def test_what_an_audit_finds_late_makes_older_moments_fuzzy_that_the_next_change_leaves_exact() -> None:
    digest = DIGESTS[0]
    changes = [
        Change(digest, 1, Op.WRITE, 10, 0, 0, False),
        Change(digest, 2, Op.WRITE, 30, 25, 0, True),
        Change(digest, 3, Op.WRITE, 50, 15, 0, False),  # surfaced late: not known since the last look at everything
    ]
    said = {at: Certainty(states(columns_of(changes), at, 99).certainty[0]) for at in range(10, 60)}
    assert {at for at, c in said.items() if c is Certainty.FUZZY} == {*range(16, 50)}
    assert Certainty.PRESUMED not in said.values()


def test_an_expired_record_is_gone_from_its_void_time_on_and_fuzzy_only_where_nobody_looked() -> None:
    digest = DIGESTS[0]
    written = Change(digest, 1, Op.WRITE, 10, 5, 40, False)
    told = Change(digest, 2, Op.EXPIRY, 40, 30, 40, False)
    for changes, reconciled_at in (([written], 20), ([written, told], 60)):
        columns = columns_of(changes)
        said = {at: states(columns, at, reconciled_at) for at in range(10, 60)}
        assert {at for at, s in said.items() if s.held[0] == ABSENT} == {*range(40, 60)}
        unsure = {at for at, s in said.items() if s.certainty[0] != Certainty.EXACT}
        # Before it was told, it may have been deleted since the last look for deletes; an expiry needs no such look.
        assert unsure == ({*range(31, 40)} if told in changes else {*range(21, 40)})


def test_a_digest_first_known_after_the_moment_is_absent_and_exact_only_before_it_could_have_been_missed() -> None:
    columns = columns_of([Change(DIGESTS[0], 1, Op.WRITE, 30, 20, 0, True)])
    for at, certainty in ((20, Certainty.EXACT), (21, Certainty.PRESUMED), (29, Certainty.PRESUMED)):
        got = states(columns, at, 10)
        assert (got.held[0], got.certainty[0]) == (ABSENT, certainty)


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
@given(histories(asides=False), st.integers(0, 61), st.integers(0, 30), st.randoms())
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


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 61), st.integers(0, 30))
def test_under_a_filter_a_rewind_spares_what_did_not_hold_and_decides_all_else_alike(
    changes: list[Change], at: int, later: int
) -> None:
    columns = columns_of(changes)
    got = states(columns, at, 61)
    whole = for_rewind(got, columns, at, at + later)
    some = for_rewind(got, columns, at, at + later, filtered=True)
    removed = (whole.action == Action.REMOVE) & (got.held == ABSENT)
    assert (some.action[removed] == Action.SPARE).all()
    assert (some.action[~removed] == whole.action[~removed]).all()
    assert (some.guard == whole.guard).all()


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 61), st.integers(0, 30))
def test_what_has_expired_may_be_left_and_all_else_is_decided_alike(changes: list[Change], at: int, later: int) -> None:
    columns = columns_of(changes)
    got = states(columns, at, 61)
    kept, left = (for_rewind(got, columns, at, at + later, leave=leave) for leave in (False, True))
    due = kept.expired
    assert (left.expired == due).all()
    assert (left.action[~due] == kept.action[~due]).all()
    assert (left.guard == kept.guard).all()
    removed = kept.action[due] == Action.REMOVE
    assert (left.action[due] == np.where(removed, Action.LEAVE, kept.action[due])).all()


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 61), st.integers(0, 30))
def test_with_every_expiry_later_what_held_comes_back_and_is_left_only_where_it_expires_as_late(
    changes: list[Change], at: int, passed: int
) -> None:
    columns, now = columns_of(changes), at + passed
    got = states(columns, at, 61)
    kept, shifted = (for_rewind(got, columns, at, now, shift=shift) for shift in (0, passed))
    cloned = for_clone(got, columns, now, passed)
    assert (shifted.expired == kept.expired).all()
    assert (cloned.expired == for_clone(got, columns, now).expired).all()
    for i in range(len(got)):
        held, last = int(got.held[i]), int(got.last[i])
        # What held at the moment was alive, and has the same time left now.
        assert cloned.action[i] == (Action.NOTHING if held == ABSENT else Action.WRITE)
        if held == ABSENT or changes[last].op == Op.ASIDE:
            assert shifted.action[i] == (Action.WRITE if kept.expired[i] else kept.action[i])
            continue
        void = changes[held].void_time and changes[held].void_time + passed
        same = columns.checksum[held] == columns.checksum[last] and void == changes[last].void_time
        assert shifted.action[i] == (Action.LEAVE if same and alive(changes[last], now) else Action.WRITE)


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


def test_a_truncation_is_certain_from_the_look_that_found_it_on() -> None:
    written = Change(DIGESTS[0], 0, Op.WRITE, 10, 0, 0, True)
    truncated = Change(DIGESTS[0], 1, Op.TRUNCATION, 20, 12, 0, False, seen_after=5)
    found = [int(states(columns_of([written, truncated]), at, 60).certainty[0]) for at in (12, 19, 20, 24, 25)]
    assert found == [Certainty.EXACT, Certainty.FUZZY, Certainty.PRESUMED, Certainty.PRESUMED, Certainty.EXACT]
