"""The index of a segment, made anew from the segment's own bytes: it says nothing that these do not."""

import hashlib

import numpy as np
import zstandard

from cdc.archive import index as indexes
from cdc.archive.index import Index
from cdc.codec.changes import columns as columns_of
from cdc.codec.changes import split_versions
from cdc.errors import BodyDamaged, ObjectDamaged

SYNC = 16
"""Bytes of the marker that ends a file's header and each of its blocks."""


def index_of(data: bytes, name: str) -> bytes:
    """The index object of the segment with these bytes, as its writer wrote it. Raises ObjectDamaged with the name
    where they are not a segment's."""
    try:
        header = _header_size(data)
        rows, at = [], header
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
            rows.append(row)
    except (IndexError, ValueError, zstandard.ZstdError, BodyDamaged) as error:
        raise ObjectDamaged(f"{name} is not a segment") from error
    blocks = np.concatenate([np.empty(0, indexes.BLOCK), *rows])
    return indexes.encode(Index(header, hashlib.sha256(data[:header]).digest(), blocks))


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
