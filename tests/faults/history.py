"""A history that is known without an archive, and whether an archive tells it."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from cdc.archive import Archive, Epoch, Store
from cdc.archive.segments import SegmentWriter
from cdc.archive.verify import verify
from cdc.archive.versions import Versions, concat, order
from cdc.config import ArchiveSettings
from cdc.model import Op
from cdc.replayer.versions import ABSENT, Certainty, states
from tests.fixtures.versions import change, digest, versions

NAMESPACE: Final = "test"
SHARDS: Final = 2
SECOND: Final = 8 << 16
"""Added to a key, it makes a digest of the second shard."""
HOUR: Final = 3_600_000
T0: Final = 20_454 * 24 * HOUR
"""Histories begin here, at a midnight."""
BLOCKS: Final = ArchiveSettings(block_bytes=4096)

State = dict[bytes, tuple[bytes | None, int]]
"""Of each digest the body that holds (None: absent) and the certainty; absent for certain is left out."""


@dataclass
class History:
    """What was captured of every shard of a namespace: all changes, whose index is their offset, and the epochs."""

    changes: list[list[dict[str, Any]]] = field(default_factory=lambda: [[] for _ in range(SHARDS)])
    epochs: list[tuple[Epoch, ...]] = field(default_factory=lambda: [() for _ in range(SHARDS)])
    _rows: dict[int, Versions] = field(default_factory=dict)

    def base(self, archive: Archive, at: int, changes: list[dict[str, Any]]) -> None:
        """A base snapshot from nothing, complete at `at`."""
        for shard in range(SHARDS):
            earlier = tuple(replace(e, ended=e.ended or "a base snapshot began") for e in self.epochs[shard])
            self.epochs[shard] = (
                *earlier,
                Epoch(len(earlier) + 1, at - 100, len(self.changes[shard]), at, at, at),
            )
        self.look(archive, at, [c | {"unobserved_since": 0} for c in changes])

    def look(self, archive: Archive, at: int, changes: list[dict[str, Any]]) -> None:
        """A look that ends at `at`, and the segment of what it found, in every shard."""
        for shard in range(SHARDS):
            own = [c | {"digest": _of_shard(c["digest"], shard)} for c in changes[shard::SHARDS]]
            first = len(self.changes[shard])
            self.changes[shard] += own
            epoch = replace(self.epochs[shard][-1], resolved_at=at, reconciled_at=at)
            self.epochs[shard] = (*self.epochs[shard][:-1], epoch)
            manifest = archive.shard(shard) or archive.first(shard)
            written = []
            if own:
                made = versions(own, list(range(first, first + len(own))))
                writer = SegmentWriter(BLOCKS, epoch.number)
                writer.add(made, order(made.columns.digest, made.offsets))
                written.append(writer.finish(archive.store, archive.directory(shard, "segments")))
            archive.commit(
                replace(
                    manifest, epochs=self.epochs[shard], segments=(*manifest.segments, *written), written_at=at,
                    next_changes=first + len(own), next_progress=manifest.next_progress + 1, after_gap=False,
                )
            )  # fmt: skip
        self._rows.clear()

    def rows(self, shard: int) -> Versions:
        """All of a shard's changes, in order of offset."""
        if shard not in self._rows:
            self._rows[shard] = versions(self.changes[shard], list(range(len(self.changes[shard]))))
        return self._rows[shard]

    def state(self, shard: int, at: int) -> State:
        """What held at a moment, and how sure that is."""
        epoch = next(e for e in reversed(self.epochs[shard]) if (e.recoverable_from or 0) <= at <= e.resolved_at)
        following = [e.changes_from for e in self.epochs[shard] if e.number > epoch.number]
        rows = self.rows(shard).span(epoch.changes_from, min(following, default=len(self.changes[shard])))
        return told(rows.take(order(rows.columns.digest, rows.offsets)), at, epoch.reconciled_at)

    def holds(self, archive: Archive, shard: int, at: int) -> None:
        """An archive restores a moment as it was, each row once and as it was captured."""
        view = archive.view(shard, at)
        parts = list(archive.versions(view))
        found = concat(parts) if parts else self.rows(shard).span(0, 0)
        keys = [(d.tobytes(), o) for d, o in zip(found.columns.digest, found.offsets.tolist(), strict=True)]
        assert keys == sorted(set(keys)), "a row twice, or out of order"
        every = self.rows(shard)
        for i, (_, offset) in enumerate(keys):
            assert found.bodies[i] == every.bodies[offset]
        assert told(found, at, view.epoch.reconciled_at) == self.state(shard, at), (shard, at)


