"""From Kafka into an archive: reads changes and progress, writes segments, commits manifests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from cdc.archive import Archive, Epoch, Manifest, SegmentInfo, merging, segments
from cdc.archive.versions import Versions, order
from cdc.clock import Clock
from cdc.compactor.inbox import Inbox
from cdc.config import Settings
from cdc.errors import OffsetsLost
from cdc.topics import ChangeReader, ProgressReader, Topics
from cdc.topics.offsets import standing

POLL_S: Final = 0.1
READ_PART: Final = 64
"""This part of the memory is read from Kafka at a time: as messages it takes several times as much."""
IDLE, IDLE_S = 6, 60.0
"""While nothing changes in any shard the window's end is moved so many times less often, but every minute: a manifest a
shard is what an idle archive costs. One change is enough, and all shards' windows go on together."""
COPY_BYTES: Final = 4 << 20
"""Bodies are copied into blocks in lots of about this size."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One commit: the shard's manifest as it stands, what was its last epoch before, the segments that are new, and how
    many changes were left out because they belong to no epoch that can be relied on."""

    manifest: Manifest
    before: Epoch | None
    written: tuple[SegmentInfo, ...]
    skipped: int


class Intake:
    """Readers and inboxes from the manifests of some shards on; after an error they are void, and another begins.

    Only an archive is written: Kafka is asked and read, and nothing of it is made or changed.
    """

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        manifests: Mapping[int, Manifest],
        clock: Clock,
        *,
        committed: Callable[[Committed], None] = lambda commit: None,
        lost: Callable[[str], None],
    ) -> None:
        """`committed` is called after every commit; `lost` with what a gap in Kafka costs, before the manifest says so:
        where it raises, nothing is given up. Raises BrokerUnreachable, TopicMismatch."""
        self._kafka, self._compactor = settings.kafka, settings.compactor
        merged = self._compactor.merge_segments > 1
        self._archived = segments.fresh(settings.archive) if merged else settings.archive
        self._archive, self._clock, self._committed, self._lost = archive, clock, committed, lost
        self.topics = Topics(settings.kafka.prefix, archive.namespace)
        self.inboxes = {shard: Inbox.after(manifest) for shard, manifest in manifests.items()}
        self._written_at = dict.fromkeys(self.inboxes, clock())
        self.commits = 0
        self._ids: dict[str, str] = {}
        self.ends: Mapping[int, int] = {}
        self.changes_ends: Mapping[int, int] = {}
        """Per shard the committed end of its progress, and of its changes, when this began or after a gap."""
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

    @property
    def read(self) -> tuple[int, int]:
        """Grows whenever progress, or a change, was read: by so many offsets."""
        boxes = self.inboxes.values()
        return sum(i.next_progress + len(i.entries) for i in boxes), sum(i.read_through for i in boxes)

    def behind(self, ends: Mapping[int, int]) -> dict[int, int]:
        """Per shard how many changes below these offsets are not in the archive, transaction markers among them."""
        found = {}
        for shard, inbox in self.inboxes.items():
            # The reader knows when only transaction markers are left before the end.
            read = max(inbox.read_through, self._changes.ends.get(shard, 0))
            found[shard] = max(0, ends[shard] - read) + inbox.held
        return found

    def turn(self, wait_s: float = POLL_S) -> None:
        """Read what has come, waiting so long for it, and write what is due."""
        try:
            waiting = any(inbox.entries for inbox in self.inboxes.values())
            for entry in self._progress.read(0.0 if waiting else wait_s):
                self.inboxes[entry.shard].take_progress(entry)
            # Changes that no progress speaks of yet cannot be written: reading on would only fill memory.
            if sum(i.waiting_size for i in self.inboxes.values()) < self._compactor.memory_bytes // 4:
                max_bytes = self._compactor.memory_bytes // READ_PART
                for chunk in self._changes.read(wait_s if waiting else 0.0, max_bytes=max_bytes, timestamps=False):
                    self.inboxes[chunk.shard].take_changes(chunk)
        except OffsetsLost:
            self._step_over_gaps(lost=True)
            self._close_readers()
            self._open_readers()
        self._write_due()

    def commit_all(self) -> None:
        """Commit whatever is new in any shard."""
        for shard, inbox in self.inboxes.items():
            if inbox.dirty:
                self._commit(shard)

    def _write_due(self) -> None:
        now, every_s = self._clock(), self._compactor.segment_every_s
        if not any(inbox.fresh for inbox in self.inboxes.values()):
            every_s = max(every_s, min(IDLE * every_s, IDLE_S))
        for shard, inbox in self.inboxes.items():
            late = now - self._written_at[shard] >= every_s * 1000
            if inbox.dirty and (late or inbox.ready_size >= self._compactor.segment_bytes):
                self._commit(shard)
        # A quarter of the memory is for what has been read; writing it takes up to three times as much.
        while sum(i.ready_size for i in self.inboxes.values()) > self._compactor.memory_bytes // 4:
            self._commit(max(self.inboxes, key=lambda k: self.inboxes[k].ready_size))

    def _commit(self, shard: int) -> None:
        inbox = self.inboxes[shard]
        before = inbox.manifest.epochs[-1] if inbox.manifest.epochs else None
        written = [s for epoch, versions in inbox.drain() for s in self._write(shard, epoch, versions)]
        topics = self._ids[self.topics.changes], self._ids[self.topics.progress]
        manifest = self._archive.amend(
            shard,
            lambda newest: inbox.following(newest, written, topics, self._clock()),
            inbox.manifest,
            written[0].name if written else "",
        )
        assert manifest is not None, "the edit always makes something"
        inbox.committed(manifest)
        self.commits += 1
        self._written_at[shard] = self._clock()
        skipped, inbox.skipped = inbox.skipped, 0
        self._committed(Committed(manifest, before, tuple(written), skipped))

    def _write(self, shard: int, epoch: int, versions: Versions) -> list[SegmentInfo]:
        """Segments of versions that came in order of offset."""
        rows = order(versions.columns.digest, versions.offsets)
        step = max(1, versions.rows * COPY_BYTES // max(versions.size, 1))
        return merging.write(
            self._archive.store,
            self._archive.directory(shard, "segments"),
            self._archived,
            epoch,
            ((versions, rows[start : start + step]) for start in range(0, versions.rows, step)),
            self._compactor.segment_bytes,
        )

    def _step_over_gaps(self, *, lost: bool) -> None:
        """Where Kafka no longer has what comes next, say so, in the manifest too, and go on at what it has.

        A gap costs an epoch. Offsets are believed to be gone only if a reader said so too (`lost`).
        """
        now = standing(self._kafka, (self.topics.changes, self.topics.progress), self.inboxes)
        self._ids = now.ids
        self.ends, self.changes_ends = now.committed[self.topics.progress], now.committed[self.topics.changes]

        def next_offset(topic: str, shard: int, at: int, known: str) -> tuple[int, str]:
            """Where to go on in a topic, and what was lost if that is not `at`."""
            start, through = now.first[topic][shard], now.end[topic][shard]
            if known and known != now.ids[topic]:
                return start, f"{topic} was made anew"
            if lost and not start <= at <= through:
                return start, f"Kafka no longer had {topic} from offset {at} on (it had {start} to {through})"
            return at, ""

        for shard, inbox in self.inboxes.items():
            manifest = inbox.manifest
            changes, gone = next_offset(self.topics.changes, shard, inbox.next_changes, manifest.changes_topic)
            same = manifest.changes_topic == self._ids[self.topics.changes]
            if gone and same and changes > max(inbox.next_changes, inbox.gone_until):
                # It may be no more than the marker of a transaction: progress says whether changes stood there. If it
                # says so, this is asked again, and nothing more is gone than was known to be.
                inbox.gone_until, gone = changes, ""
            progress, also = next_offset(self.topics.progress, shard, inbox.next_progress, manifest.progress_topic)
            if gone or also:
                reason = f"{' and '.join(filter(None, (gone, also)))} (shard {shard})"
                self._lost(reason)
                inbox.lost(reason, changes, progress)
                self._commit(shard)

    def _open_readers(self) -> None:
        for inbox in self.inboxes.values():
            inbox.forget()
        self._progress = ProgressReader(self._kafka, self.topics, {k: i.next_progress for k, i in self.inboxes.items()})
        begin = {k: max(i.next_changes, i.gone_until) for k, i in self.inboxes.items()}
        self._changes = ChangeReader(self._kafka, self.topics, begin)

    def _close_readers(self) -> None:
        self._progress.close()
        self._changes.close()
