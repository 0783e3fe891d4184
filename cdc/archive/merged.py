"""A view's versions as one sorted stream, merged from its objects.

A restore set drops the end of a record when nothing needs it any more. Segments read beside the set may hold older
versions of that record, so of their rows only those count that the set does not stand for: `offset >= through` or
`effective_at > at` (the set's). That rule is here, and nobody else has to know it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cdc.archive import segments as objects
from cdc.archive.index import Index
from cdc.archive.manifests import RestoreSet, SegmentInfo
from cdc.archive.store import Store
from cdc.archive.versions import Rows, Versions, distinct, joined, order
from cdc.archive.views import View
from cdc.model import I64, U8, Bool, digest_order

BATCH_BYTES = 32 << 20
"""A stream takes about this much of uncompressed blocks at a time, whatever the archive's size."""
FETCHED_BYTES = 8 << 20
"""All objects of a view together have no more fetched and not yet unpacked, however many there are."""

Bound = tuple[bytes, int]
"""A digest and an offset; rows before it have a lower digest, or the same one and a lower offset."""
START = -1
"""In place of an offset: before the first version of a digest."""


def stream(
    store: Store,
    view: View,
    low: bytes | None = None,
    high: bytes | None = None,
    *,
    digests: U8 | None = None,
    effective_after: int | None = None,
    batch_bytes: int = BATCH_BYTES,
) -> Iterator[Versions]:
    """A view's versions in order of (digest, offset), in batches that never split a digest.

    Memory is about twice `batch_bytes`, unless the versions of one record alone take more. Bounds, `digests` and
    `effective_after` are those of `segments.read`. Raises ObjectMissing, ObjectDamaged, FormatTooNew.
    """
    found = rows(store, view, low, high, digests=digests, effective_after=effective_after, batch_bytes=batch_bytes)
    return (batch.versions() for batch in found)


def rows(
    store: Store,
    view: View,
    low: bytes | None = None,
    high: bytes | None = None,
    *,
    digests: U8 | None = None,
    effective_after: int | None = None,
    batch_bytes: int = BATCH_BYTES,
    whole: bool = True,
) -> Iterator[Rows]:
    """The same as rows: what only copies versions, or needs their `Facts` alone, is spared a copy.

    Unless `whole`, a digest whose versions take much more than a batch is split, so that memory is about `batch_bytes`
    whatever the history of one record.
    """
    indexes = {s.name: objects.read_index(store, s) for s in view.objects}
    bounds = [*_boundaries(list(indexes.values()), low, high, batch_bytes, whole=whole), None]
    base = view.base
    within = low, high, None if digests is None else distinct(digests), effective_after
    read_ahead = min(objects.READ_AHEAD, FETCHED_BYTES // max(1, len(indexes)))
    cursors = [_Cursor(store, s, indexes[s.name], None, read_ahead, *within) for s in view.base_segments]
    cursors += [_Cursor(store, s, indexes[s.name], base, read_ahead, *within) for s in view.segments]
    for bound in bounds:
        found = [parts for cursor in cursors if (parts := cursor.until(bound))]
        if found:
            batch = joined([part for parts in found for part in parts])
            yield batch.take(order(batch.columns.digest, batch.offsets)) if len(found) > 1 else batch


def _boundaries(
    indexes: list[Index], low: bytes | None, high: bytes | None, batch_bytes: int, *, whole: bool
) -> list[Bound]:
    """What cuts [low, high) into ranges of about `batch_bytes` of blocks, ascending."""
    blocks = [i.blocks[i.between(low, high)] for i in indexes]
    if not blocks:
        return []
    every = np.concatenate(blocks)
    every = every[np.argsort(every["first_offset"], kind="stable")]
    every = every[np.argsort(every["first_digest"], kind="stable")]
    filled = np.cumsum(every["raw_size"]) // batch_bytes
    found: list[Bound] = []
    for block in every[1:][filled[1:] > filled[:-1]]:
        digest, offset = bytes(block["first_digest"]), int(block["first_offset"])
        if (low is not None and digest <= low) or (high is not None and digest >= high):
            continue
        if not found or digest != found[-1][0]:
            found.append((digest, START))
        elif not whole and offset > found[-1][1]:
            found.append((digest, offset))
    return found


@dataclass(slots=True)
class _Cursor:
    """One object, read forward: what is loaded and not yet given away waits in `rest`."""

    store: Store
    info: SegmentInfo
    index: Index
    beside: RestoreSet | None
    read_ahead: int
    low: bytes | None
    high: bytes | None
    wanted: npt.NDArray[np.void] | None
    effective_after: int | None
    rest: Rows | None = None
    blocks: Iterator[Rows] = field(init=False)

    def __post_init__(self) -> None:
        after, base = self.effective_after, self.beside
        if base is not None and self.info.last_offset < base.through:
            # Only what takes effect after the set's moment counts: a late version must not cost its whole segment.
            after = base.at if after is None else max(after, base.at)
        self.blocks = objects.read_rows(
            self.store, self.info, self.low, self.high, wanted=self.wanted, effective_after=after, index=self.index,
            read_ahead=self.read_ahead,
        )  # fmt: skip

    def until(self, bound: Bound | None) -> list[Rows]:
        """The versions not yet given away that stand before a bound (None: all)."""
        if bound is not None and (bytes.fromhex(self.info.first_digest), START) >= bound:
            return []  # an object of a set is not opened before its turn comes
        parts: list[Rows] = []
        while True:
            block, self.rest = self.rest or next(self.blocks, None), None
            if block is None:
                return parts
            end = block.rows if bound is None else _before(block, bound)
            if end:
                parts += self._counting(block.span(0, end))
            if end < block.rows:
                self.rest = block.span(end, block.rows)
                return parts

    def _counting(self, rows: Rows) -> list[Rows]:
        if self.beside is None:
            return [rows]
        counts = counting(self.beside, rows.offsets, rows.columns.effective_at)
        if counts.all():
            return [rows]
        return [rows.take(counts)] if counts.any() else []


def counting(base: RestoreSet, offsets: I64, effective_at: I64) -> Bool:
    """Which rows of segments beside a set count: those that it does not stand for."""
    return (offsets >= base.through) | (effective_at > base.at)


def _before(block: Rows, bound: Bound) -> int:
    """How many rows of a block stand before a bound."""
    digest, offset = bound
    keys = digest_order(block.columns.digest)
    start = int(np.searchsorted(keys, np.void(digest), "left"))
    if offset == START:
        return start
    end = int(np.searchsorted(keys, np.void(digest), "right"))
    return start + int(np.searchsorted(block.offsets[start:end], offset, "left"))
