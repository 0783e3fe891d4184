"""What differs between two moments: by what changed between, as by both states read whole."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, LocalStore, Manifest, sets
from cdc.archive.versions import order
from cdc.clock import rfc3339
from cdc.codec import to_python
from cdc.config import CompactorSettings
from cdc.errors import NotRecoverable
from cdc.model import Op, partition_of
from cdc.replayer.diff import Diff, diff
from cdc.replayer.differences import Difference, Kind, Tally
from cdc.replayer.versions import ABSENT, Certainty, states
from cdc.replayer.wanted import Part
from cdc.replayer.where import condition
from tests.faults import history as known
from tests.fixtures.one_shard import END as LAST
from tests.fixtures.one_shard import counted, one_shard
from tests.fixtures.versions import change, digest, versions
from tests.fixtures.versions_archived import END, FIRST, SETTINGS, archive, histories, key

Found = dict[bytes, tuple[Kind, Certainty]]


def with_expiries(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same history as a collector tells it: of every record that has expired by the end it says so."""
    told = []
    for one in changes:
        told.append(one)
        void = one["void_time"]
        if one["op"] == "WRITE" and void is not None and void <= END:
            gone = {"op": Op.EXPIRY.name, "bins": {}, "effective_at": void, "unobserved_since": void}
            told.append({**one, **gone})
    return told


def compared(archive: Archive, since: int, until: int) -> tuple[Diff, Found]:
    named: list[Difference] = []
    found = diff(archive, since, until, now=END, name=named.extend)
    assert len({one.digest for one in named}) == len(named)
    return found, {one.digest: (one.kind, one.certainty) for one in named}


def truth(changes: list[dict[str, Any]], since: int, until: int) -> tuple[Found, set[bytes], set[bytes]]:
    """By the states of all records at both moments: which differ, which were touched, and of which it is not sure that
    they do not differ."""
    every = versions(changes, list(range(len(changes))))
    every = every.take(order(every.columns.digest, every.offsets))
    was, now = (states(every.columns, at, END) for at in (since, until))
    differ: Found = {}
    touched, unsure = set(), set()
    for i in range(len(was)):
        name = was.digest[i].tobytes()
        before, after = (
            None if row == ABSENT else to_python(every.bodies[row]) for row in (int(was.held[i]), int(now.held[i]))
        )
        sure = Certainty(max(was.certainty[i], now.certainty[i]))
        if before and after:
            same = [repr(one["bins"]) for one in (before, after)]
            if same[0] != same[1]:
                differ[name] = Kind.CHANGED, sure
            elif before["void_time"] != after["void_time"]:
                differ[name] = Kind.EXPIRY, sure
            elif (before["lut"], before["generation"]) != (after["lut"], after["generation"]):
                touched.add(name)
        elif after:
            differ[name] = Kind.CREATED, sure
        elif before:
            last = to_python(every.bodies[int(now.chosen[i])]) if now.chosen[i] != ABSENT else None
            over = since <= until and last is not None and last["op"] in ("WRITE", "EXPIRY")
            differ[name] = (Kind.EXPIRED if over else Kind.REMOVED), sure
        if since != until and name not in differ and (was.blind[i] != ABSENT or now.blind[i] != ABSENT):
            unsure.add(name)
    return differ, touched, unsure


moments = st.integers(FIRST, END)


@settings(max_examples=8, deadline=None)
@given(histories(), st.lists(st.tuples(moments, moments), min_size=4, max_size=4))
def test_what_changed_between_tells_what_both_states_tell(
    changes: list[dict[str, Any]], spans: list[tuple[int, int]]
) -> None:
    changes = with_expiries(changes)
    with tempfile.TemporaryDirectory() as directory:
        made = archive(Path(directory), changes)
        for since, until in spans:
            assert not agrees(made, changes, since, until).whole


