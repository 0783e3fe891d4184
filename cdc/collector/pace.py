"""How large a piece of a look may be, so that memory and transactions stay bounded. Pure."""

from dataclasses import dataclass, replace
from typing import Self

from cdc.model import PARTITIONS

FIRST = 8
"""Partitions of the first piece of a look whose size nobody can tell."""
GROWTH = 8
"""A piece has at most so many times the partitions of the piece before it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The sizes of one look's pieces: `partitions` in the next one, so that it has about `limit` bytes."""

    limit: int
    partitions: int

    @classmethod
    def unknown(cls, limit: int) -> Self:
        """Of a look of which nothing is known: base, audit, or a sweep after a long pause."""
        return cls(limit, FIRST)

    @classmethod
    def expecting(cls, limit: int, size: float) -> Self:
        """Of a look at all partitions that should bring about `size` bytes."""
        return cls(limit, max(1, min(PARTITIONS, int(PARTITIONS * limit / max(1.0, size)))))

    def after(self, partitions: int, size: int) -> Self:
        """The next piece, when one of so many partitions brought so many bytes."""
        fitting = int(self.limit * partitions / max(1, size))
        return replace(self, partitions=max(1, min(PARTITIONS, fitting, partitions * GROWTH)))
