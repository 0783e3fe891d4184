"""The catalog's files: an immutable base of entries ordered by key, and a journal of batches after it.

    base-<20-digit number>.cat      magic, version, sizes, a CRC for the state and each column, a CRC of all that; then
                                    the state as JSON and the ten columns end to end
    journal-<20-digit number>.log   batches, each with its length and CRC: state, entries put in, digests taken out

The base with the highest number counts; its journal has the same number. Files of lower numbers are left-overs of a
stop between writing a new base and removing the old, and are removed. A batch whose end was torn off by a stop is cut
off: it is not missed, because the collector reads again from Kafka whatever the catalog does not have.

Every step goes through `os`, one call for each thing that the disk is told, so that a test can stop at any of them.
"""

import contextlib
import mmap
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cdc.collector.entries import DTYPES, ENTRY_SIZE, Entries
from cdc.errors import CatalogError
from cdc.model import DIGEST_SIZE, U8

VERSION: Final = 2
_MAGIC: Final = b"CDCCATLG"
_HEAD: Final = struct.Struct("<8sIIQ11II")  # magic, version, state bytes, entries, CRCs of state and columns, CRC of it
_BATCH: Final = struct.Struct("<IIIII")  # magic, state bytes, entries in, digests out, CRC of the rest
_BATCH_MAGIC: Final = 0x4A435443
_BASE: Final = re.compile(r"base-(\d{20})\.cat")
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of the journal."""

    state: bytes
    put: Entries
    out: U8  # (n, 20)


def base_path(directory: Path, number: int) -> Path:
    """Where the base of this number stands."""
    return directory / f"base-{number:020d}.cat"


def journal_path(directory: Path, number: int) -> Path:
    """Where the journal of this number stands."""
    return directory / f"journal-{number:020d}.log"


def newest(directory: Path) -> int:
    """The highest number of a base in the directory, 0 when there is none. Raises CatalogError."""
    try:
        found = (_BASE.fullmatch(path.name) for path in directory.glob("base-*.cat"))
        return max((int(name[1]) for name in found if name), default=0)
    except OSError as error:
        raise CatalogError(f"the catalog at {directory} cannot be listed: {error}") from error


def write_base(directory: Path, number: int, state: bytes, count: int, parts: Iterable[Entries]) -> None:
    """Write a base and make it count, durably. `parts` are its `count` entries by key, a part at a time, so that
    nothing need be whole in memory. Raises CatalogError; then the draft is removed and what counted before counts."""
    final = base_path(directory, number)
    draft = final.with_suffix(".tmp")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            _fill(descriptor, state, count, parts)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, final)
        _sync_directory(directory)
    except OSError as error:
        with contextlib.suppress(OSError):  # the error that is told is the one that counts
            os.unlink(draft)
        raise CatalogError(f"the catalog {final} cannot be written: {error}") from error


def read_base(directory: Path, number: int) -> tuple[bytes, Entries]:
    """State and entries of a base, the entries mapped into memory. Raises CatalogError when the file is damaged, cut
    or of another version."""
    path = base_path(directory, number)
    try:
        with path.open("rb") as file:
            state_size, count, sums = _checked_head(path, file.read(_HEAD.size))
            size, expected = os.fstat(file.fileno()).st_size, _columns_at(state_size) + count * ENTRY_SIZE
            if size != expected:
                raise CatalogError(f"the catalog {path} has {size} bytes and should have {expected}")
            # Read, not mapped: pages of a mapping would count as this process's memory for no purpose.
            state = file.read(state_size)
            found = [zlib.crc32(state)]
            file.seek(_columns_at(state_size))
            for dtype in DTYPES.values():
                running, left = 0, count * np.dtype(dtype).itemsize
                while left:
                    piece = file.read(min(_CHUNK, left))
                    running, left = zlib.crc32(piece, running), left - len(piece)
                found.append(running)
            if tuple(found) != sums:
                raise CatalogError(f"the catalog {path} is damaged: its checksums are not those of its content")
            if not count:
                return state, Entries.empty()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CatalogError(f"the catalog {path} cannot be read: {error}") from error
    columns: dict[str, Any] = {}
    start = _columns_at(state_size)
    for name, dtype in DTYPES.items():
        columns[name] = np.frombuffer(mapped, dtype, count, start)
        start += columns[name].nbytes
    return state, Entries(**columns)


class Journal:
    """The journal of a base, open to be read once and then appended to."""

    def __init__(self, directory: Path, number: int) -> None:
        """Makes an empty one where there is none. Raises CatalogError."""
        self.path = journal_path(directory, number)
        self.size = 0
        try:
            # Unbuffered: what a full disk refuses must not be tried again when the file is closed.
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise CatalogError(f"the catalog's journal {self.path} cannot be opened: {error}") from error

    def batches(self) -> Iterator[Batch]:
        """Its batches, one at a time; a torn end is cut off after the last. Raises CatalogError."""
        try:
            there = os.fstat(self._file.fileno()).st_size
            while (batch := self._next(there)) is not None:
                yield batch
            if self.size < there:
                os.ftruncate(self._file.fileno(), self.size)
        except OSError as error:
            raise CatalogError(f"the catalog's journal {self.path} cannot be read: {error}") from error

    def append(self, batch: Batch) -> None:
        """Append a batch and hand it to the operating system, so that it outlives this process. Raises CatalogError;
        then nothing more can be appended, because what comes next would hide what this one lacks."""
        parts = [batch.state, *(getattr(batch.put, name).tobytes() for name in DTYPES), batch.out.tobytes()]
        body = b"".join(parts)
        head = _BATCH.pack(_BATCH_MAGIC, len(batch.state), len(batch.put), len(batch.out), zlib.crc32(body))
        try:
            left = memoryview(head + body)
            while left:
                left = left[os.write(self._file.fileno(), left) :]
        except (OSError, ValueError) as error:
            self.close()
            raise CatalogError(f"the catalog's journal {self.path} cannot be written: {error}") from error
        self.size += len(head) + len(body)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _next(self, there: int) -> Batch | None:
        """The batch at `size`, which moves behind it; None when no whole one stands there."""
        at = self.size
        raw = os.pread(self._file.fileno(), _BATCH.size, at)
        if len(raw) < _BATCH.size:
            return None
        magic, state_size, n_put, n_out, crc = _BATCH.unpack(raw)
        length = state_size + n_put * ENTRY_SIZE + n_out * DIGEST_SIZE
        if magic != _BATCH_MAGIC or at + _BATCH.size + length > there:
            return None
        body = _pread(self._file.fileno(), length, at + _BATCH.size)
        if zlib.crc32(body) != crc:
            return None
        self.size = at + _BATCH.size + length
        columns: dict[str, Any] = {}
        start = state_size
        for name, dtype in DTYPES.items():
            columns[name] = np.frombuffer(body, dtype, n_put, start)
            start += columns[name].nbytes
        out = np.frombuffer(body, np.uint8, n_out * DIGEST_SIZE, start).reshape(-1, DIGEST_SIZE)
        return Batch(body[:state_size], Entries(**columns), out)


def remove_others(directory: Path, number: int) -> None:
    """Remove bases, journals and drafts other than of this number. Raises CatalogError."""
    keep = {base_path(directory, number), journal_path(directory, number)}
    try:
        for path in sorted(directory.iterdir()):
            if path not in keep and path.suffix in {".cat", ".log", ".tmp"}:
                os.unlink(path)
    except OSError as error:
        raise CatalogError(f"the catalog at {directory} cannot be tidied: {error}") from error


def _fill(descriptor: int, state: bytes, count: int, parts: Iterable[Entries]) -> None:
    """Head, state and columns; every part's columns go to their places in the file, the head last."""
    places, start = {}, _columns_at(len(state))
    for name, dtype in DTYPES.items():
        places[name] = start
        start += count * np.dtype(dtype).itemsize
    sums = dict.fromkeys(DTYPES, 0)
    left = count
    _pwrite(descriptor, state + bytes(-len(state) % 8), _HEAD.size)
    for part in parts:
        left -= len(part)
        if left < 0:
            break
        for name in DTYPES:
            column = np.ascontiguousarray(getattr(part, name)).view(np.uint8).data
            sums[name] = zlib.crc32(column, sums[name])
            _pwrite(descriptor, column, places[name])
            places[name] += len(column)
    if left:
        raise ValueError(f"a base of {count} entries was given {count - left}")
    head = _HEAD.pack(_MAGIC, VERSION, len(state), count, zlib.crc32(state), *sums.values(), 0)[:-4]
    _pwrite(descriptor, head + struct.pack("<I", zlib.crc32(head)), 0)


def _checked_head(path: Path, head: bytes) -> tuple[int, int, tuple[int, ...]]:
    if len(head) < _HEAD.size or head[:8] != _MAGIC:
        raise CatalogError(f"{path} is not a catalog")
    _, version, state_size, count, *sums, head_sum = _HEAD.unpack(head)
    if version != VERSION:
        raise CatalogError(f"the catalog {path} has version {version}; this program reads version {VERSION}")
    if zlib.crc32(head[:-4]) != head_sum:
        raise CatalogError(f"the catalog {path} is damaged: its head's checksum is not that of its content")
    return state_size, count, tuple(sums)


def _columns_at(state_size: int) -> int:
    return _HEAD.size + state_size + (-state_size % 8)


def _pwrite(descriptor: int, data: bytes | memoryview, at: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, at)
        left, at = left[written:], at + written


def _pread(descriptor: int, size: int, at: int) -> bytes:
    """Exactly so many bytes; fewer only where the file ends."""
    parts = []
    while size and (part := os.pread(descriptor, size, at)):
        parts.append(part)
        size, at = size - len(part), at + len(part)
    return b"".join(parts)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
