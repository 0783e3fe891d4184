"""The catalog of one shard: which records live, as last published, and how far the shard was looked at.

It is written only after Kafka has committed, so it is never ahead of Kafka; what a stop keeps it from noting is read
again from Kafka when the shard is resumed. It outlives kill -9. It is disposable: `rebuild` makes it again.

Lookups go to a base (mapped into memory, ordered by key, never changed) and to the *overlay* (what the journal has
since put in, in memory). When overlay or journal have grown, both are merged into a new base, partition by partition.

How much it takes, with n the base's records: 40 bytes a record on disk and a little for the state, and the journal
until it is merged: up to JOURNAL_BYTES, or 10 bytes a record of the base where that is more, but never above
JOURNAL_BYTES_MOST. While it is merged the old base and the new stand side by side. In memory: the overlay and the
numbers of the base's rows that no longer hold, MERGE_ROWS_MOST of each at the most.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from cdc.collector import catalog_files as files
from cdc.collector.catalog_base import Base
from cdc.collector.entries import DTYPES, ENTRY_SIZE, Entries, Keys, find, keys_of, merge, void_seconds, without
from cdc.collector.state import ShardState
from cdc.errors import CatalogError
from cdc.model import I64, U8, Bool, partitions_of

MERGE_ROWS: Final = 65_536
"""An overlay is merged once it has this many entries, or a quarter of the base's, whichever is more…"""
MERGE_ROWS_MOST: Final = 262_144
"""…but in any case at this many, so that memory stays bounded."""
JOURNAL_BYTES: Final = 4 << 20
"""A journal is merged once it has this many bytes, or a quarter of the base's, whichever is more…"""
JOURNAL_BYTES_MOST: Final = 64 << 20
"""…but in any case at this many."""
PART_ROWS: Final = 65_536
"""A new base is written in parts of about this many entries."""


