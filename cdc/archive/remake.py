"""Objects of an archive made again: from their own bytes elsewhere, from the versions of another destination, or from
Kafka. Each is read back before it counts. What is half done when a process ends is garbage, or as damaged as before."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cdc.archive import listings, sets
from cdc.archive import segments as objects
from cdc.archive.adopt import Taken, end_of, same
from cdc.archive.archive import Archive
from cdc.archive.listings import Listing
from cdc.archive.manifests import Epoch, Manifest, RestoreSet, SegmentInfo, sha256
from cdc.archive.merged import stream
from cdc.archive.merging import write
from cdc.archive.siblings import Sibling
from cdc.archive.store import Store
from cdc.archive.versions import Versions, order
from cdc.archive.views import View, everything_beside, view_of_epoch
from cdc.archive.windows import epoch_at
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.errors import ObjectDamaged, ObjectMissing
from cdc.model import Bool, digest_order

DIGEST_END = "ff" * 20
Names = npt.NDArray[np.void]
"""Digest and offset of versions, 28 bytes each."""


class How(NamedTuple):
    """The settings by which objects are written."""

    archive: ArchiveSettings
    compactor: CompactorSettings


def write_over(store: Store, name: str, data: bytes) -> None:
    """Put an object in the place of a damaged or missing one, and read it back. Raises ObjectDamaged if it is not as it
    was written, and what the store raises."""
    store.delete(name)
    store.put(name, data)
    if store.get(name) != data:
        raise ObjectDamaged(f"{name} is not as it was written")


def copied(source: Store, target: Store, name: str, size: int, digest: str) -> bool:
    """Have an object of another archive, whose bytes are known, under its name here; False if it was here. Raises
    ObjectMissing and ObjectDamaged if it is not whole there."""
    if target.exists(name):
        try:
            if matching(target.get(name), size, digest):
                return False
        except ObjectDamaged:
            pass  # of an attempt that was cut off: it is written over
    data = source.get(name)
    if not matching(data, size, digest):
        raise ObjectDamaged(f"{name} does not have the hash that its manifest says")
    write_over(target, name, data)
    return True


def matching(data: bytes, size: int, digest: str) -> bool:
    """Whether bytes are those that a manifest names."""
    return len(data) == size and sha256(data) == digest


def grouped(hurt: Sequence[SegmentInfo]) -> list[list[SegmentInfo]]:
    """Segments of a shard that must be made again together: a version that may be of either of two belongs to a group
    of both."""
    groups: list[list[SegmentInfo]] = []
    for info in hurt:
        touching = [g for g in groups if any(_touch(info, other) for other in g)]
        groups = [g for g in groups if g not in touching]
        groups.append([info, *(other for g in touching for other in g)])
    return groups


def _touch(a: SegmentInfo, b: SegmentInfo) -> bool:
    return (
        a.epoch == b.epoch
        and a.first_offset <= b.last_offset
        and b.first_offset <= a.last_offset
        and a.first_digest <= b.last_digest
        and b.first_digest <= a.last_digest
    )


def from_sibling(sibling: Sibling, shard: int, epoch: Epoch, group: Sequence[SegmentInfo]) -> Iterator[Versions]:
    """The versions of another destination that may be those of damaged segments, in order of (digest, offset)."""
    low, high = min(s.first_digest for s in group), max(s.last_digest for s in group)
    first, last = min(s.first_offset for s in group), max(s.last_offset for s in group)
    found = [s for s in sibling.segments(shard, epoch) if s.first_offset <= last and s.last_offset >= first]
    end = None if high == DIGEST_END else (int(high, 16) + 1).to_bytes(20, "big")
    everything = View(shard, 0, epoch, None, tuple(found))
    return stream(sibling.archive.store, everything, bytes.fromhex(low), end)


def rebuilt(
    archive: Archive, manifest: Manifest, group: Sequence[SegmentInfo], versions: Iterable[Versions], how: How
) -> list[SegmentInfo]:
    """New segments with the versions of damaged ones, picked from `versions`, which come in order of (digest, offset).

    They are those of the damaged ones only if all that the manifest says of these is so: counts, and the spans of
    digests, offsets and moments. Raises ObjectMissing otherwise; what was written is removed again.
    """
    taken = _others(archive, manifest, group)
    directory = archive.directory(manifest.shard, "segments")

    def lots() -> Iterator[Versions]:
        for lot in versions:
            wanted = _within(lot, group)
            if len(taken):
                wanted &= ~np.isin(_names(lot), taken)
            if wanted.any():
                yield lot.take(wanted)

    written = _written(archive.store, directory, group[0].epoch, lots(), how)
    if _summary(written) != _summary(group):
        for info in written:
            archive.store.delete(info.name)
            archive.store.delete(info.index_name)
        found = sum(s.rows for s in written)
        raise ObjectMissing(f"{found:,} versions are there of {sum(s.rows for s in group):,}, or others")
    tier = min(s.tier for s in group)
    return [replace(_read_back(archive.store, s), tier=tier) for s in written]


def sorted_lot(versions: Versions) -> Versions:
    """Versions as they came, in order of (digest, offset)."""
    return versions.take(order(versions.columns.digest, versions.offsets))


def remade(archive: Archive, manifest: Manifest, made: RestoreSet, hurt: set[str], how: How) -> RestoreSet | None:
    """A restore set made again from the archive's own objects; None where they do not lead to its moment.

    `manifest` has none of the damaged sets. Raises as reading and writing do.
    """
    epoch = manifest.epoch(made.epoch)
    if epoch is None or not own_way(archive, manifest, epoch, made, hurt):
        return None
    again = sets.make(archive, manifest, epoch, made.at, made.made_at, how.compactor, how.archive)
    for info in archive.listing(again).objects:
        _read_back(archive.store, info)
    return again


def own_way(archive: Archive, manifest: Manifest, epoch: Epoch, made: RestoreSet, hurt: set[str]) -> bool:
    """Whether an archive's own sound objects lead to the moment of a set: they do from a set before it on, as far as
    changes are kept, and from the epoch's beginning where nothing of it was pruned."""
    if made.at < manifest.changes_kept_from:
        return False
    try:
        source = everything_beside(manifest, epoch, made.at, archive.listing)
    except (ObjectMissing, ObjectDamaged):
        return False
    if any(name in hurt for s in source.objects for name in (s.name, s.index_name)):
        return False
    if source.base is not None:
        return source.base.at >= manifest.changes_kept_from
    return epoch.recoverable_from is not None and epoch.recoverable_from >= manifest.changes_kept_from


