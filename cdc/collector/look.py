"""A look at many partitions, in pieces: each is one transaction for all the shards it touches."""

import time
from dataclasses import dataclass, field

import numpy as np

from cdc.collector.pace import Pace
from cdc.collector.session import Session
from cdc.collector.sweep import Piece, lower_bound, parcels
from cdc.model import I64, PARTITIONS
from cdc.topics.progress import Kind


@dataclass(slots=True)
class Look:
    """What is left of a look: `remaining` partitions, ascending. `size` counts the bytes of contents it has brought."""

    kind: Kind
    remaining: I64
    pace: Pace
    size: int = 0
    _began: float = field(default_factory=time.monotonic)
    _started_at: int = 0

    def step(self, session: Session) -> bool:
        """Look at the next piece and commit what it brings; whether more is left. Raises SourceError, KafkaError and
        CatalogError; then the piece does not count, and can be done again after the shards were taken up again."""
        if not len(self.remaining):
            return False
        piece, left = np.split(self.remaining, [self.pace.partitions])
        shards = session.settings.collector.shards
        started_at = session.times.earliest()
        self._started_at = self._started_at or started_at
        since = lower_bound(self.kind, session.catalogs, piece, session.allowance)
        observed = session.source.observe(piece.tolist(), since)
        looked = Piece(
            kind=self.kind,
            partitions=piece,
            last=frozenset(_shards(piece, shards) - _shards(left, shards)),
            look_started_at=self._started_at,
            started_at=started_at,
            observed_at=session.times.latest(),
            observed=observed,
        )
        session.deliver(parcels(looked, session.catalogs, session.allowance, session.stats))
        size = int(observed.records.contents.offsets[-1])
        self.remaining, self.pace, self.size = left, self.pace.after(len(piece), size), self.size + size
        if not len(left):
            session.stats.looked(self.kind, time.monotonic() - self._began)
        return bool(len(left))


def _shards(partitions: I64, shards: int) -> set[int]:
    return set(np.unique(partitions * shards // PARTITIONS).tolist())
