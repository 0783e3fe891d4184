"""The archive as it would be by now: what Kafka has beyond it is taken in as the compactor does, into a directory that
only whoever restores knows of.

Nothing is decided here of epochs, order or what counts: it is the compactor's own intake (`cdc.compactor.intake`) over
an overlay (`cdc.archive.overlay`), and everything else sees one archive. Neither the archive nor Kafka is written to.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from cdc.archive import Archive, Window, open_store
from cdc.clock import Clock, rfc3339, steady_clock, wall_clock
from cdc.config import Settings
from cdc.errors import (
    BodyDamaged,
    BrokerUnreachable,
    CdcError,
    KafkaError,
    NotRecoverable,
    OffsetsLost,
    StoreForbidden,
)
from cdc.replayer.report import Meter, Watch
from cdc.units import span

if TYPE_CHECKING:
    from cdc.compactor.intake import Intake

Mode = Literal["auto", "always", "never"]
"""`auto`: where it matters, and going on without it where Kafka does not answer. `always`: or not at all. `never`: the
archive alone."""

SOON_S: Final = 5.0
"""So long Kafka is waited for where the archive alone might do."""
WAIT_S: Final = 0.01
FETCH_WAIT_MS: Final = 10
"""A broker that has nothing more of a topic says so after this time; a compactor, for which that is how it waits, gives
it longer."""


@dataclass(frozen=True, slots=True)
class Tail:
    """An archive with what Kafka has beyond it. `wrong`: why that is not all of it, or none."""

    archive: Archive
    wrong: CdcError | None = None

    @property
    def told(self) -> str:
        """What keeps it from ending now, in a line; empty where nothing does."""
        return "" if self.wrong is None else f"what Kafka has beyond the archive is not known: {self.wrong.message}"


def needed(mode: Mode, at: int | None, windows: Sequence[Window]) -> bool:
    """Whether a moment (None: the last there is) may need what Kafka has beyond an archive with these windows: where it
    lies after them, or after the moment up to which they know of every delete."""
    if mode != "auto":
        return mode == "always"
    last = max(windows, key=lambda w: w.end, default=None)
    return at is None or last is None or at > min(last.end, last.reconciled_at)


def reach(
    settings: Settings,
    directory: Path,
    mode: Mode = "auto",
    *,
    shard: int | None = None,
    watch: Watch | None = None,
    clock: Clock = wall_clock,
) -> Tail:
    """The archive of the settings' only namespace and destination, up to the end of what Kafka has now, of every shard
    or of one alone.

    What it has beyond the archive lies in `directory` (0700, encrypted as the archive is), which is made, and has to
    stay as long as what is answered is used: the same is found there again by `opened`. One that was reached for before
    is gone on from. An archive that was imported has nothing in Kafka.

    Where Kafka does not answer in time, or does not go on where the archive ends, `auto` answers how far it got, and
    why; `always` raises it: BrokerUnreachable, TopicMismatch, OffsetsLost, BodyDamaged. Raises ArchiveError, Cancelled.
    """
    archive = opened(settings, directory)
    if mode == "never":
        return Tail(archive)
    shards = range(archive.shards) if shard is None else (shard,)
    manifests = {k: archive.shard(k) or archive.first(k) for k in shards}
    if any(m.epochs and not m.changes_topic for m in manifests.values()):
        return Tail(archive)
    # Kafka's client takes half a second to import.
    from cdc.compactor.intake import Intake
    from cdc.topics.reachable import require_reachable

    kafka = settings.kafka
    kafka = kafka.model_copy(
        update={
            "timeout_s": kafka.timeout_s if mode == "always" else min(SOON_S, kafka.timeout_s),
            "client": {"fetch.wait.max.ms": FETCH_WAIT_MS, **kafka.client},
        }
    )
    # Segments are written when memory calls for it, and at the end.
    compactor = settings.compactor.model_copy(update={"segment_every_s": float("inf")})
    own = settings.model_copy(update={"kafka": kafka, "compactor": compactor})
    try:
        require_reachable(kafka)
        with Intake(own, archive, manifests, clock, lost=_refuse) as intake:
            _read_to_the_end(intake, kafka.timeout_s, watch or Watch())
    except (KafkaError, BodyDamaged) as error:
        if mode == "always":
            raise
        return Tail(archive, error)
    except StoreForbidden as error:
        error.hint = (
            f"What Kafka has beyond the archive goes to {directory}: set TMPDIR to another place, or --tail never."
        )
        raise
    return Tail(archive)


def opened(settings: Settings, directory: Path) -> Archive:
    """The archive with what was reached for in a directory. Raises ArchiveError."""
    return Archive.open(open_store(settings.archive, over=directory), settings.aerospike.namespace)


def copy(directory: Path, to: Path) -> None:
    """Another directory with the same tail, for somebody who needs it longer. Raises OSError."""
    shutil.copytree(directory, to, copy_function=_link)


def explain(error: NotRecoverable, tail: Tail, at: int, windows: Sequence[Window], now: int) -> None:
    """Say in the hint why a moment that has passed is not captured yet, where nothing is wrong with the archive."""
    end = max((w.end for w in windows), default=now)
    if not end < at <= now:
        return
    if tail.wrong is not None:
        error.hint = f"{tail.told}. {error.hint}".strip()
    else:
        error.hint = (
            f"The collector is {span(now - end)} behind: {rfc3339(end)} is the last that it captured. {error.hint}"
        )


def _read_to_the_end(intake: "Intake", patience_s: float, watch: Watch) -> None:
    """Up to the end as it was when this began. Where something does not come, what came before it counts."""
    until, passed = intake.ends, steady_clock()
    read, heard_at = intake.read, passed()
    meter = Meter(max(0, sum(intake.changes_ends.values()) - read[1]), "reach", watch)
    try:
        while not intake.reached(until):
            intake.turn(WAIT_S)
            meter.add(intake.read[1] - read[1])
            if intake.read != read:
                read, heard_at = intake.read, passed()
            elif passed() - heard_at > patience_s * 1000:
                raise BrokerUnreachable(f"{intake.topics.changes}: what progress speaks of does not come")
    except (KafkaError, BodyDamaged):
        intake.commit_all()
        raise
    intake.commit_all()
    meter.finish()


def _refuse(reason: str) -> NoReturn:
    """A compactor steps over a gap: nobody will ever have what is gone. A restore makes do with what there is."""
    raise OffsetsLost(reason)


def _link(source: str, target: str) -> None:
    """Objects never change: where both are on one disk they need not be copied."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
