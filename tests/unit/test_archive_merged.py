"""Merging objects: in order, in batches of bounded size, however long the history of one record is."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, Epoch, LocalStore, SegmentInfo, View, merged, segments, sets
from cdc.archive.versions import Rows, Versions, concat, joined, order
from cdc.config import ArchiveSettings, CompactorSettings
from tests.fixtures.versions import change, versions

SMALL = ArchiveSettings(block_bytes=4096)
EPOCH = Epoch(number=1, began_at=1, changes_from=0, recoverable_from=0, resolved_at=1 << 40, reconciled_at=1 << 40)
BATCH = 8192
BIN = 400


def write(store: LocalStore, made: Versions) -> SegmentInfo:
    writer = segments.SegmentWriter(SMALL, 1)
    writer.add(made, order(made.columns.digest, made.offsets))
    return writer.finish(store, "test/shard-0000/segments")


def made_of(keys: list[int], first: int, started: int = 0) -> Versions:
    changes = [change(k, started + first + i, bins={"b": bytes(BIN)}) for i, k in enumerate(keys)]
    return versions(changes, list(range(first, first + len(keys))))


def objects(store: LocalStore, runs: list[list[int]]) -> tuple[SegmentInfo, ...]:
    starts = np.cumsum([0, *map(len, runs)]).tolist()
    return tuple(write(store, made_of(keys, at)) for keys, at in zip(runs, starts, strict=False) if keys)


a_run = st.lists(st.integers(0, 6), max_size=40)


@settings(max_examples=40, deadline=None)
@given(runs=st.lists(a_run, min_size=1, max_size=5), whole=st.booleans())
def test_all_rows_come_once_and_in_order_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[int]], whole: bool
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("archive"))
    view = View(0, 1 << 40, EPOCH, None, objects(store, runs))
    batches = list(merged.rows(store, view, batch_bytes=BATCH, whole=whole))
    got = [(r.columns.digest[i, 3], r.offsets[i]) for r in batches for i in range(r.rows)]
    assert got == sorted((k, i) for i, k in enumerate(k for run in runs for k in run))
    if whole:
        ends = [(r.columns.digest[0].tobytes(), r.columns.digest[-1].tobytes()) for r in batches]
        assert all(before[1] < after[0] for before, after in pairwise(ends))
    assert [b for r in batches for b in r.versions().bodies] == [
        b for v in merged.stream(store, view, batch_bytes=BATCH) for b in v.bodies
    ]


def test_the_history_of_one_record_comes_in_pieces_when_it_may(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, create=True)
    view = View(0, 1 << 40, EPOCH, None, objects(store, [[1] * 200, [1] * 200, [0, 1, 2]]))
    (whole,) = [r for r in merged.rows(store, view, batch_bytes=BATCH) if r.rows > 100]
    assert whole.rows >= 401
    parts = list(merged.rows(store, view, batch_bytes=BATCH, whole=False))
    assert max(int(r.sizes.sum()) for r in parts) < 3 * BATCH
    assert sum(r.rows for r in parts) == 403


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1, max_size=40),
    cuts=st.sets(st.integers(1, 39)),
    at=st.integers(0, 20),
)
def test_a_set_keeps_the_same_however_its_source_is_cut(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int]], cuts: set[int], at: int
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("archive"))
    made = versions([change(k, t) for k, t in rows], list(range(len(rows))))
    whole = joined(list(segments.read_rows(store, write(store, made))))
    edges = [0, *sorted(c for c in cuts if c < whole.rows), whole.rows]
    parts = [whole.span(*edge) for edge in pairwise(edges)]
    got = [o for part in sets.holding(parts, at) for o in part.offsets.tolist()]
    assert got == whole.take(sets.kept(whole, at)).offsets.tolist()


def test_a_set_of_a_record_with_a_long_history_has_its_last_version(tmp_path: Path) -> None:
    archive = Archive.create(LocalStore(tmp_path, create=True), "test", 1)
    inputs = objects(archive.store, [[1] * 2000, [0, 1, 2], [1] * 2000])
    manifest = archive.commit(replace(archive.first(0), epochs=(EPOCH,), segments=inputs, next_changes=4003))
    memory = CompactorSettings().model_copy(update={"memory_bytes": 8 * BATCH})
    made = sets.make(archive, manifest, EPOCH, 1 << 40, 0, memory, SMALL)
    got = concat([v for s in archive.listing(made).segments for v in segments.read(archive.store, s)])
    assert got.offsets.tolist() == [2000, 4002, 2002]


def test_copied_rows_outlive_their_blocks(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, create=True)
    rows: Rows = joined(list(segments.read_rows(store, write(store, made_of([3, 1, 2], 0)))))
    kept, expected = rows.take(np.array([0, 2])).detached(), list(rows.versions().bodies)
    del rows
    assert list(kept.versions().bodies) == [expected[0], expected[2]]