def _of_shard(key: bytes, shard: int) -> bytes:
    """The digest of a small number, moved into a shard."""
    return digest(int.from_bytes(key[:4], "big") + shard * SECOND)


def told(rows: Versions, at: int, reconciled_at: int) -> State:
    """The states that a restore takes from rows in order of (digest, offset)."""
    if not rows.rows:
        return {}
    found = states(rows.columns, at, reconciled_at)
    return {
        found.digest[i].tobytes(): (None if held == ABSENT else rows.bodies[held], int(found.certainty[i]))
        for i, held in enumerate(found.held.tolist())
        if held != ABSENT or found.certainty[i] != Certainty.EXACT
    }


def spans(archive: Archive) -> list[tuple[int, int]]:
    """The windows, as moments from T0 on."""
    return [(w.start - T0, w.end - T0) for w in archive.windows()]


def inside(span: tuple[int, int], spans: list[tuple[int, int]]) -> bool:
    """Whether one of the windows holds all of a span."""
    return any(start <= span[0] and span[1] <= end for start, end in spans)


def moments(spans: list[tuple[int, int]], count: int = 4) -> list[int]:
    """The ends of all windows and some moments between them."""
    found = {int(at) for start, end in spans for at in np.linspace(start, end, count)}
    return sorted(T0 + at for at in found)


def days(archive: Archive, number: int = 4) -> History:
    """Some days of two epochs, a look every six hours: writes, deletes, expiries, a truncation, and what was late."""
    dice = np.random.default_rng(7)
    history = History()
    history.base(archive, T0 + HOUR, [change(k, T0 + k) for k in range(40)])
    ends = range(7, 24 * number, 6)
    for n, hour in enumerate(ends):
        at = T0 + hour * HOUR
        if n == len(ends) // 3:
            history.base(archive, at, [change(k, at - 5000 + k) for k in range(10, 50)])
            continue
        found = []
        for key in sorted(dice.choice(60, 12, replace=False).tolist()):
            moment = at - int(dice.integers(1, 6 * HOUR))
            given: dict[str, Any] = {"unobserved_since": at - 6 * HOUR, "observed_at": at}
            match int(dice.integers(0, 9)):
                case 0 | 1:
                    given |= {"op": Op.DELETE}
                case 2:
                    given |= {"void_time": moment + int(dice.integers(1, 20 * HOUR))}
                case 3:
                    given |= {"op": Op.TRUNCATION}
                case 4:
                    given |= {"consecutive": True}
                case 5:  # an audit found what sweeps had missed for long
                    given |= {"unobserved_since": moment - 20 * HOUR}
                case 6:  # a truncation that names a moment long before it was found
                    given |= {"op": Op.TRUNCATION}
                    moment -= 12 * HOUR
            found.append(change(key, moment, **given))
        history.look(archive, at, found)
    return history


def sound(store: Store, history: History, count: int = 4) -> list[tuple[int, int]]:
    """An archive restores every moment of its windows as it was, and verifies; its windows."""
    archive = Archive.open(store, NAMESPACE)
    found = spans(archive)
    for at in moments(found, count):
        for shard in range(archive.shards):
            history.holds(archive, shard, at)
    assert verify(store, NAMESPACE, "decode", clock=lambda: T0).damage == ()
    return found
