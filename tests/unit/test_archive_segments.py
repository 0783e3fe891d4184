"""Segments: what is written is read, by any reader, by range and by digest; and nothing damaged is."""

import io
from dataclasses import fields
from pathlib import Path
from typing import Any

import fastavro
import fastavro.read
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import LocalStore, SegmentInfo, segments
from cdc.archive.versions import Versions, concat, is_sorted, order
from cdc.config import ArchiveSettings
from cdc.errors import FormatTooNew, ObjectDamaged, ObjectMissing
from cdc.model import Columns, Op
from tests.fixtures.versions import change, digest, versions

SMALL = ArchiveSettings(block_bytes=4096)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "archive", create=True)


def write(store: LocalStore, made: Versions, settings: ArchiveSettings = SMALL, lots: int = 1) -> SegmentInfo:
    rows = order(made.columns.digest, made.offsets)
    writer = segments.SegmentWriter(settings, epoch=1)
    for part in np.array_split(rows, lots):
        writer.add(made, part)
    return writer.finish(store, "test/shard-0000/segments")


def many(keys: int = 97, rows: int = 1000) -> Versions:
    return versions([change(k * 31 % keys, 1000 + k) for k in range(rows)], list(range(10, 10 + rows)))


def same(left: Versions, right: Versions) -> bool:
    columns = all(
        np.array_equal(getattr(left.columns, f.name), getattr(right.columns, f.name)) for f in fields(Columns)
    )
    bodies = [left.bodies[i] for i in range(left.rows)] == [right.bodies[i] for i in range(right.rows)]
    return columns and bodies and np.array_equal(left.offsets, right.offsets)


def sorted_copy(made: Versions) -> Versions:
    return made.take(order(made.columns.digest, made.offsets))


def test_versions_come_back_sorted_and_byte_for_byte(store: LocalStore) -> None:
    made = many()
    got = list(segments.read(store, write(store, made)))
    assert len(got) > 5
    assert same(concat(got), sorted_copy(made))


def test_the_lots_in_which_versions_come_do_not_matter(store: LocalStore) -> None:
    made = many()
    whole, parted = (segments.read_index(store, write(store, made, lots=n)).blocks for n in (1, 13))
    for name in ("first_digest", "rows", "raw_size", "first_offset"):
        assert np.array_equal(whole[name], parted[name])


def test_the_manifest_line_says_what_is_in_it(store: LocalStore) -> None:
    made = many()
    info = write(store, made)
    assert (info.rows, info.first_offset, info.last_offset, info.epoch) == (1000, 10, 1009, 1)
    assert (info.min_effective_at, info.max_effective_at) == (1000, 1999)
    assert (info.min_unobserved_since, info.max_observed_at) == (0, 2009)
    assert (info.first_digest, info.last_digest) == (digest(0).hex(), digest(96).hex())
    assert info.size == len(store.get(info.name))
    assert info.index_size == len(store.get(info.index_name))
    segments.verify(store, info)


def test_any_avro_reader_opens_it(store: LocalStore) -> None:
    made = many()
    expected = sorted_copy(made)
    reader = fastavro.reader(io.BytesIO(store.get(write(store, made).name)))
    rows: list[Any] = list(reader)
    assert reader.codec == "zstandard"
    assert [r["offset"] for r in rows] == expected.offsets.tolist()
    assert [r["change"]["digest"] for r in rows] == [d.tobytes() for d in expected.columns.digest]
    assert [r["change"]["bins"]["n"] for r in rows] == expected.columns.effective_at.tolist()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60)), min_size=1, max_size=80),
    low=st.none() | st.integers(0, 22),
    high=st.none() | st.integers(0, 22),
    wanted=st.none() | st.sets(st.integers(0, 22), max_size=5),
)
def test_bounds_and_digests_give_exactly_their_rows(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int]],
    low: int | None,
    high: int | None,
    wanted: set[int] | None,
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("archive"))
    # Bins of 500 bytes make blocks of eight rows: digests span blocks, and blocks digests.
    made = versions([change(k, t, bins={"b": bytes(500)}) for k, t in rows], list(range(len(rows))))
    info = write(store, made)
    asked = None if wanted is None else np.frombuffer(b"".join(map(digest, wanted)), np.uint8).reshape(-1, 20)
    bounds = [None if b is None else digest(b) for b in (low, high)]
    got = concat(list(segments.read(store, info, *bounds, digests=asked)))
    keys = [
        (k, i)
        for i, (k, _) in enumerate(rows)
        if (low is None or k >= low) and (high is None or k < high) and (wanted is None or k in wanted)
    ]
    assert list(zip(got.columns.digest[:, 3].tolist(), got.offsets.tolist(), strict=True)) == sorted(keys)


def test_one_digest_costs_one_block(store: LocalStore) -> None:
    info = write(store, many(keys=900, rows=900))
    index = segments.read_index(store, info)
    assert len(index) > 5
    asked = np.frombuffer(digest(450), np.uint8).reshape(1, 20)
    assert len(index.holding(asked.view("V20").reshape(-1))) == 1


