"""The collector: sweeps its shards again and again, reconciles, audits, and goes on after whatever passes."""

import time
from collections.abc import Callable
from threading import Event
from types import TracebackType
from typing import Self

import numpy as np

from cdc.clock import Clock, wall_clock
from cdc.collector.look import Look
from cdc.collector.pace import Pace
from cdc.collector.reconcile import Doubts, missed, read, reconcile
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
        self, settings: Settings, *, clock: Clock = wall_clock, after_commit: Callable[[], None] = lambda: None
    ) -> None:
        """Raises CatalogError when another collector uses the same catalog directory. Connects later, when it runs."""
        self._own = settings.collector
        self._session = Session(settings, clock, after_commit)
        self._doubts = Doubts.begin()
        self._ready = False
        self._swept_at = self._reconciled_at = float("-inf")
        self._audited_at = time.monotonic()
        self._rate: float | None = None  # bytes of contents a second, by the last sweep
        self._full: Look | None = None  # a base snapshot or an audit under way

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
        begun = self._session.times.latest()
        if audit:
            self._finish(self._full_look(Kind.AUDIT, range(PARTITIONS)))
        while True:
            left_ms = begun + self._session.times.skew_ms - self._session.times.earliest()
            time.sleep(max(0, left_ms + 1) / 1000)
            self._sweep(reconciling=True)
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
        again. Everything else is raised, and so is whatever goes wrong before a first round was done.
        """
        failures = 0
        self.stats.listener = note
        while not stop.is_set():
            try:
                self._round()
            except CdcError as error:
                if not (isinstance(error, PASSING) or type(error) is KafkaError) or not (
                    self._ready or isinstance(error, Fenced)
                ):
                    raise
                self.stats.trouble(error)
                failure(error)
                self._session.let_go(error)
                self._full = None
                stop.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
                failures += 1
            else:
                failures = 0
                self._ready = True
                success()
                due = self._swept_at + self._own.sweep_every_s - time.monotonic()
                stop.wait(0 if self._full else min(max(due, 0), 0.25))

    def _round(self) -> None:
        if not self._session.take_part(0.2):
            return
        now = time.monotonic()
        if now >= self._swept_at + self._own.sweep_every_s:
            self._swept_at = now
            self._sweep(reconciling=now >= self._reconciled_at + self._own.reconcile_every_s)
        if self._base_step():
            return
        if self._full is None and now >= self._audited_at + self._own.base_every_s:
            self._full = self._full_look(Kind.AUDIT, range(PARTITIONS))
        self._full_step()

    def _full_step(self) -> None:
        if self._full is not None and not self._full.step(self._session):
            self._full, self._audited_at = None, time.monotonic()
            self.stats.stands(self._session.catalogs)

    def _base_step(self) -> bool:
        """The next piece of an unfinished base snapshot; False when none is unfinished."""
        missing: list[int] = []
        for shard, catalog in self._session.catalogs.items():
            first = partitions_of(shard, self._own.shards).start
            missing += (np.flatnonzero(catalog.state.watermark == BEGINNING) + first).tolist()
        if not missing:
            return False
        if self._full is None or self._full.kind != Kind.BASE or set(self._full.remaining.tolist()) != set(missing):
            self._full = self._full_look(Kind.BASE, missing)
            self._doubts = Doubts.begin()
        self._full_step()
        return True

    def _sweep(self, *, reconciling: bool) -> None:
        session = self._session
        based = [
            range_
            for s, c in session.catalogs.items()
            if c.state.based
            for range_ in partitions_of(s, self._own.shards)
        ]
        if not based:
            return
        began = time.monotonic()
        before = read(session.source, session.times) if reconciling else None
        look = Look(Kind.SWEEP, np.array(sorted(based), np.int64), self._sweep_pace())
        self._finish(look)
        self._rate = look.size / max(self._own.sweep_every_s, time.monotonic() - began)
        overlooked = missed(session.catalogs, self._doubts)
        if len(overlooked):
            self.stats.note(f"no sweep has brought a record of {len(overlooked)} partitions: they are read in full")
            self._finish(self._full_look(Kind.AUDIT, overlooked.tolist()))
        if before is not None:
            began = time.monotonic()
            after = read(session.source, session.times)
            outcome = reconcile(session.source, session.catalogs, before, after, self._doubts, session.times)
            if outcome.parcels:
                session.deliver(outcome.parcels)
                self.stats.looked(Kind.RECONCILE, time.monotonic() - began)
            self._reconciled_at = time.monotonic()
        self.stats.stands(session.catalogs)

    def _finish(self, look: Look) -> None:
        while look.step(self._session):
            self._session.still()

    def _sweep_pace(self) -> Pace:
        limit = self._own.transaction_bytes // PIECES
        oldest = min(c.state.resolved_at for c in self._session.catalogs.values() if c.state.based)
        pause_s = max(0.0, (self._session.times.earliest() - oldest) / 1000)
        set_back = self._session.swept_at == BEGINNING
        if self._rate is None or set_back or pause_s > 10 * self._own.sweep_every_s + 10:
            return Pace.unknown(limit)
        return Pace.expecting(limit, 2 * self._rate * pause_s)

    def _full_look(self, kind: Kind, partitions: "range | list[int]") -> Look:
        mine: I64 = np.array([p for p in partitions if p * self._own.shards // PARTITIONS in self._session.catalogs])
        return Look(kind, mine.astype(np.int64), Pace.unknown(self._own.transaction_bytes // PIECES))
