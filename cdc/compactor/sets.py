"""When a restore set is due. Pure; `cdc.archive.sets` makes it."""

from typing import Final

from cdc.archive import Manifest
from cdc.archive.debt import debt, debt_after
from cdc.archive.windows import epoch_window
from cdc.config import CompactorSettings

EARLY_MS: Final = 60_000
"""Sets that are made early stand at full minutes, so that those of all shards still meet."""


def due_at(manifest: Manifest, settings: CompactorSettings) -> int | None:
    """The moment for which a set is due, if any.

    By schedule the last recoverable multiple of `set_every_s`, if newer than any set: multiples since 1970, so that the
    sets of all shards meet at the same moments. Earlier, at the last full minute, when replaying what stands beside the
    newest set would take more than `recovery_time_s` and the new one would at least halve that: what takes effect late
    stands beside every set, and making another for its sake would never end.
    """
    every_ms = max(1, round(settings.set_every_s * 1000))
    scheduled = _newer(manifest, every_ms)
    if scheduled is not None or not settings.recovery_time_s:
        return scheduled
    now = debt(manifest).seconds(manifest.shards)
    if now <= settings.recovery_time_s:
        return None
    early = _newer(manifest, min(every_ms, EARLY_MS))
    return early if early is not None and debt_after(manifest, early).seconds(manifest.shards) <= now / 2 else None


def _newer(manifest: Manifest, every_ms: int) -> int | None:
    """The last recoverable multiple, if newer than any set."""
    if not manifest.epochs:
        return None
    epoch = manifest.epochs[-1]
    window = epoch_window(epoch)
    at = epoch.resolved_at // every_ms * every_ms
    newest = max((s.at for s in manifest.sets if s.epoch == epoch.number), default=-1)
    return at if window is not None and at in window and at > newest else None
