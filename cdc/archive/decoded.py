"""Whether what stands in segments and restore sets is what their indexes and manifests say: every block is decoded.

`segments.read` trusts an index whose hash is right. Here nothing is trusted: order, counts, spans and places are
reckoned from the rows themselves, so that an object which was written wrong is found as well as one that was changed.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import zstandard

from cdc.archive import blocks
from cdc.archive import segments as objects
from cdc.archive.index import Index, checksum
from cdc.archive.listings import Listing
from cdc.archive.manifests import Manifest, RestoreSet, SegmentInfo
from cdc.archive.store import Store
from cdc.archive.versions import Rows, is_sorted
from cdc.errors import ObjectDamaged
from cdc.model import I64, NEVER, U8, Op, digest_order, partition_of, shard_of

SYNC = 16
"""Bytes of the marker that ends a file's header and each of its blocks."""


class _Block(NamedTuple):
    """What a block's rows say of themselves, in the words of the index."""

    first_digest: bytes
    rows: int
    min_effective_at: int
    max_effective_at: int
    min_unobserved_since: int
    first_offset: int


class _Rest(NamedTuple):
    """What the manifest says besides."""

    last_digest: bytes
    last_offset: int
    max_observed_at: int


def check(store: Store, info: SegmentInfo, manifest: Manifest, restore_set: RestoreSet | None = None) -> None:
    """Decode one object of a shard (of one of its restore sets), and compare it with its index and its manifest.

    Memory: a few blocks. Raises ObjectDamaged that says what is wrong, ObjectMissing, KeyRefused, FormatTooNew.
    """
    index = objects.read_index(store, info)
    header = store.get_range(info.name, 0, index.header_size)
    _check_places(info, index, header)
    hashed = hashlib.sha256(header)
    found, rest, last = [], [], None
    for number, (data, versions) in enumerate(objects.walk(store, info, index)):
        hashed.update(data)
        if bytes(data[-SYNC:]) != header[-SYNC:]:
            raise ObjectDamaged(f"{info.name}: block {number} does not end with the file's marker")
        _check_rows(info, manifest, versions, last)
        _check_marks(info, index, number, data, versions)
        if restore_set is not None:
            _check_in_set(store, info, manifest, restore_set, versions)
        last = versions.columns.digest[-1].tobytes(), int(versions.offsets[-1])
        found.append(_block(versions))
        rest.append(_Rest(last[0], int(versions.offsets.max()), int(versions.columns.observed_at.max())))
        for field, value in found[-1]._asdict().items():
            stated = index.blocks[number][field]
            if (bytes(stated) if field == "first_digest" else int(stated)) != value:
                raise ObjectDamaged(f"{info.index_name} states a wrong {field} of block {number}")
    if hashed.hexdigest() != info.sha256:
        raise ObjectDamaged(f"{info.name} does not have the hash that its manifest says")
    _check_info(info, index, found, rest)


def check_set(listing: Listing) -> Iterator[tuple[SegmentInfo, str]]:
    """Which segments of a set do not follow those before them: with `check` of each, no digest stands in it twice."""
    last = ""
    for info in listing.segments:
        if info.first_digest <= last:
            yield info, "overlaps the segment of the restore set before it"
        last = max(last, info.last_digest)


def _check_places(info: SegmentInfo, index: Index, header: bytes) -> None:
    starts, sizes = index.blocks["start"], index.blocks["size"]
    ends = np.concatenate([[index.header_size], starts + sizes])
    if hashlib.sha256(header).digest() != index.header_sha256 or header != objects.file_header(header[-SYNC:]):
        raise ObjectDamaged(f"{info.name} does not have the header of a segment")
    if not len(index) or not np.array_equal(ends[:-1], starts) or int(ends[-1]) != info.size:
        raise ObjectDamaged(f"{info.index_name} states blocks that do not follow each other to the object's end")


def _check_rows(info: SegmentInfo, manifest: Manifest, versions: Rows, last: tuple[bytes, int] | None) -> None:
    digest = versions.columns.digest
    first = digest[0].tobytes(), int(versions.offsets[0])
    if not is_sorted(digest, versions.offsets) or (last is not None and first <= last):
        raise ObjectDamaged(f"{info.name} is not in order of (digest, offset)")
    if np.any(shard_of(partition_of(digest), manifest.shards) != manifest.shard):
        raise ObjectDamaged(f"{info.name} has records of another shard")