@settings(max_examples=6, deadline=None)
@given(histories(), moments, moments)
def test_states_that_stand_alone_are_compared_whole_with_the_same_outcome(
    changes: list[dict[str, Any]], since: int, until: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        made = archive(Path(directory), changes)
        for shard in range(made.shards):
            made.amend(shard, partial(alone, made, min(since, until)))
        found = agrees(made, changes, since, until)
        assert found.whole == ((0, 1) if min(since, until) < END else ())


def alone(made: Archive, at: int, manifest: Manifest) -> Manifest:
    """The manifest with a restore set of the moment, after which changes are kept."""
    one = sets.make(made, manifest, manifest.epochs[-1], at, END, CompactorSettings(), SETTINGS)
    return replace(manifest, sets=(one,), changes_kept_from=min(at + 1, END))


def agrees(made: Archive, changes: list[dict[str, Any]], since: int, until: int) -> Diff:
    """What is found is the truth, record by record and in sum."""
    differ, touched, unsure = truth(changes, since, until)
    found, named = compared(made, since, until)
    total = found.total
    assert named == differ
    assert (total.touched, total.unsure, total.different) == (len(touched), len(unsure), len(differ))
    for kind in (Kind.CREATED, Kind.REMOVED, Kind.EXPIRED, Kind.CHANGED, Kind.EXPIRY):
        assert getattr(total, kind.name.lower()) == sum(k == kind for k, _ in differ.values())
    for sure in Certainty:
        assert getattr(total, sure.name.lower()) == sum(s == sure for _, s in differ.values())
    return found


parts = st.sampled_from(
    [
        Part(sets=("orders",)), Part(sets=("", "odd/name é")), Part(partitions=tuple(range(2048))),
        Part(digests=tuple(digest(key(n)) for n in (0, 2, 3, 11))), Part(where=(condition("a exists"),)),
        Part(bins=("a",)), Part(sets=("orders",), bins=("b", "a"), where=(condition("b missing"),)),
    ]
)  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(histories(), st.lists(st.tuples(moments, moments, parts), min_size=4, max_size=4))
def test_the_differences_of_a_part_are_those_of_the_whole_that_are_within_it(
    changes: list[dict[str, Any]], spans: list[tuple[int, int, Part]]
) -> None:
    changes = with_expiries(changes)
    with tempfile.TemporaryDirectory() as directory:
        made = archive(Path(directory), changes)
        for since, until, part in spans:
            named: list[Difference] = []
            every: list[Difference] = []
            found = diff(made, since, until, now=END, part=part, name=named.extend)
            diff(made, since, until, now=END, name=every.extend)
            inside = {one.digest: one.kind for one in every if is_within(part, one)}
            assert {one.digest: one.kind for one in named} == inside
            assert found.total.different == len(inside)
            assert all(set(one.bins) <= set(part.bins) for one in named if part.bins)


def is_within(part: Part, one: Difference) -> bool:
    held = [side["bins"] for side in (one.before, one.after) if side is not None]
    meets = [all(c.met(c.bin in bins, bins.get(c.bin)) for c in part.where) for bins in held]
    return (
        (not part.sets or (one.set_name or "") in part.sets)
        and (not part.digests or one.digest in part.digests)
        and (not part.partitions or int(partition_of(np.frombuffer(one.digest, np.uint8)[None])[0]) in part.partitions)
        and any(meets)
        and (not part.bins or bool(set(part.bins) & set(one.bins)))
    )


def test_across_a_new_history_both_states_are_compared_whole(tmp_path: Path) -> None:
    made = Archive.create(LocalStore(tmp_path, create=True), known.NAMESPACE, known.SHARDS)
    story = known.days(made, 2)
    first, second = (made.shard(0).epochs[n] for n in range(2))  # type: ignore[union-attr]
    since, until = first.resolved_at - known.HOUR, second.resolved_at - known.HOUR
    found, named = compared(made, since, until)
    assert found.whole == (0, 1)
    assert "new history" in found.why
    differ = {}
    for shard in range(known.SHARDS):
        was, now = ({name: held for name, (held, _) in story.state(shard, at).items() if held} for at in (since, until))
        differ |= dict.fromkeys(was.keys() - now.keys(), (Kind.REMOVED, Kind.EXPIRED))
        differ |= dict.fromkeys(now.keys() - was.keys(), (Kind.CREATED,))
        both = [(name, to_python(was[name]), to_python(now[name])) for name in was.keys() & now.keys()]
        differ |= {name: (Kind.CHANGED,) for name, a, b in both if a["bins"] != b["bins"]}
        same = [(name, a, b) for name, a, b in both if a["bins"] == b["bins"]]
        differ |= {name: (Kind.EXPIRY,) for name, a, b in same if a["void_time"] != b["void_time"]}
    assert named.keys() == differ.keys()
    assert all(kind in differ[name] for name, (kind, _) in named.items())
    assert {Kind.CREATED, Kind.CHANGED} < {kind for kind, _ in named.values()}


def test_only_blocks_of_what_changed_are_read(tmp_path: Path) -> None:
    base = [change(k, 5, bins={"b": bytes(500)}) for k in range(2000)]
    made = one_shard(
        tmp_path, base, [change(7, 30, bins={"b": b"x"}, unobserved_since=25), change(1990, 50, unobserved_since=45)]
    )
    with counted(made, tmp_path) as asked:
        found = diff(made, 20, 40, now=END)
    assert (found.total.changed, found.total.different) == (1, 1)
    manifest = made.shard(0)
    assert manifest is not None
    whole = manifest.segments[0]
    [length] = [length for name, length in asked if name == whole.name]
    assert length < whole.size / 50
    with counted(made, tmp_path) as asked:
        assert diff(made, 10, 20, now=END).total == Tally()
    assert asked == []


def test_a_record_is_named_with_its_bins_before_and_after(tmp_path: Path) -> None:
    seen = {"unobserved_since": 25}
    was = {"n": 1, "true": True, "gone": "x", "same": float("nan")}
    made = one_shard(
        tmp_path,
        [change(1, 10, bins=was, user_key="one"), change(2, 10, set=None, void_time=40), change(3, 10, void_time=900)],
        [
            change(1, 30, bins={"n": 2, "true": 1, "same": float("nan"), "new": b"\x00"}, user_key="one", **seen),
            change(2, 40, op=Op.EXPIRY, set=None, void_time=40, unobserved_since=40),
            change(3, 30, bins={"n": 10}, void_time=800, **seen), change(4, 30, user_key=4, **seen),
        ],
    )  # fmt: skip
    named: list[Difference] = []
    found = diff(made, 20, 50, now=END, name=named.extend)
    assert found.sets == {
        "orders": Tally(created=1, changed=1, expiry=1, exact=3), None: Tally(expired=1, exact=1)
    }  # fmt: skip
    first, second, third, fourth = sorted((one.to_dict() for one in named), key=lambda one: one["digest"])
    assert first["bins"] == {
        "n": {"before": 1, "after": 2}, "true": {"before": True, "after": 1}, "gone": {"before": "x"},
        "new": {"after": {"$bytes": "AA=="}},
    }  # fmt: skip
    assert (first["key"], first["set"], first["kind"], first["certainty"]) == ("one", "orders", "changed", "exact")
    assert first["before"] == {"effective_at": rfc3339(10), "generation": 1, "expires": None}
    assert (second["kind"], second["after"], second["set"]) == ("expired", None, None)
    assert (third["kind"], third["bins"], third["after"]["expires"]) == ("expiry", {}, rfc3339(800))
    assert (fourth["kind"], fourth["before"], fourth["key"], fourth["bins"]) == (
        "created",
        None,
        4,
        {"n": {"after": 30}},
    )
    back: list[Difference] = []
    diff(made, 50, 20, now=END, name=back.extend)
    assert {one.digest: one.kind for one in back} == {
        digest(1): Kind.CHANGED, digest(2): Kind.CREATED, digest(3): Kind.EXPIRY, digest(4): Kind.REMOVED
    }  # fmt: skip


def test_moments_outside_the_windows_have_no_difference(tmp_path: Path) -> None:
    made = one_shard(tmp_path, [change(1, 10)])
    for since, until in ((1, 20), (20, LAST + 1)):
        with pytest.raises(NotRecoverable, match="recoverable window"):
            diff(made, since, until, now=END)
