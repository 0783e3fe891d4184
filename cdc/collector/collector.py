"""The collector: sweeps its shards again and again, reconciles, audits, and goes on after whatever passes."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from threading import Event
from types import TracebackType
from typing import Self

import numpy as np

from cdc.clock import Clock, rfc3339, steady_clock
from cdc.collector.deletes import Reading
from cdc.collector.look import Look
from cdc.collector.pace import SPREAD, Pace
from cdc.collector.publish import Parcel
from cdc.collector.reconcile import Doubts, missed, read, read_before, reconcile
from cdc.collector.session import Session
from cdc.collector.stats import Stats
from cdc.config import Settings
from cdc.errors import (
    BrokerUnreachable,
    CdcError,
    ClusterUnreachable,
    Fenced,
    KafkaError,
    PartitionUnavailable,
    ProtocolError,
    ServerRefused,
)
from cdc.model import BEGINNING, I64, PARTITIONS, partitions_of
from cdc.topics.progress import Kind

BACK_OFF_S = (0.25, 0.5, 1.0, 2.0, 5.0)
PIECES = 8
"""A piece aims at this part of `transaction_bytes`: one is read while another is published, each of them several times
over in memory on its way, and a guess of its size may be wrong."""
JOIN_S = 60.0
"""How long `run_once` waits for its first shards."""
PASSING = (BrokerUnreachable, Fenced, ClusterUnreachable, PartitionUnavailable, ProtocolError, ServerRefused)
"""Errors that a running collector counts and tries again after, as it does with a bare KafkaError."""


class Collector:
    """One worker for one namespace; a context manager. Not to be shared by threads, but `stats` may be read by any.

    `after_commit` runs after each of Kafka's commits, before the catalogs note it; tests stop the process there.
    """

    def __init__(
        self, settings: Settings, *, clock: Clock | None = None, after_commit: Callable[[], None] = lambda: None
    ) -> None:
        """Raises CatalogError when another collector uses the same catalog directory. Connects later, when it runs.

        `clock` is what the nodes' clocks are measured against. It must not be set meanwhile: by default it is a steady
        one.
        """
        self._own = settings.collector
        self._session = Session(settings, clock or steady_clock(), after_commit)
        self._ready = False
        self._swept_at = self._reconcile_due = float("-inf")
        self._swept_at_ms = 0
        self._look_took = 0.0  # seconds that the last reconcile with a look at digests took, or a longer one since
        self._unrest = ""
        self._began, self._audited_at = time.monotonic(), float("-inf")
        self._rate: float | None = None  # bytes of contents a second, by the last sweep
        self._full: Look | None = None  # a base snapshot or an audit under way
        self._sweeping: Iterator[float] | None = None  # a sweep under way, which rests
        self._rests_until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the group and the cluster, close the catalogs."""
        self._session.close()

    @property
    def stats(self) -> Stats:
        """What has been done so far."""
        return self._session.stats

    def run_once(self, *, audit: bool = False) -> Stats:
        """Finish the base snapshot where it is unfinished, sweep, and reconcile; with `audit` look at every record
        once more. For the shards that this worker is given. Raises whatever goes wrong.

        Ends when everything that was there at the call, and a base snapshot that it finished, can be restored to:
        sweeps go on until the resolved timestamp, which trails by the skew allowed for, has passed that moment.
        """
        deadline = time.monotonic() + JOIN_S
        while not self._session.take_part(0.5):
            if time.monotonic() > deadline:
                raise BrokerUnreachable(f"the group of collectors assigned no shard within {JOIN_S:g} s")
        while self._base_step():
            self._session.still()
            self._wait(self._full)
            self._session.watch_clocks()
        self._session.watch_clocks(sharp=True)
        begun = self._session.times.latest()
        if audit:
            self._finish(self._full_look(Kind.AUDIT, range(PARTITIONS)))
        while True:
            while (left_ms := begun + self._session.times.skew_ms - self._session.times.earliest() + 1) > 0:
                time.sleep(min(left_ms / 1000, 0.25))  # nodes' clocks that are apart are waited for as long
                self._session.still()
            self._sweep(reconciling=True, sharp=True)
            begun = min(begun, self._session.times.latest())  # a clock may have been set back meanwhile
            if self.stats.resolved_at >= begun:
                return self.stats

    def run(
        self,
        stop: Event,
        success: Callable[[], None] = lambda: None,
        failure: Callable[[CdcError], None] = lambda error: None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Work until `stop` is set. `success` is called after every round, `failure` with every error that is got over,
        `note` with what a person should know: a new epoch and why, records kept aside.

        What passes (brokers or nodes that do not answer, a shard taken over) is counted, told in `stats` and tried
        again. Everything else is raised, and so is whatever goes wrong before a first round was done, but for brokers
        that do not answer: they may be started later.
        """
        failures = 0
        self.stats.listener = note
        while not stop.is_set():
            try:
                self._round()
            except CdcError as error:
                if not (isinstance(error, PASSING) or type(error) is KafkaError) or not (
                    self._ready or isinstance(error, Fenced | BrokerUnreachable)
                ):
                    raise
                self.stats.trouble(error)
                failure(error)
                self._session.listen()
                self._session.let_go(error)
                self._full = self._sweeping = None
                stop.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
                failures += 1
            else:
                failures = 0
                self._ready = True
                success()
                self._session.listen()
                stop.wait(min(max(self._due - time.monotonic(), 0), 0.25))

    @property
    def _sweep_due(self) -> float:
        return self._swept_at + self._session.sparing.pause_s(self._swept_at_ms)

    @property
    def _due(self) -> float:
        """When there is something to do again."""
        if self._sweeping is not None:
            return self._rests_until
        return self._sweep_due if self._full is None else min(self._sweep_due, self._full.due)

    def _round(self) -> None:
        if not self._session.take_part(0.2):
            return
        now = time.monotonic()
        if self._sweeping is None and now >= self._sweep_due:
            self._swept_at, self._swept_at_ms = now, self._session.clocks.measured()
            # The last sweep that ends in time for it: the next one would come too late.
            late = now + self._session.sparing.sweep_every_s > self._reconcile_due
            self._sweeping = self._sweep_on(reconciling=late)
        if self._sweeping is not None:
            self._rests_until = next(self._sweeping, 0.0)
            if self._rests_until:
                return
            self._sweeping = None
        if self._base_step():
            return
        if self._full is None and self._audit_due:
            self._full = self._full_look(Kind.AUDIT, self._unaudited(self._own.base_every_s / 2) or range(PARTITIONS))
        self._full_step()

    @property
    def _audit_due(self) -> bool:
        """Whether a partition was last looked at in full so long ago, whichever process did it: one that is restarted
        more often than audits come would else never audit. Where the nodes' time does not tell, ours does."""
        now, every_s = time.monotonic(), self._own.base_every_s
        if now >= max(self._began, self._audited_at) + every_s:
            return True
        rested = now >= self._audited_at + every_s / 2  # however long one takes
        return rested and bool(self._unaudited(every_s))

    def _unaudited(self, for_s: float) -> list[int]:
        """The partitions that were not looked at in full for so long: all, or what a stopped process has left."""
        before = self._session.times.earliest() - for_s * 1000
        out: list[int] = []
        for shard, catalog in self._session.catalogs.items():
            first = partitions_of(shard, self._own.shards).start
            out += (np.flatnonzero(catalog.state.full <= before) + first).tolist()
        return sorted(out)

    def _full_step(self) -> None:
        if self._full is not None and not self._full.step(self._session):
            self._full, self._audited_at = None, time.monotonic()

    def _base_step(self) -> bool:
        """The next piece of an unfinished base snapshot, or of the audit of rebuilt catalogs, whose partitions count as
        never looked at in full. False when neither is unfinished."""
        for kind, column in ((Kind.BASE, "watermark"), (Kind.AUDIT, "full")):
            missing: list[int] = []
            for shard, catalog in self._session.catalogs.items():
                first = partitions_of(shard, self._own.shards).start
                missing += (np.flatnonzero(getattr(catalog.state, column) == BEGINNING) + first).tolist()
            if missing:
                same = self._full is not None and self._full.kind == kind
                if self._full is None or not same or set(self._full.remaining.tolist()) != set(missing):
                    self._full = self._full_look(kind, missing)
                    self._session.doubts = Doubts.begin()
                self._full_step()
                return True
        return False

    def _sweep(self, *, reconciling: bool, sharp: bool = False) -> None:
        for until in self._sweep_on(reconciling=reconciling, sharp=sharp):
            time.sleep(max(0.0, until - time.monotonic()))

    def _sweep_on(self, *, reconciling: bool, sharp: bool = False) -> Iterator[float]:
        """A sweep, and reconciling. Yields whenever it rests, the moment of `time.monotonic` until which it does; it is
        over when shards were taken up meanwhile."""
        session = self._session
        session.watch_clocks(sharp=sharp)
        if not any(c.state.based for c in session.catalogs.values()):
            return
        if reconciling:
            session.look_at_metadata()
        began = time.monotonic()
        brief = session.doubts.calm
        before = read_before(session.source, session.times, brief=brief) if reconciling else None
        # What nodes say after the sweep they are asked while Kafka takes in what it brought.
        afterwards = partial(read, session.source, session.times, brief=brief) if reconciling else None
        # Between the pieces of a base snapshot or an audit, and where somebody waits for it, a sweep is short.
        portions = 1 if sharp or self._full is not None else session.sparing.portions
        look = self._sweep_look(portions, afterwards)
        held = session.assignment
        while look.step(session):
            session.still()
            if look.due > time.monotonic():
                yield look.due
                if session.assignment is not held:
                    return
        session.sparing.swept(look.records)
        self._rate = look.size / max(self._own.sweep_every_s, time.monotonic() - began)
        overlooked = missed(session.catalogs, session.doubts)
        if len(overlooked):
            look.release(session)
            self.stats.note(f"no sweep has brought a record of {len(overlooked)} partitions: they are read in full")
            self._finish(self._full_look(Kind.AUDIT, overlooked.tolist(), rests=False))
        if before is not None:
            self._reconcile(before, look, began)

    def _sweep_again(self) -> None:
        look = self._sweep_look()
        self._finish(look)
        self._session.sparing.swept(look.records)

    def _sweep_look(self, portions: int = 1, afterwards: Callable[[], Reading] | None = None) -> Look:
        """At every shard whose base snapshot is complete, in so many portions spread over a sweep's period."""
        ready = (partitions_of(s, self._own.shards) for s, c in sorted(self._session.catalogs.items()) if c.state.based)
        based: I64 = np.concatenate([np.arange(p.start, p.stop, dtype=np.int64) for p in ready])
        over_s = SPREAD * self._session.sparing.sweep_every_s if portions > 1 else 0.0
        return Look(Kind.SWEEP, based, self._sweep_pace(portions), over_s=over_s, afterwards=afterwards)

    def _reconcile(self, before: Reading, look: Look, began: float) -> None:
        """Find what was deleted until `before` was read, at `began`; `look` is the sweep since. While the cluster is
        restless nothing is found, and every sweep tries again."""
        session, looked = self._session, time.monotonic()
        if look.said is None:
            raise ValueError("the nodes were not asked after the sweep")
        try:
            outcome = reconcile(
                session.source, session.catalogs, before, look.said.result(), session.doubts, session.times,
                self._sweep_again, partial(self._deliver_ends, look), look.held,
            )  # fmt: skip
        finally:
            look.release(session)
        if not outcome.unrest:
            self.stats.looked(Kind.RECONCILE, time.monotonic() - looked)
            self._tell_unrest("")
            # The next one ends, not begins, when this one's deletes are due: even if it takes a look.
            every, took = self._own.reconcile_every_s, time.monotonic() - began
            self._look_took = took if outcome.looked else max(took, self._look_took)
            # By totals alone it is found, at the cost of this one, that something went.
            more = took if session.doubts.calm else 0.0
            self._reconcile_due = began + max(every / 2, every - self._look_took - more)
        elif time.monotonic() > self._reconcile_due + self._own.reconcile_every_s:
            self._tell_unrest(outcome.unrest)

    def _deliver_ends(self, look: Look, parcels: list[Parcel]) -> None:
        if look.held:
            look.release(self._session, parcels)
        else:
            self._session.deliver(parcels)
        self._session.still()  # of many ends this is one part

    def _tell_unrest(self, why: str) -> None:
        if why and not self._unrest:
            since = rfc3339(min(c.state.reconciled_at for c in self._session.catalogs.values()))
            self.stats.note(f"deletes since {since} are not told yet, and what held since is presumed: {why}")
        elif self._unrest and not why:
            self.stats.note("deletes are told again")
        self._unrest = why

    def _finish(self, look: Look) -> None:
        while look.step(self._session):
            self._session.still()
            self._wait(look)

    def _wait(self, look: Look | None) -> None:
        """Until a look that rests goes on, or for a moment: whoever waits takes part in the group."""
        if look is not None:
            time.sleep(min(max(look.due - time.monotonic(), 0), 0.25))

    def _sweep_pace(self, portions: int) -> Pace:
        limit = self._own.transaction_bytes // PIECES
        oldest = min(c.state.resolved_at for c in self._session.catalogs.values() if c.state.based)
        pause_s = max(0.0, (self._session.times.earliest() - oldest) / 1000)
        if self._rate is None or self._session.forgotten or pause_s > 10 * self._own.sweep_every_s + 10:
            return Pace.unknown(limit)
        return Pace.expecting(limit, 2 * self._rate * pause_s, portions)

    def _full_look(self, kind: Kind, partitions: "range | list[int]", *, rests: bool = True) -> Look:
        self._session.look_at_metadata(everything=True)
        mine: I64 = np.array([p for p in partitions if p * self._own.shards // PARTITIONS in self._session.catalogs])
        sparing = self._session.sparing
        pace = Pace.unknown(
            self._own.transaction_bytes // PIECES, records=sparing.piece_records, rests=rests and sparing.pauses
        )
        return Look(kind, mine.astype(np.int64), pace, rests=rests)
