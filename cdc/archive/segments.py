"""Segments: immutable objects of versions sorted by (digest, offset), and the index beside each.

A segment is an Avro container file (Avro 1.11, "Object Container Files") with the codec `zstandard` and the schema
`Version {offset: long, change: Change}`, so that any Avro reader opens it. A row is the offset's varint and the body
as the collector encoded it. Blocks hold about `block_bytes` before compression, and are read one at a time.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zstandard

from cdc.archive import blocks
from cdc.archive import index as indexes
from cdc.archive.index import Index
from cdc.archive.manifests import SegmentInfo, sha256
from cdc.archive.store import Store
from cdc.archive.versions import Facts, Rows, Versions, distinct, is_sorted
from cdc.codec import schemas
from cdc.codec.changes import version_rows
from cdc.config import ArchiveSettings
from cdc.errors import ObjectDamaged
from cdc.model import I64, U8, Bodies, Columns, digest_order

READ_AHEAD = 1 << 20
"""Neighbouring blocks are fetched together up to this many bytes: object stores answer in tens of milliseconds."""
VERIFY_BYTES = 8 << 20
"""Objects are hashed in pieces of this size, so that several at once take little memory."""

MATCH = 4
"""Bytes that zstd looks for again at the least."""
FRESH_LEVEL = 2
"""Compression level, at the most, of what will soon be merged: half the work of level 3 for two per cent more bytes."""
COPY_BYTES = 4 << 20
"""Rows are copied into blocks in lots of about this size."""
PIECE_BYTES = 32 << 10
"""Of a block there is a mark after each so many bytes of rows: what is parsed for one record. zstd ends what it has
begun there, which costs a few bytes, and goes on with all that it remembers."""

MAGIC = b"Obj\x01"
MOST = (1 << 63) - 1
"""Higher than anything that an index says; its opposite is lower."""


def fresh(settings: ArchiveSettings) -> ArchiveSettings:
    """How segments are written that a merge will soon write again."""
    return settings.model_copy(update={"zstd_level": min(settings.zstd_level, FRESH_LEVEL)})


def new_name(directory: str, first_offset: int) -> str:
    """A name for a segment that no other attempt has: objects that no manifest names never stand in the way."""
    return f"{directory}/{first_offset:020d}-{secrets.token_hex(8)}.avro"


class SegmentWriter:
    """Gathers one segment, block by block. Memory: its compressed bytes, and what was added last."""

    def __init__(self, settings: ArchiveSettings, epoch: int) -> None:
        """`epoch` is the number of the one that all its versions belong to."""
        self._epoch = epoch
        self._block_bytes = settings.block_bytes
        self._compressor = _compressor(settings)
        self._sync = os.urandom(16)
        header = file_header(self._sync)
        self._header_size, self._header_sha256 = len(header), hashlib.sha256(header).digest()
        self._out = bytearray(header)
        self._open = _Block()
        self._blocks: list[tuple[object, ...]] = []
        self._marks: list[tuple[object, ...]] = []
        self._raw_size = self.rows = 0
        self._first = self._last = b""
        self._last_offset = self._offset_span = -1
        self._max_observed_at = 0

    @property
    def size(self) -> int:
        """Bytes so far, the unfinished block uncompressed."""
        return len(self._out) + self._open.size

    def add(self, versions: Versions | Rows, order: I64 | None = None) -> None:
        """Versions that follow those before: the rows that `order` names, in its order, or all as they stand.

        ValueError if that is not the order of (digest, offset).
        """
        if isinstance(versions, Rows):
            self._add_rows(versions if order is None else versions.take(order))
            return
        order = np.arange(versions.rows, dtype=np.int64) if order is None else order
        if not len(order):
            return
        self._add(version_rows(versions.offsets, versions.bodies, order), _chosen(versions.columns, order),
                  versions.offsets[order])  # fmt: skip

    def _add_rows(self, rows: Rows) -> None:
        lots = np.searchsorted(np.cumsum(rows.sizes), np.arange(0, int(rows.sizes.sum()), COPY_BYTES), "left")
        for start, end in pairwise([*np.unique(lots).tolist(), rows.rows]):
            part = rows.span(start, end)
            self._add(part.encoded(), part.columns, part.offsets)

    def _add(self, encoded: Bodies, columns: Facts, offsets: I64) -> None:
        self._check_order(columns.digest, offsets)
        self._max_observed_at = max(self._max_observed_at, int(columns.observed_at.max()))
        cuts = self._cuts(encoded.offsets)
        least = [np.minimum.reduceat(of, cuts[:-1]) for of in (columns.effective_at, columns.unobserved_since, offsets)]
        latest = np.maximum.reduceat(columns.effective_at, cuts[:-1])
        raw = encoded.buffer.data
        for i, (start, end) in enumerate(pairwise(cuts.tolist())):
            piece = raw[encoded.offsets[start] : encoded.offsets[end]]
            first = columns.digest[start].tobytes() if self._open.begins else b""
            self._open.add(piece, end - start, first, *(int(of[i]) for of in (*least, latest)))
            if self._open.size >= self._block_bytes:
                self._end_block()

    def finish(self, store: Store, directory: str) -> SegmentInfo:
        """Write the object and its index under a new name. The segment counts once a manifest names it."""
        if self._open.rows:
            self._end_block()
        blocks, marks = np.array(self._blocks, indexes.BLOCK), np.array(self._marks, indexes.MARK)
        index = indexes.encode(Index(self._header_size, self._header_sha256, blocks, marks))
        first_offset = int(blocks["first_offset"].min())
        name = new_name(directory, first_offset)
        info = SegmentInfo(
            name=name,
            epoch=self._epoch,
            size=len(self._out),
            sha256=sha256(self._out),
            index_size=len(index),
            index_sha256=sha256(index),
            rows=self.rows,
            raw_size=self._raw_size,
            first_digest=self._first.hex(),
            last_digest=self._last.hex(),
            first_offset=first_offset,
            last_offset=self._offset_span,
            min_effective_at=int(blocks["min_effective_at"].min()),
            max_effective_at=int(blocks["max_effective_at"].max()),
            min_unobserved_since=int(blocks["min_unobserved_since"].min()),
            max_observed_at=self._max_observed_at,
        )
        for key, data in ((info.name, self._out), (info.index_name, index)):
            store.put(key, data)
        return info

    def _check_order(self, digest: U8, offsets: I64) -> None:
        first = digest[0].tobytes()
        follows = (first, int(offsets[0])) > (self._last, self._last_offset)
        if not follows or not is_sorted(digest, offsets):
            raise ValueError("versions of a segment must come in order of (digest, offset)")
        self._first = self._first or first
        self._last, self._last_offset = digest[-1].tobytes(), int(offsets[-1])
        self._offset_span = max(self._offset_span, int(offsets.max()))
        self.rows += len(offsets)

    def _cuts(self, ends: I64) -> I64:
        """Where pieces, and blocks with them, begin among rows that end at `ends`: the first part fills the open
        piece."""
        cuts, rows = [0], len(ends) - 1
        size, piece = self._open.size, self._open.piece
        while cuts[-1] < rows:
            room = min(self._block_bytes - size, PIECE_BYTES - piece if piece < PIECE_BYTES else PIECE_BYTES)
            cuts.append(min(int(np.searchsorted(ends, ends[cuts[-1]] + room, "left")), rows))
            added = int(ends[cuts[-1]] - ends[cuts[-2]])
            size, piece = size + added, added + (piece if piece < PIECE_BYTES else 0)
            if size >= self._block_bytes:
                size = piece = 0
        return np.array(cuts, np.int64)

    def _end_block(self) -> None:
        block = self._open
        packed = block.packed(self._compressor)
        start, number = len(self._out), len(self._blocks)
        hashed, written = hashlib.sha256(), 0
        head = _long(block.rows) + _long(sum(map(len, packed)))
        for part, mark in zip((head + packed[0], *packed[1:]), (*block.marks, None), strict=True):
            self._out += part
            hashed.update(part)
            written += len(part)
            if mark is not None:
                self._marks.append((mark.head, number, mark.rows, mark.size, written, hashed.digest()[:16]))
        self._out += self._sync
        hashed.update(self._sync)
        self._blocks.append(
            (
                block.first_digest,
                block.rows,
                start,
                len(self._out) - start,
                block.size,
                block.min_effective_at,
                block.max_effective_at,
                block.min_unobserved_since,
                block.first_offset,
                hashed.digest()[:16],
            )
        )
        self._raw_size += block.size
        self._open = _Block()


class _Mark(NamedTuple):
    """A mark in a block that is being filled: the rows before it, their size, and the next one's digest."""

    rows: int
    size: int
    head: bytes


