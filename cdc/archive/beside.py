"""What concerns a restore set's moment and does not stand in the set, so that the set can do without the changes beside
it.

Of each record that is: the newest change that took effect by then, if the set does not stand for it (it came late), and
every change after that one whose blind interval reaches over the moment. Nothing else is asked of a moment
(`cdc.replayer.versions.states`).
"""

from dataclasses import replace

import numpy as np

from cdc.archive import listings
from cdc.archive.archive import Archive
from cdc.archive.listings import Listing
from cdc.archive.manifests import Manifest, RestoreSet
from cdc.archive.merged import stream
from cdc.archive.merging import write
from cdc.archive.versions import Versions, first_of_digest
from cdc.archive.views import view_of_epoch
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.model import Bool


def kept(versions: Versions, at: int) -> Bool:
    """Which of the versions beside a set at `at` concern its moment; they are sorted by (digest, offset), with whole
    digests in them, and one may stand there twice."""
    columns, rows = versions.columns, np.arange(versions.rows)
    if not versions.rows:
        return np.zeros(0, np.bool_)
    first = first_of_digest(columns.digest)
    starts = np.flatnonzero(first)
    again = ~first
    again[1:] &= versions.offsets[1:] == versions.offsets[:-1]
    until = columns.effective_at <= at
    holding = np.maximum.reduceat(np.where(until & ~again, rows, -1), starts)
    holds = np.repeat(holding, np.diff(np.append(starts, versions.rows)))
    return np.asarray(~again & ((rows == holds) | ((rows > holds) & (columns.unobserved_since < at))))


def complete(
    archive: Archive, manifest: Manifest, made: RestoreSet, compactor: CompactorSettings, settings: ArchiveSettings
) -> RestoreSet:
    """A set of a shard with all that concerns its moment of the changes there are; its objects and its new listing are
    written. The segments with those changes may then go.

    Memory: as for making a set. Raises as reading and writing do.
    """
    epoch = manifest.epoch(made.epoch)
    assert epoch is not None  # a manifest names the epoch of whatever it names
    found = view_of_epoch(replace(manifest, sets=(made,)), epoch, made.at, archive.listing)
    directory = archive.directory(manifest.shard, "sets")
    beside = stream(archive.store, replace(found, base_segments=()), batch_bytes=compactor.memory_bytes // 4)
    written = write(
        archive.store,
        directory,
        settings,
        made.epoch,
        ((versions, np.flatnonzero(kept(versions, made.at)).astype(np.int64, copy=False)) for versions in beside),
        compactor.segment_bytes,
    )
    # A topic made anew counts from 0 again, so the offsets are those of the epoch's own segments.
    last = max((s.last_offset for s in manifest.segments if s.epoch == made.epoch), default=-1)
    return listings.write(
        archive.store, directory, Listing(archive.listing(made).segments, tuple(written)), at=made.at,
        through=made.through, epoch=made.epoch, made_at=made.made_at, beside_through=max(made.beside_through, last + 1),
    )  # fmt: skip
