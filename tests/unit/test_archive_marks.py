"""Marks: of a large block only what stands before a record, and the piece that it is in, is read for it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, Epoch, LocalStore, SegmentInfo, decoded, segments
from cdc.archive import index as indexes
from cdc.archive.index import BLOCK, MARK, Index
from cdc.archive.manifests import sha256
from cdc.archive.pieces import pieces
from cdc.archive.reindex import index_of
from cdc.archive.versions import Versions, concat, distinct, order
from cdc.config import ArchiveSettings
from cdc.errors import ObjectDamaged
from tests.fixtures.format_reader import Reader
from tests.fixtures.versions import change, digest, versions

BLOCKS = ArchiveSettings(block_bytes=256 << 10)
EPOCH = Epoch(number=1, began_at=1, changes_from=0, recoverable_from=3, resolved_at=5000, reconciled_at=5000)


class Counting(LocalStore):
    """Counts the bytes that are read in ranges."""

    read = 0

    def get_range(self, name: str, start: int, length: int) -> bytes:
        self.read += length
        return super().get_range(name, start, length)


def filled(rows: list[tuple[int, int]], seed: int = 1) -> Versions:
    """A version of each key with a blob of so many random bytes."""
    random = np.random.default_rng(seed)
    made = [change(k, 1000 + t, bins={"b": random.bytes(size)}) for t, (k, size) in enumerate(rows)]
    return versions(made, list(range(len(rows))))


def write(store: LocalStore, made: Versions, block_bytes: int = BLOCKS.block_bytes, lots: int = 1) -> SegmentInfo:
    rows = order(made.columns.digest, made.offsets)
    writer = segments.SegmentWriter(ArchiveSettings(block_bytes=block_bytes), epoch=1)
    for part in np.array_split(rows, lots):
        writer.add(made, part)
    return writer.finish(store, "test/shard-0000/segments")


def many(count: int = 800, size: int = 1000) -> Versions:
    return filled([(k, size) for k in range(count)])


def asked(*keys: int) -> Any:
    return np.frombuffer(b"".join(map(digest, keys)), np.uint8).reshape(-1, 20)


def replaced(store: LocalStore, name: str, data: bytes) -> None:
    store.delete(name)
    store.put(name, data)


SIZES = st.sampled_from([0, 0, 300, 5_000, 20_000, 40_000, 140_000])


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), SIZES), min_size=1, max_size=40),
    wanted=st.sets(st.integers(0, 13), max_size=4),
    block_bytes=st.sampled_from([4096, 40_000, 100_000, 512 << 10]),
    lots=st.integers(1, 5),
)
def test_what_is_read_by_marks_is_what_is_there(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int]],
    wanted: set[int],
    block_bytes: int,
    lots: int,
) -> None:
    path = tmp_path_factory.mktemp("archive")
    archive = Archive.create(LocalStore(path, create=True), "test", 1)
    made = filled(rows)
    info = write(archive.store, made, block_bytes, lots)
    got = concat(list(segments.read(archive.store, info, digests=asked(*wanted))))
    keys = sorted((k, i) for i, (k, _) in enumerate(rows) if k in wanted)
    assert list(zip(got.columns.digest[:, 3].tolist(), got.offsets.tolist(), strict=True)) == keys
    assert [got.bodies[i] for i in range(got.rows)] == [made.bodies[i] for _, i in keys]
    # The index is made again from the segment alone, its check finds nothing, and others read the same by it.
    assert index_of(archive.store.get(info.name), info.name) == archive.store.get(info.index_name)
    manifest = archive.commit(replace(archive.first(0), epochs=(EPOCH,), segments=(info,), next_changes=len(rows)))
    decoded.check(archive.store, info, manifest)
    reader = Reader(path, "test")
    [line] = reader.manifest(0)["segments"]
    every = list(reader.rows(line))
    assert [row["offset"] for row in every] == [i for _, i in sorted((k, i) for i, (k, _) in enumerate(rows))]
    for key in wanted:
        assert list(reader.rows_of(line, digest(key))) == [r for r in every if r["change"]["digest"] == digest(key)]


def test_pieces_that_begin_with_the_same_eight_bytes_are_all_read() -> None:
    blocks, marks = np.zeros(2, BLOCK), np.zeros(3, MARK)
    blocks["first_digest"] = [bytes([1] * 20), bytes([5] * 20)]
    blocks["rows"], blocks["size"], blocks["raw_size"] = 10, 100, 1000
    marks["head"] = [bytes([2] * 8), bytes([2] * 8), bytes([6] * 8)]
    marks["block"], marks["rows"], marks["raw_size"], marks["size"] = (
        [0, 0, 1],
        [3, 6, 5],
        [300, 600, 500],
        [30, 60, 50],
    )
    found = pieces(Index(0, b"", blocks, marks))
    assert found.block.tolist() == [0, 0, 0, 1, 1]
    assert found.rows.tolist() == [3, 3, 4, 5, 5]
    assert found.raw_start.tolist() == [0, 300, 600, 0, 500]
    assert found.size.tolist() == [30, 60, 100, 50, 100]
    for first, expected in ((0, []), (1, [0]), (2, [0, 1, 2]), (3, [2]), (5, [2, 3]), (6, [3, 4]), (7, [4])):
        one = np.frombuffer(bytes([first] * 20), np.uint8).reshape(1, 20)
        assert found.holding(distinct(one)).tolist() == expected


def test_a_record_costs_the_part_of_a_block_before_it(tmp_path: Path) -> None:
    store = Counting(tmp_path, create=True)
    info = write(store, many())
    index = segments.read_index(store, info)
    assert len(index) == 4
    assert len(index.marks) > 20
    costs = []
    for key in (3, 100, 230):
        store.read = 0
        [got] = segments.read(store, info, digests=asked(key))
        assert got.columns.digest[:, 3].tolist() == [key]
        costs.append(store.read)
    assert costs[0] < costs[1] < costs[2]
    assert costs[0] < int(index.blocks["size"][0]) // 4


def test_an_index_without_marks_is_of_the_first_version(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, create=True)
    few, enough = write(store, many(20)), write(store, many())
    assert store.get(few.index_name)[:8] == b"CDCIDX01"
    assert store.get(enough.index_name)[:8] == b"CDCIDX02"


def test_what_was_written_before_there_were_marks_is_read_and_its_index_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path, create=True)
    monkeypatch.setattr(segments, "PIECE_BYTES", 1 << 40)
    info = write(store, many())
    monkeypatch.undo()
    assert store.get(info.index_name)[:8] == b"CDCIDX01"
    assert index_of(store.get(info.name), info.name) == store.get(info.index_name)
    assert [v.rows for v in segments.read(store, info, digests=asked(3, 100))] == [2]


def test_any_avro_reader_opens_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, create=True)
    made = many()
    info = write(store, made)
    with (tmp_path / info.name).open("rb") as file:
        blocks = list(fastavro.block_reader(file))
    assert [block.num_records for block in blocks] == segments.read_index(store, info).blocks["rows"].tolist()
    assert [row["offset"] for block in blocks for row in block] == order(made.columns.digest, made.offsets).tolist()  # type: ignore[index]


def test_a_flipped_byte_is_named_or_not_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, create=True)
    made = many(500)
    info = write(store, made)
    good = {name: store.get(name) for name in (info.name, info.index_name)}
    index = segments.read_index(store, info)
    # Of the first block the last piece that may hold key 100 ends here; the second block is read in part for key 300.
    end = next(int(m["size"]) for m in index.marks if bytes(m["head"]) > digest(100)[:8]) + index.header_size
    for name, data in good.items():
        for at in range(0, len(data), len(data) // 150):
            replaced(store, name, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
            if name == info.index_name or index.header_size <= at < end:
                with pytest.raises(ObjectDamaged, match=name):
                    list(segments.read(store, info, digests=asked(100)))
            else:
                assert [v.rows for v in segments.read(store, info, digests=asked(100))] == [1]
        replaced(store, name, data)


@pytest.mark.parametrize("name", ["head", "rows", "raw_size", "size", "checksum"])
def test_a_mark_that_was_written_wrong_is_found_though_every_hash_is_right(tmp_path: Path, name: str) -> None:
    archive = Archive.create(LocalStore(tmp_path, create=True), "test", 1)
    store = archive.store
    info = write(store, many())
    manifest = archive.commit(replace(archive.first(0), epochs=(EPOCH,), segments=(info,), next_changes=800))
    index = segments.read_index(store, info)
    marks = index.marks.copy()
    marks[name][3] = np.void(bytes(marks[name][3])[::-1]) if marks[name].dtype.kind == "V" else marks[name][3] + 1
    data = indexes.encode(replace(index, marks=marks))
    store.delete(info.index_name)
    store.put(info.index_name, data)
    wrong = replace(info, index_sha256=sha256(data))
    with pytest.raises(ObjectDamaged, match=r"wrong mark|decompress"):
        decoded.check(store, wrong, manifest)


@pytest.mark.parametrize("change_of", [("block", 9), ("rows", 0), ("raw_size", 1 << 30), ("size", 1)])
def test_marks_that_lead_out_of_their_blocks_are_damage(tmp_path: Path, change_of: tuple[str, int]) -> None:
    store = LocalStore(tmp_path, create=True)
    index = segments.read_index(store, write(store, many()))
    marks = index.marks.copy()
    marks[change_of[0]][2] = change_of[1]
    with pytest.raises(ObjectDamaged, match="marks"):
        indexes.decode(indexes.encode(replace(index, marks=marks)), "it")
    with pytest.raises(ObjectDamaged, match="marks"):
        indexes.decode(indexes.encode(index)[:-1], "it")