@dataclass(slots=True)
class _Block:
    """A block that is being filled: its rows as they will stand in the file, and what the index will say of them."""

    parts: list[memoryview] = field(default_factory=list)
    marks: list[_Mark] = field(default_factory=list)
    size: int = 0
    rows: int = 0
    first_digest: bytes = b""
    min_effective_at: int = MOST
    min_unobserved_since: int = MOST
    first_offset: int = MOST
    max_effective_at: int = -MOST

    @property
    def piece(self) -> int:
        """Bytes since the last mark."""
        return self.size - (self.marks[-1].size if self.marks else 0)

    @property
    def begins(self) -> bool:
        """Whether the next row begins it, or a piece of it."""
        return not self.parts or self.piece >= PIECE_BYTES

    def add(
        self, piece: memoryview, rows: int, first_digest: bytes, effective_at: int, unobserved_since: int, offset: int,
        latest: int,
    ) -> None:  # fmt: skip
        """Rows, with the lowest and (`latest`) the highest of what they say, and the first digest where it `begins`."""
        if self.parts and self.begins:
            self.marks.append(_Mark(self.rows, self.size, first_digest[:8]))
        self.parts.append(piece)
        self.size += len(piece)
        self.rows += rows
        self.first_digest = self.first_digest or first_digest
        self.min_effective_at = min(self.min_effective_at, effective_at)
        self.min_unobserved_since = min(self.min_unobserved_since, unobserved_since)
        self.first_offset = min(self.first_offset, offset)
        self.max_effective_at = max(self.max_effective_at, latest)

    def packed(self, compressor: zstandard.ZstdCompressor) -> list[bytes]:
        """Its rows compressed, in as many parts as marks divide it into."""
        raw = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        if not self.marks:
            return [compressor.compress(raw)]
        stream, cuts = compressor.compressobj(size=self.size), [0, *(mark.size for mark in self.marks), self.size]
        pieces = [memoryview(raw)[start:end] for start, end in pairwise(cuts)]
        found = [stream.compress(piece) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for piece in pieces[:-1]]
        return [*found, stream.compress(pieces[-1]) + stream.flush()]


