"""The replay debt: what a clone of the newest moment reads beside the newest restore set. Pure.

The objective of a recovery time is compared with the debt alone. The set itself has to be read and written by every
restore, however often it is made anew; only what stands beside it grows with time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cdc.archive.listings import Listing
from cdc.archive.manifests import Manifest, SegmentInfo
from cdc.archive.views import everything_beside

ROWS_PER_S: Final = 150_000
"""Small versions that a clone reads and writes in a second, all shards together: what docs/benchmarks.md measured,
less a third for other machines."""
BYTES_PER_S: Final = 50 << 20
"""The same for bytes before compression, of large versions."""


@dataclass(frozen=True, slots=True)
class Debt:
    """Versions to read beside a shard's newest set, at most, and their bytes before compression."""

    rows: int = 0
    bytes: int = 0

    def seconds(self, shards: int) -> float:
        """How long a clone takes to replay it, where as many shards share what it can do evenly."""
        return (self.rows / ROWS_PER_S + self.bytes / BYTES_PER_S) * shards


def debt(manifest: Manifest) -> Debt:
    """A shard's debt as it stands. Without a set it is everything: the base snapshot, and all changes since."""
    if not manifest.epochs:
        return Debt()
    epoch = manifest.epochs[-1]
    # What the set itself consists of is no part of it.
    return _sum(everything_beside(manifest, epoch, epoch.resolved_at, lambda made: Listing()).segments)


def debt_after(manifest: Manifest, at: int) -> Debt:
    """What it would be once there is a set of `at`: what takes effect later is beside any set."""
    number = manifest.epochs[-1].number if manifest.epochs else 0
    return _sum(s for s in manifest.segments if s.epoch == number and s.max_effective_at > at)


def _sum(segments: Iterable[SegmentInfo]) -> Debt:
    found = list(segments)
    return Debt(sum(s.rows for s in found), sum(s.raw_size for s in found))
