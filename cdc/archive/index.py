"""The index of a segment: where its blocks are, what they hold, and what they hash to. Little-endian, fixed-width.

bytes 0..7    the letters CDCIDX and two digits, the format's version: `CDCIDX01`
bytes 8..15   u64, number of blocks
bytes 16..23  u64, size of the segment's file header, where the first block starts
bytes 24..55  SHA-256 of that header
then a row of 96 bytes a block, in file order, as `BLOCK` says
"""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from cdc.errors import FormatTooNew, ObjectDamaged
from cdc.model import I64

MAGIC = b"CDCIDX"
VERSION = 1
HEAD = 56

BLOCK = np.dtype(
    [
        ("first_digest", "V20"),
        ("rows", "<u4"),
        ("start", "<i8"),  # where the block begins in the file, at its row count
        ("size", "<i8"),  # of the whole block, from its row count to the end of its sync marker
        ("raw_size", "<i8"),  # of its rows before compression
        ("min_effective_at", "<i8"),
        ("max_effective_at", "<i8"),
        ("min_unobserved_since", "<i8"),
        ("first_offset", "<i8"),  # lowest offset of its rows
        ("checksum", "V16"),  # the first 16 bytes of the SHA-256 of the whole block
    ]
)
Blocks = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Index:
    """What a segment's index says; `blocks` has the fields of `BLOCK`."""

    header_size: int
    header_sha256: bytes
    blocks: Blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def between(self, low: bytes | None, high: bytes | None) -> I64:
        """The blocks that may hold digests in [low, high), in order; None is no bound."""
        first = self.blocks["first_digest"]
        start = 0 if low is None else max(int(np.searchsorted(first, np.void(low), "left")) - 1, 0)
        end = len(self) if high is None else int(np.searchsorted(first, np.void(high), "left"))
        return np.arange(start, max(start, end), dtype=np.int64)

    def holding(self, digests: npt.NDArray[np.void]) -> I64:
        """The blocks that may hold any of some digests (`model.digest_order`), in order."""
        first = self.blocks["first_digest"]
        start = np.maximum(np.searchsorted(first, digests, "left") - 1, 0)
        end = np.searchsorted(first, digests, "right")
        edges = np.zeros(len(self) + 1, np.int64)
        np.add.at(edges, start, 1)
        np.add.at(edges, np.maximum(end, start), -1)
        return np.flatnonzero(np.cumsum(edges[:-1])).astype(np.int64)


def checksum(block: bytes | memoryview) -> bytes:
    """What the index keeps of a block's bytes."""
    return sha256(block).digest()[:16]


def encode(index: Index) -> bytes:
    """The index object's bytes."""
    head = MAGIC + b"%02d" % VERSION + len(index).to_bytes(8, "little") + index.header_size.to_bytes(8, "little")
    return head + index.header_sha256 + index.blocks.tobytes()


def decode(data: bytes, name: str) -> Index:
    """The index of such bytes. Raises ObjectDamaged with the object's name, or FormatTooNew."""
    if data[:6] != MAGIC or not data[6:8].isdigit() or len(data) < HEAD:
        raise ObjectDamaged(f"{name} is not an index")
    if int(data[6:8]) > VERSION:
        raise FormatTooNew(f"{name} has index format {int(data[6:8])}; this program reads up to {VERSION}")
    count = int.from_bytes(data[8:16], "little")
    if len(data) != HEAD + count * BLOCK.itemsize:
        raise ObjectDamaged(f"{name} has {len(data)} bytes, not those of {count} blocks")
    blocks = np.frombuffer(data, BLOCK, count, HEAD)
    return Index(int.from_bytes(data[16:24], "little"), data[24:56], blocks)
