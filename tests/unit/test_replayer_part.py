"""A part of a restore is the whole restore, limited: what is decided, counted and named of it is the same."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, LocalStore
from cdc.archive.store import Store
from cdc.codec import to_python
from cdc.codec.values_plain import to_avro
from cdc.model import PARTITIONS, Op
from cdc.replayer.plan import BLOCK_BYTES, Plan, _share, plan, shard_slices
from cdc.replayer.report import Counts
from cdc.replayer.slices import Slice
from cdc.replayer.versions import ABSENT, Action
from cdc.replayer.wanted import Expired, Part, Wanted
from cdc.replayer.where import condition
from tests.fixtures.versions import change
from tests.fixtures.versions_archived import END, FIRST, SETS, archive, histories, key

NOW = END + 40
Change = dict[str, Any]
WHERE = ["a exists", "b missing", "a == true", "a != 0", "b < 1000", "b >= -5.5", "a == x", "Ümlaut != x"]


def partition(digest: bytes) -> int:
    return digest[0] | (digest[1] & 15) << 8


@st.composite
def parts(draw: st.DrawFn) -> Part:
    digests = sorted({change(key(n), 1)["digest"] for n in draw(st.lists(st.integers(0, 14), max_size=5))})
    partitions = sorted(
        {partition(change(key(n), 1)["digest"]) for n in draw(st.lists(st.integers(0, 12), max_size=6))}
    )
    return Part(
        sets=tuple(sorted({name or "" for name in draw(st.lists(st.sampled_from(SETS), max_size=2))})),
        digests=tuple(digests),
        partitions=tuple(partitions),
        where=tuple(condition(text) for text in draw(st.lists(st.sampled_from(WHERE), max_size=2))),
    )


def has(part: Part, said: Change) -> bool:
    """Whether a part has the record whose judged version this is."""
    return (
        (not part.sets or (said["set"] or "") in part.sets)
        and (not part.digests or said["digest"] in part.digests)
        and (not part.partitions or partition(said["digest"]) in part.partitions)
        and all(
            said["op"] == "WRITE" and one.met(one.bin in said["bins"], said["bins"].get(one.bin)) for one in part.where
        )
    )


def sliced(of: Archive, made: Plan) -> Iterator[Slice]:
    return (part for shard in made.shards for part in shard_slices(of, made, shard, NOW))


Decided = dict[bytes, tuple[Any, ...]]


def decided(of: Archive, made: Plan, part: Part = Part()) -> Decided:  # noqa: B008  it never changes
    """What is decided of each record, of those alone that a part has."""
    found: Decided = {}
    for one in sliced(of, made):
        for i in range(len(one.states)):
            rows = [
                int(column[i]) for column in (one.states.held, one.states.chosen, one.states.last, one.states.blind)
            ]
            offsets = [int(one.versions.offsets[row]) if row != ABSENT else None for row in rows]
            if has(part, to_python(one.versions.bodies[int(one.states.judged[i])])):
                decisions = one.decisions
                found[one.states.digest[i].tobytes()] = (
                    *offsets, int(one.states.certainty[i]), int(decisions.action[i]), int(decisions.guard[i]),
                    bool(decisions.expired[i]),
                )  # fmt: skip
    return found


def planned(of: Archive, at: int, kind: Any, part: Part, expired: Expired = "keep", *, count: bool = True) -> Plan:
    return plan(of, at, kind, now=NOW, into="there", wanted=Wanted(part=part, expired=expired), count=count)


SETTINGS = settings(max_examples=8, deadline=None)
KINDS = st.sampled_from(["clone", "rewind"])
POLICIES: st.SearchStrategy[Expired] = st.sampled_from(["keep", "leave", "shift"])


@SETTINGS
@given(histories(), st.integers(FIRST, END), KINDS, POLICIES, st.lists(parts(), min_size=3, max_size=3))
def test_a_part_of_a_restore_is_the_whole_one_limited(
    changes: list[Change], at: int, kind: str, expired: Expired, some: list[Part]
) -> None:
    with TemporaryDirectory() as directory:
        made = archive(Path(directory), changes)
        whole = planned(made, at, kind, Part(), expired, count=False)
        for part in some:
            limited = planned(made, at, kind, part, expired)
            found = decided(made, limited)
            assert found == decided(made, whole, part)
            assert limited.counts is not None
            actions = Counter(one[5] for one in found.values())
            assert limited.counts.write == actions[Action.WRITE]
            assert limited.counts.remove == actions[Action.REMOVE]
            assert limited.counts.expired == sum(one[7] for one in found.values())
            assert {s.view.shard for s in limited.shards} <= set(part.shards(made.shards))


@SETTINGS
@given(histories(), st.integers(FIRST, END), KINDS, st.lists(st.integers(0, PARTITIONS), max_size=3), st.data())
def test_parts_add_up_to_the_whole_however_it_is_split(
    changes: list[Change], at: int, kind: str, cuts: list[int], data: st.DataObject
) -> None:
    edges = sorted({0, PARTITIONS, *cuts})
    by_partition = [Part(partitions=tuple(range(a, b))) for a, b in pairwise(edges)]
    by_set = [Part(sets=(name or "",)) for name in SETS]
    digests = sorted({one["digest"] for one in changes})
    cut = data.draw(st.integers(0, len(digests)))
    by_digest = [Part(digests=tuple(some)) for some in (digests[:cut], digests[cut:]) if some]
    with TemporaryDirectory() as directory:
        made = archive(Path(directory), changes)
        whole = planned(made, at, kind, Part()).counts
        for split in (by_partition, by_set, by_digest):
            counts = [planned(made, at, kind, part).counts for part in split]
            assert sum((one for one in counts if one is not None), Counts()) == whole


def values(bins: dict[str, Any]) -> dict[str, bytes]:
    return {name: to_avro(value) for name, value in bins.items() if value is not None}


def bins_of(one: Slice, row: int) -> dict[str, bytes]:
    return values(to_python(one.versions.bodies[row])["bins"])


@SETTINGS
@given(histories(), st.integers(FIRST, END), st.sampled_from([("a",), ("b", "a"), ("Ümlaut", "none")]))
def test_of_some_bins_each_record_gets_what_it_had_and_loses_what_it_had_not(
    changes: list[Change], at: int, names: tuple[str, ...]
) -> None:
    changes = [
        # A bin that is null is none; a server has no such bins.
        one | {"bins": {n: v for n, v in one["bins"].items() if v is not None} or {"b": 0}} if one["bins"] else one
        for one in changes
        if one["op"] != Op.ASIDE.name
    ]
    with TemporaryDirectory() as directory:
        made = archive(Path(directory), changes)
        before, known = {}, {}
        for one in sliced(made, planned(made, at, "rewind", Part(), count=False)):
            for i, digest in enumerate(one.states.digest):
                held, last = int(one.states.held[i]), int(one.states.last[i])
                there = one.decisions.guard[i] != 0
                void = int(one.versions.columns.void_time[held]) if held != ABSENT else 0
                before[digest.tobytes()] = bins_of(one, last) if there else None
                known[digest.tobytes()] = (bins_of(one, held), not void or void > NOW) if held != ABSENT else None
        seen = set()
        for one in sliced(made, planned(made, at, "rewind", Part(bins=names), count=False)):
            assert one.bins == names
            for i, digest in enumerate(one.states.digest):
                now, was = before[digest.tobytes()], known[digest.tobytes()]
                had = {n: v for n, v in was[0].items() if n in names} if was is not None else {}
                others = {n: v for n, v in (now or {}).items() if n not in names}
                expected = others | had if now is not None else had if was is not None and was[1] and had else None
                action = one.decisions.action[i]
                if action == Action.WRITE:
                    said = bins_of(one, int(one.states.held[i]))
                    assert said
                    assert said == had
                    after = others | said
                elif action == Action.REMOVE:
                    after = others
                else:
                    after = now
                assert (after or None) == (expected or None)
                assert (action in (Action.WRITE, Action.REMOVE)) == (after != now)
                seen.add(digest.tobytes())
        assert seen == before.keys()


@SETTINGS
@given(histories(), st.integers(FIRST, END), st.sampled_from([("a",), ("b", "a"), ("Ümlaut", "none")]))
def test_a_clone_of_some_bins_has_the_records_that_had_any_of_them(
    changes: list[Change], at: int, names: tuple[str, ...]
) -> None:
    with TemporaryDirectory() as directory:
        made = archive(Path(directory), changes)
        whole: Decided = {}
        some: Decided = {}
        for found, part in ((whole, Part()), (some, Part(bins=names))):
            for one in sliced(made, planned(made, at, "clone", part, count=False)):
                for i in np.flatnonzero(one.decisions.action == Action.WRITE).tolist():
                    said = to_python(one.versions.bodies[int(one.states.held[i])])
                    found[said["digest"]] = [(n, to_avro(v)) for n, v in said["bins"].items()]
        wanted = {d: [(n, dict(bins)[n]) for n in names if n in dict(bins)] for d, bins in whole.items()}
        assert some == {d: bins for d, bins in wanted.items() if bins}


@SETTINGS
@given(histories(), st.integers(FIRST, END), KINDS)
def test_where_expiries_are_shifted_each_is_later_by_the_time_that_passed(
    changes: list[Change], at: int, kind: str
) -> None:
    with TemporaryDirectory() as directory:
        made = archive(Path(directory), changes)
        for one in sliced(made, planned(made, at, kind, Part(), "shift", count=False)):
            rows = one.states.held[one.decisions.action == Action.WRITE]
            for row in rows.tolist():
                was = to_python(one.versions.bodies[row])["void_time"]
                now = int(one.versions.columns.void_time[row])
                assert now == (0 if was is None else was + NOW - at)
                assert now == 0 or now > NOW
            assert one.shift == NOW - at


class Counting(LocalStore):
    """Counts what is read of segments."""

    read = 0

    def get_range(self, name: str, start: int, size: int) -> bytes:
        self.read += size
        return super().get_range(name, start, size)


@pytest.mark.parametrize("kind", ["clone", "rewind"])
def test_what_is_read_of_one_record_does_not_grow_with_the_archive(tmp_path: Path, kind: str) -> None:
    read = []
    for records in (3000, 12000):
        changes = [
            change(n << 16 | n, moment, bins={"n": moment}, unobserved_since=moment - 5)
            for moment in (5, 30)
            for n in range(records)
        ]
        archive(tmp_path / str(records), changes)
        store: Store = Counting(tmp_path / str(records))
        of = Archive.open(store, "test")
        part = Part(digests=(changes[1234]["digest"],))
        made = planned(of, 20, kind, part)
        assert made.counts == replace(Counts(), write=1, exact=1, bytes=made.counts.bytes if made.counts else 0)
        assert len(made.shards) == 1
        assert isinstance(store, Counting)
        read.append(store.read)
    assert 0 < read[1] <= 2 * read[0]


def test_a_plan_of_a_part_is_told_to_read_no_more_than_its_blocks(tmp_path: Path) -> None:
    of = archive(tmp_path, [change(n << 16 | n, 5, bins={"n": n}) for n in range(6000)])
    whole = planned(of, 20, "clone", Part(), count=False).read_rows
    assert whole == 6000
    one = planned(of, 20, "clone", Part(partitions=(17,)), count=False)
    assert 0 < one.read_rows <= sum(info.rows for info in one.objects) / 200
    big = replace(one.objects[0], raw_size=BLOCK_BYTES * 1000, rows=1_000_000)
    assert _share(Part(digests=(bytes(20),)), big) == 1 / 1000
    assert _share(Part(digests=(bytes(20),)), one.objects[0]) == 1
