"""How a namespace's backup stands: what Kafka and the archives say, whoever runs the roles, and wherever."""

from dataclasses import dataclass

from cdc.archive import Archive, Hole, Manifest, Window, drills, metadata, open_store
from cdc.archive.drills import Drilled
from cdc.archive.windows import either
from cdc.clock import Clock, wall_clock
from cdc.config import Settings
from cdc.errors import ArchiveError, ConfigError, ObjectMissing
from cdc.topics import Aside, Progress, Topics, kept_aside, last_progress

SOON_S = 10.0
"""So long a destination that does not answer is waited for: who asks how things stand wants to know which it is."""


@dataclass(frozen=True, slots=True)
class ArchivedShard:
    """One shard at a destination: the archive's resolved timestamp (ms), and the offsets of the changes topic up to the
    collector's last progress that it does not have yet."""

    resolved_at: int
    lag: int


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """One destination. `error` is why it could not be looked at; then there are no shards, windows and holes.
    `drill`: what the last rehearsed restore showed. `metadata_at`: when the last look at indexes, modules and settings
    began that is in it; 0: none is."""

    destination: str
    place: str
    shards: tuple[ArchivedShard, ...] = ()
    windows: tuple[Window, ...] = ()
    holes: tuple[Hole, ...] = ()
    error: ArchiveError | ConfigError | None = None
    drill: Drilled | None = None
    metadata_at: int = 0

    @property
    def resolved_at(self) -> int:
        """Every write up to this moment is in the archive; 0: none is."""
        return min((s.resolved_at for s in self.shards), default=0)

    @property
    def lag(self) -> int:
        """Offsets that the archive does not have yet."""
        return sum(s.lag for s in self.shards)


@dataclass(frozen=True, slots=True)
class Status:
    """The namespace `at` a moment (ms). `captured` is the collector's last progress, shard by shard; `aside` are the
    records kept in the aside topic."""

    namespace: str
    at: int
    captured: tuple[Progress | None, ...]
    destinations: tuple[DestinationStatus, ...]
    aside: tuple[Aside, ...]

    @property
    def scope(self) -> str:
        """Which records are captured, in words; empty: all of them."""
        return either(progress.scope for progress in self.captured if progress)

    @property
    def resolved_at(self) -> int:
        """Every write up to this moment is in Kafka; 0: none is."""
        return min((progress.resolved_at if progress else 0 for progress in self.captured), default=0)

    @property
    def reconciled_at(self) -> int:
        """Every delete up to this moment is in Kafka; 0: none is."""
        return min((progress.reconciled_at if progress else 0 for progress in self.captured), default=0)

    @property
    def lag_ms(self) -> int | None:
        """Age of the resolved timestamp; None while there is none."""
        return max(0, self.at - self.resolved_at) if self.resolved_at else None


def status(settings: Settings, clock: Clock = wall_clock) -> Status:
    """Asks Kafka, and reads the manifests of every destination. Raises BrokerUnreachable and TopicMismatch; what is
    wrong with a destination is told with it."""
    topics = Topics(settings.kafka.prefix, settings.aerospike.namespace)
    shards = topics.shards(settings.kafka)
    last = last_progress(settings.kafka, topics, shards)
    captured = tuple(last[shard] for shard in shards)
    return Status(
        topics.namespace,
        clock(),
        captured,
        tuple(_at(one, captured) for one in settings.each_destination()),
        tuple(kept_aside(settings.kafka, topics, shards)),
    )


def _at(settings: Settings, captured: tuple[Progress | None, ...]) -> DestinationStatus:
    name, place = settings.archive.destination, settings.archive.place
    try:
        try:
            archive = Archive.open(open_store(settings.archive.soon(SOON_S)), settings.aerospike.namespace)
        except ObjectMissing:  # nothing was compacted yet
            none = tuple(_shard(None, progress) for progress in captured)
            return DestinationStatus(name, place, none, (), (Hole(0, 0, f"there is no archive at {place} yet"),))
        manifests, windows, holes = archive.all_shards(), archive.windows(), archive.holes()
        described = metadata.newest(archive.store, archive.namespace)
        last = next(drills.newest(archive.store, archive.namespace), None)
        if len(manifests) != len(captured):
            raise ConfigError(
                f"the archive at {place} has {len(manifests)} shards, Kafka's topics have {len(captured)}"
            )
    except (ArchiveError, ConfigError) as error:
        return DestinationStatus(name, place, error=error)
    shards = tuple(_shard(*both) for both in zip(manifests, captured, strict=True))
    return DestinationStatus(
        name,
        place,
        shards,
        tuple(windows),
        tuple(holes),
        drill=last,
        metadata_at=described.looked_at if described else 0,
    )


def _shard(manifest: Manifest | None, captured: Progress | None) -> ArchivedShard:
    through = captured.changes_through if captured else 0
    done = manifest.next_changes if manifest else 0
    return ArchivedShard(manifest.epochs[-1].resolved_at if manifest and manifest.epochs else 0, max(0, through - done))
