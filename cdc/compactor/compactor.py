"""The compactor's role: from Kafka into the archive, shard by shard, going on where the last manifests end."""

import random
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from cdc import metrics
from cdc.archive import Archive, Epoch, Manifest, Store, open_store
from cdc.archive.windows import epoch_window, namespace_windows
from cdc.clock import Clock, wall_clock
from cdc.compactor.intake import Committed, Intake
from cdc.compactor.metadata import MetadataIntake
from cdc.compactor.upkeep import Done, Upkeep
from cdc.config import Settings
from cdc.errors import (
    ArchiveError,
    BrokerUnreachable,
    CdcError,
    CommitLost,
    KafkaError,
    ObjectMissing,
    OffsetsLost,
    StoreForbidden,
    StoreUnreachable,
)
from cdc.topics import Topics, end_offsets

RETRY_S = 5.0
SELDOM_MS = 10_000
"""Metadata is asked for this often, and how much Kafka has that the archive lacks."""
PASSING = (BrokerUnreachable, StoreUnreachable, StoreForbidden)
"""What an operator or time repairs: the service goes on from the last manifests, and says so meanwhile."""


@dataclass(slots=True)
class Stats:
    """What a compactor committed. `segments` and `rows` came from Kafka; `merged_rows` are those that merges wrote
    again, and `bytes` everything that was written. `lost` says of each gap in Kafka what it cost."""

    segments: int = 0
    sets: int = 0
    rows: int = 0
    bytes: int = 0
    skipped: int = 0
    merges: int = 0
    merged_rows: int = 0
    merged_bytes: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, done: Done) -> None:
        """What upkeep did."""
        self.sets += done.sets
        self.merges += done.merges
        self.merged_rows += done.rows
        self.merged_bytes += done.bytes
        self.bytes += done.set_bytes + done.bytes