def _compressor(settings: ArchiveSettings) -> zstandard.ZstdCompressor:
    # A row is mostly short fields, such as moments that equal one another: matches of four bytes, which zstd does not
    # look for by itself at these levels, save more than a per cent, and cost nothing that can be measured. The levels
    # below remember one place a hash only, and find less where short matches push out long ones.
    level = settings.zstd_level
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=settings.block_bytes, min_match=MATCH if level > FRESH_LEVEL else 0
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def _chosen(columns: Columns, rows: I64) -> Facts:
    return Facts(**{f.name: getattr(columns, f.name)[rows] for f in fields(Facts)})


def read_index(store: Store, info: SegmentInfo) -> Index:
    """A segment's index, verified. Raises ObjectMissing, ObjectDamaged, FormatTooNew."""
    data = store.get(info.index_name)
    if len(data) != info.index_size or sha256(data) != info.index_sha256:
        raise ObjectDamaged(f"{info.index_name} does not have the hash that its manifest says")
    return indexes.decode(data, info.index_name)


def read_rows(
    store: Store,
    info: SegmentInfo,
    low: bytes | None = None,
    high: bytes | None = None,
    *,
    wanted: npt.NDArray[np.void] | None = None,
    effective_after: int | None = None,
    index: Index | None = None,
    read_ahead: int = READ_AHEAD,
) -> Iterator[Rows]:
    """A segment's versions in order of (digest, offset), a block or some at a time.

    Only digests in [low, high) if bounds are given, only those `wanted` (as `versions.distinct` gives them) if given;
    nothing is fetched that cannot hold any, and of a block no more than what stands before their last piece's end. With
    `effective_after` no block is fetched in which all versions are effective by then; those that are come whole. Every
    byte used is verified. Raises ObjectMissing, ObjectDamaged with the object's name, FormatTooNew.
    """
    index = read_index(store, info) if index is None else index
    numbers = index.between(low, high)
    if wanted is not None:
        numbers = np.intersect1d(numbers, index.holding(wanted))
    if effective_after is not None:
        numbers = numbers[index.blocks["max_effective_at"][numbers] > effective_after]
    if wanted is None and len(numbers) == len(index):  # else the object is not read as a whole
        _check_header(store, info, index)
    found: Iterator[Rows]
    if wanted is None:
        found = (rows for _, _, rows in blocks.walk(store, info, index, numbers, read_ahead))
    else:
        found = blocks.rows_of(store, info, index, numbers, wanted, read_ahead)
    for rows in found:
        bounded = _bounded(rows, low, high)
        if bounded.rows:
            yield bounded


