"""Segments out of versions that come in order, and the merge of some segments into fewer."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

from cdc.archive.archive import Archive
from cdc.archive.manifests import Epoch, Manifest, SegmentInfo
from cdc.archive.merged import rows
from cdc.archive.segments import SegmentWriter
from cdc.archive.store import Store
from cdc.archive.tiers import Merge, applied
from cdc.archive.versions import Rows, Versions
from cdc.archive.views import View
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.model import I64


class Stopped(Exception):
    """What was asked to stop has stopped: what it wrote is garbage."""


def write(
    store: Store,
    directory: str,
    settings: ArchiveSettings,
    epoch: int,
    lots: Iterable[tuple[Versions | Rows, I64 | None]],
    part_bytes: int,
) -> list[SegmentInfo]:
    """The segments of an epoch's versions that come in order, as `SegmentWriter.add` takes them; one ends with the lot
    that brings it to `part_bytes`. Memory: one segment, and a lot. Raises as the store and the lots do."""
    written: list[SegmentInfo] = []
    open_one = SegmentWriter(settings, epoch)
    for versions, order in lots:
        open_one.add(versions, order)
        if open_one.size >= part_bytes:
            written.append(open_one.finish(store, directory))
            open_one = SegmentWriter(settings, epoch)
    if open_one.rows:
        written.append(open_one.finish(store, directory))
    return written


def until(stop: threading.Event | None, batches: Iterable[Rows]) -> Iterator[Rows]:
    """The same batches. Raises Stopped once `stop` is set."""
    for batch in batches:
        if stop is not None and stop.is_set():
            raise Stopped
        yield batch


def merge(
    archive: Archive,
    shard: int,
    wanted: Merge,
    compactor: CompactorSettings,
    settings: ArchiveSettings,
    stop: threading.Event | None = None,
) -> list[SegmentInfo]:
    """Every version of a merge's inputs in segments of its tier, which follow each other in order of (digest, offset);
    they are written.

    Memory: an eighth of `memory_bytes`, and one object of `segment_bytes`. Raises as reading and writing do, and
    Stopped once `stop` is set.
    """
    everything = View(shard, 0, Epoch(wanted.epoch, 0, 0), None, wanted.inputs)
    # Outputs end with a batch: small ones make them even, and leave no rest.
    batch_bytes = min(compactor.memory_bytes // 8, max(compactor.segment_bytes // 16, 1 << 20))
    batches = rows(archive.store, everything, batch_bytes=batch_bytes, whole=False)
    made = write(
        archive.store,
        archive.directory(shard, "segments"),
        settings,
        wanted.epoch,
        ((batch, None) for batch in until(stop, batches)),
        wanted.part_bytes(compactor.segment_bytes),
    )
    return [replace(s, tier=wanted.tier) for s in made]


def merged(manifest: Manifest, wanted: Merge, made: list[SegmentInfo], now: int) -> Manifest | None:
    """The manifest in which a merge's segments stand for its inputs; None where an input is gone: another merged it, or
    it was pruned."""
    segments = applied(manifest.segments, wanted, made)
    return None if segments is None else replace(manifest, written_at=now, segments=segments)
