"""The compactor's role: from Kafka into the archive, shard by shard, going on where the last manifests end."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from cdc import metrics
from cdc.archive import Archive, LocalStore, Manifest, SegmentInfo, Store
from cdc.archive.segments import SegmentWriter
from cdc.archive.versions import Versions, order
from cdc.archive.windows import namespace_windows
from cdc.clock import Clock, wall_clock
from cdc.compactor import sets
from cdc.compactor.inbox import Inbox
from cdc.config import Settings
from cdc.errors import (
    ArchiveError,
    BrokerUnreachable,
    CdcError,
    KafkaError,
    OffsetsLost,
    StoreForbidden,
    StoreUnreachable,
)
from cdc.topics import ChangeReader, ProgressReader, Topics, end_offsets
from cdc.topics.offsets import list_offsets, topic_ids

POLL_S = 0.1
RETRY_S = 5.0
LAG_EVERY_MS = 10_000
PASSING = (BrokerUnreachable, StoreUnreachable, StoreForbidden)
"""What an operator or time repairs: the service goes on from the last manifests, and says so meanwhile."""
READ_PART = 64
"""This part of the memory is read from Kafka at a time: as messages it takes several times as much."""
COPY_BYTES = 4 << 20
"""Bodies are copied into blocks in lots of about this size."""


@dataclass(slots=True)
class Stats:
    """What a compactor committed. `lost` says of each gap in Kafka what it cost."""

    segments: int = 0
    sets: int = 0
    rows: int = 0
    bytes: int = 0
    skipped: int = 0
    lost: list[str] = field(default_factory=list)


class Compactor:
    """Archives one namespace's changes. Restartable at any point: what no manifest names was never archived."""

    def __init__(self, settings: Settings, *, store: Store | None = None, clock: Clock = wall_clock) -> None:
        """`store` replaces the directory of the settings."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self.stats = Stats()

    def run_once(self, until: Mapping[int, int] | None = None) -> Stats:
        """Archive everything up to `until`, the offset in the progress topic of each shard (None: its end as of now).

        Makes the restore sets that are due. Raises OffsetsLost after the work if Kafka had lost changes; CommitLost,
        BrokerUnreachable, TopicMismatch, BodyDamaged, and whatever the store raises.
        """
        with self._session() as session:
            if until is None:
                until = end_offsets(self._settings.kafka, session.topics.progress, session.inboxes)
            while not session.reached(until):
                session.turn()
            session.commit_all()
        if self.stats.lost:
            raise OffsetsLost("; ".join(self.stats.lost))
        return self.stats

    def run(
        self,
        stop: threading.Event,
        success: Callable[[], None] = lambda: None,
        failure: Callable[[CdcError], None] = lambda error: None,
    ) -> None:
        """Archive until `stop` is set, then commit what has been read.

        `success` is called after every round, `failure` with every error that is got over: an unreachable broker or
        store and a full disk are tried again, a gap in Kafka ends the epoch. Raises every other error, and
        StoreForbidden if it is there from the start: then the settings are wrong.

        After an error of the store only a commit is a success: reading from Kafka says nothing of a full disk.
        """
        begun = doubtful = False
        told = len(self.stats.lost)
        while not stop.is_set():
            try:
                with self._session() as session:
                    begun = True
                    while not stop.is_set():
                        session.turn()
                        if len(self.stats.lost) > told:
                            failure(OffsetsLost("; ".join(self.stats.lost[told:])))
                            told = len(self.stats.lost)
                        success()
                    session.commit_all()
            except CdcError as error:
                # A bare KafkaError is a code without a name of its own: brokers have many for what passes.
                if not (isinstance(error, PASSING) or type(error) is KafkaError):
                    raise
                if not begun and not isinstance(error, BrokerUnreachable | StoreUnreachable):
                    raise
                doubtful = doubtful or isinstance(error, ArchiveError)
                failure(error)
                stop.wait(RETRY_S)

    def _session(self) -> "_Session":
        store = self._store or LocalStore(self._settings.archive.path, create=True)
        namespace, shards = self._settings.aerospike.namespace, self._settings.collector.shards
        return _Session(self._settings, Archive.create(store, namespace, shards), self._clock, self.stats)


class _Session:
    """Readers and inboxes from one start on; after an error they are void, and another session begins."""

    def __init__(self, settings: Settings, archive: Archive, clock: Clock, stats: Stats) -> None:
        self._kafka, self._compactor, self._archived = settings.kafka, settings.compactor, settings.archive
        self._archive, self._clock, self._stats = archive, clock, stats
        self.topics = Topics(settings.kafka.prefix, archive.namespace)
        manifests = {k: archive.shard(k) or archive.first(k) for k in range(archive.shards)}
        self.inboxes = {k: Inbox.after(m) for k, m in manifests.items()}
        self._written_at = dict.fromkeys(self.inboxes, clock())
        self._lag_at = 0
        self.commits = 0
        self.topics.ensure(self._kafka, archive.shards)
        self._ids = topic_ids(self._kafka, (self.topics.changes, self.topics.progress))
        self._step_over_gaps(lost=False)
        self._open_readers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_readers()

    def reached(self, until: Mapping[int, int]) -> bool:
        """Whether everything that progress below these offsets speaks of has been read."""
        ends = self._progress.ends
        return all(
            inbox.next_progress >= until.get(k, 0) or (not inbox.entries and ends.get(k, -1) >= until.get(k, 0))
            for k, inbox in self.inboxes.items()
        )

    def turn(self) -> None:
        """Read what has come, and write what is due."""
        try:
            waiting = any(inbox.entries for inbox in self.inboxes.values())
            for entry in self._progress.read(0.0 if waiting else POLL_S):
                self.inboxes[entry.shard].take_progress(entry)
            # Changes that no progress speaks of yet cannot be written: reading on would only fill memory.
            if sum(i.waiting_size for i in self.inboxes.values()) < self._compactor.memory_bytes // 4:
                max_bytes = self._compactor.memory_bytes // READ_PART
                for chunk in self._changes.read(POLL_S if waiting else 0.0, max_bytes=max_bytes):
                    self.inboxes[chunk.shard].take_changes(chunk)
        except OffsetsLost:
            self._step_over_gaps(lost=True)
            self._close_readers()
            self._open_readers()
        self._write_due()
        self._show_lag()

    def commit_all(self) -> None:
        """Commit whatever is new in any shard."""
        for shard, inbox in self.inboxes.items():
            if inbox.dirty:
                self._commit(shard)

    def _write_due(self) -> None:
        now = self._clock()
        for shard, inbox in self.inboxes.items():
            late = now - self._written_at[shard] >= self._compactor.segment_every_s * 1000
            if inbox.dirty and (late or inbox.ready_size >= self._compactor.segment_bytes):
                self._commit(shard)
        # A quarter of the memory is for what has been read; writing it takes up to three times as much.
        while sum(i.ready_size for i in self.inboxes.values()) > self._compactor.memory_bytes // 4:
            self._commit(max(self.inboxes, key=lambda k: self.inboxes[k].ready_size))

    def _commit(self, shard: int) -> None:
        inbox = self.inboxes[shard]
        written = [s for epoch, versions in inbox.drain() for s in self._write(shard, epoch, versions)]
        manifest = self._archive.commit(
            replace(
                inbox.manifest,
                written_at=self._clock(),
                next_changes=inbox.next_changes,
                next_progress=inbox.next_progress,
                after_gap=inbox.after_gap,
                changes_topic=self._ids[self.topics.changes],
                progress_topic=self._ids[self.topics.progress],
                epochs=inbox.epochs,
                segments=(*inbox.manifest.segments, *written),
            )
        )
        inbox.committed(manifest)
        self.commits += 1
        self._written_at[shard] = self._clock()
        self._count(written, sets_made=0, skipped=inbox.skipped)
        inbox.skipped = 0
        if manifest.epochs:
            metrics.ARCHIVED_RESOLVED.labels(self._archive.namespace, shard).set(manifest.epochs[-1].resolved_at / 1000)
        self._show_window()
        at = sets.due_at(manifest, self._compactor.set_every_s)
        if at is not None:
            inbox.committed(self._make_set(manifest, at))

    def _write(self, shard: int, epoch: int, versions: Versions) -> list[SegmentInfo]:
        """Segments of versions that came in order of offset."""
        directory = self._archive.directory(shard, "segments")
        rows = order(versions.columns.digest, versions.offsets)
        step = max(1, versions.rows * COPY_BYTES // max(versions.size, 1))
        written: list[SegmentInfo] = []
        writer = SegmentWriter(self._archived, epoch)
        for start in range(0, versions.rows, step):
            writer.add(versions, rows[start : start + step])
            if writer.size >= self._compactor.segment_bytes:
                written.append(writer.finish(self._archive.store, directory))
                writer = SegmentWriter(self._archived, epoch)
        if writer.rows:
            written.append(writer.finish(self._archive.store, directory))
        return written

    def _make_set(self, manifest: Manifest, at: int) -> Manifest:
        epoch, now = manifest.epochs[-1], self._clock()
        made = sets.make(self._archive, manifest, epoch, at, now, self._compactor, self._archived)
        manifest = self._archive.commit(replace(manifest, written_at=now, sets=(*manifest.sets, made)))
        self._count(list(made.segments), sets_made=1, skipped=0)
        return manifest

    def _count(self, written: list[SegmentInfo], *, sets_made: int, skipped: int) -> None:
        size = sum(s.size + s.index_size for s in written)
        rows = 0 if sets_made else sum(s.rows for s in written)
        self._stats.sets += sets_made
        self._stats.segments += 0 if sets_made else len(written)
        self._stats.rows += rows
        self._stats.bytes += size
        self._stats.skipped += skipped
        namespace = self._archive.namespace
        metrics.SETS.labels(namespace).inc(sets_made)
        metrics.SEGMENTS.labels(namespace).inc(0 if sets_made else len(written))
        metrics.ARCHIVED.labels(namespace).inc(rows)
        metrics.ARCHIVED_BYTES.labels(namespace).inc(size)

    def _step_over_gaps(self, *, lost: bool) -> None:
        """Where Kafka no longer has what comes next, say so, in the manifest too, and go on at what it has.

        A gap costs an epoch. Offsets are believed to be gone only if a reader said so too (`lost`).
        """
        first = {t: list_offsets(self._kafka, t, self.inboxes, earliest=True) for t in self._ids}
        end = {t: list_offsets(self._kafka, t, self.inboxes, committed=False) for t in self._ids}

        def next_offset(topic: str, shard: int, at: int, known: str) -> tuple[int, str]:
            """Where to go on in a topic, and what was lost if that is not `at`."""
            if known and known != self._ids[topic]:
                return first[topic][shard], f"{topic} was made anew"
            start, through = first[topic][shard], end[topic][shard]
            if lost and not start <= at <= through:
                return start, f"Kafka no longer had {topic} from offset {at} on (it had {start} to {through})"
            return at, ""

        for shard, inbox in self.inboxes.items():
            manifest = inbox.manifest
            changes, gone = next_offset(self.topics.changes, shard, inbox.next_changes, manifest.changes_topic)
            progress, also = next_offset(self.topics.progress, shard, inbox.next_progress, manifest.progress_topic)
            if gone or also:
                reason = f"{' and '.join(filter(None, (gone, also)))} (shard {shard})"
                self._stats.lost.append(reason)
                inbox.lost(reason, changes, progress)
                self._commit(shard)

    def _open_readers(self) -> None:
        for inbox in self.inboxes.values():
            inbox.forget()
        self._progress = ProgressReader(self._kafka, self.topics, {k: i.next_progress for k, i in self.inboxes.items()})
        self._changes = ChangeReader(self._kafka, self.topics, {k: i.next_changes for k, i in self.inboxes.items()})

    def _close_readers(self) -> None:
        self._progress.close()
        self._changes.close()

    def _show_window(self) -> None:
        windows = namespace_windows([inbox.manifest for inbox in self.inboxes.values()])
        if windows:
            metrics.WINDOW_START.labels(self._archive.namespace).set(windows[-1].start / 1000)
            metrics.WINDOW_END.labels(self._archive.namespace).set(windows[-1].end / 1000)

    def _show_lag(self) -> None:
        now = self._clock()
        if now - self._lag_at < LAG_EVERY_MS:
            return
        self._lag_at = now
        ends = end_offsets(self._kafka, self.topics.changes, self.inboxes)
        for shard, inbox in self.inboxes.items():
            # The reader knows when only transaction markers are left before the end.
            read = max(inbox.read_through, self._changes.ends.get(shard, 0))
            behind = max(0, ends[shard] - read) + inbox.held
            metrics.KAFKA_LAG.labels(self._archive.namespace, shard).set(behind)