def set_from_sibling(
    archive: Archive, manifest: Manifest, made: RestoreSet, sibling: Sibling, how: How
) -> RestoreSet | None:
    """A restore set made again from what another destination restores of its moment; None where it does not.

    Where changes beside the set are no longer kept here, what of them concerns the moment is made again too. Raises as
    reading and writing do.
    """
    shard = manifest.shard
    source = set_source(manifest, made, sibling)
    epoch = manifest.epoch(made.epoch)
    if source is None or epoch is None:
        return None
    theirs, through = source
    view = view_of_epoch(theirs, _counterpart(theirs, epoch), made.at, sibling.archive.listing)
    directory, store = archive.directory(shard, "sets"), archive.store

    def lots(pick: Callable[[Versions], Bool]) -> Iterator[Versions]:
        for lot in stream(sibling.archive.store, view, batch_bytes=how.compactor.memory_bytes // 4):
            wanted = pick(lot)
            if wanted.any():
                yield lot.take(wanted)

    def concerning(lot: Versions) -> Bool:
        columns = lot.columns
        return (columns.effective_at > made.at) & (columns.unobserved_since < made.at)

    kept = _written(store, directory, made.epoch, lots(lambda lot: sets.kept(lot, made.at)), how)
    beside = _written(store, directory, made.epoch, lots(concerning), how) if made.beside_through else []
    for info in (*kept, *beside):
        _read_back(store, info)
    return listings.write(
        store, directory, Listing(tuple(kept), tuple(beside)), at=made.at, through=through, epoch=made.epoch,
        made_at=made.made_at, beside_through=through if made.beside_through else 0,
    )  # fmt: skip


def set_source(manifest: Manifest, made: RestoreSet, sibling: Sibling) -> tuple[Manifest, int] | None:
    """The manifest of another destination that restores a set's moment, and the offset up to which it stands for
    changes of its epoch; None if it does not, or has less than what is no longer kept here."""
    epoch = manifest.epoch(made.epoch)
    theirs = sibling.manifests[manifest.shard]
    if epoch is None or theirs is None:
        return None
    found = epoch_at(theirs, made.at)
    if found is None or not same(found, epoch):
        return None
    through = end_of(theirs, found, going_on=found is theirs.epochs[-1] and not found.ended)
    if made.at < theirs.changes_kept_from:
        alone = [s for s in theirs.sets if s.epoch == found.number and s.at == made.at]
        through = max((s.beside_through or s.through for s in alone), default=0)
    return (theirs, through) if through >= made.beside_through else None


def history(archive: Archive, shard: int, taken: Taken, sibling: Sibling, how: How, done: Callable[[int], None]) -> (
    tuple[list[SegmentInfo], list[RestoreSet]]
):  # fmt: skip
    """Have all objects here that were taken of another destination's epoch; `done` is told of bytes. Raises as reading
    and writing do, and ObjectDamaged or ObjectMissing for what is not whole there."""
    source, store, number = sibling.archive.store, archive.store, taken.epoch.number

    def copy(infos: Iterable[SegmentInfo]) -> list[SegmentInfo]:
        found = []
        for info in infos:
            copied(source, store, info.name, info.size, info.sha256)
            copied(source, store, info.index_name, info.index_size, info.index_sha256)
            found.append(replace(info, epoch=number))
            done(info.size + info.index_size)
        return found

    segments = copy(taken.whole)
    if taken.cut:
        everything = View(shard, 0, taken.epoch, None, taken.cut)
        lots = (lot.take(lot.offsets >= taken.since) for lot in stream(source, everything))
        written = _written(store, archive.directory(shard, "segments"), number, (lot for lot in lots if lot.rows), how)
        segments += [_read_back(store, info) for info in written]
        done(sum(s.size + s.index_size for s in taken.cut))
    made = []
    for one in taken.sets:
        listing = sibling.archive.listing(one)
        here = Listing(tuple(copy(listing.segments)), tuple(copy(listing.beside)))
        written_set = listings.write(
            store, archive.directory(shard, "sets"), here, at=one.at, through=one.through, epoch=number,
            made_at=one.made_at, beside_through=one.beside_through,
        )  # fmt: skip
        archive.listing(written_set)
        made.append(written_set)
    return segments, made


def _counterpart(theirs: Manifest, epoch: Epoch) -> Epoch:
    return next(e for e in theirs.epochs if same(e, epoch))


def _written(store: Store, directory: str, epoch: int, lots: Iterable[Versions], how: How) -> list[SegmentInfo]:
    return write(store, directory, how.archive, epoch, ((lot, None) for lot in lots), how.compactor.segment_bytes)


def _read_back(store: Store, info: SegmentInfo) -> SegmentInfo:
    objects.verify(store, info)
    return info


def _within(lot: Versions, group: Sequence[SegmentInfo]) -> Bool:
    keys = digest_order(lot.columns.digest)
    wanted = np.zeros(lot.rows, np.bool_)
    for info in group:
        start = int(np.searchsorted(keys, np.void(bytes.fromhex(info.first_digest)), "left"))
        end = int(np.searchsorted(keys, np.void(bytes.fromhex(info.last_digest)), "right"))
        offsets = lot.offsets[start:end]
        wanted[start:end] |= (offsets >= info.first_offset) & (offsets <= info.last_offset)
    return wanted


def _others(archive: Archive, manifest: Manifest, group: Sequence[SegmentInfo]) -> Names:
    """What sound segments have of the same digests and offsets: one record's versions may end one and begin the
    next."""
    names = {s.name for s in group}
    found = [np.empty(0, "V28")]
    for other in manifest.segments:
        if other.name in names or not any(_touch(other, info) for info in group):
            continue
        for lot in objects.read(archive.store, other):
            found.append(_names(lot)[_within(lot, group)])
    return np.concatenate(found)


def _names(lot: Versions) -> Names:
    """Digest and offset of each version as one value."""
    both = np.empty((lot.rows, 28), np.uint8)
    both[:, :20] = lot.columns.digest
    both[:, 20:] = lot.offsets.astype(">i8").view(np.uint8).reshape(-1, 8)
    return both.view("V28").reshape(-1)


def _summary(group: Sequence[SegmentInfo]) -> tuple[object, ...]:
    if not group:
        return ()
    lowest = ("first_digest", "first_offset", "min_effective_at", "min_unobserved_since")
    highest = ("last_digest", "last_offset", "max_effective_at", "max_observed_at")
    return (
        sum(s.rows for s in group),
        *(min(getattr(s, name) for s in group) for name in lowest),
        *(max(getattr(s, name) for s in group) for name in highest),
    )
