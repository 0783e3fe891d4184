"""One worker's sweeps, of all its shards at once, and the reconciling that some of them are part of."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from cdc.clock import rfc3339
from cdc.collector.deletes import Reading
from cdc.collector.look import Look
from cdc.collector.pace import SPREAD, Pace
from cdc.collector.publish import Parcel
from cdc.collector.reconcile import missed, read, read_before, reconcile
from cdc.collector.session import Session
from cdc.config import CollectorSettings
from cdc.model import I64, partitions_of
from cdc.topics.progress import Kind

PIECES = 8
"""A piece aims at this part of `transaction_bytes`: one is read while another is published, each of them several times
over in memory on its way, and a guess of its size may be wrong."""


def piece_bytes(settings: CollectorSettings) -> int:
    """What a piece of a look aims at."""
    return settings.transaction_bytes // PIECES


class Sweeps:
    """What one sweep has to know of those before it. `reconcile_due` is when deletes are to be looked for again, a
    moment of `time.monotonic`."""

    def __init__(
        self, settings: CollectorSettings, session: Session, read_in_full: Callable[[list[int]], None]
    ) -> None:
        """`read_in_full` is asked to read every record of some partitions, at once."""
        self._own = settings
        self._session = session
        self._read_in_full = read_in_full
        self.reconcile_due = float("-inf")
        self._look_took = 0.0  # seconds that the last reconcile with a look at digests took, or a longer one since
        self._unrest = ""
        self._rate: float | None = None  # bytes of contents a second, by the last sweep

    def sweep(self, *, reconciling: bool, sharp: bool, spread: bool) -> Iterator[float]:
        """A sweep, `spread` over its period where it is a busy one, and `reconciling`; before it clocks are watched, or
        measured (`sharp`). Yields whenever it rests, the moment of `time.monotonic` until which it does. Where shards
        were taken up meanwhile it ends there, and nothing is concluded.

        Raises SourceError, KafkaError and CatalogError.
        """
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
        look = self._look(session.sparing.portions if spread else 1, afterwards)
        ours, steps = session.assignment, session.steps_back
        while look.step(session):
            session.still()
            if look.due > time.monotonic():  # then nothing is read ahead, for clocks may be measured meanwhile
                yield look.due
                if session.assignment is not ours:
                    return
        session.sparing.swept(look.records)
        self._rate = look.size / max(self._own.sweep_every_s, time.monotonic() - began)
        overlooked = missed(session.catalogs, session.doubts)
        if len(overlooked):
            look.release(session)
            session.stats.note(f"no sweep has brought a record of {len(overlooked)} partitions: they are read in full")
            self._read_in_full(overlooked.tolist())
        if before is not None and session.steps_back == steps:
            self._reconcile(before, look, began)
        look.release(session)  # where a clock went back meanwhile nothing is concluded: the next sweep reconciles

    def _again(self) -> None:
        self._look().finish(self._session)

    def _look(self, portions: int = 1, afterwards: Callable[[], Reading] | None = None) -> Look:
        """At every shard whose base snapshot is complete, in so many portions spread over a sweep's period."""
        ready = (partitions_of(s, self._own.shards) for s, c in sorted(self._session.catalogs.items()) if c.state.based)
        based: I64 = np.concatenate([np.arange(p.start, p.stop, dtype=np.int64) for p in ready])
        over_s = SPREAD * self._session.sparing.sweep_every_s if portions > 1 else 0.0
        return Look(Kind.SWEEP, based, self._pace(len(based), portions), over_s=over_s, afterwards=afterwards)

    def _reconcile(self, before: Reading, look: Look, began: float) -> None:
        """Find what was deleted until `before` was read, at `began`; `look` is the sweep since. While the cluster is
        restless nothing is found, and every sweep tries again."""
        session, looked = self._session, time.monotonic()
        if look.said is None:
            raise ValueError("the nodes were not asked after the sweep")
        try:
            outcome = reconcile(
                session.source, session.catalogs, before, look.said.result(), session.doubts, session.times,
                self._again, partial(self._deliver_ends, look), look.held,
            )  # fmt: skip
        finally:
            look.release(session)
        if not outcome.unrest:
            session.stats.looked(Kind.RECONCILE, time.monotonic() - looked)
            self._tell_unrest("")
            # The next one ends, not begins, when this one's deletes are due: even if it takes a look.
            every, took = self._own.reconcile_every_s, time.monotonic() - began
            self._look_took = took if outcome.looked else max(took, self._look_took)
            # By totals alone it is found, at the cost of this one, that something went.
            more = took if session.doubts.calm else 0.0
            self.reconcile_due = began + max(every / 2, every - self._look_took - more)
        elif time.monotonic() > self.reconcile_due + self._own.reconcile_every_s:
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
            self._session.stats.note(f"deletes since {since} are not told yet, and what held since is presumed: {why}")
        elif self._unrest and not why:
            self._session.stats.note("deletes are told again")
        self._unrest = why

    def _pace(self, partitions: int, portions: int) -> Pace:
        limit, every_s = piece_bytes(self._own), self._session.sparing.sweep_every_s
        oldest = min(c.state.resolved_at for c in self._session.catalogs.values() if c.state.based)
        pause_s = max(0.0, (self._session.times.earliest() - oldest) / 1000)
        most = -(-partitions // portions)
        if self._rate is None or self._session.forgotten or pause_s > 10 * every_s + 10:
            return Pace.unknown(limit, most=most)
        return Pace.expecting(limit, 2 * self._rate * pause_s, partitions, most)
