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

import numpy as np
import numpy.typing as npt
import zstandard

from cdc.archive import index as indexes
from cdc.archive.index import Index
from cdc.archive.manifests import SegmentInfo, sha256
from cdc.archive.store import Store
from cdc.archive.versions import Versions, among, is_sorted
from cdc.codec import schemas
from cdc.codec.changes import columns as columns_of
from cdc.codec.changes import split_versions, version_rows
from cdc.config import ArchiveSettings
from cdc.errors import BodyDamaged, ObjectDamaged, StoreForbidden
from cdc.model import I64, U8, digest_order

READ_AHEAD = 1 << 20
"""Neighbouring blocks are fetched together up to this many bytes: object stores answer in tens of milliseconds."""
VERIFY_BYTES = 8 << 20
"""Objects are hashed in pieces of this size, so that several at once take little memory."""

MAGIC = b"Obj\x01"


def new_name(directory: str, first_offset: int) -> str:
    """A name for a segment that no other attempt has: objects that no manifest names never stand in the way."""
    return f"{directory}/{first_offset:020d}-{secrets.token_hex(8)}.avro"


class SegmentWriter:
    """Gathers one segment, block by block. Memory: its compressed bytes and one block."""

    def __init__(self, settings: ArchiveSettings, epoch: int) -> None:
        """`epoch` is the number of the one that all its versions belong to."""
        self._epoch = epoch
        self._block_bytes = settings.block_bytes
        self._compressor = zstandard.ZstdCompressor(level=settings.zstd_level)
        self._sync = os.urandom(16)
        header = _header(self._sync)
        self._header_size, self._header_sha256 = len(header), hashlib.sha256(header).digest()
        self._out = bytearray(header)
        self._parts: list[Versions] = []
        self._blocks: list[tuple[object, ...]] = []
        self._pending = self._raw_size = self.rows = 0
        self._first = self._last = b""
        self._last_offset = self._offset_span = -1
        self._max_observed_at = 0

    @property
    def size(self) -> int:
        """Bytes so far, the unfinished block uncompressed."""
        return len(self._out) + self._pending

    def add(self, versions: Versions, order: I64 | None = None) -> None:
        """Versions that follow those before: the rows that `order` names, in its order, or all as they stand.

        ValueError if that is not the order of (digest, offset).
        """
        order = np.arange(versions.rows, dtype=np.int64) if order is None else order
        if not len(order):
            return
        encoded = version_rows(versions.offsets, versions.bodies, order)
        rows = Versions(versions.columns.take(order), encoded, versions.offsets[order])
        self._check_order(rows)
        start = 0
        while start < rows.rows:
            goal = encoded.offsets[start] + self._block_bytes - self._pending
            end = min(int(np.searchsorted(encoded.offsets, goal, "left")), rows.rows)
            self._parts.append(rows.span(start, end))
            self._pending += int(encoded.offsets[end] - encoded.offsets[start])
            if self._pending >= self._block_bytes:
                self._end_block()
            start = end

    def finish(self, store: Store, directory: str) -> SegmentInfo:
        """Write the object and its index under a new name. The segment counts once a manifest names it."""
        self._end_block()
        blocks = np.array(self._blocks, indexes.BLOCK)
        index = indexes.encode(Index(self._header_size, self._header_sha256, blocks))
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
            if not store.put_if_absent(key, data):
                raise StoreForbidden(f"{key} was there before it was written")
        return info

    def _check_order(self, versions: Versions) -> None:
        digest = versions.columns.digest
        first = digest[0].tobytes()
        follows = (first, int(versions.offsets[0])) > (self._last, self._last_offset)
        if not follows or not is_sorted(digest, versions.offsets):
            raise ValueError("versions of a segment must come in order of (digest, offset)")
        self._first = self._first or first
        self._last, self._last_offset = digest[-1].tobytes(), int(versions.offsets[-1])
        self._offset_span = max(self._offset_span, int(versions.offsets.max()))
        self._max_observed_at = max(self._max_observed_at, int(versions.columns.observed_at.max()))
        self.rows += versions.rows

    def _end_block(self) -> None:
        if not self._parts:
            return
        raw = np.concatenate([p.bodies.buffer[p.bodies.offsets[0] : p.bodies.offsets[-1]] for p in self._parts])
        count = sum(p.rows for p in self._parts)
        packed = self._compressor.compress(raw.data)
        block = b"".join((_long(count), _long(len(packed)), packed, self._sync))
        columns = [p.columns for p in self._parts]
        self._blocks.append(
            (
                columns[0].digest[0].tobytes(),
                count,
                len(self._out),
                len(block),
                len(raw),
                min(int(c.effective_at.min()) for c in columns),
                max(int(c.effective_at.max()) for c in columns),
                min(int(c.unobserved_since.min()) for c in columns),
                min(int(p.offsets.min()) for p in self._parts),
                indexes.checksum(block),
            )
        )
        self._out += block
        self._raw_size += len(raw)
        self._parts, self._pending = [], 0


