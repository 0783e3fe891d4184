"""How far a namespace's archive at one destination leads: itself, or with what Kafka has beyond it; which moment is
meant; and which other destinations lead there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cdc.archive import Archive, Window, keeps, open_store
from cdc.clock import Clock, rfc3339
from cdc.config import Settings
from cdc.errors import ArchiveError, ConfigError, KafkaError, NotRecoverable, ObjectMissing, UsageError
from cdc.replayer import at as moments
from cdc.replayer import history as one_record
from cdc.replayer import tail as beyond
from cdc.replayer.report import Watch
from cdc.replayer.tail import Mode, Tail
from cdc.replayer.tails import Directories, no_room

_FROM_KAFKA: Final = (
    "Where no compactor ever ran, but a collector did: `aerospike-cdc compact --once` makes the archive of what Kafka "
    "has; then restore."
)

At = str | int | datetime
"""A moment: RFC 3339 with zone, a duration ago (`10m`), `latest` or the name of a mark; milliseconds since 1970; or a
datetime with a zone."""

SOON_S = 5.0
"""So long another destination is asked whether it could restore what this one cannot."""


class Reach:
    """What of an archive counts, for as long as it is open. Thread-safe."""

    def __init__(
        self, every: Settings, destination: str, mode: Mode, tell: Callable[[str], None], clock: Clock
    ) -> None:
        """Nothing is read yet. `every` are the settings of one namespace, with all destinations; `mode` and `tell` are
        as for `cdc.Replayer`. Raises ConfigError."""
        self._every = every
        self._mode, self._tell, self._clock = mode, tell, clock
        self.settings = every.destination(destination or every.destination_names[0])
        self._directories = Directories()
        self._archive: Archive | None = None

    def close(self) -> None:
        """Let go of what is held open. It may be used again."""
        self._archive = None
        self._directories.close()

    def archive(self) -> Archive:
        """The archive itself. Raises ObjectMissing when there is none yet."""
        if self._archive is None:
            try:
                self._archive = Archive.open(open_store(self.settings.archive), self.settings.aerospike.namespace)
            except ObjectMissing as error:
                error.hint = f"{error.hint} {_FROM_KAFKA}".strip()
                raise
        return self._archive

    def recoverable(self, at: At) -> int:
        """The recoverable moment that is meant, in milliseconds. Raises as `resolve`."""
        at = self.fixed(at)
        with self.reaching(at) as found:
            return self.resolve(at, found.archive.windows(), found)

    def resolve(self, at: At, windows: list[Window], tail: Tail | None = None) -> int:
        """The moment that is meant, in milliseconds, which lies in one of the windows; `tail` is where these are from.
        Raises UsageError, NotRecoverable."""
        moment = self.meant(at, windows)
        try:
            moments.require_recoverable(moment, windows, self._clock())
        except NotRecoverable as error:
            if tail is not None:
                beyond.explain(error, tail, moment, windows, self._clock())
            raise
        return moment

    def meant(self, at: At, windows: list[Window]) -> int:
        """The moment that is meant, in milliseconds, recoverable or not. Raises as `at.moment`."""
        text = words(at)
        archive = self.archive()
        named = keeps.load(archive.store, archive.namespace) if keeps.is_name(text) else {}
        return moments.moment(text, windows, self._clock(), {name: keep.at for name, keep in named.items()})

    def fixed(self, at: At) -> At:
        """The same; what is so long ago is that before now, and not before Kafka will have answered."""
        text = words(at)
        return rfc3339(self._clock() - moments.duration_ms(text)) if moments.is_duration(text) else text

    def reach(
        self, at: At, *, rewinds: bool = False, digest: bytes | None = None, watch: Watch | None = None
    ) -> tuple[Tail, Path | None]:
        """The archive that may lead to a moment, and the directory with what of it was taken from Kafka: of everything,
        or of one record's shard."""
        self.archive()  # where there is none, nothing lies beyond it
        if self._mode == "auto" and not rewinds and words(at).lower() != moments.LATEST:
            archive = self.archive()
            windows = archive.windows() if digest is None else one_record.recoverable(archive, digest)
            if not beyond.needed(self._mode, self.meant(at, windows), windows):
                return Tail(archive), None
        if self._mode == "never":
            return Tail(self.archive()), None
        shard = None if digest is None else one_record.shard_of_record(self.archive(), digest)
        directory = self._directories.make()
        try:
            found = beyond.reach(self.settings, directory, self._mode, shard=shard, watch=watch, clock=self._clock)
        except BaseException:
            self._directories.remove(directory)
            raise
        if found.told:
            self._tell(found.told)
        return found, directory

    def describe(self, tail: Tail) -> None:
        """Take in what Kafka tells of metadata as well, where it answered. Raises as `tail.reach`."""
        if tail.wrong is not None:
            return
        from cdc.compactor.metadata import MetadataIntake

        intake = MetadataIntake(self.settings.kafka, tail.archive, self.settings.archive.destination, self._clock)
        try:
            intake.take()
        except KafkaError as error:
            if self._mode == "always":
                raise
            self._tell(Tail(tail.archive, error).told)
        if intake.trouble is not None:
            raise intake.trouble

    @contextmanager
    def reaching(self, at: At, digest: bytes | None = None, *, watch: Watch | None = None) -> Iterator[Tail]:
        """The same for as long as the block takes."""
        found, directory = self.reach(at, digest=digest, watch=watch)
        try:
            yield found
        finally:
            if directory is not None:
                self._directories.remove(directory)

    def archive_with(self, tail: Path | None) -> Archive:
        """The archive, with what was taken from Kafka into a directory."""
        return self.archive() if tail is None else beyond.opened(self.settings, tail)

    def own(self, tail: Path | None) -> Path | None:
        """A restore's tail for as long as this is open: that of the journal goes when the restore is complete."""
        if tail is None or not tail.exists():
            return tail
        directory = self._directories.make()
        try:
            beyond.copy(tail, directory / tail.name)
        except OSError as error:
            self._directories.remove(directory)
            raise no_room(error) from error
        return directory / tail.name

    @contextmanager
    def naming_others(self, at: At) -> Iterator[None]:
        """Where the destination cannot be read, is damaged or does not lead back to the moment, name those that do. To
        go over to one of them is a person's decision: it may hold less."""
        try:
            yield
        except (ArchiveError, NotRecoverable) as error:
            others = [name for name in self._every.destination_names if name != self.settings.archive.destination]
            able = [name for name in others if self._leads_to(name, at)]
            if able:
                said = f"{' and '.join(able)} can restore this moment: --destination {able[0]}."
                error.hint = f"{said} {error.hint}".strip()
            raise

    def _leads_to(self, destination: str, at: At) -> bool:
        """Whether a moment lies in another destination's windows, as far as can be told soon."""
        there = self._every.destination(destination)
        soon = there.model_copy(update={"archive": there.archive.soon(SOON_S)})
        try:
            Reach(soon, destination, "never", self._tell, self._clock).recoverable(at)
        except (ArchiveError, ConfigError, NotRecoverable):
            return False
        return True


def words(at: At) -> str:
    """A moment as `replayer.at` reads it."""
    if isinstance(at, str):
        return at.strip()
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise UsageError(f"{at!r} has no time zone", "Give it one, such as datetime.UTC.")
        at = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return rfc3339(at)
