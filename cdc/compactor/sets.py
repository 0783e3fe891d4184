"""Restore sets: when one is due, which versions it keeps, and making it as a stream."""

import numpy as np

from cdc.archive import Archive, Epoch, Manifest, RestoreSet, SegmentInfo
from cdc.archive.segments import SegmentWriter
from cdc.archive.versions import Versions, first_of_digest
from cdc.archive.views import everything_beside, stream
from cdc.archive.windows import epoch_window
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.model import NEVER, Bool, Op


def due_at(manifest: Manifest, every_s: float) -> int | None:
    """The moment for which a set is due: the last recoverable multiple of `every_s`, if newer than any set.

    Multiples since 1970, so that the sets of all shards meet at the same moments.
    """
    if not manifest.epochs:
        return None
    epoch = manifest.epochs[-1]
    window = epoch_window(epoch)
    every_ms = max(1, round(every_s * 1000))
    at = epoch.resolved_at // every_ms * every_ms
    newest = max((s.at for s in manifest.sets if s.epoch == epoch.number), default=-1)
    return at if window is not None and at in window and at > newest else None


def kept(versions: Versions, at: int) -> Bool:
    """Which versions a set at `at` keeps, of versions sorted by (digest, offset) with whole digests in them.

    Of each record the one that holds: the highest offset effective by then. It is left out when it says that the
    record is gone (ended, or expired by then), unless a version before it is effective only later (clocks disagreed):
    such a version is still read beside the set, and would bring the record back.
    """
    columns = versions.columns
    if not versions.rows:
        return np.zeros(0, np.bool_)
    starts = np.flatnonzero(first_of_digest(columns.digest))
    place = np.arange(versions.rows)
    until = columns.effective_at <= at
    holding = np.maximum.reduceat(np.where(until, place, -1), starts)
    first_later = np.minimum.reduceat(np.where(until, versions.rows, place), starts)
    there = (columns.op == Op.WRITE) & ((columns.void_time == NEVER) | (columns.void_time > at))
    wanted = (holding >= 0) & (there[holding] | (first_later < holding))
    keep = np.zeros(versions.rows, np.bool_)
    keep[holding[wanted]] = True
    return keep


def make(
    archive: Archive,
    manifest: Manifest,
    epoch: Epoch,
    at: int,
    made_at: int,
    compactor: CompactorSettings,
    settings: ArchiveSettings,
) -> RestoreSet:
    """The set of a shard at a moment, from the set before it and the segments since; its objects are written.

    Memory: a quarter of `memory_bytes` twice over, and one object of `segment_bytes`. Raises as reading and writing do.
    """
    source = everything_beside(manifest, epoch, at)
    written: list[SegmentInfo] = []
    writer = SegmentWriter(settings, epoch.number)
    directory = archive.directory(manifest.shard, "sets")
    for versions in stream(archive.store, source, batch_bytes=compactor.memory_bytes // 4):
        writer.add(versions, np.flatnonzero(kept(versions, at)).astype(np.int64, copy=False))
        if writer.size >= compactor.segment_bytes:
            written.append(writer.finish(archive.store, directory))
            writer = SegmentWriter(settings, epoch.number)
    if writer.rows:
        written.append(writer.finish(archive.store, directory))
    return RestoreSet(at, manifest.next_changes, epoch.number, tuple(written), made_at)