def read(
    store: Store,
    info: SegmentInfo,
    low: bytes | None = None,
    high: bytes | None = None,
    *,
    digests: U8 | None = None,
    effective_after: int | None = None,
    index: Index | None = None,
) -> Iterator[Versions]:
    """The same as versions with all their columns, of `digests` (n, 20) alone. Raises what `read_rows` raises."""
    wanted = None if digests is None else distinct(digests)
    found = read_rows(store, info, low, high, wanted=wanted, effective_after=effective_after, index=index)
    return (rows.versions() for rows in found)


def walk(store: Store, info: SegmentInfo, index: Index) -> Iterator[tuple[memoryview, Rows]]:
    """Every block, as its bytes and as its rows, each checked against the index. Raises ObjectMissing,
    ObjectDamaged."""
    for _, data, rows in blocks.walk(store, info, index, np.arange(len(index), dtype=np.int64), READ_AHEAD):
        yield data, rows


def verify(store: Store, info: SegmentInfo) -> None:
    """Read both objects, a few megabytes at a time, and compare their hashes. Raises ObjectMissing, ObjectDamaged.

    Bytes after the size that the manifest says are not looked at: nothing ever reads them.
    """
    read_index(store, info)
    hashed = hashlib.sha256()
    for start in range(0, info.size, VERIFY_BYTES):
        hashed.update(store.get_range(info.name, start, min(VERIFY_BYTES, info.size - start)))
    if hashed.hexdigest() != info.sha256:
        raise ObjectDamaged(f"{info.name} does not have the hash that its manifest says")


def _check_header(store: Store, info: SegmentInfo, index: Index) -> None:
    end = index.header_size + int(index.blocks["size"].sum())
    header = store.get_range(info.name, 0, index.header_size)
    if end != info.size or hashlib.sha256(header).digest() != index.header_sha256:
        raise ObjectDamaged(f"{info.name} does not have the header that its index says")


def _bounded(rows: Rows, low: bytes | None, high: bytes | None) -> Rows:
    if not rows.rows or low is high is None:
        return rows
    keys = digest_order(rows.columns.digest)
    start = 0 if low is None else int(np.searchsorted(keys, np.void(low), "left"))
    end = rows.rows if high is None else int(np.searchsorted(keys, np.void(high), "left"))
    return rows.span(start, max(start, end))


def file_header(sync: bytes, codec: str = "zstandard") -> bytes:
    """What every segment begins with: Avro's magic, schema, codec, and this file's sync marker of 16 bytes."""
    meta = {"avro.schema": json.dumps(schema(), separators=(",", ":")).encode(), "avro.codec": codec.encode()}
    entries = b"".join(_long(len(k)) + k.encode() + _long(len(v)) + v for k, v in meta.items())
    return MAGIC + _long(len(meta)) + entries + _long(0) + sync


def schema() -> dict[str, Any]:
    """The schema of a row, as JSON has it: `Version {offset, change}`."""
    change = json.loads(schemas.text("change"))
    fields = [{"name": "offset", "type": "long"}, {"name": "change", "type": change}]
    return {"type": "record", "name": "Version", "namespace": change["namespace"], "fields": fields}


def _long(value: int) -> bytes:
    """Avro's long for what is not negative."""
    value <<= 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
