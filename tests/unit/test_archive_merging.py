"""Merges on real, small archives: whatever is merged, every moment is told with the same rows."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, LocalStore, Manifest, View, merging, sets, tiers
from cdc.archive.manifests import Epoch
from cdc.archive.merged import stream
from cdc.archive.segments import SegmentWriter, verify
from cdc.archive.versions import Versions, concat, is_sorted, order
from cdc.archive.views import changed_after, everything_beside, view
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.model import Op
from tests.fixtures.versions import change, versions

ARCHIVE = ArchiveSettings(block_bytes=4096)
COMPACTOR = CompactorSettings(merge_segments=2)
END = 40
EPOCH = Epoch(number=1, began_at=1, changes_from=0, recoverable_from=0, resolved_at=END, reconciled_at=END)
Row = tuple[bytes, int, bytes]


def new(path: Path) -> tuple[Archive, Manifest]:
    archive = Archive.create(LocalStore(path, create=True), "test", 1)
    return archive, archive.commit(replace(archive.first(0), epochs=(EPOCH,)))


def commit(archive: Archive, manifest: Manifest, made: Versions) -> Manifest:
    writer = SegmentWriter(ARCHIVE, 1)
    writer.add(made, order(made.columns.digest, made.offsets))
    info = writer.finish(archive.store, archive.directory(0, "segments"))
    through = int(made.offsets.max()) + 1
    return archive.commit(replace(manifest, segments=(*manifest.segments, info), next_changes=through))


def add_set(archive: Archive, manifest: Manifest, at: int) -> Manifest:
    made = sets.make(archive, manifest, EPOCH, at, 0, COMPACTOR, ARCHIVE)
    return archive.commit(replace(manifest, sets=(*manifest.sets, made)))


def merge(archive: Archive, manifest: Manifest, segment_bytes: int = 1 << 26) -> Manifest:
    """All merges of one plan."""
    settings = COMPACTOR.model_copy(update={"segment_bytes": segment_bytes, "memory_bytes": 16 << 20})
    for wanted in tiers.plan(manifest, settings.merge_segments, segment_bytes):
        made = merging.merge(archive, 0, wanted, settings, ARCHIVE)
        assert sum(s.rows for s in made) == sum(s.rows for s in wanted.inputs)
        assert {s.tier for s in made} == {wanted.tier}
        for info in made:
            verify(archive.store, info)
        merged = merging.merged(manifest, wanted, made, 7)
        assert merged is not None
        manifest = archive.commit(merged)
    return manifest


def rows(found: list[Versions], counts: Callable[[Versions], Any] = lambda v: np.ones(v.rows, np.bool_)) -> list[Row]:
    """Rows of a stream in its order: those that count."""
    one = concat(found).take(counts(concat(found)))
    assert is_sorted(one.columns.digest, one.offsets)
    return [(one.columns.digest[i].tobytes(), int(one.offsets[i]), one.bodies[i]) for i in range(one.rows)]


def told(archive: Archive, manifest: Manifest, at: int) -> list[list[Row]]:
    """What a clone of a moment reads of it, what a rewind reads, and what tells that one which records changed."""
    whole = everything_beside(manifest, EPOCH, at, archive.listing)
    needed = view(manifest, at, archive.listing)
    later = View(0, at, EPOCH, None, changed_after(manifest, at))

    def concerns(v: Versions) -> Any:
        return (v.columns.effective_at <= at) | (v.columns.unobserved_since < at)

    def after(v: Versions) -> Any:
        return v.columns.effective_at > at

    return [
        rows(list(stream(archive.store, whole))),
        rows(list(stream(archive.store, needed)), concerns),
        rows(list(stream(archive.store, later, effective_after=at)), after),
    ]


moment = st.integers(0, END)
a_change = st.fixed_dictionaries(
    {
        "key": st.integers(0, 4),
        "effective_at": moment,
        "blind": st.integers(0, 10),
        "op": st.sampled_from([Op.WRITE, Op.WRITE, Op.WRITE, Op.DELETE, Op.EXPIRY, Op.TRUNCATION, Op.ASIDE]),
        "size": st.sampled_from([1, 1, 3000]),
    }
)
a_lot = st.tuples(st.lists(a_change, min_size=1, max_size=6), st.none() | moment, st.booleans())


def of(given_change: dict[str, Any]) -> dict[str, Any]:
    fields = dict(given_change)
    key, at, blind, size = (fields.pop(k) for k in ("key", "effective_at", "blind", "size"))
    bins = {"b": bytes(size)} if fields["op"] == Op.WRITE else {}
    return change(key, at, unobserved_since=max(at - blind, 0), bins=bins, **fields)


@settings(max_examples=20, deadline=None)
@given(lots=st.lists(a_lot, min_size=2, max_size=9))
def test_every_moment_is_told_with_the_same_rows_whatever_was_merged(
    tmp_path_factory: pytest.TempPathFactory, lots: list[tuple[list[dict[str, Any]], int | None, bool]]
) -> None:
    # Moments in any order, and sets that stand in the middle of what is merged.
    archive, plain = new(tmp_path_factory.mktemp("plain"))
    other, merged = new(tmp_path_factory.mktemp("merged"))
    first = 0
    for changes, at, merging_now in lots:
        made = versions([of(c) for c in changes], list(range(first, first + len(changes))))
        first += len(changes)
        plain, merged = commit(archive, plain, made), commit(other, merged, made)
        if at is not None:
            plain, merged = add_set(archive, plain, at), add_set(other, merged, at)
        if merging_now:
            merged = merge(other, merged)
    for at in range(0, END + 1, 3):
        assert told(other, merged, at) == told(archive, plain, at)


def test_a_merge_larger_than_a_segment_becomes_several_that_are_not_merged_again(tmp_path: Path) -> None:
    archive, manifest = new(tmp_path)
    random = np.random.default_rng(1)
    for n in range(3):
        changes = [change(k, 5, bins={"b": random.bytes(8000)}) for k in range(800)]
        manifest = commit(archive, manifest, versions(changes, list(range(n * 800, (n + 1) * 800))))
    before = rows(list(stream(archive.store, view(manifest, 9, archive.listing))))
    small = CompactorSettings(segment_bytes=7 << 20, memory_bytes=16 << 20)
    wanted = tiers.Merge(1, 1, manifest.segments)
    made = merging.merge(archive, 0, wanted, small, ARCHIVE)
    assert len(made) == 3
    assert all(tiers.big(s, small.segment_bytes) for s in made), "none is a rest that would be merged again"
    assert all(a.last_digest < b.first_digest for a, b in itertools.pairwise(made))
    merged = merging.merged(manifest, wanted, made, 0)
    assert merged is not None
    assert rows(list(stream(archive.store, view(merged, 9, archive.listing)))) == before


def test_a_merge_that_is_stopped_leaves_garbage_at_most(tmp_path: Path) -> None:
    archive, manifest = new(tmp_path)
    for n in range(3):
        manifest = commit(archive, manifest, versions([change(n, 5)], [n]))
    stop = threading.Event()
    stop.set()
    with pytest.raises(merging.Stopped):
        merging.merge(archive, 0, tiers.Merge(1, 1, manifest.segments), COMPACTOR, ARCHIVE, stop)
    assert archive.shard(0) == manifest
