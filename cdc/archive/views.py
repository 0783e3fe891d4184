"""Which objects a moment needs. `cdc.archive.merged` reads them as one sorted stream."""

from dataclasses import dataclass, replace

from cdc.archive.listings import Listed
from cdc.archive.manifests import Epoch, Manifest, RestoreSet, SegmentInfo
from cdc.archive.windows import epoch_at
from cdc.clock import rfc3339
from cdc.errors import NotRecoverable


@dataclass(frozen=True, slots=True)
class View:
    """What a restore of one shard to `at` reads: the newest set at or before it, if any, with its segments, and the
    segments beside it."""

    shard: int
    at: int
    epoch: Epoch
    base: RestoreSet | None
    segments: tuple[SegmentInfo, ...]
    base_segments: tuple[SegmentInfo, ...] = ()

    @property
    def objects(self) -> tuple[SegmentInfo, ...]:
        """All of them, the set's first."""
        return (*self.base_segments, *self.segments)

    @property
    def rows(self) -> int:
        """Versions to read, at most."""
        return sum(s.rows for s in self.objects)


def view(manifest: Manifest, at: int, listed: Listed) -> View:
    """What to read for the state of a shard at a moment. Raises NotRecoverable outside the shard's windows, and what
    `listed` raises."""
    epoch = epoch_at(manifest, at)
    if epoch is None:
        raise NotRecoverable(f"shard {manifest.shard} cannot be restored to {rfc3339(at)}")
    return view_of_epoch(manifest, epoch, at, listed)


def view_of_epoch(manifest: Manifest, epoch: Epoch, at: int, listed: Listed) -> View:
    """The same for a moment that is known to lie in an epoch, or before the end of what will be its window."""
    whole = everything_beside(manifest, epoch, at, listed)
    base = whole.base
    # What a listing has beside its set, for the set's own moment, is not read from segments again.
    through = base.beside_through if base is not None and base.at == at else 0
    again = {s.name for s in manifest.segments if s.last_offset < through}
    return replace(whole, segments=tuple(s for s in whole.segments if concerns(s, at) and s.name not in again))


def everything_beside(manifest: Manifest, epoch: Epoch, at: int, listed: Listed) -> View:
    """The newest set at or before `at` and every segment beside it: all that is known of the moments from there on."""
    sets = [s for s in manifest.sets if s.epoch == epoch.number and s.at <= at]
    base = max(sets, key=lambda s: (s.at, s.through), default=None)
    beside = tuple(s for s in _of_epoch(manifest, epoch) if is_beside(s, base))
    if base is None:
        return View(manifest.shard, at, epoch, None, beside)
    listing = listed(base)
    if at == base.at:  # of the moments after it, what the listing has beside the set says nothing
        beside = (*listing.beside, *beside)
    return View(manifest.shard, at, epoch, base, beside, listing.segments)


def changed_after(manifest: Manifest, at: int) -> tuple[SegmentInfo, ...]:
    """The segments of `at`'s epoch with versions effective after it: a rewind learns from them which records changed.

    Raises NotRecoverable outside the shard's windows.
    """
    epoch = epoch_at(manifest, at)
    if epoch is None:
        raise NotRecoverable(f"shard {manifest.shard} cannot be restored to {rfc3339(at)}")
    return tuple(s for s in _of_epoch(manifest, epoch) if s.max_effective_at > at)


def _of_epoch(manifest: Manifest, epoch: Epoch) -> list[SegmentInfo]:
    return [s for s in manifest.segments if s.epoch == epoch.number]


def is_beside(segment: SegmentInfo, base: RestoreSet | None) -> bool:
    """Whether a segment may hold rows that a set does not stand for; with no set it does."""
    return base is None or segment.last_offset >= base.through or segment.max_effective_at > base.at


def concerns(segment: SegmentInfo, at: int) -> bool:
    """Versions effective after `at` matter as far as their blind intervals reach before it."""
    return segment.min_effective_at <= at or segment.min_unobserved_since < at
