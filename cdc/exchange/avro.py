"""Avro container files of versions (Avro 1.11, "Object Container Files"): written by copying encoded changes, and read
whoever wrote them.

A record is `Version {offset, change}`, as in a segment. Files that are sorted as ours and files that are not, with any
usual codec, with fields in another order or more of them, are all read as encoded versions.
"""

import bz2
import io
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zstandard
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import SchemaParseException, to_parsing_canonical_form

from cdc.archive import Versions
from cdc.archive import segments as objects
from cdc.codec import schemas
from cdc.codec.avro import long
from cdc.codec.changes import columns, split_versions, version_rows
from cdc.errors import BodyDamaged, ObjectDamaged, UsageError
from cdc.exchange.folder import Folder, Written, told
from cdc.exchange.outline import HINT, File, Part
from cdc.model import I64

Codec = Literal["deflate", "zstandard", "null"]

BLOCK_BYTES = 128 << 10
"""Size of a block before compression."""
MOST_BYTES = 256 << 20
"""A block of somebody else's file may have so many bytes uncompressed: each is read whole."""
SYNC = 16
DEFLATE_LEVEL = 3


class AvroFile:
    """One file of an export. Memory: a block. Raises StoreForbidden."""

    def __init__(self, folder: Folder, name: str, part: Part, codec: Codec) -> None:
        self.rows = 0
        self._compress, self._sync = _COMPRESS[codec](), os.urandom(SYNC)
        self._head = objects.file_header(self._sync, codec)
        self._file = Written(folder, name, part)

    def add(self, versions: Versions, rows: I64) -> None:
        """The named rows of some versions, in their order."""
        encoded = version_rows(versions.offsets, versions.bodies, rows)
        start = 0
        while start < len(encoded):
            goal = encoded.offsets[start] + BLOCK_BYTES
            end = min(int(np.searchsorted(encoded.offsets, goal, "left")), len(encoded))
            packed = self._compress(encoded.buffer[encoded.offsets[start] : encoded.offsets[end]].tobytes())
            self._file.write(b"".join((self._head, long(end - start), long(len(packed)), packed, self._sync)))
            self._head = b""
            self.rows += end - start
            start = end

    def finish(self) -> File:
        """The file is on stable storage when this returns."""
        return self._file.finish(self.rows)

    def close(self) -> None:
        """Without finishing it."""
        self._file.close()


def read(path: Path, name: str) -> Iterator[Versions]:
    """The versions of a container file as they stand, block by block; `name` is what errors call it.

    Raises ObjectDamaged that says which record (from 1) is damaged or that the file's schema is another, UsageError for
    a codec that this program cannot read, StoreForbidden.
    """
    done = 0
    with told(path), path.open("rb") as file:
        container = _Container(file, name)
        ours = to_parsing_canonical_form(container.schema) == to_parsing_canonical_form(_schema())
        while (block := container.next_block(done)) is not None:
            versions = _copied(block) if ours else None
            yield versions if versions is not None else _translated(block, container.schema, name, done)
            done += block.count


def count(path: Path, name: str) -> int:
    """How many records a container file says it has. Raises ObjectDamaged, UsageError, StoreForbidden."""
    done = 0
    with told(path), path.open("rb") as file:
        container = _Container(file, name)
        while (block := container.packed(done)) is not None:
            done += block.count
    return done


@dataclass(frozen=True, slots=True)
class _Block:
    count: int
    raw: bytes