@settings(max_examples=30, deadline=None)
@given(moments=st.lists(st.integers(0, 50), min_size=1, max_size=60), after=st.integers(-1, 51))
def test_blocks_with_nothing_after_a_moment_are_not_read_and_no_later_row_is_missed(
    tmp_path_factory: pytest.TempPathFactory, moments: list[int], after: int
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("archive"))
    made = versions([change(k, t, bins={"b": bytes(500)}) for k, t in enumerate(moments)], list(range(len(moments))))
    got = list(segments.read(store, write(store, made), effective_after=after))
    assert all(int(block.columns.effective_at.max()) > after for block in got)
    found = [int(t) for block in got for t in block.columns.effective_at if t > after]
    assert found == [t for t in moments if t > after]


@pytest.mark.parametrize("keys", [(2, 1), (1, 1)])
def test_versions_out_of_order_are_refused(keys: tuple[int, int]) -> None:
    made = versions([change(k, 5) for k in keys], [7, 7])
    with pytest.raises(ValueError, match="in order"):
        segments.SegmentWriter(SMALL, 1).add(made)
    writer = segments.SegmentWriter(SMALL, 1)
    writer.add(made.span(0, 1))
    with pytest.raises(ValueError, match="in order"):
        writer.add(made.span(1, 2))


def test_two_attempts_never_share_a_name(store: LocalStore) -> None:
    made = many(rows=3)
    assert write(store, made).name != write(store, made).name


def replace_object(store: LocalStore, name: str, data: bytes) -> None:
    store.delete(name)
    assert store.put_if_absent(name, data)


@pytest.mark.parametrize("kind", ["name", "index_name"])
def test_a_flipped_byte_anywhere_is_found_and_named(store: LocalStore, kind: str) -> None:
    info = write(store, many(rows=200))
    name = getattr(info, kind)
    good = store.get(name)
    for at in range(0, len(good), max(1, len(good) // 150)):
        replace_object(store, name, good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(ObjectDamaged, match=name):
            list(segments.read(store, info))
        with pytest.raises(ObjectDamaged, match=name):
            segments.verify(store, info)


@pytest.mark.parametrize("kind", ["name", "index_name"])
def test_an_object_cut_anywhere_is_found_and_named(store: LocalStore, kind: str) -> None:
    info = write(store, many(rows=200))
    name = getattr(info, kind)
    good = store.get(name)
    for size in range(0, len(good), max(1, len(good) // 40)):
        replace_object(store, name, good[:size])
        with pytest.raises(ObjectDamaged, match=name):
            list(segments.read(store, info))
    store.delete(name)
    with pytest.raises(ObjectMissing, match=name):
        list(segments.read(store, info))


def test_swapped_objects_are_found(store: LocalStore) -> None:
    one, two = write(store, many(rows=200)), write(store, many(rows=201))
    first, second = store.get(one.name), store.get(two.name)
    replace_object(store, one.name, second)
    replace_object(store, two.name, first)
    for info in (one, two):
        with pytest.raises(ObjectDamaged, match=info.name):
            list(segments.read(store, info))


def test_an_index_of_a_newer_format_is_refused() -> None:
    with pytest.raises(FormatTooNew):
        segments.indexes.decode(b"CDCIDX03" + bytes(48), "x.idx")


@given(rows=st.lists(st.tuples(st.binary(min_size=1, max_size=3), st.integers(0, 5)), max_size=30))
def test_order_sorts_by_digest_then_offset_where_the_first_eight_bytes_agree(rows: list[tuple[bytes, int]]) -> None:
    # Digests that differ only behind their eighth byte: random hashes never show this.
    digests = np.array([list(bytes(20 - len(b)) + b) for b, _ in rows], np.uint8).reshape(-1, 20)
    offsets = np.array([o for _, o in rows], np.int64)
    chosen = order(digests, offsets)
    keys = [(digests[i].tobytes(), int(offsets[i])) for i in chosen]
    assert keys == sorted(keys)
    assert is_sorted(digests[chosen], offsets[chosen]) == (len(set(keys)) == len(keys))


def test_ended_records_pass_as_they_are(store: LocalStore) -> None:
    made = versions([change(1, 5, op=Op.DELETE), change(2, 6, op=Op.EXPIRY, void_time=6)], [0, 1])
    assert same(concat(list(segments.read(store, write(store, made)))), made)


@pytest.mark.parametrize(("level", "expected"), [(1, 1), (3, 2), (19, 2)])
def test_what_is_merged_soon_is_compressed_less_and_everything_else_of_the_settings_stays(
    level: int, expected: int
) -> None:
    given_ones = ArchiveSettings(zstd_level=level, block_bytes=1 << 16).called("offsite")
    made = segments.fresh(given_ones)
    assert (made.zstd_level, made.block_bytes, made.destination) == (expected, 1 << 16, "offsite")
    assert given_ones.zstd_level == level
