"""The index of a segment: where its blocks are, what they hold, and what they hash to. Little-endian, fixed-width.

bytes 0..7    the letters CDCIDX and two digits, the format's version: `CDCIDX01`
bytes 8..15   u64, number of blocks
bytes 16..23  u64, size of the segment's file header, where the first block starts
bytes 24..55  SHA-256 of that header
then a row of 96 bytes a block, in file order, as `BLOCK` says
in version 2 then: u64, number of marks, and a row of 40 bytes a mark, in file order, as `MARK` says

A *mark* is a place within a block up to which it can be read by itself. Blocks must be large, because what repeats in
small records is far apart; but of a large one only the part before a record, and the rows between two marks, need be
read for that record. An index without marks is of version 1.
"""

from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from cdc.errors import FormatTooNew, ObjectDamaged
from cdc.model import I64

MAGIC = b"CDCIDX"
VERSION = 2
WITHOUT_MARKS = 1
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

MARK = np.dtype(
    [
        ("head", "V8"),  # of the digest of the row that begins at the mark: its first bytes
        ("block", "<u4"),  # the block's number, from 0
        ("rows", "<u4"),  # rows of the block before the mark
        ("raw_size", "<u4"),  # their bytes before compression
        ("size", "<u4"),  # so many bytes of the block, from its row count on, decompress to just these rows
        ("checksum", "V16"),  # the first 16 bytes of the SHA-256 of those bytes
    ]
)
Marks = npt.NDArray[np.void]


def no_marks() -> Marks:
    """Of blocks that are read whole."""
    return np.empty(0, MARK)


@dataclass(frozen=True, slots=True)
class Index:
    """What a segment's index says; `blocks` has the fields of `BLOCK`, `marks` those of `MARK`."""

    header_size: int
    header_sha256: bytes
    blocks: Blocks
    marks: Marks = field(default_factory=no_marks)

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
    version = VERSION if len(index.marks) else WITHOUT_MARKS
    head = MAGIC + b"%02d" % version + len(index).to_bytes(8, "little") + index.header_size.to_bytes(8, "little")
    found = head + index.header_sha256 + index.blocks.tobytes()
    return found + (len(index.marks).to_bytes(8, "little") + index.marks.tobytes() if len(index.marks) else b"")


def decode(data: bytes, name: str) -> Index:
    """The index of such bytes. Raises ObjectDamaged with the object's name, or FormatTooNew."""
    if data[:6] != MAGIC or not data[6:8].isdigit() or len(data) < HEAD:
        raise ObjectDamaged(f"{name} is not an index")
    version = int(data[6:8])
    if version > VERSION:
        raise FormatTooNew(f"{name} has index format {version}; this program reads up to {VERSION}")
    count = int.from_bytes(data[8:16], "little")
    end, marked = HEAD + count * BLOCK.itemsize, 0
    if version > WITHOUT_MARKS:
        marked, end = int.from_bytes(data[end : end + 8], "little"), end + 8
    if len(data) != end + marked * MARK.itemsize:
        raise ObjectDamaged(f"{name} has {len(data)} bytes, not those of {count} blocks and {marked} marks")
    blocks, marks = np.frombuffer(data, BLOCK, count, HEAD), np.frombuffer(data, MARK, marked, end)
    if not _within(marks, blocks):
        raise ObjectDamaged(f"{name} states marks that do not lie within their blocks, in their order")
    return Index(int.from_bytes(data[16:24], "little"), data[24:56], blocks, marks)


def _within(marks: Marks, blocks: Blocks) -> bool:
    """Whether marks are what a reader may follow blindly: in order, and each within its block."""
    block = marks["block"].astype(np.int64)
    if not len(marks):
        return True
    if np.any(np.diff(block) < 0) or block[-1] >= len(blocks):
        return False
    follows = np.diff(block) == 0
    for name in ("rows", "raw_size", "size"):
        of = marks[name].astype(np.int64)
        if np.any(of < 1) or np.any(of >= blocks[name][block]) or np.any(np.diff(of)[follows] < 1):
            return False
    return True
