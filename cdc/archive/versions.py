"""Versions in memory: columns, bodies and Kafka offsets side by side, and their order in the archive."""

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cdc.codec.changes import gather
from cdc.model import I64, U8, Bodies, Bool, Columns, digest_order


class Versions(NamedTuple):
    """n versions: what they say, their encoded changes, and their offsets in the changes topic (n,)."""

    columns: Columns
    bodies: Bodies
    offsets: I64

    @property
    def rows(self) -> int:
        """n; `len` of a named tuple counts its fields."""
        return len(self.offsets)

    @property
    def size(self) -> int:
        """Bytes of the bodies."""
        return int(self.bodies.offsets[-1] - self.bodies.offsets[0]) if self.rows else 0

    def take(self, rows: I64 | Bool) -> "Versions":
        """The named rows, in their order (or those of a mask)."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64, copy=False)
        return Versions(self.columns.take(chosen), gather(self.bodies, chosen), self.offsets[chosen])

    def span(self, start: int, end: int) -> "Versions":
        """Rows start to end - 1, without copying their bodies."""
        if start == 0 and end == self.rows:
            return self
        columns = Columns(**{f.name: getattr(self.columns, f.name)[start:end] for f in fields(Columns)})
        at = self.bodies.offsets[start : end + 1]
        bodies = Bodies(self.bodies.buffer[at[0] : at[-1]], at - at[0])
        return Versions(columns, bodies, self.offsets[start:end])


def empty() -> Versions:
    """No versions."""
    return Versions(Columns.empty(), Bodies(np.empty(0, np.uint8), np.zeros(1, np.int64)), np.empty(0, np.int64))


def concat(parts: Sequence[Versions]) -> Versions:
    """All versions of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty()
    starts = np.cumsum([0, *(p.size for p in parts)])
    buffers = [p.bodies.buffer[p.bodies.offsets[0] : p.bodies.offsets[-1]] for p in parts]
    ends = [p.bodies.offsets[1:] - p.bodies.offsets[0] + at for p, at in zip(parts, starts[:-1], strict=True)]
    offsets = np.concatenate([np.zeros(1, np.int64), *ends])
    bodies = Bodies(np.concatenate(buffers), offsets)
    return Versions(Columns.concat([p.columns for p in parts]), bodies, np.concatenate([p.offsets for p in parts]))


def order(digest: U8, offsets: I64) -> I64:
    """The permutation that sorts rows by (digest, offset)."""
    # Digests are hashes: eight bytes of them order nearly everything, and integers are sorted fastest.
    head = np.ascontiguousarray(digest[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    by_offset = np.argsort(offsets, kind="stable")
    rows = by_offset[np.argsort(head[by_offset], kind="stable")].astype(np.int64, copy=False)
    tied = head[rows][1:] == head[rows][:-1]
    keys = digest_order(digest)[rows]
    if np.any(tied & (keys[1:] != keys[:-1])):
        return by_offset[np.argsort(digest_order(digest)[by_offset], kind="stable")].astype(np.int64, copy=False)
    return rows


def is_sorted(digest: U8, offsets: I64) -> bool:
    """Whether rows stand in strictly ascending order of (digest, offset)."""
    if len(offsets) < 2:
        return True
    keys = digest_order(digest)
    same = keys[1:] == keys[:-1]
    if not bool(np.all(offsets[1:][same] > offsets[:-1][same])):
        return False
    heads = keys[np.concatenate([[True], ~same])]
    return bool(np.array_equal(np.argsort(heads, kind="stable"), np.arange(len(heads))))


def among(digest: U8, wanted: npt.NDArray[np.void]) -> Bool:
    """Which rows have one of the wanted digests (`model.digest_order`, sorted)."""
    if not len(wanted):
        return np.zeros(len(digest), np.bool_)
    keys = digest_order(digest)
    at = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    return np.asarray(wanted[at] == keys, np.bool_)


def first_of_digest(digest: U8) -> Bool:
    """In sorted rows: which are the first of their digest."""
    keys = digest_order(digest)
    first = np.ones(len(keys), np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    return first