class Catalog:
    """One shard's catalog in a directory of its own. Not thread-safe: one collector, one thread."""

    def __init__(self, directory: Path, number: int, state: ShardState, entries: Entries) -> None:
        self.directory = directory
        self.state = state
        self._take_up(number, entries)
        try:
            for batch in self._journal.batches():
                self._apply(batch.put, batch.out)
                self.state = ShardState.from_json(batch.state)
        except CatalogError:
            self.close()
            raise

    @classmethod
    def open(cls, directory: Path, shard: int, shards: int) -> "Catalog | None":
        """The catalog in `directory`; None when there is none. Raises CatalogError when it is damaged, of another
        version, of another shard or of another division into shards."""
        number = files.newest(directory) if directory.is_dir() else 0
        if not number:
            return None
        text, entries = files.read_base(directory, number)
        state = ShardState.from_json(text)
        if (state.shard, state.shards) != (shard, shards):
            raise CatalogError(
                f"the catalog at {directory} is that of shard {state.shard} of {state.shards}, not {shard} of {shards}",
                "Changing collector.shards begins a new history: choose another collector.catalog and kafka.prefix.",
            )
        catalog = cls(directory, number, state, entries)
        files.remove_others(directory, number)
        return catalog

    @classmethod
    def begin(cls, directory: Path, state: ShardState) -> "Catalog":
        """A new, empty catalog; what stood in the directory is removed. Raises CatalogError."""
        return cls._put(directory, state, 0, iter(()))

    def move(self, directory: Path, state: ShardState) -> "Catalog":
        """This catalog's records as the catalog of another directory, with another state; what stood there counts
        until all of it is there, and is then removed. This one is closed. Raises CatalogError."""
        moved = self._put(directory, state, len(self), self._parts())
        self.close()
        return moved

    @classmethod
    def _put(cls, directory: Path, state: ShardState, count: int, parts: Iterator[Entries]) -> "Catalog":
        number = (files.newest(directory) if directory.is_dir() else 0) + 1
        files.write_base(directory, number, state.to_json(), count, parts)
        files.remove_others(directory, number)
        return cls(directory, number, state, files.read_base(directory, number)[1])

    def __len__(self) -> int:
        return int(self._counts.sum())

    @property
    def bytes_on_disk(self) -> int:
        """Size of base and journal."""
        return files.base_path(self.directory, self._number).stat().st_size + self._journal.size

    def lookup(self, digests: U8) -> tuple[Bool, Entries]:
        """Which of the digests are known, and their entries, row by row (zeros where unknown)."""
        out = Entries(*(np.zeros(len(digests), column.dtype) for column in _columns(Entries.empty())))
        if not len(self):  # a base snapshot from nothing asks for every record
            return np.zeros(len(digests), np.bool_), out
        keys = keys_of(digests)
        in_base, in_overlay = self._base.rows(keys), find(self._overlay, *keys)
        for at, take in ((in_base, self._base.take), (in_overlay, self._overlay.take)):
            rows = np.flatnonzero(at >= 0)
            for target, column in zip(_columns(out), _columns(take(at[rows])), strict=True):
                target[rows] = column
        return (in_base >= 0) | (in_overlay >= 0), out

    def counts(self) -> I64:
        """How many records are known of each of the shard's partitions, in order."""
        return self._counts.copy()

    def partitions(self, first: int, last: int) -> Entries:
        """The entries of the partitions from `first` to `last`, both included, by key. Read only: where nothing has
        changed they are the mapped ones."""
        low, high = np.uint64(first << 52), np.uint64((last << 52) | ((1 << 52) - 1))
        return merge(self._base.partitions(first, last), self._overlay.take(_span(self._overlay, low, high)))

    def expired(self, before: int) -> Entries:
        """The entries whose void time is at or before `before` (milliseconds), by key."""
        void_s = void_seconds(before)
        rows = np.flatnonzero(self._overlay.void_s - np.uint32(1) < void_s)
        return Entries.concat([*self._base.expired(void_s), self._overlay.take(rows)]).sort()

    def commit(self, state: ShardState, put: Entries, out: U8) -> None:
        """Note what one committed transaction said: `put` came or changed (any order, each digest once), `out` (n, 20)
        ended. Outlives this process when it returns. Raises CatalogError; then what is on disk is still consistent."""
        put = put.sort()
        self._journal.append(files.Batch(state.to_json(), put, out))
        self._apply(put, out)
        self.state = state
        rows = min(max(MERGE_ROWS, len(self._base) // 4), MERGE_ROWS_MOST)
        journal = min(max(JOURNAL_BYTES, len(self._base) * ENTRY_SIZE // 4), JOURNAL_BYTES_MOST)
        if len(self._overlay) > rows or self._base.gone > rows or self._journal.size > journal:
            self._merge()

    def close(self) -> None:
        """Close the files."""
        self._journal.close()

    def _take_up(self, number: int, entries: Entries) -> None:
        within = partitions_of(self.state.shard, self.state.shards)
        self._number, self._first = number, within.start
        self._base, self._overlay = Base(entries, within), Entries.empty()
        self._counts: I64 = self._base.counts()
        self._journal = files.Journal(self.directory, number)

    def _apply(self, put: Entries, out: U8) -> None:
        if len(out):
            keys = keys_of(out)
            at = find(self._overlay, *keys)
            self._count(self._overlay.take(at[at >= 0]), -1)
            self._overlay = without(self._overlay, *keys)
            self._bury(keys)
        if len(put):
            keys = Keys(put.key, put.tail_high, put.tail_low)
            self._count(put.take(find(self._overlay, *keys) < 0), 1)
            self._bury(keys)
            self._overlay = merge(self._overlay, put)

    def _bury(self, keys: Keys) -> None:
        rows = self._base.rows(keys)
        rows = rows[rows >= 0]
        self._base.bury(rows)
        self._count(self._base.take(rows), -1)

    def _count(self, entries: Entries, by: int) -> None:
        np.add.at(self._counts, entries.partition - self._first, by)

    def _parts(self) -> Iterator[Entries]:
        """Every entry by key, in parts of bounded size."""
        return (self.partitions(first, last) for first, last in self._base.groups(PART_ROWS))

    def _merge(self) -> None:
        number = self._number + 1
        files.write_base(self.directory, number, self.state.to_json(), len(self), self._parts())
        self._journal.close()
        self._take_up(number, files.read_base(self.directory, number)[1])
        files.remove_others(self.directory, number)


def shard_directory(root: Path, namespace: str, shard: int) -> Path:
    """Where a shard's catalog stands under `collector.catalog`."""
    return root / namespace / f"shard-{shard:04d}"


def _columns(entries: Entries) -> list[Any]:
    return [getattr(entries, name) for name in DTYPES]


def _span(entries: Entries, low: np.uint64, high: np.uint64) -> slice:
    start = int(np.searchsorted(entries.key, low))
    return slice(start, int(np.searchsorted(entries.key, high, side="right")))
