"""What a collector asks of its source at the most, by its settings and by how busy the source says it is."""

import time
from collections import Counter

from cdc.collector.pace import next_start, portions
from cdc.collector.stats import Stats
from cdc.collector.strain import Strain, connections_within, held_back
from cdc.config import Settings
from cdc.source import Source


class Sparing:
    """The limits of one collector. What it does about them is told in `stats`, once an episode."""

    def __init__(self, settings: Settings, stats: Stats) -> None:
        self._own = settings.protection
        self._usual_s = settings.collector.sweep_every_s
        self._usual = settings.collector.connections
        self._stats = stats
        self._allowed = self._usual
        self._behind = False
        self._records = 0
        self.strain = Strain()

    @property
    def records_per_s(self) -> int:
        """Records that a look may ask for each second, bins and LUTs counted each; 0: no limit."""
        return self._own.records_per_s

    @property
    def sweep_every_s(self) -> float:
        """The time between the starts of two sweeps now."""
        return self.strain.sweep_every_s(self._usual_s)

    def pause_s(self, began_ms: int) -> float:
        """How long after a sweep that began at this moment (nodes' time) the next one does."""
        return (next_start(began_ms, round(self.sweep_every_s * 1000)) - began_ms) / 1000

    @property
    def reads_ahead(self) -> bool:
        """Whether a base snapshot may read its next piece while sweeps go on: only where nothing is limited."""
        own = self._own
        return not (own.records_per_s or own.pause_ms or own.query_threads or self.strain.level)

    @property
    def piece_records(self) -> int:
        """Records of a piece of a base snapshot or an audit, so that it takes no longer than a sweep may wait; 0: any
        number."""
        return max(1, int(self._own.records_per_s * self._usual_s / 2)) if self._own.records_per_s else 0

    @property
    def pauses(self) -> bool:
        """Whether a base snapshot rests between its partitions."""
        return self._own.pause_ms > 0

    def rest_s(self, partitions: int, took_s: float) -> float:
        """How long a base snapshot or an audit rests after a piece of so many partitions that took so long to read."""
        return max(partitions * self._own.pause_ms / 1000, self.strain.rest_s(took_s))

    def meet(self, source: Source) -> None:
        """Limit a source that was just connected. Raises SourceError."""
        if self._own.query_threads:
            self._allowed = connections_within(self._usual, self._own.query_threads, source.threads_a_query())
        source.connections = self.strain.connections(self._allowed)

    def heard(self, busy: Counter[str], source: Source | None) -> None:
        """Nodes have given these busy answers (by the result's name) since the last call; give way, or recover."""
        before = self.strain
        self.strain = before.after(busy.total(), time.monotonic())
        self._stats.heard(busy, self.strain.level)
        if source is not None:
            source.connections = self.strain.connections(self._allowed)
        if before.level == 0 < self.strain.level:
            names = ", ".join(sorted(busy))
            self._stats.note(f"nodes are busy ({names}): sweeps come less often until they recover")
        elif before.level > 0 == self.strain.level:
            self._stats.note(f"nodes answer freely again: a sweep every {self._usual_s:g} s")

    @property
    def portions(self) -> int:
        """In how many portions a sweep is spread over its period."""
        return portions(self._records)

    def swept(self, records: int) -> None:
        """A sweep brought so many records."""
        self._records = records
        before, self._behind = self._behind, held_back(records, self._own.records_per_s, self._usual_s)
        if self._behind and not before:
            self._stats.note(
                f"protection.records_per_s = {self._own.records_per_s} holds sweeps back: the last one brought "
                f"{records:,} records; while it lasts they come later than every {self._usual_s:g} s"
            )
