"""A drill: a restore that is rehearsed in a scratch namespace, compared with the truth, timed, and removed again.

The source is only read. What is compared: the scratch with the archive, record by record; and the live source with the
scratch, as far as it has not changed since the moment (`unchanged`).
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from cdc.archive import Archive, drills
from cdc.archive.counting import CountingStore
from cdc.archive.drills import Drilled
from cdc.clock import Clock, rfc3339, wall_clock
from cdc.config import Settings
from cdc.errors import ArchiveError, CdcError, Differs, RestoreError, SourceError
from cdc.replayer import rates, unchanged
from cdc.replayer.clone import clone
from cdc.replayer.doubts import Doubt
from cdc.replayer.place import place_of
from cdc.replayer.plan import Plan, plan, shard_slices
from cdc.replayer.report import Cancelled, Report, Watch
from cdc.replayer.sample import Chosen
from cdc.replayer.scratch import Scratch, notes, require_other
from cdc.replayer.target import Target
from cdc.replayer.verify import verify
from cdc.replayer.wanted import Part, Wanted
from cdc.source import Scope, Source
from cdc.wire import Cluster


def drill(
    archive: Archive, settings: Settings, chosen: Chosen, *, clock: Clock = wall_clock, watch: Watch | None = None
) -> Drilled:
    """Rehearse it. `settings` are those of the archive's namespace and destination.

    What it showed is remembered in the archive (`cdc.archive.drills`) and returned. Where something was not as it must
    be, that is raised instead once the scratch is clean again: Differs, or what the restore ended with; its `report` is
    the Drilled then. So has what is raised where the archive cannot remember it. Cancelled (the scratch is clean,
    nothing is remembered).

    Nothing was begun, and the error has no `report`, where the scratch is the source (ConfigError), holds records
    (TargetNotEmpty), is used by another drill (RestoreError), or one of the two clusters does not answer (SourceError).
    """
    watch, namespace = watch or Watch(), archive.namespace
    place = place_of(settings.aerospike, chosen.into)
    with ExitStack() as held:
        live = held.enter_context(Cluster(settings.aerospike))
        there = held.enter_context(Cluster(place.aerospike))
        require_other(live, namespace, there, place.namespace)
        where = rates.place(place.namespace, place.aerospike.hosts)
        target = Target.of(Source(there, place.namespace), settings.replayer, clock)
        scratch = Scratch.on(target, held.enter_context(notes(settings.replayer.journal, where)))
        scratch.take_up()
        source = Source(live, namespace, scope=Scope.of(settings.scope.get(namespace)))
        source.learn_sets()
        work = _Drill(archive, source, scratch, chosen, watch, settings.protection.records_per_s)
        done, wrong = work.done(clock())
    try:
        drills.remember(archive.store, namespace, done)
    except ArchiveError as error:
        outcome = "passed" if done.passed else f"failed ({done.wrong})"
        error.message, error.report = f"the drill {outcome}, but cannot be remembered: {error.message}", done
        raise
    if wrong is not None:
        wrong.report = done
        raise wrong
    return done


def changed_since(archive: Archive, at: int, digests: list[bytes], now: int) -> set[bytes]:
    """Those of some digests (ascending) of which the archive knows a change that took effect after a moment; none where
    it does not keep changes from then on."""
    wanted = Wanted(part=Part(digests=tuple(digests)))
    try:
        made = plan(archive, at, "rewind", now=now, wanted=wanted, count=False)
    except RestoreError:  # of another epoch, or pruned: who asks judges as if nothing had changed
        return set()
    slices = (part for shard in made.shards for part in shard_slices(archive, made, shard, now))
    return {digest.tobytes() for part in slices for digest in part.states.digest}


class _Drill:
    """One drill, and what is known of it so far."""

    def __init__(
        self, archive: Archive, source: Source, scratch: Scratch, chosen: Chosen, watch: Watch, records_per_s: int
    ) -> None:
        self._archive, self._source, self._scratch, self._chosen = archive, source, scratch, chosen
        self._watch, self._records_per_s = watch, records_per_s
        self._found: dict[str, Any] = {}
        self._wrong: list[CdcError] = []

    def done(self, began_at: int) -> tuple[Drilled, CdcError | None]:
        """All of it. Raises Cancelled, or what keeps the scratch from being cleaned then."""
        cancelled = False
        try:
            self._rehearse()
        except Cancelled:
            cancelled = True
        except CdcError as error:
            self._wrong.append(error)
        self._clean()
        if cancelled:
            raise self._wrong[-1] if "left" in self._found else Cancelled
        done = Drilled(
            namespace=self._archive.namespace,
            into=self._chosen.into,
            at=self._chosen.at,
            began_at=began_at,
            partitions=len(self._chosen.partitions),
            wrong="; ".join(error.message for error in self._wrong),
            **self._found,
        )
        return done, self._wrong[0] if self._wrong else None

    def _rehearse(self) -> None:
        made = self._restore()
        with self._timed("verify_s"):
            self._verify(made)
        with self._timed("compare_s"):
            self._compare(made)

    def _restore(self) -> Plan:
        """As whoever needs it at once would: nothing is counted before."""
        store = CountingStore(self._archive.store)
        archive = Archive(store, self._archive.namespace, self._archive.shards)
        began, writing, before = time.monotonic(), 0.0, 0

        def progress(done: int, total: int, phase: str) -> None:
            nonlocal writing
            if phase == "write" and not writing:
                writing = time.monotonic()
                self._found["read_bytes"] = store.read_bytes - before
            self._watch.progress(done, total, phase)

        watch = replace(self._watch, progress=progress)
        try:
            made = plan(
                archive, self._chosen.at, now=self._scratch.now(), into=self._chosen.into,
                wanted=Wanted(part=self._chosen.part), count=False, watch=watch,
            )  # fmt: skip
            self._found["stored_bytes"] = sum(info.size + info.index_size for info in made.objects)
            before = store.read_bytes  # manifests, which do not grow with what is restored
            report = clone(archive, made, self._scratch, watch=watch)
        except CdcError as error:
            if isinstance(error.report, Report):
                self._count(error.report)
            raise
        finally:
            ended = time.monotonic()
            self._found |= {"read_s": (writing or ended) - began, "write_s": ended - (writing or ended)}
        self._count(report)
        if not report.complete:
            raise Cancelled
        return made

    def _count(self, report: Report) -> None:
        names = ("written", "bytes", "expired", "exact", "presumed", "fuzzy")
        self._found |= {name: getattr(report, name) for name in names}

    def _verify(self, made: Plan) -> None:
        found = verify(self._archive, made, self._scratch, self._watch)
        # Nobody else may write there: what others did is a difference as well.
        found = replace(found, different=found.different + found.changed, changed=0)
        self._found |= {name: getattr(found, name) for name in ("missing", "different", "extra")}
        error = found.error()
        if error is not None:
            self._wrong.append(error)

    def _compare(self, made: Plan) -> None:
        scope = self._source.scope.text()
        if made.scope != scope:
            then, now = made.scope or "everything", scope or "everything"
            self._found["uncompared"] = f"the archive is about {then} at that moment, the settings say {now}"
            return
        try:
            found = unchanged.compare(
                self._source, self._scratch, self._chosen.partitions, made.at,
                lambda digests: self._unsure(made, digests), self._watch, records_per_s=self._records_per_s,
            )  # fmt: skip
        except SourceError as error:  # the archive has to do without the source when it is needed, too
            self._found["uncompared"] = error.message
            return
        names = ("same", "different", "missing", "unsure", "changed")
        self._found |= {f"live_{name}": getattr(found, name) for name in names}
        if found.different or found.missing:
            self._wrong.append(
                Differs(
                    f"{made.namespace} has records that have not changed since {rfc3339(made.at)}, and the restore has "
                    f"not got them so: {found.different:,} are different, {found.missing:,} are missing; the first is "
                    f"{found.named}",
                    "`verify --tier live` compares all of the archive with the source; `history --digest` shows one "
                    "record.",
                )
            )

    def _unsure(self, made: Plan, digests: list[bytes]) -> set[bytes]:
        """Those of some digests whose state at the moment is not exact, or that changed after it: what is written while
        a node's clock is set back keeps its last-update-time."""
        found = changed_since(self._archive, made.at, digests, made.planned_at)

        def name(doubts: Iterable[Doubt]) -> None:
            found.update(doubt.digest for doubt in doubts)

        plan(
            self._archive, made.at, now=made.planned_at, wanted=Wanted(part=Part(digests=tuple(digests))),
            manifests=made.manifests, name=name, watch=self._watch,
        )  # fmt: skip
        return found

    def _clean(self) -> None:
        try:
            with self._timed("clean_s"):
                self._scratch.clean()
        except CdcError as error:
            self._found["left"] = left = len(self._scratch.notes)
            error.message = f"up to {left:,} records are left in {self._chosen.into}: {error.message}"
            error.hint = f"The next drill from this machine removes them first. {error.hint}".strip()
            self._wrong.append(error)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._found[name] = time.monotonic() - began
