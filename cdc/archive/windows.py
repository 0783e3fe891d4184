"""To which moments one can restore: pure functions over epochs."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cdc.archive.manifests import Epoch, Manifest
from cdc.clock import rfc3339


@dataclass(frozen=True, slots=True)
class Window:
    """An unbroken span to whose every moment one can restore, both ends included (milliseconds since 1970).

    `resolution_ms` is the longest blind interval in it; up to `reconciled_at` every delete has been found.
    """

    start: int
    end: int
    resolution_ms: int
    reconciled_at: int

    def __contains__(self, at: int) -> bool:
        return self.start <= at <= self.end


@dataclass(frozen=True, slots=True)
class Hole:
    """A span that cannot be restored, ends excluded, and why."""

    start: int
    end: int
    reason: str


def epoch_window(epoch: Epoch) -> Window | None:
    """The window of one shard's epoch; None while there is none."""
    if epoch.recoverable_from is None or epoch.resolved_at < epoch.recoverable_from:
        return None
    return Window(epoch.recoverable_from, epoch.resolved_at, epoch.resolution_ms, epoch.reconciled_at)


def epoch_at(epochs: Sequence[Epoch], at: int) -> Epoch | None:
    """The newest epoch of a shard whose window holds a moment."""
    for epoch in reversed(epochs):
        window = epoch_window(epoch)
        if window is not None and at in window:
            return epoch
    return None


def shard_windows(epochs: Sequence[Epoch]) -> list[Window]:
    """A shard's windows in order of time. Where two epochs overlap (a clock was set back) each keeps its own."""
    found = [w for w in map(epoch_window, epochs) if w is not None]
    return sorted(found, key=lambda w: (w.start, w.end))


def namespace_windows(shards: Sequence[Manifest | None]) -> list[Window]:
    """The namespace's windows: where every shard has one. A shard without a manifest leaves none."""
    if not shards or any(m is None for m in shards):
        return []
    per_shard = [shard_windows(m.epochs) for m in shards if m is not None]
    common = per_shard[0]
    for windows in per_shard[1:]:
        common = _intersect(common, windows)
    return common


def _intersect(left: list[Window], right: list[Window]) -> list[Window]:
    both = [
        Window(
            max(a.start, b.start),
            min(a.end, b.end),
            max(a.resolution_ms, b.resolution_ms),
            min(a.reconciled_at, b.reconciled_at),
        )
        for a in left
        for b in right
        if max(a.start, b.start) <= min(a.end, b.end)
    ]
    return sorted(both, key=lambda w: (w.start, w.end))


def namespace_holes(shards: Sequence[Manifest | None]) -> list[Hole]:
    """The spans between the windows, and behind the last one if its history has ended; and shards that keep the
    namespace from having a window at all."""
    windows = namespace_windows(shards)
    if not windows:
        return [Hole(0, 0, reason) for reason in _missing(shards)]
    holes = [
        Hole(a.end, b.start, _why(shards, a.end, b.start)) for a, b in itertools.pairwise(windows) if a.end < b.start
    ]
    end = windows[-1].end
    last = max(e.resolved_at for m in shards if m is not None for e in m.epochs)
    reasons = [m.epochs[-1].ended for m in shards if m is not None and m.epochs[-1].ended]
    if reasons:
        holes.append(Hole(end, max(last, end), reasons[0]))
    return holes


def _missing(shards: Sequence[Manifest | None]) -> list[str]:
    reasons = []
    for shard, manifest in enumerate(shards):
        if manifest is None or not manifest.epochs:
            reasons.append(f"shard {shard} has nothing in the archive")
        elif manifest.epochs[-1].recoverable_from is None:
            began = rfc3339(manifest.epochs[-1].began_at)
            reasons.append(f"shard {shard} has an unfinished base snapshot, begun {began}")
        elif epoch_window(manifest.epochs[-1]) is None:
            reasons.append(f"shard {shard} has not been swept since its base snapshot")
    return reasons or ["the shards' windows have no moment in common"]


def _why(shards: Sequence[Manifest | None], start: int, end: int) -> str:
    """Why the span between two windows cannot be restored: what ended the shards' histories in it."""
    reasons = {e.ended for m in shards if m is not None for e in m.epochs if e.ended and start <= e.resolved_at <= end}
    return "; ".join(sorted(reasons)) or "the shards' histories have no moment in common"
