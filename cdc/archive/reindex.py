"""The index of a segment, made anew from the segment's own bytes: it says nothing that these do not."""

import hashlib

import numpy as np
import numpy.typing as npt
import zstandard

from cdc.archive import index as indexes
from cdc.archive.index import Index, Marks
from cdc.archive.segments import PIECE_BYTES
from cdc.codec.changes import columns as columns_of
from cdc.codec.changes import find_versions, split_versions
from cdc.errors import BodyDamaged, ObjectDamaged
from cdc.model import U8

SYNC = 16
"""Bytes of the marker that ends a file's header and each of its blocks."""
RUN = 1
"""The kind of zstd's blocks that repeat one byte."""


def index_of(data: bytes, name: str) -> bytes:
    """The index object of the segment with these bytes, as its writer wrote it. Raises ObjectDamaged with the name
    where they are not a segment's."""
    try:
        header = _header_size(data)
        rows: list[npt.NDArray[np.void]] = []
        marks, at = [indexes.no_marks()], header
        while at < len(data):
            start = at
            count, at = _long(data, at)
            size, at = _long(data, at)
            packed, at = data[at : at + size], at + size + SYNC
            raw = zstandard.ZstdDecompressor().decompress(packed)
            offsets, bodies = split_versions(raw, count)
            columns = columns_of(bodies)
            row = np.zeros(1, indexes.BLOCK)
            for field, value in (
                ("first_digest", np.void(columns.digest[0].tobytes())),
                ("rows", count),
                ("start", start),
                ("size", at - start),
                ("raw_size", len(raw)),
                ("min_effective_at", columns.effective_at.min()),
                ("max_effective_at", columns.effective_at.max()),
                ("min_unobserved_since", columns.unobserved_since.min()),
                ("first_offset", offsets.min()),
                ("checksum", np.void(indexes.checksum(data[start:at]))),
            ):
                row[field] = value
            marks.append(_marks_of(data[start:at], packed, np.frombuffer(raw, np.uint8), count, len(rows)))
            rows.append(row)
    except (IndexError, ValueError, zstandard.ZstdError, BodyDamaged) as error:
        raise ObjectDamaged(f"{name} is not a segment") from error
    blocks = np.concatenate([np.empty(0, indexes.BLOCK), *rows])
    return indexes.encode(Index(header, hashlib.sha256(data[:header]).digest(), blocks, np.concatenate(marks)))


def _marks_of(block: bytes, packed: bytes, raw: U8, count: int, number: int) -> Marks:
    """A block's marks: where its writer has put them, which is where pieces end in zstd's own blocks. None where they
    do not: whoever wrote it knew of no marks."""
    found = find_versions(raw, count)
    frame = _ends(packed)
    marks: list[tuple[object, ...]] = []
    last = row = 0
    while True:
        row = int(np.searchsorted(found.starts, last + PIECE_BYTES, "left"))
        if row >= count:
            return np.array(marks, indexes.MARK)
        last = int(found.starts[row])
        if last not in frame:
            return indexes.no_marks()
        size = len(block) - SYNC - len(packed) + frame[last]
        head = found.digest[row, :8].tobytes()
        marks.append((head, number, row, last, size, indexes.checksum(block[:size])))


def _ends(packed: bytes) -> dict[int, int]:
    """Of each of zstd's own blocks in a frame (RFC 8878, 3.1.1.2), how many bytes come out up to its end, and where in
    the frame it ends."""
    stream = zstandard.ZstdDecompressor().decompressobj()
    at = zstandard.frame_header_size(packed)
    out = len(stream.decompress(packed[:at]))
    ends: dict[int, int] = {}
    last = False
    while not last:
        head = int.from_bytes(packed[at : at + 3], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        end = at + 3 + (1 if kind == RUN else size)
        out += len(stream.decompress(packed[at:end]))
        ends.setdefault(out, end)
        at = end
    return ends


def _header_size(data: bytes) -> int:
    """Where the first block begins: behind the magic, a map of names to bytes, and the marker (Avro 1.11, "Object
    Container Files")."""
    at = 4
    count, at = _long(data, at)
    while count:
        for _ in range(2 * count):
            size, at = _long(data, at)
            at += size
        count, at = _long(data, at)
    return at + SYNC


def _long(data: bytes, at: int) -> tuple[int, int]:
    """Avro's long at `at`, and where it ends. ValueError if it is negative, which no size is."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    value |= data[at] << shift
    if value & 1:
        raise ValueError("negative")
    return value >> 1, at + 1
