"""One record: every version that was captured of it, and what it was at a moment.

Only the record's shard is opened, and of each object that may hold it the index and one block (more where its versions
span several).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cdc.archive import Archive, Epoch, Manifest, record, windows
from cdc.clock import rfc3339
from cdc.codec.decode import to_python
from cdc.model import END_OF_TIME, U8, partition_of, shard_of
from cdc.replayer.versions import ABSENT, Certainty, states


@dataclass(frozen=True, slots=True)
class Captured:
    """One version as it was captured, or the end of the record. `change` has the fields of `codec.to_python`."""

    epoch: int
    offset: int
    change: dict[str, Any]

    @property
    def blind(self) -> tuple[int, int] | None:
        """Its blind interval, from `unobserved_since` to `effective_at`; None where it has none."""
        since, until = self.change["unobserved_since"], self.change["effective_at"]
        return (since, until) if since < until else None

    @property
    def within(self) -> Certainty:
        """How sure the record's state is at a moment within the blind interval."""
        return Certainty.PRESUMED if self.change["consecutive"] else Certainty.FUZZY


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one record, in order of epoch and offset. `manifest` is its shard's."""

    digest: bytes
    manifest: Manifest
    versions: tuple[Captured, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a record was at a moment, and how sure that is.

    `held` is the version that was there; None: it was absent. `ended` is then what says that it was gone by `at`: its
    end, or the version that had expired; None: nothing was captured of it before. `blind` is the blind interval in
    which `at` lies, if it lies in one. `reason` says in words why the state is not exact; empty if it is.
    """

    digest: bytes
    shard: int
    at: int
    scope: str
    certainty: Certainty
    held: Captured | None
    ended: Captured | None
    blind: tuple[int, int] | None
    reason: str


def history(archive: Archive, digest: bytes) -> History:
    """Every version of a record in the archive; of the time from which changes are not kept, those that restore sets
    have. Raises ObjectMissing, ObjectDamaged, FormatTooNew."""
    manifest = _manifest(archive, digest)
    alone = [s for s in manifest.sets if s.at <= manifest.changes_kept_from]
    infos = [*manifest.segments, *(info for made in alone for info in archive.listing(made).objects)]
    found = {
        (info.epoch, offset): Captured(info.epoch, offset, to_python(body))
        for info, versions in zip(infos, record.versions(archive.store, infos, digest), strict=True)
        for offset, body in zip(versions.offsets.tolist(), versions.bodies, strict=True)
    }
    return History(digest, manifest, tuple(found[key] for key in sorted(found)))


def recoverable(archive: Archive, digest: bytes) -> list[windows.Window]:
    """The windows of a record's shard: it is all that its state needs."""
    return windows.namespace_windows([_manifest(archive, digest)])


def show(archive: Archive, digest: bytes, at: int) -> Shown:
    """The state of a record at a moment. Raises NotRecoverable outside its shard's windows, ObjectMissing,
    ObjectDamaged, FormatTooNew."""
    view = archive.view(shard_of_record(archive, digest), at)
    epoch = view.epoch
    versions = record.of_view(archive.store, view, digest)
    found = states(versions.columns, at, epoch.reconciled_at)
    if not len(found):
        return Shown(digest, view.shard, at, epoch.scope, Certainty.EXACT, None, None, None, "")

    def captured(row: int) -> Captured:
        return Captured(epoch.number, int(versions.offsets[row]), to_python(versions.bodies[row]))

    held, chosen, blind = int(found.held[0]), int(found.chosen[0]), int(found.blind[0])
    certainty = Certainty(found.certainty[0])
    interval = None if blind == ABSENT else captured(blind).blind
    return Shown(
        digest=digest,
        shard=view.shard,
        at=at,
        scope=epoch.scope,
        certainty=certainty,
        held=None if held == ABSENT else captured(held),
        ended=captured(chosen) if held == ABSENT and chosen != ABSENT else None,
        blind=interval,
        reason=_reason(certainty, interval, held != ABSENT, epoch),
    )


def _reason(certainty: Certainty, blind: tuple[int, int] | None, there: bool, epoch: Epoch) -> str:
    if certainty == Certainty.EXACT:
        return ""
    if blind is not None:
        moments = ["its next change" if ms == END_OF_TIME else rfc3339(ms) for ms in blind]
        more = "its generations say that nothing was written between" if certainty == Certainty.PRESUMED else ""
        return f"nothing was seen of it from {moments[0]} to {moments[1]}" + (more and f"; {more}")
    if there:
        return f"it may have been deleted since {rfc3339(epoch.reconciled_at)}: nobody has looked for deletes since"
    return "a truncation took it, and may have named an earlier moment than its own"


def _manifest(archive: Archive, digest: bytes) -> Manifest:
    shard = shard_of_record(archive, digest)
    return archive.shard(shard) or archive.first(shard)


def shard_of_record(archive: Archive, digest: bytes) -> int:
    """The shard that a record is of."""
    return int(shard_of(partition_of(_column(digest)), archive.shards)[0])


def _column(digest: bytes) -> U8:
    return np.frombuffer(digest, np.uint8).reshape(1, -1)
