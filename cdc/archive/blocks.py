"""Blocks of a segment: fetched from a store, verified against the index, decompressed, taken apart into rows."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import zstandard

from cdc.archive import index as indexes
from cdc.archive.index import Index
from cdc.archive.manifests import SegmentInfo
from cdc.archive.pieces import Pieces, pieces
from cdc.archive.store import Store
from cdc.archive.versions import Rows, among
from cdc.errors import BodyDamaged, ObjectDamaged
from cdc.model import I64, U8

LOT_BYTES = 512 << 10
"""Pieces are taken apart together until there are so many bytes of rows: each time costs as much as many rows do."""


def walk(
    store: Store, info: SegmentInfo, index: Index, numbers: I64, read_ahead: int
) -> Iterator[tuple[int, memoryview, Rows]]:
    """The blocks of these numbers, with their bytes and all their rows, each checked against the index. Neighbours are
    fetched together up to `read_ahead` bytes. Raises ObjectMissing, ObjectDamaged."""
    zstd = zstandard.ZstdDecompressor()
    for number, data in _fetch(store, info, index, numbers, index.blocks["size"][numbers], read_ahead):
        block = index.blocks[number]
        raw = _unpacked(info, block, data, bytes(block["checksum"]), int(block["raw_size"]), zstd)
        yield number, data, _rows(info, raw, int(block["rows"]))


def rows_of(
    store: Store, info: SegmentInfo, index: Index, numbers: I64, wanted: npt.NDArray[np.void], read_ahead: int
) -> Iterator[Rows]:
    """Those rows of the blocks of these numbers that have one of the wanted digests (`versions.distinct`), in order.

    Of each block no more is read than what stands before the end of the last piece that may hold one, and no other
    rows are parsed than those of such pieces. Raises ObjectMissing, ObjectDamaged.
    """
    every = pieces(index)
    chosen = every.holding(wanted)
    chosen = chosen[np.isin(every.block[chosen], numbers)]
    if not len(chosen):
        return
    raws: list[U8] = []
    held = size = 0
    for rows, raw in _pieces(store, info, index, every, chosen, read_ahead):
        raws.append(raw)
        held += rows
        size += len(raw)
        if size >= LOT_BYTES:
            yield _of(_rows(info, _joined(raws), held), wanted)
            raws, held, size = [], 0, 0
    if raws:
        yield _of(_rows(info, _joined(raws), held), wanted)


def _pieces(
    store: Store, info: SegmentInfo, index: Index, every: Pieces, chosen: I64, read_ahead: int
) -> Iterator[tuple[int, U8]]:
    """Of each block that has some of the chosen pieces: how many rows these have, and the rows."""
    zstd = zstandard.ZstdDecompressor()
    numbers, starts = np.unique(every.block[chosen], return_index=True)
    ends = np.append(starts[1:], len(chosen))
    last = chosen[ends - 1]
    parts = zip(starts.tolist(), ends.tolist(), last.tolist(), strict=True)
    fetched = _fetch(store, info, index, numbers, every.size[last], read_ahead)
    for (number, data), (start, end, until) in zip(fetched, parts, strict=True):
        checksum, raw_size = every.checksum[until].tobytes(), int(every.raw_end[until])
        raw = _unpacked(info, index.blocks[number], data, checksum, raw_size, zstd)
        those = chosen[start:end]
        spans = zip(every.raw_start[those].tolist(), every.raw_end[those].tolist(), strict=True)
        yield int(every.rows[those].sum()), _joined([raw[a:b] for a, b in spans])


def _of(rows: Rows, wanted: npt.NDArray[np.void]) -> Rows:
    kept = rows.take(among(rows.columns.digest, wanted))
    # A few rows must not keep their whole block in memory while they wait for those of other objects.
    return kept.detached() if 2 * kept.rows < rows.rows else kept


def _joined(raws: list[U8]) -> U8:
    return raws[0] if len(raws) == 1 else np.concatenate(raws)


def _fetch(
    store: Store, info: SegmentInfo, index: Index, numbers: I64, sizes: I64, read_ahead: int
) -> Iterator[tuple[int, memoryview]]:
    """The first `sizes` bytes of the named blocks, neighbours fetched together."""
    starts = index.blocks["start"]
    i = 0
    while i < len(numbers):
        j, begin = i + 1, int(starts[numbers[i]])
        while (
            j < len(numbers)
            and numbers[j] == numbers[j - 1] + 1
            and starts[numbers[j]] + sizes[j] - begin <= read_ahead
        ):
            j += 1
        data = memoryview(store.get_range(info.name, begin, int(starts[numbers[j - 1]] + sizes[j - 1]) - begin))
        for k in range(i, j):
            at = int(starts[numbers[k]]) - begin
            yield int(numbers[k]), data[at : at + int(sizes[k])]
        i = j


def _unpacked(
    info: SegmentInfo, block: np.void, data: memoryview, checksum: bytes, raw_size: int,
    zstd: zstandard.ZstdDecompressor,
) -> U8:  # fmt: skip
    """The first `raw_size` bytes of a block's rows, from the bytes of the block that have them."""
    where = f"at byte {int(block['start'])}"
    if indexes.checksum(data) != checksum:
        raise ObjectDamaged(f"{info.name} is damaged in the block {where}")
    count, at = parse_long(data, 0)
    size, at = parse_long(data, at)
    raw: U8
    try:
        if raw_size == int(block["raw_size"]):
            raw = np.frombuffer(zstd.decompress(data[at : at + size], max_output_size=raw_size), np.uint8)
            found = len(raw)
        else:
            raw = np.empty(raw_size, np.uint8)
            found = zstd.stream_reader(data[at:]).readinto(raw.data)
    except zstandard.ZstdError as error:
        raise ObjectDamaged(f"{info.name} cannot be decompressed {where}") from error
    if count != int(block["rows"]) or found != raw_size:
        raise ObjectDamaged(f"{info.name} does not have the rows that its index says {where}")
    return raw


def _rows(info: SegmentInfo, raw: U8, count: int) -> Rows:
    try:
        return Rows.of_block(raw, count)
    except BodyDamaged as error:
        raise ObjectDamaged(f"{info.name}: {error.message}") from error


def frame_start(data: memoryview) -> int:
    """Where in a block its compressed rows begin."""
    return parse_long(data, parse_long(data, 0)[1])[1]


def parse_long(data: memoryview, at: int) -> tuple[int, int]:
    """The long that is not negative at `at`, and where it ends."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return (value | data[at] << shift) >> 1, at + 1