class Compactor:
    """Archives one namespace's changes. Restartable at any point: what no manifest names was never archived."""

    def __init__(self, settings: Settings, *, store: Store | None = None, clock: Clock = wall_clock) -> None:
        """`store` replaces the directory of the settings."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self._place = settings.aerospike.namespace, settings.archive.destination  # as metrics are told apart
        self._known = False
        self._newest: dict[int, Manifest] = {}
        self._asked_at = 0
        self.stats = Stats()

    def run_once(self, until: Mapping[int, int] | None = None) -> Stats:
        """Archive everything up to `until`, the offset in the progress topic of each shard (None: its end as of now),
        then merge what is to be merged, and make the restore sets that are due.

        What another compactor took in meanwhile is left to it. Raises OffsetsLost after the work if Kafka had lost
        changes, and ObjectDamaged or ObjectMissing if the archive's metadata cannot be gone on from; BrokerUnreachable,
        TopicMismatch, BodyDamaged, and whatever the store raises.
        """
        archive = self._archive()
        upkeep = Upkeep(self._settings, archive, self._clock)
        done = False
        while not done:
            try:
                with self._intake(archive, upkeep) as intake:
                    until = intake.ends if until is None else until
                    while not intake.reached(until):
                        self._turn(intake)
                    intake.commit_all()
                self._metadata.take()
                done = True
            except CommitLost:  # the other has got on, so this ends
                self._overtaken()
        try:
            upkeep.round()
        finally:
            self.stats.add(upkeep.done)
        if self.stats.lost:
            raise OffsetsLost("; ".join(self.stats.lost))
        if self._metadata.trouble is not None:
            raise self._metadata.trouble
        return self.stats

    def run(
        self,
        stop: threading.Event,
        success: Callable[[], None] = lambda: None,
        failure: Callable[[CdcError], None] = lambda error: None,
    ) -> None:
        """Archive until `stop` is set, then commit what has been read. Upkeep goes on beside it.

        `success` is called after every round, `failure` with every error that is got over: an unreachable broker or
        store and a full disk are tried again, a gap in Kafka ends the epoch, whatever upkeep finds wrong in the archive
        does not keep changes from coming in. Where another compactor takes in the same changes, each commit is one's or
        the other's: that is told once. Raises every other error, and StoreForbidden if it is there from the start: then
        the settings are wrong.

        After an error of the store only a commit is a success: reading from Kafka says nothing of a full disk. While
        upkeep fails nothing is.
        """
        begun = doubtful = overtaken = False
        told, trouble = len(self.stats.lost), None
        upkeep: Upkeep | None = None
        with ExitStack() as beside:
            while not stop.is_set():
                try:
                    archive = self._archive()
                    if upkeep is None:
                        upkeep = Upkeep(self._settings, archive, self._clock)
                        beside.callback(self._add, upkeep)
                        beside.enter_context(upkeep)
                    with self._intake(archive, upkeep) as intake:
                        begun = True
                        while not stop.is_set():
                            self._turn(intake)
                            upkeep.check()
                            if len(self.stats.lost) > told:
                                failure(OffsetsLost("; ".join(self.stats.lost[told:])))
                                told = len(self.stats.lost)
                            doubtful = doubtful and not intake.commits
                            before, trouble = trouble, upkeep.trouble or self._metadata.trouble
                            if trouble is not None and trouble is not before:
                                failure(trouble)
                            elif trouble is None and not doubtful:
                                success()
                        intake.commit_all()
                except CommitLost as error:
                    self._overtaken()
                    if not overtaken:
                        failure(error)
                    overtaken = True
                    stop.wait(RETRY_S * random.random())
                except CdcError as error:
                    # A bare KafkaError is a code without a name of its own: brokers have many for what passes.
                    if not (isinstance(error, PASSING) or type(error) is KafkaError):
                        raise
                    if not begun and not isinstance(error, BrokerUnreachable | StoreUnreachable):
                        raise
                    doubtful = doubtful or isinstance(error, ArchiveError)
                    failure(error)
                    stop.wait(RETRY_S)

    def _add(self, upkeep: Upkeep) -> None:
        self.stats.add(upkeep.done)

    def _overtaken(self) -> None:
        metrics.TAKEN_OVER.labels(*self._place).inc()

    def _archive(self) -> Archive:
        """The archive, begun where there is none yet. Once it was there it is not begun anew: where it is gone a disk
        was unmounted, and what was written in its place would be hidden when it is back."""
        where, namespace = self._settings.archive, self._settings.aerospike.namespace
        if not self._known:
            store = self._store or open_store(where, create=True)
            archive = Archive.create(store, namespace, self._settings.collector.shards)
            self._known = True
            return archive
        try:
            return Archive.open(self._store or open_store(where), namespace)
        except ObjectMissing as error:
            raise StoreUnreachable(f"{where.place}: the archive that was there is gone") from error

    def _intake(self, archive: Archive, upkeep: Upkeep) -> Intake:
        """A new one, once the topics are there."""
        Topics(self._settings.kafka.prefix, archive.namespace).ensure(self._settings.kafka, archive.shards)
        self._asked_at = 0
        self._metadata = MetadataIntake(self._settings.kafka, archive, self._place[1], self._clock)
        self._newest = {k: archive.shard(k) or archive.first(k) for k in range(archive.shards)}

        def committed(commit: Committed) -> None:
            self._newest[commit.manifest.shard] = commit.manifest
            self._count(commit)
            self._show(commit)
            upkeep.tell(commit.manifest)

        lost = self.stats.lost.append
        return Intake(self._settings, archive, self._newest, self._clock, committed=committed, lost=lost)

    def _turn(self, intake: Intake) -> None:
        intake.turn()
        now = self._clock()
        if now - self._asked_at >= SELDOM_MS:
            self._asked_at = now
            self._metadata.take()
            ends = end_offsets(self._settings.kafka, intake.topics.changes, intake.inboxes)
            for shard, behind in intake.behind(ends).items():
                metrics.KAFKA_LAG.labels(*self._place, shard).set(behind)

    def _count(self, commit: Committed) -> None:
        size, rows = sum(s.size + s.index_size for s in commit.written), sum(s.rows for s in commit.written)
        self.stats.segments += len(commit.written)
        self.stats.rows += rows
        self.stats.bytes += size
        self.stats.skipped += commit.skipped
        metrics.SEGMENTS.labels(*self._place).inc(len(commit.written))
        metrics.ARCHIVED.labels(*self._place).inc(rows)
        metrics.ARCHIVED_BYTES.labels(*self._place).inc(size)

    def _show(self, commit: Committed) -> None:
        """How far the archive has got."""
        if commit.manifest.epochs:
            shard, epoch = commit.manifest.shard, commit.manifest.epochs[-1]
            metrics.ARCHIVED_RESOLVED.labels(*self._place, shard).set(epoch.resolved_at / 1000)
            self._show_resolution(shard, commit.before, epoch)
        windows = namespace_windows(list(self._newest.values()))
        if windows:
            metrics.WINDOW_START.labels(*self._place).set(windows[-1].start / 1000)
            metrics.WINDOW_END.labels(*self._place).set(windows[-1].end / 1000)

    def _show_resolution(self, shard: int, before: Epoch | None, after: Epoch) -> None:
        window = epoch_window(after)
        known = before.resolved_at if before is not None and before.number == after.number else 0
        new = window.part(known, after.resolved_at) if window is not None else None
        if new is not None:
            found = new.resolution()
            for of, ms in (("writes", found.writes_ms), ("deletes", found.deletes_ms)):
                metrics.RESOLUTION.labels(*self._place, shard, of).set(ms / 1000)
