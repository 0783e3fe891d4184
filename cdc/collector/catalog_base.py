"""A catalog's base while it is used: entries that never change, and which of them no longer hold.

The entries are mapped from a file, so the operating system may drop their pages; what is held in memory beside them
does not grow with them: the numbers of the rows that no longer hold (the catalog bounds them), and three numbers for
each partition.
"""

from typing import Final

import numpy as np

from cdc.collector.entries import U32, Entries, Keys, find
from cdc.model import I64, Bool

SCAN_ROWS: Final = 1 << 20
"""So many rows of a column are worked on at a time."""
_NOTHING: Final = np.uint32(0xFFFFFFFF)


class Base:
    """Entries by key, of the partitions `within`."""

    def __init__(self, entries: Entries, within: range) -> None:
        self._entries = entries
        self._first = within.start
        edges = np.array([p << 52 for p in within], np.uint64)
        self._starts: I64 = np.append(np.searchsorted(entries.key, edges), len(entries)).astype(np.int64)
        self._gone: I64 = np.empty(0, np.int64)  # rows that no longer hold, ascending
        self._lowest: U32 = np.full(len(within), _NOTHING, np.uint32)
        for first, last in self._runs(np.arange(len(within))):
            self._look_for_lowest(first, last)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def gone(self) -> int:
        """How many rows no longer hold."""
        return len(self._gone)

    def counts(self) -> I64:
        """How many rows there are of each partition, in order, before any of them has gone."""
        return np.diff(self._starts)

    def rows(self, keys: Keys) -> I64:
        """The row of each digest; -1 where it has none that holds."""
        rows = find(self._entries, *keys)
        there = np.flatnonzero(rows >= 0)
        rows[there[self._have_gone(rows[there])]] = -1
        return rows

    def take(self, rows: I64) -> Entries:
        """The named rows."""
        return self._entries.take(rows)

    def bury(self, rows: I64) -> None:
        """These rows (each once) no longer hold."""
        fresh = np.sort(rows[~self._have_gone(rows)])
        self._gone = np.insert(self._gone, np.searchsorted(self._gone, fresh), fresh)

    def partitions(self, first: int, last: int) -> Entries:
        """What holds in the partitions from `first` to `last`, both included. Not a copy where nothing has gone."""
        last = min(last, self._first + len(self._lowest) - 1)
        start, stop = int(self._starts[first - self._first]), int(self._starts[last + 1 - self._first])
        entries = self._entries.take(slice(start, stop))
        gone = self._gone_within(start, stop)
        return entries.take(np.delete(np.arange(stop - start), gone)) if len(gone) else entries

    def expired(self, void_s: np.uint32) -> list[Entries]:
        """What holds and expires at or before `void_s` (as stored). Only partitions in which something may are read."""
        out = []
        for first, last in self._runs(np.flatnonzero(self._lowest < void_s)):
            start, stop = int(self._starts[first]), int(self._starts[last + 1])
            rows = start + np.flatnonzero(self._entries.void_s[start:stop] - np.uint32(1) < void_s)
            out.append(self._entries.take(rows[~self._have_gone(rows)]))
            self._look_for_lowest(first, last)
        return out

    def groups(self, most: int) -> list[tuple[int, int]]:
        """The partitions in unbroken groups of about `most` rows, as their first and last."""
        filled = self._starts[1:] // most
        ends = np.append(np.flatnonzero(np.diff(filled)), len(filled) - 1) + self._first
        return list(zip([self._first, *(ends[:-1] + 1).tolist()], ends.tolist(), strict=True))

    def _runs(self, places: I64) -> list[tuple[int, int]]:
        """Neighbours among places of partitions together, in runs of about SCAN_ROWS rows."""
        if not len(places):
            return []
        breaks = (np.diff(places) != 1) | (np.diff(self._starts[places + 1] // SCAN_ROWS) != 0)
        parts = np.split(places, np.flatnonzero(breaks) + 1)
        return [(int(part[0]), int(part[-1])) for part in parts]

    def _look_for_lowest(self, first: int, last: int) -> None:
        """The lowest void time less one second that holds in each of the places: one that never expires comes last."""
        start, stop = int(self._starts[first]), int(self._starts[last + 1])
        before: U32 = self._entries.void_s[start:stop] - np.uint32(1)  # 0, never, wraps to the highest number
        before[self._gone_within(start, stop)] = _NOTHING
        starts = self._starts[first : last + 1]
        filled = np.flatnonzero(np.diff(self._starts[first : last + 2]))
        self._lowest[first : last + 1] = _NOTHING
        if len(filled):
            self._lowest[first + filled] = np.minimum.reduceat(before, starts[filled] - start)

    def _have_gone(self, rows: I64) -> Bool:
        if not len(self._gone):
            return np.zeros(len(rows), np.bool_)
        out: Bool = self._gone[np.minimum(np.searchsorted(self._gone, rows), len(self._gone) - 1)] == rows
        return out

    def _gone_within(self, start: int, stop: int) -> I64:
        low, high = np.searchsorted(self._gone, (start, stop))
        return self._gone[low:high] - start
