"""The collector: sweeps its shards again and again, reconciles, audits, and goes on after whatever passes."""

import time
from collections.abc import Callable, Iterator
from threading import Event
from types import TracebackType
from typing import Self

import numpy as np

from cdc.clock import Clock, steady_clock
from cdc.collector.look import Look
from cdc.collector.pace import RESTING, Pace
from cdc.collector.reconcile import Doubts
from cdc.collector.session import Session
from cdc.collector.stats import Stats
from cdc.collector.sweeps import Sweeps, piece_bytes
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
OVERDUE = 2.0
"""A sweep that comes so many periods after the last one began is not spread: there is something to catch up."""
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
        self._sweeps = Sweeps(self._own, self._session, self._read_in_full)
        self._swept_at = float("-inf")
        self._swept_at_ms = 0
        self._began, self._audited_at = time.monotonic(), float("-inf")
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
            if self._full is not None:
                self._full.wait()
            self._session.watch_clocks()
        self._session.watch_clocks(sharp=True)
        begun = self._session.times.latest()
        if audit:
            self._full_look(Kind.AUDIT, range(PARTITIONS)).finish(self._session)
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
        """Work until `stop` is set. `success` is called after every round, but not while a sweep rests, nor after an
        error before something was done again; `failure` with every error that is got over, `note` with what a person
        should know: a new epoch and why, records kept aside.

        What passes (brokers or nodes that do not answer, a shard taken over) is counted, told in `stats` and tried
        again. Everything else is raised, and so is whatever goes wrong before a first round was done, but for brokers
        that do not answer: they may be started later.
        """
        failures = 0
        self._sweeping = None
        self.stats.listener = note
        while not stop.is_set():
            try:
                done = self._round()
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
                self._swept_at = float("-inf")  # whatever the period, it is tried again soon
                stop.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
                failures += 1
            else:
                # A sweep that rests may still fail, and while one has failed it says nothing that none was due.
                if self._sweeping is None and (done or not failures):
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

    def _round(self) -> bool:
        """Do what is due; whether there was something, and it was finished, or there is nothing for this worker."""
        if not self._session.take_part(0.2):
            return True
        now, done = time.monotonic(), False
        if self._sweeping is None and now >= self._sweep_due:
            every_s = self._session.sparing.sweep_every_s
            overdue = now > self._swept_at + OVERDUE * every_s
            self._swept_at, self._swept_at_ms = now, self._session.clocks.measured()
            # The last sweep that ends in time for it: the next one would come too late.
            late = now + every_s > self._sweeps.reconcile_due
            self._sweeping = self._sweep_on(reconciling=late, spread=not overdue)
        if self._sweeping is not None:
            self._rests_until = next(self._sweeping, 0.0)
            if self._rests_until:
                return False
            self._sweeping, done = None, True
        if self._base_step():
            return True
        if self._full is None and self._audit_due:
            self._full = self._full_look(Kind.AUDIT, self._unaudited(self._own.base_every_s / 2) or range(PARTITIONS))
        self._full_step()
        return done

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
        kind, missing = self._unfinished()
        if not missing:
            return False
        same = self._full is not None and self._full.kind == kind
        if self._full is None or not same or set(self._full.remaining.tolist()) != set(missing):
            self._full = self._full_look(kind, missing)
            self._session.doubts = Doubts.begin()
        self._full_step()
        return True

    def _unfinished(self) -> tuple[Kind, list[int]]:
        for kind, column in ((Kind.BASE, "watermark"), (Kind.AUDIT, "full")):
            missing: list[int] = []
            for shard, catalog in self._session.catalogs.items():
                first = partitions_of(shard, self._own.shards).start
                missing += (np.flatnonzero(getattr(catalog.state, column) == BEGINNING) + first).tolist()
            if missing:
                return kind, missing
        return Kind.SWEEP, []

    def _sweep(self, *, reconciling: bool, sharp: bool = False) -> None:
        list(self._sweep_on(reconciling=reconciling, sharp=sharp))  # one that is not spread rests nowhere

    def _sweep_on(self, *, reconciling: bool, sharp: bool = False, spread: bool = False) -> Iterator[float]:
        # Between the pieces of a base snapshot or an audit a sweep is short.
        spread = spread and self._full is None and not self._unfinished()[1]
        return self._sweeps.sweep(reconciling=reconciling, sharp=sharp, spread=spread)

    def _read_in_full(self, partitions: list[int]) -> None:
        self._full_look(Kind.AUDIT, partitions, rests=False).finish(self._session)

    def _full_look(self, kind: Kind, partitions: "range | list[int]", *, rests: bool = True) -> Look:
        self._session.look_at_metadata(everything=True)
        mine: I64 = np.array([p for p in partitions if p * self._own.shards // PARTITIONS in self._session.catalogs])
        sparing = self._session.sparing
        most = RESTING if rests and sparing.pauses else PARTITIONS
        pace = Pace.unknown(piece_bytes(self._own), records=sparing.piece_records, most=most)
        return Look(kind, mine.astype(np.int64), pace, rests=rests)
