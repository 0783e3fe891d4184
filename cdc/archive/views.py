"""Which objects a moment needs, and their versions as one sorted stream.

A restore set drops the end of a record when nothing needs it any more. Segments read beside the set may hold older
versions of that record, so of their rows only those count that the set does not stand for: `offset >= through` or
`effective_at > at` (the set's). That rule is here, and nobody else has to know it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from cdc.archive import segments as objects
from cdc.archive.index import Index
from cdc.archive.manifests import Epoch, Manifest, RestoreSet, SegmentInfo
from cdc.archive.store import Store
from cdc.archive.versions import Versions, concat, order
from cdc.archive.windows import epoch_at
from cdc.clock import rfc3339
from cdc.errors import NotRecoverable
from cdc.model import U8, digest_order

BATCH_BYTES = 32 << 20
"""A stream takes about this much of uncompressed blocks at a time, whatever the archive's size."""


@dataclass(frozen=True, slots=True)
class View:
    """What a restore of one shard to `at` reads: the newest set at or before it, if any, and the segments beside it."""

    shard: int
    at: int
    epoch: Epoch
    base: RestoreSet | None
    segments: tuple[SegmentInfo, ...]

    @property
    def objects(self) -> tuple[SegmentInfo, ...]:
        """All of them, the set's first."""
        return (*(self.base.segments if self.base else ()), *self.segments)

    @property
    def rows(self) -> int:
        """Versions to read, at most."""
        return sum(s.rows for s in self.objects)


def view(manifest: Manifest, at: int) -> View:
    """What to read for the state of a shard at a moment. Raises NotRecoverable outside the shard's windows."""
    epoch = epoch_at(manifest.epochs, at)
    if epoch is None:
        raise NotRecoverable(f"shard {manifest.shard} cannot be restored to {rfc3339(at)}")
    return view_of_epoch(manifest, epoch, at)


def view_of_epoch(manifest: Manifest, epoch: Epoch, at: int) -> View:
    """The same for a moment that is known to lie in an epoch, or before the end of what will be its window."""
    whole = everything_beside(manifest, epoch, at)
    return replace(whole, segments=tuple(s for s in whole.segments if _concerns(s, at)))


def everything_beside(manifest: Manifest, epoch: Epoch, at: int) -> View:
    """The newest set at or before `at` and every segment beside it: all that is known of the moments from there on."""
    sets = [s for s in manifest.sets if s.epoch == epoch.number and s.at <= at]
    base = max(sets, key=lambda s: (s.at, s.through), default=None)
    return View(manifest.shard, at, epoch, base, tuple(s for s in _of_epoch(manifest, epoch) if _beside(s, base)))


def changed_after(manifest: Manifest, at: int) -> tuple[SegmentInfo, ...]:
    """The segments of `at`'s epoch with versions effective after it: a rewind learns from them which records changed.

    Raises NotRecoverable outside the shard's windows.
    """
    return tuple(s for s in _of_epoch(manifest, view(manifest, at).epoch) if s.max_effective_at > at)


def _of_epoch(manifest: Manifest, epoch: Epoch) -> list[SegmentInfo]:
    return [s for s in manifest.segments if s.epoch == epoch.number]


def _beside(segment: SegmentInfo, base: RestoreSet | None) -> bool:
    return base is None or segment.last_offset >= base.through or segment.max_effective_at > base.at


def _concerns(segment: SegmentInfo, at: int) -> bool:
    """Versions effective after `at` matter as far as their blind intervals reach before it."""
    return segment.min_effective_at <= at or segment.min_unobserved_since < at


def stream(
    store: Store,
    view: View,
    low: bytes | None = None,
    high: bytes | None = None,
    *,
    digests: U8 | None = None,
    batch_bytes: int = BATCH_BYTES,
) -> Iterator[Versions]:
    """A view's versions in order of (digest, offset), in batches that never split a digest.

    Memory is about twice `batch_bytes`, unless the versions of one record alone take more. Bounds and `digests` are
    those of `segments.read`. Raises ObjectMissing, ObjectDamaged, FormatTooNew.
    """
    indexes = {s.name: objects.read_index(store, s) for s in view.objects}
    bounds = [low, *_boundaries(list(indexes.values()), low, high, batch_bytes), high]
    base = view.base
    cursors = [_Cursor(store, s, indexes[s.name], None, low, high, digests) for s in (base.segments if base else ())]
    cursors += [_Cursor(store, s, indexes[s.name], base, low, high, digests) for s in view.segments]
    for bound in bounds[1:]:
        found = [parts for cursor in cursors if (parts := cursor.until(bound))]
        if found:
            versions = concat([part for parts in found for part in parts])
            # What one object gave is in order, and copying it once more is what a clone would spend most time with.
            yield versions.take(order(versions.columns.digest, versions.offsets)) if len(found) > 1 else versions


def _boundaries(indexes: list[Index], low: bytes | None, high: bytes | None, batch_bytes: int) -> list[bytes]:
    """Digests that cut [low, high) into ranges of about `batch_bytes` of blocks."""
    blocks = [i.blocks[i.between(low, high)] for i in indexes]
    if not blocks:
        return []
    every = np.concatenate(blocks)
    every = every[np.argsort(every["first_digest"], kind="stable")]
    filled = np.cumsum(every["raw_size"]) // batch_bytes
    cuts = np.unique(every["first_digest"][1:][filled[1:] > filled[:-1]])
    found = [bytes(cut) for cut in cuts]
    return [cut for cut in found if (low is None or cut > low) and (high is None or cut < high)]


@dataclass(slots=True)
class _Cursor:
    """One object, read forward: what is loaded and not yet given away waits in `rest`."""

    store: Store
    info: SegmentInfo
    index: Index
    beside: RestoreSet | None
    low: bytes | None
    high: bytes | None
    digests: U8 | None
    rest: Versions | None = None
    blocks: Iterator[Versions] = field(init=False)

    def __post_init__(self) -> None:
        self.blocks = objects.read(self.store, self.info, self.low, self.high, digests=self.digests, index=self.index)

    def until(self, bound: bytes | None) -> list[Versions]:
        """The versions not yet given away whose digests are below a bound (None: all)."""
        parts: list[Versions] = []
        while True:
            block, self.rest = self.rest or next(self.blocks, None), None
            if block is None:
                return parts
            keys = digest_order(block.columns.digest)
            end = len(keys) if bound is None else int(np.searchsorted(keys, np.void(bound), "left"))
            if end:
                parts += self._counting(block.span(0, end))
            if end < len(keys):
                self.rest = block.span(end, len(keys))
                return parts

    def _counting(self, versions: Versions) -> list[Versions]:
        if self.beside is None:
            return [versions]
        counts = (versions.offsets >= self.beside.through) | (versions.columns.effective_at > self.beside.at)
        if counts.all():
            return [versions]
        return [versions.take(counts)] if counts.any() else []
