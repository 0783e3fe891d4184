"""Where a restore writes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from cdc import codec
from cdc.clock import Clock, wall_clock
from cdc.codec import bins
from cdc.config import ReplayerSettings
from cdc.errors import PartitionUnavailable
from cdc.model import I32, I64, NEVER, U8, U64, Bodies, Bool
from cdc.replayer.refusals import Limits
from cdc.source import Source, facts
from cdc.wire.batch import read, write
from cdc.wire.messages import Result
from cdc.wire.query import query

EXPIRY_ERROR_MS = 2000
"""A TTL counts whole seconds from the node's time when the write arrives, which is known to about a second."""


def same_expiry(wanted: I64, found: I64, late_ms: int = 0) -> Bool:
    """Which void times are the same, as well as a restore can write them whose batches were `late_ms` late."""
    late = found - wanted
    in_time = (late >= -EXPIRY_ERROR_MS) & (late <= EXPIRY_ERROR_MS + late_ms)
    return np.asarray(((wanted == NEVER) == (found == NEVER)) & (in_time | (wanted == NEVER)))


@dataclass(slots=True)
class Delay:
    """How long the slowest batch took from its encoding to its answer: by so much a TTL may have been counted late."""

    most_ms: int = 0

    def took(self, seconds: float) -> None:
        """So long a batch took."""
        self.most_ms = max(self.most_ms, round(seconds * 1000))


@dataclass(frozen=True, slots=True)
class Target:
    """A namespace of a cluster. `now` is the time of its nodes, in milliseconds, by which TTLs are reckoned; `delay`
    that of the batches written through it."""

    source: Source
    settings: ReplayerSettings
    now: Clock
    delay: Delay = field(default_factory=Delay, kw_only=True)

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

    def holds_records(self, set_name: str = "") -> bool:
        """Whether a query finds any record, of a set if it is named. The server's own counts include truncated and
        expired ones for a while."""
        counts = self.source.partition_counts().records
        filled = [partition for partition, count in enumerate(counts.tolist()) if count]
        frames = query(self.source.cluster, self.namespace, filled, bins=False, sample_max=1, set_name=set_name or None)
        return len(codec.digests(frames)) > 0

    def limits(self) -> Limits:
        """Why it may forbid writes now. Raises ClusterUnreachable where no node says."""
        about, sets = f"namespace/{self.namespace}", f"sets/{self.namespace}"
        said, _ = self.source.holders(about, sets)
        return Limits.said(
            [facts.namespace_facts(answer[about], self.namespace) for answer in said.values()],
            [line for answer in said.values() for line in facts.set_lines(answer[sets])],
        )

    def read(self, digests: U8, heads: Bodies, names: Sequence[str] = ()) -> tuple[Bool, U64, I64]:
        """Of each record: whether it is there, its content's checksum and its void time (milliseconds).

        `heads` are the encoded sets and user keys, which a batch read does not tell. Where bins are named the checksum
        is of these alone, as `codec.bins.choose` has it with nulls. That of a content which cannot be said is 0. Raises
        as `wire.batch.read`, and PartitionUnavailable where a node would not say whether a record is there.
        """
        there, told = np.zeros(len(digests), np.bool_), np.zeros(len(digests), np.bool_)
        checksum, void_time = np.zeros(len(digests), np.uint64), np.zeros(len(digests), np.int64)
        for rows, frame in read(self.source.cluster, self.namespace, digests, connections=self.settings.connections):
            found = codec.records([frame], asked=digests[rows], heads=codec.gather(heads, rows))
            which = rows[found.row]
            there[which], told[which], void_time[which] = True, True, found.void_time
            some = bins.choose(found.contents, names, "nulls", contents=True) if names else found
            checksum[which] = some.checksum
            for one in found.rejected:
                there[rows[one.row]] = one.code == Result.OK
                told[rows[one.row]] = one.code in (Result.OK, Result.NOT_FOUND)
        if not told.all():
            raise PartitionUnavailable(f"{self.namespace}: {np.count_nonzero(~told):,} records cannot be read")
        return there, checksum, void_time

    def write(self, digests: U8, encode: Callable[[I64], bytes]) -> I32:
        """The final result code of each digest's row; `encode` and what is raised are as in `wire.batch.write`."""
        settings = self.settings
        return write(
            self.source.cluster, self.namespace, digests, encode, connections=settings.connections,
            batch_records=settings.batch_records, batch_bytes=settings.batch_bytes, took=self.delay.took,
        )  # fmt: skip
