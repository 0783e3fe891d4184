"""Where a restore writes."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from cdc import codec
from cdc.clock import Clock, wall_clock
from cdc.config import ReplayerSettings
from cdc.model import I32, I64, U8
from cdc.source import Source
from cdc.wire.batch import write
from cdc.wire.query import query


@dataclass(frozen=True, slots=True)
class Target:
    """A namespace of a cluster. `now` is the time of its nodes, in milliseconds, by which TTLs are reckoned."""

    source: Source
    settings: ReplayerSettings
    now: Clock

    @classmethod
    def of(cls, source: Source, settings: ReplayerSettings, clock: Clock = wall_clock) -> "Target":
        """Measures the nodes' clocks once. Raises ClusterUnreachable."""
        # An empty namespace tells its time to a second only: clocks that may be equal are taken to be.
        offsets = [c.offset_ms if abs(c.offset_ms) > c.error_ms else 0 for c in source.clocks().values()]
        offset = round(median(offsets))
        return cls(source, settings, lambda: clock() + offset)

    @property
    def namespace(self) -> str:
        """Its name."""
        return self.source.namespace

    def holds_records(self) -> bool:
        """Whether a query finds any record. The server's own counts include truncated and expired ones for a while."""
        counts = self.source.partition_counts().records
        filled = [partition for partition, count in enumerate(counts.tolist()) if count]
        frames = query(self.source.cluster, self.namespace, filled, bins=False, sample_max=1)
        return len(codec.digests(frames)) > 0

    def write(self, digests: U8, encode: Callable[[I64], bytes]) -> I32:
        """The final result code of each digest's row; `encode` and what is raised are as in `wire.batch.write`."""
        settings = self.settings
        return write(
            self.source.cluster, self.namespace, digests, encode, connections=settings.connections,
            batch_records=settings.batch_records, batch_bytes=settings.batch_bytes,
        )  # fmt: skip
