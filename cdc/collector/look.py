"""A look at many partitions, in pieces: each is one transaction for all the shards it touches.

While a piece is published the next one is already read, by one thread beside: the server, our reading and Kafka's
writing then overlap. A piece that was read but not published does not count.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cdc.collector.pace import Pace
from cdc.collector.publish import Parcel
from cdc.collector.session import Session
from cdc.collector.sweep import Piece, lower_bound, parcels
from cdc.model import I64, NEVER, PARTITIONS, partition_of
from cdc.topics.progress import Kind


@dataclass(slots=True)
class Look:
    """What is left of a look: `remaining` partitions, ascending. `size` counts the bytes of contents that it has
    brought, `records` the records, `worked_s` the time it took without its rests. One that `rests` spares the source
    between its pieces, and one that is spread `over_s` seconds begins its pieces evenly in them: the next is `due` at a
    moment of `time.monotonic`. `afterwards` is asked, by the thread beside, once everything was read: what it has to
    say is `said`. A sweep of one piece that brings nothing then holds its parcels back (`held`): who decides by what
    was said `release`s them, or what stands for them, and only then the sweep is over."""

    kind: Kind
    remaining: I64
    pace: Pace
    size: int = 0
    records: int = 0
    rests: bool = False
    over_s: float = 0.0
    worked_s: float = 0.0
    due: float = 0.0
    afterwards: Callable[[], Any] | None = None
    said: Future[Any] | None = None
    held: tuple[Parcel, ...] = ()
    _started_at: int = 0
    _ahead: Future[Piece] | None = None
    _holding: Piece | None = None
    _began: float = field(init=False)
    _whole: int = field(init=False)

    def __post_init__(self) -> None:
        self._began, self._whole = time.monotonic(), len(self.remaining)

    def step(self, session: Session) -> bool:
        """Commit what the next piece brings, if it is due; whether more is left. Raises SourceError, KafkaError and
        CatalogError; then the look is over, and a new one is made of what it had not committed."""
        if not len(self.remaining):
            return False
        if time.monotonic() < self.due:
            return True
        began = time.monotonic()
        piece = self._ahead.result() if self._ahead is not None else self._read(session, self._next(self.remaining))
        left = self.remaining[len(piece.partitions) :]
        size = int(piece.observed.records.contents.offsets[-1])
        self.pace = self.pace.after(len(piece.partitions), size, len(piece.observed))
        if self.rests:
            took_s = time.monotonic() - began
            self.due = began + took_s + session.sparing.rest_s(len(piece.partitions), took_s)
        elif self.over_s:
            self.due = self._began + self.over_s * (1 - len(left) / self._whole)
        # Sweeps go on between an audit's pieces: what was read before one must not be published after it.
        may = self.kind == Kind.SWEEP or (self.kind == Kind.BASE and session.sparing.reads_ahead)
        ahead = len(left) and may and time.monotonic() >= self.due
        self._ahead = session.beside.submit(self._read, session, self._next(left)) if ahead else None
        if not len(left) and self.afterwards is not None:
            self.said = session.beside.submit(self.afterwards)
        made = parcels(piece, session.catalogs, session.allowance, session.stats)
        records = piece.observed.records
        # One that never expires has no void time to be mistaken about; a life made shorter the nodes count.
        torn = partition_of(records.digest[piece.observed.torn & (records.void_time != NEVER)])
        if self.kind == Kind.SWEEP:
            session.doubts.swept(piece.partitions, session.swept_at[piece.partitions], piece.observed_at, torn)
        else:
            session.doubts.glimpsed[torn] = True
        hold = self.said is not None and len(piece.partitions) == self._whole and all(one.empty for one in made)
        if not hold:
            session.deliver(made)
        self.remaining, self.size, self.records = left, self.size + size, self.records + len(piece.observed)
        self.worked_s += time.monotonic() - began
        if hold:
            self.held, self._holding = tuple(made), piece
        else:
            self._committed(session, piece)
        return bool(len(left))

    def finish(self, session: Session) -> None:
        """Step to the end, and take part in the group between the steps. Raises what `step` raises."""
        while self.step(session):
            session.still()
            self.wait()

    def wait(self) -> None:
        """Until a look that rests goes on, or for a moment: whoever waits takes part in the group."""
        time.sleep(min(max(self.due - time.monotonic(), 0), 0.25))

    def release(self, session: Session, instead: Sequence[Parcel] = ()) -> None:
        """Deliver what is held back, or what stands for it. Raises KafkaError and CatalogError: it is not held then."""
        held, self.held = self.held, ()
        if held and self._holding is not None:
            session.deliver(list(instead or held))
            self._committed(session, self._holding)

    def _committed(self, session: Session, piece: Piece) -> None:
        if self.kind == Kind.SWEEP:
            session.swept(piece.partitions, piece.started_at)
        if not len(self.remaining):
            session.stats.looked(self.kind, self.worked_s)

    def _next(self, left: I64) -> I64:
        return left[: self.pace.partitions]

    def _read(self, session: Session, partitions: I64) -> Piece:
        shards = session.settings.collector.shards
        started_at = session.times.earliest()
        self._started_at = self._started_at or started_at
        began_at = int(session.swept_at[partitions].min())
        since = lower_bound(self.kind, session.catalogs, partitions, session.allowance, began_at)
        # What changes between the two queries is not asked again: the next sweep brings it, under a blind interval that
        # covers it, and asking would cost as much as the look itself while there is a load.
        limit = session.sparing.records_per_s
        observed = session.source.observe(partitions.tolist(), since, records_per_second=limit, again=0)
        later = self.remaining[self.remaining > partitions[-1]]
        return Piece(
            kind=self.kind,
            partitions=partitions,
            last=frozenset(_shards(partitions, shards) - _shards(later, shards)),
            look_started_at=self._started_at,
            started_at=started_at,
            observed_at=_seen(session),
            observed=observed,
            since=since,
        )


def _seen(session: Session) -> int:
    now = session.times.latest()
    return max((catalog.state.seen(now) for catalog in session.catalogs.values()), default=now)


def _shards(partitions: I64, shards: int) -> set[int]:
    return set(np.unique(partitions * shards // PARTITIONS).tolist())
