"""The catalog of one shard: which records live, as last published, and how far the shard was looked at.

It is written only after Kafka has committed, so it is never ahead of Kafka; what a stop keeps it from noting is read
again from Kafka when the shard is resumed. It outlives kill -9; it is disposable: without it the shard begins a new
epoch.

Lookups go to a base (mapped into memory, ordered by key, never changed) and to the *overlay* (what the journal has
since put in, in memory). When the overlay has grown, both are merged into a new base.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from cdc.collector import catalog_files as files
from cdc.collector.entries import DTYPES, U32, Entries, find, keys_of, merge, without
from cdc.collector.state import ShardState
from cdc.errors import CatalogError
from cdc.model import I64, U8, U64, Bool, partitions_of

MERGE_ROWS: Final = 65_536
"""An overlay is merged once it has this many entries, or a quarter of the base's, whichever is more…"""
MERGE_ROWS_MOST: Final = 262_144
"""…but in any case at this many, so that memory stays bounded."""
_MERGE_BYTES: Final = 64 << 20


class Catalog:
    """One shard's catalog in a directory of its own. Not thread-safe: one collector, one thread."""

    def __init__(self, directory: Path, number: int, state: ShardState, base: Entries) -> None:
        self.directory = directory
        self.state = state
        self._number = number
        self._adopt(base)
        self._journal, batches = files.open_journal(directory, number)
        self._journal_bytes = 0
        for batch in batches:
            self._apply(batch.put, batch.out)
            self.state = ShardState.from_json(batch.state)

    @classmethod
    def open(cls, directory: Path, shard: int, shards: int) -> "Catalog | None":
        """The catalog in `directory`; None when there is none. Raises CatalogError when it is damaged, of another
        version, of another shard or of another division into shards."""
        number = files.newest(directory) if directory.is_dir() else None
        if number is None:
            return None
        text, base = files.read_base(directory, number)
        state = ShardState.from_json(text)
        if (state.shard, state.shards) != (shard, shards):
            raise CatalogError(
                f"the catalog at {directory} is that of shard {state.shard} of {state.shards}, not {shard} of {shards}",
                "Changing collector.shards begins a new history: choose another collector.catalog and kafka.prefix.",
            )
        catalog = cls(directory, number, state, base)
        files.remove_others(directory, number)
        return catalog

    @classmethod
    def begin(cls, directory: Path, state: ShardState) -> "Catalog":
        """A new, empty catalog; what stood in the directory is removed. Raises CatalogError."""
        number = ((files.newest(directory) if directory.is_dir() else None) or 0) + 1
        files.write_base(directory, number, state.to_json(), Entries.empty())
        files.remove_others(directory, number)
        return cls(directory, number, state, Entries.empty())

    def __len__(self) -> int:
        return int(self._counts.sum())

    @property
    def bytes_on_disk(self) -> int:
        """Size of base and journal."""
        paths = (files.base_path(self.directory, self._number), files.journal_path(self.directory, self._number))
        return sum(path.stat().st_size for path in paths)

    def lookup(self, digests: U8) -> tuple[Bool, Entries]:
        """Which of the digests are known, and their entries, row by row (zeros where unknown)."""
        if not len(self):  # a base snapshot from nothing asks for every record
            nothing = Entries(*(np.zeros(len(digests), column.dtype) for column in _columns(Entries.empty())))
            return np.zeros(len(digests), np.bool_), nothing
        key, high, low = keys_of(digests)
        in_overlay = find(self._overlay, key, high, low)
        in_base = find(self._base, key, high, low)
        in_base[in_base >= 0] = np.where(self._alive[in_base[in_base >= 0]], in_base[in_base >= 0], -1)
        known = (in_overlay >= 0) | (in_base >= 0)
        out = Entries(*(np.zeros(len(key), column.dtype) for column in _columns(Entries.empty())))
        for source, at in ((self._base, in_base), (self._overlay, in_overlay)):
            rows = np.flatnonzero(at >= 0)
            for target, column in zip(_columns(out), _columns(source), strict=True):
                target[rows] = column[at[rows]]
        return known, out

    def counts(self) -> I64:
        """How many records are known of each of the shard's partitions, in order."""
        return self._counts.copy()

    def partitions(self, first: int, last: int) -> Entries:
        """The entries of the partitions from `first` to `last`, both included, by key."""
        low, high = np.uint64(first << 52), np.uint64((last << 52) | ((1 << 52) - 1))
        base_rows = _span(self._base, low, high)
        base = self._base.take(base_rows).take(self._alive[base_rows])
        return merge(base, self._overlay.take(_span(self._overlay, low, high)))

    def expired(self, before: int) -> Entries:
        """The entries whose void time is at or before `before` (milliseconds), by key."""
        parts = []
        for entries, alive in ((self._base, self._alive), (self._overlay, np.True_)):
            void_time = entries.void_time
            parts.append(entries.take(np.flatnonzero((void_time > 0) & (void_time <= before) & alive)))
        return Entries.concat(parts).sort()

    def commit(self, state: ShardState, put: Entries, out: U8) -> None:
        """Note what one committed transaction said: `put` came or changed (any order, each digest once), `out` (n, 20)
        ended. Outlives this process when it returns. Raises CatalogError; then what is on disk is still consistent."""
        put = put.sort()
        self._journal_bytes += files.append(self._journal, files.Batch(state.to_json(), put, out))
        self._apply(put, out)
        self.state = state
        limit = min(max(MERGE_ROWS, len(self._base) // 4), MERGE_ROWS_MOST)
        if len(self._overlay) > limit or self._dead > limit or self._journal_bytes > _MERGE_BYTES:
            self._merge()

    def close(self) -> None:
        """Close the files."""
        self._journal.close()

    def _adopt(self, base: Entries) -> None:
        first = partitions_of(self.state.shard, self.state.shards)
        edges = np.array([p << 52 for p in first], np.uint64)
        starts = np.append(np.searchsorted(base.key, edges), len(base))
        self._first = first.start
        self._base, self._overlay = base, Entries.empty()
        self._alive: Bool = np.ones(len(base), np.bool_)
        self._dead = 0
        self._counts: I64 = np.diff(starts).astype(np.int64)

    def _apply(self, put: Entries, out: U8) -> None:
        if len(out):
            key, high, low = keys_of(out)
            self._count(self._overlay.take(_hits(self._overlay, key, high, low)), -1)
            self._overlay = without(self._overlay, key, high, low)
            self._bury(_hits(self._base, key, high, low))
        if len(put):
            at = find(self._overlay, put.key, put.tail_high, put.tail_low)
            self._count(put.take(at < 0), 1)
            self._bury(_hits(self._base, put.key, put.tail_high, put.tail_low))
            self._overlay = merge(self._overlay, put)

    def _bury(self, rows: I64) -> None:
        rows = rows[self._alive[rows]]
        self._alive[rows] = False
        self._dead += len(rows)
        self._count(self._base.take(rows), -1)

    def _count(self, entries: Entries, by: int) -> None:
        np.add.at(self._counts, entries.partition - self._first, by)

    def _merge(self) -> None:
        merged = merge(self._base.take(self._alive), self._overlay)
        number = self._number + 1
        files.write_base(self.directory, number, self.state.to_json(), merged)
        self._journal.close()
        self._number = number
        _, base = files.read_base(self.directory, number)
        self._adopt(base)
        self._journal, _ = files.open_journal(self.directory, number)
        self._journal_bytes = 0
        files.remove_others(self.directory, number)


def shard_directory(root: Path, namespace: str, shard: int) -> Path:
    """Where a shard's catalog stands under `collector.catalog`."""
    return root / namespace / f"shard-{shard:04d}"


def advance(state: ShardState, changes_through: int) -> ShardState:
    """The state once the catalog has everything up to this offset of the changes topic."""
    return replace(state, changes_through=changes_through)


def _columns(entries: Entries) -> list[Any]:
    return [getattr(entries, name) for name in DTYPES]


def _span(entries: Entries, low: np.uint64, high: np.uint64) -> slice:
    start = int(np.searchsorted(entries.key, low))
    return slice(start, int(np.searchsorted(entries.key, high, side="right")))


def _hits(entries: Entries, key: U64, high: U64, low: U32) -> I64:
    at = find(entries, key, high, low)
    return at[at >= 0]