def read_index(store: Store, info: SegmentInfo) -> Index:
    """A segment's index, verified. Raises ObjectMissing, ObjectDamaged, FormatTooNew."""
    data = store.get(info.index_name)
    if len(data) != info.index_size or sha256(data) != info.index_sha256:
        raise ObjectDamaged(f"{info.index_name} does not have the hash that its manifest says")
    return indexes.decode(data, info.index_name)


def read(
    store: Store,
    info: SegmentInfo,
    low: bytes | None = None,
    high: bytes | None = None,
    *,
    digests: U8 | None = None,
    index: Index | None = None,
) -> Iterator[Versions]:
    """A segment's versions in order of (digest, offset), a block at a time.

    Only digests in [low, high) if bounds are given, only those of `digests` (n, 20) if given; no block is fetched that
    cannot hold any. Every byte used is verified. Raises ObjectMissing, ObjectDamaged with the object's name,
    FormatTooNew.
    """
    index = read_index(store, info) if index is None else index
    wanted = None if digests is None else np.unique(digest_order(digests))
    numbers = index.between(low, high)
    if wanted is not None:
        numbers = np.intersect1d(numbers, index.holding(wanted))
    if len(numbers) == len(index):
        _check_header(store, info, index)
    for number, data in _fetch(store, info, index, numbers):
        versions = _decode_block(info, index.blocks[number], data)
        if wanted is not None:
            versions = versions.take(among(versions.columns.digest, wanted))
        versions = _bounded(versions, low, high)
        if versions.rows:
            yield versions


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


def _fetch(
    store: Store, info: SegmentInfo, index: Index, numbers: npt.NDArray[np.int64]
) -> Iterator[tuple[int, memoryview]]:
    """The named blocks' bytes, neighbours fetched together."""
    starts, sizes = index.blocks["start"], index.blocks["size"]
    i = 0
    while i < len(numbers):
        j, begin = i + 1, int(starts[numbers[i]])
        while (
            j < len(numbers)
            and numbers[j] == numbers[j - 1] + 1
            and starts[numbers[j]] + sizes[numbers[j]] - begin <= READ_AHEAD
        ):
            j += 1
        last = numbers[j - 1]
        data = memoryview(store.get_range(info.name, begin, int(starts[last] + sizes[last]) - begin))
        for number in numbers[i:j]:
            at = int(starts[number]) - begin
            yield int(number), data[at : at + int(sizes[number])]
        i = j


def _decode_block(info: SegmentInfo, block: np.void, data: memoryview) -> Versions:
    if indexes.checksum(data) != bytes(block["checksum"]):
        raise ObjectDamaged(f"{info.name} is damaged in the block at byte {int(block['start'])}")
    count, at = _parse_long(data, 0)
    size, at = _parse_long(data, at)
    raw = zstandard.ZstdDecompressor().decompress(data[at : at + size], max_output_size=int(block["raw_size"]))
    if count != int(block["rows"]) or len(raw) != int(block["raw_size"]):
        raise ObjectDamaged(f"{info.name} does not have the rows that its index says at byte {int(block['start'])}")
    try:
        offsets, bodies = split_versions(raw, count)
        columns = columns_of(bodies)
    except BodyDamaged as error:
        raise ObjectDamaged(f"{info.name}: {error.message}") from error
    return Versions(columns, bodies, offsets)


def _bounded(versions: Versions, low: bytes | None, high: bytes | None) -> Versions:
    if not versions.rows:
        return versions
    keys = digest_order(versions.columns.digest)
    start = 0 if low is None else int(np.searchsorted(keys, np.void(low), "left"))
    end = versions.rows if high is None else int(np.searchsorted(keys, np.void(high), "left"))
    return versions.span(start, max(start, end))


def _header(sync: bytes) -> bytes:
    change = json.loads(schemas.text("change"))
    fields = [{"name": "offset", "type": "long"}, {"name": "change", "type": change}]
    version = {"type": "record", "name": "Version", "namespace": change["namespace"], "fields": fields}
    schema = json.dumps(version, separators=(",", ":")).encode()
    meta = {"avro.schema": schema, "avro.codec": b"zstandard"}
    entries = b"".join(_long(len(k)) + k.encode() + _long(len(v)) + v for k, v in meta.items())
    return MAGIC + _long(len(meta)) + entries + _long(0) + sync


def _long(value: int) -> bytes:
    """Avro's long for what is not negative."""
    value <<= 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _parse_long(data: memoryview, at: int) -> tuple[int, int]:
    """The long that is not negative at `at`, and where it ends."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return (value | data[at] << shift) >> 1, at + 1
