"""How a namespace's backup stands: what Kafka and the archive say, whoever runs the roles, and wherever."""

from dataclasses import dataclass

from cdc.archive import Archive, Hole, LocalStore, Manifest, Window
from cdc.clock import Clock, wall_clock
from cdc.config import Settings
from cdc.errors import ObjectMissing
from cdc.topics import Aside, Progress, Topics, kept_aside, last_progress


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard. `captured` is the collector's last progress; `archived_to` the archive's resolved timestamp (ms).

    `archive_lag` are the offsets of the changes topic up to that progress that the archive does not have yet.
    """

    shard: int
    captured: Progress | None
    archived_to: int
    archive_lag: int


@dataclass(frozen=True, slots=True)
class Status:
    """The namespace `at` a moment (ms). `aside` are the records kept in the aside topic."""

    namespace: str
    at: int
    shards: tuple[ShardStatus, ...]
    windows: tuple[Window, ...]
    holes: tuple[Hole, ...]
    aside: tuple[Aside, ...]

    @property
    def resolved_at(self) -> int:
        """Every write up to this moment is in Kafka; 0: none is."""
        return min((s.captured.resolved_at if s.captured else 0 for s in self.shards), default=0)

    @property
    def reconciled_at(self) -> int:
        """Every delete up to this moment is in Kafka; 0: none is."""
        return min((s.captured.reconciled_at if s.captured else 0 for s in self.shards), default=0)

    @property
    def lag_ms(self) -> int | None:
        """Age of the resolved timestamp; None while there is none."""
        return max(0, self.at - self.resolved_at) if self.resolved_at else None


def status(settings: Settings, clock: Clock = wall_clock) -> Status:
    """Asks Kafka and reads the archive's manifests. Raises BrokerUnreachable, TopicMismatch and ArchiveError."""
    topics = Topics(settings.kafka.prefix, settings.aerospike.namespace)
    shards = topics.shards(settings.kafka)
    try:
        archive = Archive.open(LocalStore(settings.archive.path), settings.aerospike.namespace)
    except ObjectMissing:
        manifests: list[Manifest | None] = [None for _ in shards]  # nothing was compacted yet
        windows, holes = [], [Hole(0, 0, f"there is no archive at {settings.archive.path} yet")]
    else:
        manifests, windows, holes = archive.all_shards(), archive.windows(), archive.holes()
    found = []
    last = last_progress(settings.kafka, topics, shards)
    for shard, manifest in zip(shards, manifests, strict=True):
        done = manifest.next_changes if manifest else 0
        resolved = manifest.epochs[-1].resolved_at if manifest and manifest.epochs else 0
        captured = last[shard]
        through = captured.changes_through if captured else 0
        found.append(ShardStatus(shard, captured, resolved, max(0, through - done)))
    return Status(
        topics.namespace,
        clock(),
        tuple(found),
        tuple(windows),
        tuple(holes),
        tuple(kept_aside(settings.kafka, topics, shards)),
    )
