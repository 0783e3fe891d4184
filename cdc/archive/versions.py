"""Versions in memory, and their order in the archive.

`Versions` have all columns, bodies and Kafka offsets side by side. `Rows` are versions where they stand in blocks that
were read: what merges and copies needs no more of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cdc.codec.changes import columns as columns_of
from cdc.codec.changes import copy_out, find_versions, gather
from cdc.model import I64, U8, U64, Bodies, Bool, Columns, digest_order


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


@dataclass(frozen=True, slots=True)
class Facts:
    """Those columns of `model.Columns` that order, merge and choose versions."""

    digest: U8  # (n, 20)
    op: U8
    void_time: I64
    effective_at: I64
    unobserved_since: I64
    observed_at: I64


class Rows(NamedTuple):
    """n versions as rows of blocks in memory. Row i takes `sizes[i]` bytes at `addresses[i]`, of which `heads[i]` are
    its offset and the rest is its body; `blocks` are what keeps those bytes there."""

    columns: Facts
    offsets: I64
    addresses: U64
    sizes: I64
    heads: I64
    blocks: tuple[U8, ...]

    @classmethod
    def of_block(cls, block: U8, count: int) -> "Rows":
        """All `count` rows of a block. Raises BodyDamaged if it is not exactly so many versions."""
        found = find_versions(block, count)
        columns = Facts(*(getattr(found, f.name) for f in fields(Facts)))
        addresses = (found.starts[:-1] + block.ctypes.data).astype(np.uint64)
        sizes, heads = np.diff(found.starts), found.bodies - found.starts[:-1]
        return cls(columns, found.offsets, addresses, sizes, heads, (block,))

    @property
    def rows(self) -> int:
        """n; `len` of a named tuple counts its fields."""
        return len(self.offsets)

    def take(self, rows: I64 | Bool) -> "Rows":
        """The named rows, in their order (or those of a mask). Nothing of them is copied but what columns say."""
        columns = Facts(**{f.name: getattr(self.columns, f.name)[rows] for f in fields(Facts)})
        return Rows(columns, self.offsets[rows], self.addresses[rows], self.sizes[rows], self.heads[rows], self.blocks)

    def span(self, start: int, end: int) -> "Rows":
        """Rows start to end - 1, without copying."""
        if start == 0 and end == self.rows:
            return self
        columns = Facts(**{f.name: getattr(self.columns, f.name)[start:end] for f in fields(Facts)})
        part = slice(start, end)
        return Rows(columns, self.offsets[part], self.addresses[part], self.sizes[part], self.heads[part], self.blocks)

    def encoded(self) -> Bodies:
        """The rows as they stand in a block, end to end."""
        return copy_out(self.addresses, self.sizes)

    def detached(self) -> "Rows":
        """The same rows as copies, so that the blocks they stood in can go."""
        copied = copy_out(self.addresses, self.sizes)
        addresses = (copied.offsets[:-1] + copied.buffer.ctypes.data).astype(np.uint64)
        return self._replace(addresses=addresses, blocks=(copied.buffer,))

    def versions(self) -> Versions:
        """The same as versions: bodies are copied once, and their other columns found."""
        bodies = copy_out(self.addresses + self.heads.astype(np.uint64), self.sizes - self.heads)
        return Versions(columns_of(bodies), bodies, self.offsets)


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of all parts, of which there is at least one, in order."""
    if len(parts) == 1:
        return parts[0]
    columns = Facts(**{f.name: np.concatenate([getattr(p.columns, f.name) for p in parts]) for f in fields(Facts)})
    return Rows(
        columns,
        np.concatenate([p.offsets for p in parts]),
        np.concatenate([p.addresses for p in parts]),
        np.concatenate([p.sizes for p in parts]),
        np.concatenate([p.heads for p in parts]),
        tuple(block for p in parts for block in p.blocks),
    )


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
    """The permutation that sorts rows by (digest, offset). Runs that are in order already are merged, not sorted."""
    # Digests are hashes: eight bytes of them order nearly everything, and integers are sorted fastest.
    keys = heads(digest)
    rows = np.argsort(keys, kind="stable")
    tied = _equal_neighbours(keys[rows])
    if np.any(offsets[rows[tied]] > offsets[rows[tied + 1]]):
        rows = np.lexsort((offsets, keys))
    if np.any(digest[rows[tied], 8:] != digest[rows[tied + 1], 8:]):
        by_offset = np.argsort(offsets, kind="stable")
        rows = by_offset[np.argsort(digest_order(digest)[by_offset], kind="stable")]
    return rows.astype(np.int64, copy=False)


def is_sorted(digest: U8, offsets: I64) -> bool:
    """Whether rows stand in strictly ascending order of (digest, offset)."""
    keys = heads(digest)
    if np.any(keys[1:] < keys[:-1]):
        return False
    tied = _equal_neighbours(keys)
    same = np.all(digest[tied, 8:] == digest[tied + 1, 8:], axis=1)
    if np.any(offsets[tied[same]] >= offsets[tied[same] + 1]):
        return False
    return all(digest[i].tobytes() < digest[i + 1].tobytes() for i in tied[~same].tolist())


def _equal_neighbours(keys: npt.NDArray[np.uint64]) -> I64:
    return np.flatnonzero(keys[1:] == keys[:-1]).astype(np.int64, copy=False)


def heads(digest: U8) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each digest as a number: they order as the digests do, except where they are equal."""
    return np.ascontiguousarray(digest[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def distinct(digests: U8) -> npt.NDArray[np.void]:
    """The digests in order (`model.digest_order`), each once."""
    return np.unique(digest_order(digests))


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
