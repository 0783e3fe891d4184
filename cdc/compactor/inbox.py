"""One shard's way from Kafka to its next segment: what has been read, what may be archived, what that will complete.

No I/O. Changes wait until a progress record speaks of them, because only that names their epoch; the progress counts
once all its changes are here.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cdc.archive import Manifest, SegmentInfo
from cdc.archive.versions import Versions
from cdc.codec.changes import columns, concat
from cdc.compactor.progress import Epochs, begin, fold, lose
from cdc.errors import CommitLost, OffsetsLost
from cdc.model import I64, Bodies
from cdc.topics import Chunk, ProgressEntry

OVERHEAD = 16
"""Bytes a change takes here beyond its body: where it ends, and its offset."""


@dataclass(slots=True)
class Piece:
    """Consecutive changes as they came."""

    offsets: I64
    bodies: Bodies

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return int(self.bodies.offsets[-1] - self.bodies.offsets[0]) + OVERHEAD * len(self.offsets)

    def split(self, offset: int) -> tuple["Piece | None", "Piece | None"]:
        """What stands before an offset, and the rest."""
        n = int(np.searchsorted(self.offsets, offset, "left"))
        if n in (0, len(self.offsets)):
            return (self, None) if n else (None, self)
        ends = self.bodies.offsets
        head = Piece(self.offsets[:n], Bodies(self.bodies.buffer, ends[: n + 1]))
        return head, Piece(self.offsets[n:], Bodies(self.bodies.buffer, ends[n:]))


@dataclass(slots=True)
class Inbox:
    """A shard between two commits. `manifest` is the last one committed."""

    manifest: Manifest
    epochs: Epochs = ()
    next_changes: int = 0
    next_progress: int = 0
    after_gap: bool = True
    read_through: int = 0
    waiting: deque[Piece] = field(default_factory=deque)
    entries: deque[ProgressEntry] = field(default_factory=deque)
    ready: dict[int, list[Piece]] = field(default_factory=dict)
    ready_size: int = 0
    waiting_size: int = 0
    skipped: int = 0
    gone_until: int = 0
    """Kafka has no changes below this offset any more. That is a loss only if progress speaks of some."""

    @classmethod
    def after(cls, manifest: Manifest) -> "Inbox":
        """Nothing read yet beyond what a manifest holds."""
        m = manifest
        return cls(m, m.epochs, m.next_changes, m.next_progress, m.after_gap, read_through=m.next_changes)

    @property
    def dirty(self) -> bool:
        """Whether a commit would say anything new."""
        return self.ready_size > 0 or self.epochs != self.manifest.epochs

    @property
    def fresh(self) -> bool:
        """Whether a commit would say more than that nothing happened for longer."""
        epoch, known = (epochs[-1:] for epochs in (self.epochs, self.manifest.epochs))
        told = [[(e.number, e.ended, e.recoverable_from is None) for e in of] for of in (epoch, known)]
        return self.ready_size > 0 or told[0] != told[1]

    def following(
        self, newest: Manifest, written: Sequence[SegmentInfo], topics: tuple[str, str], now: int
    ) -> Manifest:
        """The shard's newest manifest with what was drained, in segments that are written, and what that completes.

        Raises CommitLost if somebody else took in changes or progress since the inbox's own manifest. What else
        may have become of that one (merges, sets, pruning) stays.
        """
        mine = self.manifest
        if _taken_in(newest) != _taken_in(mine):
            raise CommitLost(f"another compactor took in changes of {newest.namespace}, shard {newest.shard}")
        pruned = {e.number for e in mine.epochs} - {e.number for e in newest.epochs}
        return replace(
            newest,
            written_at=now,
            next_changes=self.next_changes,
            next_progress=self.next_progress,
            after_gap=self.after_gap,
            changes_topic=topics[0],
            progress_topic=topics[1],
            epochs=tuple(e for e in self.epochs if e.number not in pruned),
            segments=(*newest.segments, *written),
        )

    def take_changes(self, chunk: Chunk) -> None:
        """Changes that were read."""
        piece = Piece(chunk.offsets, chunk.bodies)
        self.waiting.append(piece)
        self.waiting_size += piece.size
        self.read_through = int(chunk.offsets[-1]) + 1
        self.sort_out()

    def take_progress(self, entry: ProgressEntry) -> None:
        """A progress record that was read. Raises OffsetsLost when it speaks of changes that are gone."""
        progress = entry.progress
        if progress.changes_from < min(progress.changes_through, self.gone_until):
            raise OffsetsLost(f"progress speaks of changes from offset {progress.changes_from} on, which Kafka lost")
        self.entries.append(entry)
        self.sort_out()

    def lost(self, reason: str, next_changes: int, next_progress: int) -> None:
        """Kafka no longer has what comes next; go on at the offsets it has. What waited is read again, if there."""
        self.after_gap = True
        self.epochs = lose(self.epochs, reason)
        self.next_changes, self.next_progress = next_changes, next_progress
        self.gone_until = 0
        self.forget()

    @property
    def held(self) -> int:
        """Changes that have been read and are not in the archive."""
        pieces = [*self.waiting, *(p for lot in self.ready.values() for p in lot)]
        return sum(len(p.offsets) for p in pieces)

    def forget(self) -> None:
        """Drop what waits: it is about to be read again, from `next_changes` and `next_progress` on."""
        self.waiting.clear()
        self.entries.clear()
        self.waiting_size = 0
        self.read_through = self.next_changes

    def sort_out(self) -> None:
        """Move changes that a progress record speaks of to `ready`, and fold the progress that they complete."""
        while self.entries:
            entry = self.entries[0]
            progress = entry.progress
            before = self.epochs
            # Where something may have come before, only the topic's first offset proves that nothing did.
            first = (not self.after_gap or entry.offset == 0) and progress.changes_from >= self.next_changes
            self.epochs = begin(before, progress, first=first)
            if len(self.epochs) > len(before):
                self._move(before, progress.changes_from)
            self.after_gap = False
            self._move(self.epochs, progress.changes_through)
            if progress.changes_through > max(self.read_through, progress.changes_from):
                return
            self.epochs = fold(self.epochs, progress)
            self.next_progress = entry.offset + 1
            self.entries.popleft()

    def drain(self) -> Iterator[tuple[int, Versions]]:
        """What may be archived, with its epoch's number. Each lot leaves the inbox as it is given away, for memory."""
        for epoch in sorted(self.ready):
            pieces = self.ready.pop(epoch)
            bodies = concat([p.bodies for p in pieces])
            offsets = np.concatenate([p.offsets for p in pieces])
            del pieces
            yield epoch, Versions(columns(bodies), bodies, offsets)

    def committed(self, manifest: Manifest) -> None:
        """The archive has all that was drained. Of its epochs some may have been pruned meanwhile."""
        self.manifest, self.epochs = manifest, manifest.epochs
        self.ready_size = 0

    def _move(self, epochs: Epochs, offset: int) -> None:
        """Changes before an offset belong to the last of these epochs."""
        while self.waiting:
            piece, rest = self.waiting[0].split(offset)
            if piece is None:
                return
            self.waiting.popleft()
            self.waiting_size -= piece.size
            if rest is not None:
                self.waiting.appendleft(rest)
            self.next_changes = int(piece.offsets[-1]) + 1
            if not epochs or epochs[-1].ended:
                self.skipped += len(piece.offsets)
                continue
            self.ready.setdefault(epochs[-1].number, []).append(piece)
            self.ready_size += piece.size


def _taken_in(manifest: Manifest) -> tuple[object, ...]:
    """How far a manifest has got in Kafka; nobody but a compactor's intake changes that."""
    m = manifest
    last = m.epochs[-1] if m.epochs else None
    return m.next_changes, m.next_progress, m.after_gap, m.changes_topic, m.progress_topic, last