class _Container:
    """A container file, read forward."""

    def __init__(self, file: io.BufferedReader, name: str) -> None:
        self._file, self._name = file, name
        if file.read(4) != objects.MAGIC:
            raise ObjectDamaged(f"{name} is not an Avro container file", HINT)
        meta = self._meta()
        self._sync = self._exactly(SYNC, 0)
        codec = meta.get("avro.codec", b"null").decode(errors="replace")
        if codec not in _DECOMPRESS:
            raise UsageError(f"{name} has the codec {codec}", f"Write it with one of {', '.join(_DECOMPRESS)}.")
        self._decompress = _DECOMPRESS[codec]
        try:
            self.schema: Any = parse_schema(schemas.plain(json.loads(meta["avro.schema"])))
        except (KeyError, ValueError, SchemaParseException) as error:
            raise ObjectDamaged(f"{name} does not have a schema that Avro knows", HINT) from error

    def next_block(self, done: int) -> _Block | None:
        """The next one, None at the file's end; `done` records stand before it."""
        block = self.packed(done)
        if block is None:
            return None
        try:
            return _Block(block.count, self._decompress(block.raw))
        except (ValueError, zlib.error, OSError, lzma.LZMAError, zstandard.ZstdError, EOFError) as error:
            raise self._damaged(done, "a block that cannot be decompressed") from error

    def packed(self, done: int) -> _Block | None:
        """The same as it is in the file."""
        first = self._file.read(1)
        if not first:
            return None
        count, size = self._long(done, first), self._long(done)
        if count < 0 or not 0 <= size <= MOST_BYTES:
            raise self._damaged(done, "a block of an impossible size")
        packed = self._exactly(size, done)
        if self._exactly(SYNC, done) != self._sync:
            raise self._damaged(done, "a block that does not end with the file's marker")
        return _Block(count, packed)

    def _meta(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        while count := self._long(0):
            if count < 0:  # then the size of what follows is told as well
                count, _ = -count, self._long(0)
            for _ in range(count):
                key = self._exactly(self._size(), 0).decode(errors="replace")
                found[key] = self._exactly(self._size(), 0)
        return found

    def _size(self) -> int:
        size = self._long(0)
        if not 0 <= size <= MOST_BYTES:
            raise self._damaged(0, "a header of an impossible size")
        return size

    def _long(self, done: int, first: bytes = b"") -> int:
        value = shift = 0
        while True:
            byte = (first or self._exactly(1, done))[0]
            first = b""
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            if shift > 63:
                raise self._damaged(done, "a number of more than 64 bits")

    def _exactly(self, size: int, done: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise self._damaged(done, "the file's end where there should be more")
        return data

    def _damaged(self, done: int, what: str) -> ObjectDamaged:
        return ObjectDamaged(f"{self._name} is damaged at record {done + 1:,}: {what}", HINT)


def _copied(block: _Block) -> Versions | None:
    """The versions of a block in our schema, if it is in our canonical form as well; else somebody else wrote it, or it
    is damaged."""
    try:
        offsets, bodies = split_versions(block.raw, block.count)
        return Versions(columns(bodies), bodies, offsets)
    except BodyDamaged:
        return None


def _translated(block: _Block, schema: Any, name: str, done: int) -> Versions:
    """The same of any block, record by record: read by its own schema, and written by ours.

    Not by Avro's schema resolution: in a union of both it takes bytes for a string, to which they may be promoted.
    """
    source, out = io.BytesIO(block.raw), io.BytesIO()
    for number in range(done + 1, done + block.count + 1):
        try:
            found = schemaless_reader(source, schema, None, return_record_name=True)
            schemaless_writer(out, _schema(), found)
        except Exception as error:  # fastavro raises whatever its reading of bytes meets
            raise ObjectDamaged(f"{name}: record {number:,} is not a version: {_line(error)}", HINT) from error
    if source.tell() != len(block.raw):
        raise ObjectDamaged(f"{name} is damaged behind record {done + block.count:,}: bytes are left over", HINT)
    try:
        offsets, bodies = split_versions(out.getvalue(), block.count)
        return Versions(columns(bodies), bodies, offsets)
    except BodyDamaged as error:
        number = _first_damaged(out.getvalue(), block.count, done)
        raise ObjectDamaged(f"{name}: record {number:,} is not a version that can be: {error.message}", HINT) from error


def _first_damaged(encoded: bytes, count: int, done: int) -> int:
    """The number of the first record that Avro can say, but a cluster cannot have."""
    source = io.BytesIO(encoded)
    for number in range(count):
        start = source.tell()
        schemaless_reader(source, _schema(), None)
        try:
            split_versions(encoded[start : source.tell()], 1)
        except BodyDamaged:
            return done + number + 1
    raise AssertionError("a damaged block has a damaged record")


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@cache
def _schema() -> Any:
    """The schema of a version, with moments as the longs they are."""
    return parse_schema(schemas.plain(objects.schema()))


def _deflate() -> Callable[[bytes], bytes]:
    return lambda data: zlib.compress(data, DEFLATE_LEVEL, -zlib.MAX_WBITS)


def _zstandard() -> Callable[[bytes], bytes]:
    return zstandard.ZstdCompressor().compress


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    raw = inflater.decompress(data, MOST_BYTES)
    if not inflater.eof:
        raise ValueError("cut, or larger than a block may be")
    return raw


def _unzstandard(data: bytes) -> bytes:
    """Frames need not say how long their content is."""
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError("larger than a block may be")
    return raw


def _unsnappy(data: bytes) -> bytes:
    """Snappy's raw form, followed by the CRC-32 of what was compressed, big-endian."""
    try:
        import cramjam
    except ImportError as error:
        raise UsageError("the codec snappy needs the package cramjam", "pip install cramjam") from error
    try:
        raw = bytes(cramjam.snappy.decompress_raw(data[:-4]))
    except cramjam.DecompressionError as error:
        raise ValueError("not snappy") from error
    if zlib.crc32(raw) != int.from_bytes(data[-4:], "big"):
        raise ValueError("another checksum")
    return raw


_COMPRESS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "deflate": _deflate,
    "zstandard": _zstandard,
    "null": lambda: lambda data: data,
}
_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda data: data,
    "deflate": _inflate,
    "zstandard": _unzstandard,
    "snappy": _unsnappy,
    "bzip2": bz2.decompress,
    "xz": lzma.decompress,
}