def _check_marks(info: SegmentInfo, index: Index, number: int, data: memoryview, versions: Rows) -> None:
    """A block's marks: what stands before each decompresses to just the rows that it says."""
    marks = index.marks[index.marks["block"] == number]
    if not len(marks):
        return
    ends = np.cumsum(versions.sizes)
    zstd, at = zstandard.ZstdDecompressor().decompressobj(), blocks.frame_start(data)
    out = 0
    for mark in marks:
        rows, size = int(mark["rows"]), int(mark["size"])
        out += len(zstd.decompress(data[at:size]))
        at = size
        said = bytes(mark["head"]), int(mark["raw_size"]), bytes(mark["checksum"]), out
        raw_size = int(ends[rows - 1])
        if said != (versions.columns.digest[rows, :8].tobytes(), raw_size, checksum(data[:size]), raw_size):
            raise ObjectDamaged(f"{info.index_name} states a wrong mark in block {number}")


def _check_in_set(store: Store, info: SegmentInfo, manifest: Manifest, restore_set: RestoreSet, versions: Rows) -> None:
    columns, at = versions.columns, restore_set.at
    keys = digest_order(columns.digest)
    if np.any(keys[1:] == keys[:-1]):
        raise ObjectDamaged(f"{info.name} has a record twice, and is of a restore set")
    if np.any(columns.effective_at > at) or np.any(versions.offsets >= restore_set.through):
        raise ObjectDamaged(f"{info.name} has a version that came after the moment of its restore set")
    gone = (columns.op != Op.WRITE) | ((columns.void_time != NEVER) & (columns.void_time <= at))
    gone &= ~((columns.op == Op.TRUNCATION) & (columns.observed_at > at))  # not certain yet at that moment
    # Which version takes effect later is known as long as changes are kept.
    if np.any(gone) and at >= manifest.changes_kept_from:
        _check_ends(store, info, manifest, at, columns.digest[gone], versions.offsets[gone])


def _check_ends(store: Store, info: SegmentInfo, manifest: Manifest, at: int, digests: U8, offsets: I64) -> None:
    """A set keeps the end of a record only while an older version of it takes effect later (`cdc.archive.sets`)."""
    last = dict(zip([d.tobytes() for d in digests], offsets.tolist(), strict=True))
    for segment in manifest.segments:
        if segment.epoch == info.epoch and segment.max_effective_at > at:
            for versions in objects.read(store, segment, digests=digests):
                for row in np.flatnonzero(versions.columns.effective_at > at):
                    digest = versions.columns.digest[row].tobytes()
                    if versions.offsets[row] < last.get(digest, -1):
                        del last[digest]
    if last:
        raise ObjectDamaged(
            f"{info.name} has {len(last):,} records that were gone by the moment of its restore set, "
            f"{next(iter(last)).hex()} first"
        )


def _block(versions: Rows) -> _Block:
    columns = versions.columns
    return _Block(
        columns.digest[0].tobytes(),
        versions.rows,
        int(columns.effective_at.min()),
        int(columns.effective_at.max()),
        int(columns.unobserved_since.min()),
        int(versions.offsets.min()),
    )


def _check_info(info: SegmentInfo, index: Index, found: list[_Block], rest: list[_Rest]) -> None:
    said = {
        "rows": sum(b.rows for b in found),
        "raw_size": int(index.blocks["raw_size"].sum()),
        "first_digest": found[0].first_digest.hex(),
        "last_digest": rest[-1].last_digest.hex(),
        "first_offset": min(b.first_offset for b in found),
        "last_offset": max(r.last_offset for r in rest),
        "min_effective_at": min(b.min_effective_at for b in found),
        "max_effective_at": max(b.max_effective_at for b in found),
        "min_unobserved_since": min(b.min_unobserved_since for b in found),
        "max_observed_at": max(r.max_observed_at for r in rest),
    }
    wrong = [name for name, value in said.items() if getattr(info, name) != value]
    if wrong:
        raise ObjectDamaged(f"{info.name} is not as its manifest says: {', '.join(wrong)}")
