"""The catalog's files: an immutable base of entries ordered by key, and a journal of batches after it.

    base-<20-digit number>.cat      magic, version, sizes, CRCs; the state as JSON; then the ten columns end to end
    journal-<20-digit number>.log   batches, each with its length and CRC: state, entries put in, digests taken out

The base with the highest number counts; its journal has the same number. Files of lower numbers are left-overs of a
stop between writing a new base and removing the old, and are removed. A batch whose end was torn off by a stop is cut
off: it is not missed, because the collector reads again from Kafka whatever the catalog does not have.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from cdc.collector.entries import DTYPES, Entries
from cdc.errors import CatalogError
from cdc.model import DIGEST_SIZE, U8

VERSION: Final = 1
_MAGIC: Final = b"CDCCATLG"
_HEAD: Final = struct.Struct(
    "<8sIIQII"
)  # magic, version, state bytes, entries, CRC of state and columns, CRC of the head
_BATCH: Final = struct.Struct("<IIIII")  # magic, state bytes, entries in, digests out, CRC of the rest
_BATCH_MAGIC: Final = 0x4A435443
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


def newest(directory: Path) -> int | None:
    """The highest number of a base in the directory, None when there is none. Raises CatalogError."""
    try:
        return max((int(p.stem.removeprefix("base-")) for p in directory.glob("base-*.cat")), default=None)
    except (OSError, ValueError) as error:
        raise CatalogError(f"the catalog at {directory} cannot be listed: {error}") from error


def write_base(directory: Path, number: int, state: bytes, entries: Entries) -> None:
    """Write a base and make it count, durably. Raises CatalogError."""
    final = base_path(directory, number)
    draft = final.with_suffix(".tmp")
    columns = [np.ascontiguousarray(getattr(entries, name)).data for name in DTYPES]
    crc = zlib.crc32(state)
    for column in columns:
        crc = zlib.crc32(column, crc)
    head = _HEAD.pack(_MAGIC, VERSION, len(state), len(entries), crc, 0)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(head[:-4] + struct.pack("<I", zlib.crc32(head[:-4])))
            file.write(state + bytes(-len(state) % 8))
            for column in columns:
                file.write(column)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(final)
        _sync_directory(directory)
    except OSError as error:
        raise CatalogError(f"the catalog {final} cannot be written: {error}") from error


def read_base(directory: Path, number: int) -> tuple[bytes, Entries]:
    """State and entries of a base, the entries mapped into memory. Raises CatalogError when the file is damaged, cut
    or of another version."""
    path = base_path(directory, number)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
            state_size, count, crc = _checked_head(path, head)
            state = file.read(state_size)
        start = _HEAD.size + state_size + (-state_size % 8)
        expected = start + count * sum(np.dtype(d).itemsize for d in DTYPES.values())
        if path.stat().st_size != expected:
            raise CatalogError(f"the catalog {path} has {path.stat().st_size} bytes and should have {expected}")
        columns: dict[str, Any] = {}
        running = zlib.crc32(state)
        for name, dtype in DTYPES.items():
            column = np.memmap(path, dtype, "r", start, (count,)) if count else np.empty(0, dtype)
            for at in range(0, count, _CHUNK):
                running = zlib.crc32(column[at : at + _CHUNK].data, running)
            columns[name] = np.asarray(column)
            start += count * np.dtype(dtype).itemsize
    except OSError as error:
        raise CatalogError(f"the catalog {path} cannot be read: {error}") from error
    if running != crc:
        raise CatalogError(f"the catalog {path} is damaged: its checksum is not that of its content")
    return state, Entries(**columns)


def _checked_head(path: Path, head: bytes) -> tuple[int, int, int]:
    if len(head) < _HEAD.size or head[:8] != _MAGIC:
        raise CatalogError(f"{path} is not a catalog")
    _, version, state_size, count, crc, head_crc = _HEAD.unpack(head)
    if version != VERSION:
        raise CatalogError(f"the catalog {path} has version {version}; this program reads version {VERSION}")
    if zlib.crc32(head[:-4]) != head_crc:
        raise CatalogError(f"the catalog {path} is damaged: its head's checksum is not that of its content")
    return state_size, count, crc


def open_journal(directory: Path, number: int) -> tuple[BinaryIO, list[Batch]]:
    """The journal, ready to append to, and its batches; a torn end is cut off. Raises CatalogError."""
    path = journal_path(directory, number)
    try:
        file = path.open("a+b", buffering=0)  # what a full disk refuses must not be tried again when it is closed
        file.seek(0)
        raw = file.read()
        batches, end = [], 0
        for batch, end in _batches(raw):  # noqa: B007 - the last end is used below
            batches.append(batch)
        if end < len(raw):
            file.truncate(end)
        file.seek(0, os.SEEK_END)
    except OSError as error:
        raise CatalogError(f"the catalog's journal {path} cannot be opened: {error}") from error
    return file, batches


def append(file: BinaryIO, batch: Batch) -> int:
    """Append a batch and hand it to the operating system, so that it outlives this process; returns its size in
    bytes. Raises CatalogError."""
    parts = [batch.state, *(getattr(batch.put, name).tobytes() for name in DTYPES), batch.out.tobytes()]
    body = b"".join(parts)
    head = _BATCH.pack(_BATCH_MAGIC, len(batch.state), len(batch.put), len(batch.out), zlib.crc32(body))
    try:
        left = memoryview(head + body)
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise CatalogError(f"the catalog's journal {file.name} cannot be written: {error}") from error
    return len(head) + len(body)


def remove_others(directory: Path, number: int) -> None:
    """Remove bases, journals and drafts other than of this number. Raises CatalogError."""
    keep = {base_path(directory, number), journal_path(directory, number)}
    try:
        for path in directory.iterdir():
            if path not in keep and path.suffix in {".cat", ".log", ".tmp"}:
                path.unlink()
    except OSError as error:
        raise CatalogError(f"the catalog at {directory} cannot be tidied: {error}") from error


def _batches(raw: bytes) -> Iterator[tuple[Batch, int]]:
    at = 0
    while at + _BATCH.size <= len(raw):
        magic, state_size, n_put, n_out, crc = _BATCH.unpack_from(raw, at)
        start = at + _BATCH.size
        end = start + state_size + n_put * sum(np.dtype(d).itemsize for d in DTYPES.values()) + n_out * DIGEST_SIZE
        if magic != _BATCH_MAGIC or end > len(raw) or zlib.crc32(memoryview(raw)[start:end]) != crc:
            return
        state = raw[start : start + state_size]
        start += state_size
        columns: dict[str, Any] = {}
        for name, dtype in DTYPES.items():
            columns[name] = np.frombuffer(raw, dtype, n_put, start)
            start += columns[name].nbytes
        out = np.frombuffer(raw, np.uint8, n_out * DIGEST_SIZE, start).reshape(-1, DIGEST_SIZE)
        yield Batch(state, Entries(**columns), out), end
        at = end


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
