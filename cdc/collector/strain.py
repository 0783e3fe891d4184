"""How far a collector gives way to a source that answers busy, and what its limits make of a look. Pure."""

from dataclasses import dataclass
from typing import Self

LEVELS = 5
"""So often is the pace halved at the most."""
LONGEST_S = 30.0
"""The longest pause that strain makes, between sweeps or between pieces of a base snapshot."""
UP_S, DOWN_S = 1.0, 10.0
"""The next level is not reached sooner; one is left after so long without a busy answer."""


@dataclass(frozen=True, slots=True)
class Strain:
    """How busy the source is: `level` 0 is at ease. `since` is when a node was last busy or a level was last left, in
    seconds of the clock that `after` is given."""

    level: int = 0
    since: float = 0.0

    def after(self, busy: int, now: float) -> Self:
        """Once nodes have given so many busy answers since the last call: a level up when there are any, one down
        when there were none for DOWN_S."""
        if busy:
            rises = self.level < LEVELS and (self.level == 0 or now >= self.since + UP_S)
            return type(self)(self.level + 1, now) if rises else type(self)(self.level, max(self.since, now - UP_S))
        if self.level and now >= self.since + DOWN_S:
            return type(self)(self.level - 1, now)
        return self

    def sweep_every_s(self, usual_s: float) -> float:
        """The time between the starts of two sweeps: doubled with every level, up to LONGEST_S or the usual time,
        whichever is more."""
        return float(min(usual_s * 2**self.level, max(usual_s, LONGEST_S)))

    def connections(self, usual: int) -> int:
        """Connections of a look to a node: halved with every level, at least one."""
        return max(1, usual >> self.level)

    def rest_s(self, took_s: float) -> float:
        """How long a base snapshot or an audit rests after a piece that took so long: not at all at ease, then so that
        its share of the time is halved with every level."""
        return float(min(took_s * (2**self.level - 1), LONGEST_S))


def connections_within(usual: int, ceiling: int, threads_a_query: int) -> int:
    """Connections to a node that keep at most `ceiling` (0: no ceiling) of its query threads busy, when each query may
    use `threads_a_query`. At least one, or nothing could be read."""
    return usual if ceiling == 0 else max(1, min(usual, ceiling // max(1, threads_a_query)))


def held_back(records: int, records_per_s: int, sweep_every_s: float) -> bool:
    """Whether a sweep that brought so many records had to take longer than its period by the limit alone: each record
    is asked for twice, its bins and its LUT."""
    return 0 < records_per_s < 2 * records / sweep_every_s
