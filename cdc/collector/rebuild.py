"""A shard's catalog made again from what was published, without publishing it again.

Two sources have it. Kafka alone, where the changes topic still has everything since the epoch's first change. Or the
archive for the changes that it has, and Kafka for those after them. Either gives, of every digest, the newest change
of the epoch; the one with fewer rows to read is tried first. What is read is gathered in a draft beside the catalog,
which takes the catalog's place at once, so a stop in between leaves what was there before.

Why nothing that is published afterwards can be called exact and be wrong, although what this worker knew is lost:

1. The entries are those that the lost catalog had. Each of its entries came from a published change, and the newest
   change of a digest says its LUT, generation, void time, set and checksum. Two kinds differ. A record kept aside has
   no checksum here, so it is told once more. And a restore set leaves out what had expired by its moment, although an
   expiry that nobody has told yet must be told with its blind interval. So only sets at or before the archive's
   `reconciled_at` are read: every expiry up to there has been told, and is archived.
2. The watermarks and moments of reconciling are what Kafka's last progress claims of the whole shard. Those of single
   partitions may have been later. Lower ones are as true, and make blind intervals longer only.
3. One thing follows from a watermark that is not lower: a version with a LUT above it is taken to hold from its LUT on,
   because no look after that LUT has failed to show it. Such a look may have been. It was over by the `observed_at` of
   Kafka's last progress, so a version with a LUT below that holds from its detection on (`ShardState.unsure_until`).
4. When each partition was last looked at in full is not known, so it is taken to be never: a version that sweeps have
   missed has a blind interval from the beginning of time.

Then the catalog is compared with the server before it counts as looked at: a partition that was never looked at in full
is due for an audit, and all of them for a digest look. They publish what differs and nothing else.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cdc.archive import Archive, View, open_store
from cdc.archive.merged import stream
from cdc.archive.views import everything_beside
from cdc.collector.catalog import Catalog
from cdc.collector.follow import fold, follow
from cdc.collector.state import ShardState
from cdc.config import Settings
from cdc.errors import ArchiveError, BodyDamaged, BrokerUnreachable, CatalogError, ObjectMissing, OffsetsLost
from cdc.model import BEGINNING
from cdc.topics import Progress, ProgressReader, Topics
from cdc.topics.last import last_between
from cdc.topics.offsets import list_offsets, topic_ids
from cdc.topics.progress import Kind

DRAFT = "draft"
"""The directory, within the catalog's, where it is gathered."""
READ_S = 1.0
PROBE = 256
"""So many offsets of the progress topic are read to learn the epoch at a place in it…"""
NEAR = 10_000
"""…and so many are read one after the other."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a catalog can be read from: Kafka's changes from the offset `begin` on, after what a view of the archive
    has (None: nothing of it)."""

    name: str
    begin: int
    rows: int
    archive: Archive | None = None
    view: View | None = None


def rebuild(
    directory: Path, last: Progress, settings: Settings, topics: Topics, beat: Callable[[int], None]
) -> tuple[Catalog | None, str]:
    """The catalog that agrees with `last`, the shard's last progress, and from what it was made; or None, and why that
    is not possible.

    `beat` is called with a number of rows read, again and again, and may raise. Raises BrokerUnreachable, and
    CatalogError when the disk cannot be written.
    """
    if last.resolved_at == BEGINNING:
        return None, "its base snapshot was not finished"
    found, reasons = _sources(last, settings, topics)
    for source in sorted(found, key=lambda s: s.rows):
        try:
            return _made(directory, source, last, settings, topics, beat), source.name
        except (ArchiveError, OffsetsLost, BodyDamaged) as error:
            reasons.append(error.message)
        finally:
            discard_draft(directory)
    return None, "; ".join(reasons)


def given_up(last: Progress, settings: Settings, topics: Topics) -> str:
    """Why the archive no longer follows the epoch of `last`; empty while it does, or where there is no archive.

    An epoch of which the archive lost changes can never be restored to again, however long it goes on: only a new one
    ends the hole. Raises ArchiveError.
    """
    try:
        archive = Archive.open(open_store(settings.archive), topics.namespace)
    except ObjectMissing:
        return ""
    manifest = archive.shard(last.shard) if archive.shards == last.shards else None
    return next((e.ended for e in (manifest.epochs if manifest else ()) if e.began_at == last.epoch), "")


def discard_draft(directory: Path) -> None:
    """Remove what a rebuilding, finished or not, has left of its draft. Raises CatalogError."""
    try:
        if (directory / DRAFT).exists():
            shutil.rmtree(directory / DRAFT)
    except OSError as error:
        raise CatalogError(f"{directory / DRAFT} cannot be removed: {error}") from error


