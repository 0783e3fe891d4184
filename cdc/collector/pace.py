"""How large a piece of a look may be, so that memory and transactions stay bounded, and the source is spared; and when
the next sweep begins. Pure."""

from dataclasses import dataclass, replace
from typing import Self

from cdc.model import PARTITIONS

FIRST = 8
"""Partitions of the first piece of a look whose size nobody can tell."""
GROWTH = 8
"""A piece has at most so many times the partitions of the piece before it."""
RESTING = 16
"""Partitions of a piece after which a look rests, at the most."""

PORTIONS = 4
PORTION_RECORDS = 5_000
"""A sweep is spread over its period in so many portions at the most, of so many records at the least."""
SPREAD = 0.8
"""Of its period: the last portion has to be over when the next sweep begins, and in the second of the first one."""

LEAD_MS = 50
"""How long after the beginning of a second, so that every node's clock and our measure of it have passed it."""


def next_start(began_ms: int, every_ms: int) -> int:
    """When the sweep after one that began at `began_ms` should begin; both in the slowest node's time, or before it.

    TTLs are whole seconds: between two sweeps no record comes and expires unseen when the first begins in one second
    and the second is over in the next (`Doubts.swept`), which spares a look for deletes. A period of a second and the
    sweep's own duration would mostly reach into a third, so such sweeps begin when a second does, even if the clocks
    were measured badly: they may be later than it is thought, which only makes the sweep end later.
    """
    due = began_ms + every_ms
    return min(due, (began_ms // 1000 + 1) * 1000 + LEAD_MS) if every_ms == 1000 else due


def portions(records: int) -> int:
    """In how many portions a sweep is spread over its period, when the last one brought so many records.

    One burst a second keeps a small machine's cores busy for half of it, and whoever is served by the same nodes waits.
    In portions the same work never takes long, and what was written waits less until it is published.
    """
    return max(1, min(PORTIONS, records // PORTION_RECORDS))


@dataclass(frozen=True, slots=True)
class Pace:
    """The sizes of one look's pieces: `partitions` in the next one, so that it has about `limit` bytes and `records`
    records (0: any number), and not more than `most` partitions."""

    limit: int
    partitions: int
    records: int = 0
    most: int = PARTITIONS

    @classmethod
    def unknown(cls, limit: int, *, records: int = 0, most: int = PARTITIONS) -> Self:
        """Of a look of which nothing is known: base, audit, or a sweep after a long pause."""
        return cls(limit, 1 if records else min(FIRST, most), records, most)

    @classmethod
    def expecting(cls, limit: int, size: float, partitions: int, most: int) -> Self:
        """Of a look at so many partitions that should bring about `size` bytes."""
        return cls(limit, max(1, min(most, int(partitions * limit / max(1.0, size)))), most=most)

    def after(self, partitions: int, size: int, records: int) -> Self:
        """The next piece, when one of so many partitions brought so many bytes and records."""
        fitting = int(self.limit * partitions / max(1, size))
        if self.records:
            fitting = min(fitting, int(self.records * partitions / max(1, records)))
        return replace(self, partitions=max(1, min(self.most, fitting, partitions * GROWTH)))
