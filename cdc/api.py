"""The Python API of everything that restores; the command line is a thin layer over it.

    from cdc import Replayer, Wanted

    with Replayer.from_file("aerospike-cdc.toml") as replayer:
        plan = replayer.plan("10m", into="restore", wanted=Wanted(existing="replace"))
        print(plan.to_text())
        print(replayer.restore(plan).report.written)

Every error is one of `cdc.errors`. Importing this brings no numba: only what writes compiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from cdc import settings as loading
from cdc.archive import Archive, Hole, Window, drills, keeps
from cdc.archive import metadata as described
from cdc.archive.drills import Drilled
from cdc.archive.items import MetadataState
from cdc.archive.keeps import Keep
from cdc.clock import Clock, wall_clock
from cdc.config import Settings
from cdc.errors import ConfigError, RestoreError, UsageError
from cdc.replayer import at as moments
from cdc.replayer import diff as between
from cdc.replayer import history as one_record
from cdc.replayer import rates, turns
from cdc.replayer.diff import Diff
from cdc.replayer.differences import Difference
from cdc.replayer.doubts import Doubt
from cdc.replayer.history import History, Shown
from cdc.replayer.journal import LAST, Entry, Journal, Log
from cdc.replayer.place import Place, place_of
from cdc.replayer.plan import Kind, Plan, plan
from cdc.replayer.rates import Speed
from cdc.replayer.reach import At, Reach, words
from cdc.replayer.report import Report, Watch
from cdc.replayer.sample import Chosen, choose
from cdc.replayer.tail import Mode
from cdc.replayer.wanted import WHOLE, Part, Wanted, require_one_set


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a restore."""

    plan: Plan
    report: Report

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the report."""
        return self.report.to_dict()


class Replayer:
    """One namespace's archive at one destination, and everything that can be brought back from it.

    A context manager: what it holds open is closed at the end. Methods may be called by several threads, and raise
    ArchiveError and ConfigError beside what they name.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        namespace: str = "",
        destination: str = "",
        tail: Mode = "auto",
        tell: Callable[[str], None] = lambda line: None,
        clock: Clock = wall_clock,
    ) -> None:
        """Nothing is read yet. `namespace` may be left out where one alone is configured; `destination` is that of
        [archive] unless it is named. `tail` says whether what Kafka has beyond the archive counts: `auto` takes it in
        for rewinds, for `latest`, for a record's history and for moments after the archive's end, and goes on without
        it where Kafka does not answer, which `tell` is told in a line; `always` or `never`. Raises ConfigError."""
        self._captured = settings.aerospike.namespaces
        of = settings.of(namespace or settings.aerospike.namespace)
        self._to = Reach(of, destination, tail, tell, clock)
        self._tell, self._clock = tell, clock

    @classmethod
    def from_file(
        cls,
        path: str | Path | None = None,
        *,
        namespace: str = "",
        destination: str = "",
        tail: Mode = "auto",
        tell: Callable[[str], None] = lambda line: None,
        clock: Clock = wall_clock,
    ) -> Replayer:
        """By the settings that the command line would take: of this file, else of the one in AEROSPIKE_CDC_CONFIG, else
        of aerospike-cdc.toml here; and of the environment. Raises ConfigError."""
        loaded = loading.load(None if path is None else Path(path))
        return cls(loaded, namespace=namespace, destination=destination, tail=tail, tell=tell, clock=clock)

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is held open. It may be used again."""
        self._to.close()

    @property
    def settings(self) -> Settings:
        """Those of its namespace and destination."""
        return self._to.settings

    @property
    def namespace(self) -> str:
        """Whose archive it is."""
        return self.settings.aerospike.namespace

    @property
    def destination(self) -> str:
        """Where its archive is, by name."""
        return self.settings.archive.destination

    def archive(self) -> Archive:
        """The archive itself. Raises ObjectMissing when there is none yet."""
        return self._to.archive()

    def windows(self) -> list[Window]:
        """The spans to whose every moment one can restore, in order of time."""
        return self.archive().windows()

    def holes(self) -> list[Hole]:
        """What lies between them, and why."""
        return self.archive().holes()

    def marks(self) -> dict[str, Keep]:
        """The moments that are kept under names."""
        archive = self.archive()
        return keeps.load(archive.store, archive.namespace)

    def metadata(self, at: At = moments.LATEST) -> MetadataState | None:
        """Indexes, modules, sets, settings, users and truncations at any moment, recoverable or not, and how sure that
        is; None where the archive knows nothing of it. Raises UsageError for what is no moment."""
        archive = self.archive()
        return described.at(archive.store, archive.namespace, self._to.meant(at, self.windows()))

    def resolve(self, at: At) -> int:
        """The recoverable moment that is meant, in milliseconds. Raises UsageError for what is no moment, and
        NotRecoverable, naming the windows and the nearest moments."""
        return self._to.recoverable(at)

    def plan(
        self,
        at: At,
        into: str = "",
        wanted: Wanted | None = None,
        *,
        count: bool = True,
        name: Callable[[Iterable[Doubt]], None] | None = None,
        watch: Watch | None = None,
    ) -> Plan:
        """What a restore to a moment would do, without doing it: a clone `into` NAMESPACE or NAMESPACE@HOST:PORT[,…],
        or a rewind of the namespace itself where that is empty; with `wanted.into_set` a clone into this set, of the
        namespace itself too.

        `wanted` says which records, and what becomes of what is there (None: all of them, as they were). With `count`
        all that is needed is read once, to say how many records are concerned; `name` is then called with the records
        whose state is presumed or fuzzy, in portions and by several threads. Raises as `resolve`, and RestoreError
        where a rewind cannot know what changed, Cancelled.
        """
        wanted = wanted or Wanted()
        place = place_of(self.settings.aerospike, into, beside=bool(wanted.into_set))
        kind: Kind = "rewind" if place.in_place else "clone"
        require_one_set(wanted, in_itself=not into or into == self.namespace)
        at = self._to.fixed(at)
        with self._to.naming_others(at):
            tail, directory = self._to.reach(at, rewinds=kind == "rewind", watch=watch)
            if directory is not None and kind == "clone" and wanted.metadata != "none":
                self._to.describe(tail)
            made = plan(
                tail.archive, self._to.resolve(at, tail.archive.windows(), tail), kind, now=self._clock(),
                into=into or None, wanted=wanted, count=count, records_per_s=self.settings.replayer.records_per_s,
                speed=self._speed(kind, place), name=name, watch=watch,
            )  # fmt: skip
        return replace(made, tail=directory)

    def place(self, to: Plan | str) -> Place:
        """Where a plan, or what is given as `into`, leads. Raises UsageError."""
        if isinstance(to, str):
            return place_of(self.settings.aerospike, to)
        into = to.into if to.kind == "clone" else ""
        return place_of(self.settings.aerospike, into, beside=bool(to.wanted.into_set))

    def restore(
        self, plan: Plan, *, named_file: Path | None = None, verify: bool = True, watch: Watch | None = None
    ) -> Outcome:
        """Do what a plan of this replayer says, and note in the journal how far it is.

        Unless `verify` is off, what it left is compared afterwards with what it meant to leave: that reads it once
        more. `outcome.report.verification` has what was found; Differs is raised where something is wrong.

        `named_file` gets a JSON line for each record that was refused or left untouched. `watch` follows it by
        `progress`, and ends it early by `cancel`: then `outcome.report.complete` is False. Raises SourceError;
        TargetNotEmpty; RestoreError where the journal or the named file fails, or another restore works on the
        namespace in place, here or on another machine with the same archive; RecordsRefused. After any of these, and
        after a kill, `resume` goes on. Errors have the report.
        """
        place = self.place(plan)
        with (
            self._alone("in-place" if place.in_place else ""),
            self.journal.begin(
                plan, hosts=place.aerospike.hosts, destination=self.destination, named_file=named_file
            ) as log,
        ):
            return self._carry_out(log, plan, verify, watch)

    def resume(self, id: str = LAST, *, verify: bool = True, watch: Watch | None = None) -> Outcome:
        """Go on with a restore of this namespace and destination that was interrupted or failed: the one of this `id`,
        or the last one. It ends in the state that it would have ended in, except for records that others changed; the
        report is about all runs together. Raises UsageError where there is none or it went elsewhere, RestoreError
        where it runs, ObjectMissing where what it goes by was pruned; and as `restore`.
        """
        with self.journal.resume(id, self.namespace) as log:
            asked = log.asked
            if (asked.namespace, asked.destination) != (self.namespace, self.destination):
                raise UsageError(
                    f"{log.id} restores {asked.namespace} from {asked.destination}",
                    f"Give --namespace {asked.namespace} --destination {asked.destination}.",
                )
            with self._to.naming_others(asked.at):
                tail = self._to.own(asked.tail)
                plan = replace(log.plan(self._to.archive_with(tail)), tail=tail)
            hosts = self.place(plan).aerospike.hosts
            if not set(hosts) & set(asked.hosts):
                raise UsageError(
                    f"{log.id} writes to {', '.join(asked.hosts)}, and the settings lead to {', '.join(hosts)}",
                    "Half a restore is in each place then. Put the settings right, or begin another restore.",
                )
            with self._alone("in-place" if plan.kind == "rewind" else ""):
                return self._carry_out(log, plan, verify, watch)

    @property
    def journal(self) -> Journal:
        """The restores that were begun with these settings, of all namespaces, and how far they are."""
        return Journal(self.settings.replayer.journal, self._clock)

    def restores(self) -> list[Entry]:
        """Those of this namespace, the oldest first; and those that cannot be read."""
        return [one for one in self.journal.entries() if one.asked is None or one.asked.namespace == self.namespace]

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """While nobody else does what only one at a time may; empty: anybody may. Raises RestoreError."""
        if not what:
            yield
            return
        by = turns.here(self.settings.replayer.journal)
        with turns.turn(self.archive().store, self.namespace, what, by, self._tell, self._clock) as other:
            if other:
                doing = "is being restored in place" if what == "in-place" else "is being drilled"
                raise RestoreError(
                    f"{self.namespace} {doing} by {other}",
                    "Wait for its end; if it was killed, until that moment.",
                )
            yield

    def _carry_out(self, log: Log, plan: Plan, verify: bool, watch: Watch | None) -> Outcome:
        from cdc.replayer.carry import carry_out  # with the kernels' compiler: only who writes waits for it

        with self._to.naming_others(plan.at):
            report = carry_out(
                self._to.archive_with(plan.tail), plan, self.place(plan), log, self.settings.replayer, verify=verify,
                clock=self._clock, tell=self._tell, watch=watch,
            )  # fmt: skip
        return Outcome(plan, report)

    def _speed(self, kind: Kind, place: Place) -> Speed:
        """How fast such a restore is taken to be, by those before it."""
        try:
            known = rates.load(self.settings.replayer.journal)
        except RestoreError as error:
            self._tell(f"{error.message}; the time that it takes is assumed")
            known = []
        return rates.speed(known, kind, rates.place(place.namespace, place.aerospike.hosts))

    def history(self, digest: bytes) -> History:
        """Every captured version of one record."""
        with self._to.reaching(moments.LATEST, digest) as tail:
            return one_record.history(tail.archive, digest)

    def show(self, digest: bytes, at: At = moments.LATEST) -> Shown:
        """One record at a moment, and how sure that is; raises as `resolve`. Its own shard may lead back further than
        the namespace."""
        at = self._to.fixed(at)
        with self._to.reaching(at, digest) as tail:
            moment = self._to.resolve(at, one_record.recoverable(tail.archive, digest), tail)
            return one_record.show(tail.archive, digest, moment)

    def diff(
        self,
        since: At,
        until: At = moments.LATEST,
        part: Part = WHOLE,
        *,
        name: Callable[[Iterable[Difference]], None] | None = None,
        watch: Watch | None = None,
    ) -> Diff:
        """What differs between two moments, either of which may be the later one; of a part, its shards alone are asked
        how far they lead back.

        `name` is called with the records that differ, in portions and by several threads. Raises as `resolve`,
        Cancelled.
        """
        since, until = self._to.fixed(since), self._to.fixed(until)
        with self._to.naming_others(since), ExitStack() as held:
            found = held.enter_context(self._to.reaching(until, watch=watch))
            if found.archive is self.archive():
                found = held.enter_context(self._to.reaching(since, watch=watch))
            windows = between.recoverable(found.archive, part)
            first, last = (self._to.resolve(at, windows, found) for at in (since, until))
            return between.diff(found.archive, first, last, now=self._clock(), part=part, name=name, watch=watch)

    def rehearsal(self, at: At = "", *, sample: str = "", into: str = "") -> Chosen:
        """What a drill would rehearse: a moment (or `random`, one of those that are recoverable), a share of the
        partitions (`1%`, or `all`), and the scratch namespace; what is left out is as the settings' [drill] says.
        Raises as `resolve`, and ConfigError where no scratch namespace is named, or it is backed up itself."""
        if into in self._captured:
            raise ConfigError(
                f"the scratch namespace {into} is backed up itself, and drills write to no such namespace",
                "Name another one, which is empty, and nobody else's.",
            )
        asked = {"at": words(at), "sample": sample, "into": into}
        wanted = self.settings.drill.model_copy(update={name: said for name, said in asked.items() if said})
        return choose(self.archive(), wanted, self._clock())

    def drill(self, chosen: Chosen | None = None, *, watch: Watch | None = None) -> Drilled:
        """Rehearse a restore into a scratch namespace, which must be empty and is empty again afterwards; compare it
        with the archive and with the live source, which is only read; and remember in the archive what it showed.

        Raises Differs, or what the restore ended with: the error's `report` is the Drilled then; TargetNotEmpty,
        RestoreError, ConfigError and SourceError where nothing was begun; Cancelled.
        """
        from cdc.replayer.drill import drill  # with the kernels' compiler

        with self._alone("drill"):
            return drill(self.archive(), self.settings, chosen or self.rehearsal(), clock=self._clock, watch=watch)

    def drills(self) -> list[Drilled]:
        """What past drills showed, the oldest first."""
        archive = self.archive()
        return drills.load(archive.store, archive.namespace)


__all__ = ["At", "Outcome", "Replayer"]