def _made(
    directory: Path, source: Source, last: Progress, settings: Settings, topics: Topics, beat: Callable[[int], None]
) -> Catalog:
    begun = ShardState.begin(last.shard, last.shards, last.epoch, last.scope)
    draft = Catalog.begin(directory / DRAFT, begun)
    try:
        if source.archive is not None and source.view is not None:
            for versions in stream(source.archive.store, source.view):
                fold(draft, versions.columns, versions.bodies, 0, last.resolved_at)
                beat(versions.rows)
        draft.state = replace(draft.state, changes_through=source.begin)
        follow(draft, last.changes_through, last.resolved_at, settings.kafka, topics, beat)
        return draft.move(directory, _claimed(draft.state, last))
    finally:
        draft.close()


def _claimed(state: ShardState, last: Progress) -> ShardState:
    """The state, with the moments that Kafka's last progress claims."""
    return replace(
        state,
        sweep=last.sweep,
        changes_through=max(state.changes_through, last.changes_through),
        watermark=np.full_like(state.watermark, last.resolved_at),
        reconciled=np.full_like(state.reconciled, last.reconciled_at),
        observed_at=last.observed_at,
        unsure_until=last.observed_at,
    )


def _sources(last: Progress, settings: Settings, topics: Topics) -> tuple[list[Source], list[str]]:
    """The sources that are whole, as far as can be told before they are read, and why others are not."""
    shard = last.shard
    first = list_offsets(settings.kafka, topics.changes, [shard], earliest=True)[shard]
    end = list_offsets(settings.kafka, topics.changes, [shard], committed=False)[shard]
    if end < last.changes_through:
        return [], [f"Kafka's changes end at offset {end}, and its progress speaks of {last.changes_through}"]
    reasons: list[str] = []
    archived = _archived(last, settings, topics, first)
    begin = _beginning(last, settings, topics)
    if begin is None:
        reasons.append("Kafka's progress no longer says where the epoch began")
    elif first > begin:
        reasons.append(f"Kafka has changes from offset {first} on, and the epoch began at {begin}")
    found = []
    if begin is not None and first <= begin:
        found.append(Source("Kafka", begin, last.changes_through - begin))
    if isinstance(archived, Source):
        found.append(archived)
    else:
        reasons.append(archived)
    return found, reasons


def _archived(last: Progress, settings: Settings, topics: Topics, first: int) -> Source | str:
    """The archive and Kafka from there on; or why that cannot be. `first` is the first offset that Kafka has."""
    try:
        archive = Archive.open(open_store(settings.archive), topics.namespace)
        manifest = archive.shard(last.shard) if archive.shards == last.shards else None
        if manifest is None or not manifest.epochs:
            return "the archive has nothing of the shard"
        epoch = manifest.epochs[-1]
        if epoch.began_at != last.epoch:
            return "the archive's last epoch is another"
        if epoch.ended:
            return f"the archive's epoch has ended: {epoch.ended}"
        if not epoch.reconciled_at:
            return "the archive has no whole base snapshot of the epoch"
        if manifest.changes_topic != topic_ids(settings.kafka, [topics.changes])[topics.changes]:
            return f"the archive is of another {topics.changes}"
        begin = manifest.next_changes
        if begin > last.changes_through:
            return (
                f"the archive has changes up to offset {begin}, and Kafka's progress speaks of {last.changes_through}"
            )
        if begin < min(first, last.changes_through):
            return f"the archive has changes up to offset {begin}, and Kafka has them from {first} on"
        view = everything_beside(manifest, epoch, epoch.reconciled_at, archive.listing)
        return Source("the archive and Kafka", begin, view.rows + last.changes_through - begin, archive, view)
    except ArchiveError as error:
        return error.message


def _beginning(last: Progress, settings: Settings, topics: Topics) -> int | None:
    """The offset of the first change of `last`'s epoch; None when the progress topic no longer says.

    It says so where the epoch's first progress comes right after another epoch's, or at the topic's first offset.
    """
    shard = last.shard
    low = start = list_offsets(settings.kafka, topics.progress, [shard], earliest=True)[shard]
    end = list_offsets(settings.kafka, topics.progress, [shard])[shard]
    while end - start > NEAR:  # epochs only rise along the topic
        middle = (start + end) // 2
        here = last_between(settings.kafka, topics, {shard: (middle - PROBE, middle)}, "read_committed")[shard]
        if here is None:
            break
        start, end = (start, middle) if here.epoch >= last.epoch else (middle, end)
    deadline = time.monotonic() + settings.kafka.timeout_s
    with ProgressReader(settings.kafka, topics, {shard: start}) as reader:
        while True:
            for entry in reader.read(READ_S):
                if entry.progress.epoch == last.epoch:
                    told = start > low or entry.offset == 0
                    whole = entry.progress.kind == Kind.BASE and entry.progress.sweep == 0
                    return entry.progress.changes_from if told and whole else None
                start, deadline = entry.offset + 1, time.monotonic() + settings.kafka.timeout_s
            if time.monotonic() > deadline:
                raise BrokerUnreachable(f"{topics.progress}, partition {shard}: offset {start} was not read in time")
