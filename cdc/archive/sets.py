"""Restore sets: which versions one keeps, and making it as a stream."""

import threading
from collections.abc import Iterable, Iterator

import numpy as np

from cdc.archive import listings, merged
from cdc.archive.archive import Archive
from cdc.archive.listings import Listing
from cdc.archive.manifests import Epoch, Manifest, RestoreSet
from cdc.archive.merging import until, write
from cdc.archive.versions import Rows, Versions, first_of_digest, joined
from cdc.archive.views import everything_beside
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.model import NEVER, Bool, Op


def kept(versions: Versions | Rows, at: int) -> Bool:
    """Which versions a set at `at` keeps, of versions sorted by (digest, offset) with whole digests in them.

    Of each record the one that holds: the highest offset effective by then. It is left out when it says that the
    record is gone (ended, or expired by then), unless a version before it is effective only later (clocks disagreed):
    such a version is still read beside the set, and would bring the record back. A truncation that was found only later
    stays as well: until then it is not certain.
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
    unsure = (columns.op == Op.TRUNCATION) & (columns.observed_at > at)
    wanted = (holding >= 0) & ((there | unsure)[holding] | (first_later < holding))
    keep = np.zeros(versions.rows, np.bool_)
    keep[holding[wanted]] = True
    return keep


def holding(batches: Iterable[Rows], at: int) -> Iterator[Rows]:
    """Of batches in order, which may split a digest, the rows that a set at `at` keeps.

    Memory: a batch; of a record whose history is longer no more than two versions are carried from batch to batch.
    """
    carried: Rows | None = None
    for batch in batches:
        rows = batch if carried is None else joined([carried, batch])
        last = int(np.flatnonzero(first_of_digest(rows.columns.digest))[-1])
        yield from _chosen(rows.span(0, last), at)
        carried = _deciding(rows.span(last, rows.rows), at)
    if carried is not None:
        yield from _chosen(carried, at)


def _chosen(rows: Rows, at: int) -> list[Rows]:
    keep = kept(rows, at)
    return [rows.take(keep)] if keep.any() else []


def _deciding(rows: Rows, at: int) -> Rows:
    """Of one record's versions those that decide, whatever follows: the last one effective by then, and the first that
    is not."""
    until = rows.columns.effective_at <= at
    decide = np.concatenate([np.flatnonzero(until)[-1:], np.flatnonzero(~until)[:1]])
    return rows.take(np.sort(decide)).detached()


def make(
    archive: Archive,
    manifest: Manifest,
    epoch: Epoch,
    at: int,
    made_at: int,
    compactor: CompactorSettings,
    settings: ArchiveSettings,
    stop: threading.Event | None = None,
) -> RestoreSet:
    """The set of a shard at a moment, from the set before it and the segments since; its objects are written, and its
    listing.

    Memory: an eighth of `memory_bytes` twice over, and one object of `segment_bytes`. Raises as reading and writing do,
    and Stopped once `stop` is set.
    """
    source = everything_beside(manifest, epoch, at, archive.listing)
    batches = merged.rows(archive.store, source, batch_bytes=compactor.memory_bytes // 8, whole=False)
    directory = archive.directory(manifest.shard, "sets")
    written = write(
        archive.store,
        directory,
        settings,
        epoch.number,
        ((rows, None) for rows in holding(until(stop, batches), at)),
        compactor.segment_bytes,
    )
    return listings.write(
        archive.store, directory, Listing(tuple(written)), at=at, through=manifest.next_changes, epoch=epoch.number,
        made_at=made_at,
    )  # fmt: skip
