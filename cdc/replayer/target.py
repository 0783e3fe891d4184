"""Where a restore writes."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from cdc import codec
from cdc.clock import Clock, wall_clock
from cdc.config import ReplayerSettings
from cdc.model import I32, I64, NEVER, U8, U64, Bodies, Bool
from cdc.source import Source
from cdc.wire.batch import read, write
from cdc.wire.query import query

EXPIRY_ERROR_MS = 2000
"""A TTL counts whole seconds from the node's time when the write arrives, which is known to about a second."""


def same_expiry(left: I64, right: I64) -> Bool:
    """Which void times are the same, as well as a restore can write them."""
    return np.asarray(((left == NEVER) == (right == NEVER)) & (np.abs(left - right) <= EXPIRY_ERROR_MS))


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

    def read(self, digests: U8, heads: Bodies) -> tuple[Bool, U64, I64]:
        """Of each record: whether it is there, its content's checksum and its void time (milliseconds).

        `heads` are the encoded sets and user keys, which a batch read does not tell. Raises as `wire.batch.read`.
        """
        there = np.zeros(len(digests), np.bool_)
        checksum, void_time = np.zeros(len(digests), np.uint64), np.zeros(len(digests), np.int64)
        for rows, frame in read(self.source.cluster, self.namespace, digests, connections=self.settings.connections):
            found = codec.records([frame], asked=digests[rows], heads=codec.gather(heads, rows))
            which = rows[found.row]
            there[which], checksum[which], void_time[which] = True, found.checksum, found.void_time
        return there, checksum, void_time

    def write(self, digests: U8, encode: Callable[[I64], bytes]) -> I32:
        """The final result code of each digest's row; `encode` and what is raised are as in `wire.batch.write`."""
        settings = self.settings
        return write(
            self.source.cluster, self.namespace, digests, encode, connections=settings.connections,
            batch_records=settings.batch_records, batch_bytes=settings.batch_bytes,
        )  # fmt: skip
