"""What of a segment's blocks must be read for some digests: the pieces into which marks divide blocks. Pure.

A piece is decompressed with all that stands before it in its block, and parsed alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdc.archive.index import Index
from cdc.model import I64, U64


@dataclass(frozen=True, slots=True)
class Pieces:
    """A segment's pieces in file order, as columns. A block without marks is one.

    `size` is how many bytes of its block, from the block's begin, must be read for a piece, and `checksum` the first 16
    bytes of their SHA-256; they decompress to `raw_end` bytes of rows, of which the piece's own begin at `raw_start`.
    """

    block: I64
    head: U64  # the first eight bytes of its first digest, as a number
    rows: I64
    raw_start: I64
    raw_end: I64
    size: I64
    checksum: npt.NDArray[np.void]

    def holding(self, digests: npt.NDArray[np.void]) -> I64:
        """The pieces that may hold any of some digests (`model.digest_order`), in order."""
        wanted = _heads(digests)
        start = np.maximum(np.searchsorted(self.head, wanted, "left") - 1, 0)
        end = np.searchsorted(self.head, wanted, "right")
        edges = np.zeros(len(self.block) + 1, np.int64)
        np.add.at(edges, start, 1)
        np.add.at(edges, np.maximum(end, start), -1)
        return np.flatnonzero(np.cumsum(edges[:-1])).astype(np.int64)


def pieces(index: Index) -> Pieces:
    """Those of a segment with this index."""
    blocks, marks = index.blocks, index.marks
    count = len(blocks)
    # A block's first piece begins with it, the others at its marks.
    marked = marks["block"].astype(np.int64)
    block = np.concatenate([np.arange(count, dtype=np.int64), marked])
    place = np.argsort(block, kind="stable")
    block = block[place]

    def begins(first: npt.NDArray[np.generic], name: str) -> I64:
        return np.concatenate([first, marks[name].astype(np.int64)])[place].astype(np.int64)

    nothing = np.zeros(count, np.int64)
    row, raw = begins(nothing, "rows"), begins(nothing, "raw_size")
    head = np.concatenate([_heads(blocks["first_digest"]), _heads(marks["head"])])[place]
    # Each ends where the next one of its block begins, the last one with the block.
    last = np.append(block[1:] != block[:-1], True)[: len(block)]
    after = np.minimum(np.arange(len(block)) + 1, max(len(block) - 1, 0))

    def ends(name: str, begin: I64) -> I64:
        return np.where(last, blocks[name][block].astype(np.int64), begin[after])

    # What must be read for a piece is told by the mark at its end.
    size = ends("size", begins(nothing, "size"))
    sums = np.concatenate([np.zeros(count, "V16"), marks["checksum"]])[place]
    checksum = np.where(last, blocks["checksum"][block], sums[after])
    return Pieces(block, head, ends("rows", row) - row, raw, ends("raw_size", raw), size, checksum)


def _heads(digests: npt.NDArray[np.void]) -> U64:
    """The first eight bytes of digests, or of what is as long, as numbers that order as they do."""
    column = np.ascontiguousarray(digests).view(np.uint8).reshape(len(digests), digests.dtype.itemsize)
    return np.ascontiguousarray(column[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
