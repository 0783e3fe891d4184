"""The catalog against a plain dictionary, through stops, torn ends and damage."""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.collector import catalog as catalog_module
from cdc.collector import catalog_files as files
from cdc.collector.catalog import Catalog
from cdc.collector.entries import ENTRY_SIZE, Entries, digests_of, find, keys_of
from cdc.collector.state import Floors, ShardState
from cdc.errors import CatalogError
from cdc.model import partition_of, partitions_of

SHARDS = 4
SHARD = 2


def digests(*numbers: int) -> np.ndarray:
    """Digests of shard 2 of 4, distinct for distinct numbers; numbers that are equal modulo 50 share their key."""
    out = np.zeros((len(numbers), 20), np.uint8)
    for row, number in enumerate(numbers):
        partition = partitions_of(SHARD, SHARDS).start + (number % 50) * 7
        out[row, 0], out[row, 1] = partition & 0xFF, (partition >> 8) | ((number % 16) << 4 if number >= 1000 else 0)
        out[row, 19] = number // 50 % 256
        out[row, 12] = number % 3
    return out


def entries(numbers: list[int], lut: int = 1_700_000_000_123, generation: int = 1) -> Entries:
    n = len(numbers)
    return Entries.of(
        digests(*numbers), np.full(n, lut), np.full(n, generation, np.int32),
        np.array([0 if i % 2 else 1_800_000_000_000 + i * 1000 for i in numbers], np.int64),
        np.array([(i * 0x9E3779B97F4A7C15) & (2**64 - 1) for i in numbers], np.uint64), np.zeros(n, np.uint16),
    )  # fmt: skip


def fresh(directory: Path) -> Catalog:
    return Catalog.begin(directory, ShardState.begin(SHARD, SHARDS, 1_700_000_000_000))


def advance(state: ShardState, changes_through: int) -> ShardState:
    return replace(state, changes_through=changes_through)


def reopened(directory: Path) -> Catalog:
    catalog = Catalog.open(directory, SHARD, SHARDS)
    assert catalog is not None
    return catalog


def content(catalog: Catalog) -> dict[bytes, tuple[int, int]]:
    out = {}
    for p in partitions_of(SHARD, SHARDS)[::3]:
        found = catalog.partitions(p, p + 2)
        for digest, lut, generation in zip(found.digest, found.lut, found.generation, strict=True):
            out[digest.tobytes()] = (int(lut), int(generation))
    return out


def test_an_entry_takes_forty_bytes() -> None:
    assert ENTRY_SIZE == 40


@given(st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=30))
@settings(max_examples=50)
def test_keys_are_the_digests_in_partition_order(raw: list[bytes]) -> None:
    digest = np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 20)
    key, high, low = keys_of(digest)
    assert np.array_equal(digests_of(key, high, low), digest)
    assert np.array_equal((key >> np.uint64(52)).astype(np.int64), partition_of(digest))


@given(
    st.integers(0, 2**47), st.integers(1, 65535), st.integers(1, 2**32 - 1), st.integers(0, 2**64 - 1)
)  # fmt: skip
@settings(max_examples=50)
def test_an_entry_gives_back_what_it_was_made_of(lut: int, generation: int, void_s: int, checksum: int) -> None:
    void_time = (void_s + 1_262_304_000) * 1000
    entry = Entries.of(
        digests(7), np.array([lut]), np.array([generation], np.int32), np.array([void_time]),
        np.array([checksum], np.uint64), np.array([5], np.uint16),
    )  # fmt: skip
    assert (entry.lut[0], entry.generation[0], entry.void_time[0]) == (lut, generation, void_time)
    assert int(entry.checksum[0]) == checksum & (2**48 - 1)
    assert entry.set_number[0] == 5


def test_digests_with_equal_keys_are_told_apart() -> None:
    many = entries([3, 53, 103, 153]).sort()
    assert len(set(many.key.tolist())) == 1
    rows = find(many, *keys_of(digests(103, 203, 3)))
    assert rows[1] == -1
    assert np.array_equal(many.digest[rows[[0, 2]]], digests(103, 3))


@given(
    st.lists(
        st.tuples(
            st.sets(st.integers(0, 199), max_size=25), st.sets(st.integers(0, 199), max_size=10), st.booleans()
        ),
        max_size=12,
    )
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_it_holds_what_a_dictionary_would_whatever_is_merged_or_reopened(
    steps: list[tuple[set[int], set[int], bool]],
) -> None:
    directory = Path(tempfile.mkdtemp())
    limits = catalog_module.MERGE_ROWS, catalog_module.MERGE_ROWS_MOST
    catalog_module.MERGE_ROWS = catalog_module.MERGE_ROWS_MOST = 30  # type: ignore[misc]
    try:
        catalog = fresh(directory)
        truth: dict[bytes, tuple[int, int]] = {}
        for at, (put, out, stop) in enumerate(steps, 1):
            out -= put
            catalog.commit(catalog.state, entries(sorted(put), 1000 + at, at), digests(*sorted(out)))
            for d in digests(*sorted(out)):
                truth.pop(d.tobytes(), None)
            truth |= {d.tobytes(): (1000 + at, at) for d in digests(*sorted(put))}
            if stop:
                catalog.close()
                catalog = reopened(directory)
        assert content(catalog) == truth
        assert len(catalog) == len(truth)
        everyone = digests(*range(200))
        known, found = catalog.lookup(everyone)
        assert [d.tobytes() in truth for d in everyone] == known.tolist()
        assert np.array_equal(found.digest[known], everyone[known])
        counts = np.zeros(len(partitions_of(SHARD, SHARDS)), np.int64)
        if truth:
            live = np.frombuffer(b"".join(truth), np.uint8).reshape(-1, 20)
            np.add.at(counts, partition_of(live) - partitions_of(SHARD, SHARDS).start, 1)
        assert np.array_equal(catalog.counts(), counts)
        catalog.close()
    finally:
        catalog_module.MERGE_ROWS, catalog_module.MERGE_ROWS_MOST = limits  # type: ignore[misc]
        shutil.rmtree(directory)


@given(st.integers(0, 5000))
@settings(max_examples=40, deadline=None)
def test_a_torn_end_costs_whole_batches_only(cut: int) -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        catalog = fresh(directory)
        for i in range(5):
            catalog.commit(advance(catalog.state, i + 1), entries([i * 2, i * 2 + 1]), digests())
        catalog.close()
        journal = next(directory.glob("journal-*.log"))
        journal.write_bytes(journal.read_bytes()[: max(0, journal.stat().st_size - cut)])
        catalog = reopened(directory)
        assert len(catalog) == 2 * catalog.state.changes_through
        catalog.commit(advance(catalog.state, 9), entries([150]), digests())
        catalog.close()
        again = reopened(directory)
        assert again.state.changes_through == 9
        assert again.lookup(digests(150))[0].all()
        again.close()
    finally:
        shutil.rmtree(directory)


def test_a_missing_catalog_is_none_and_not_an_error(tmp_path: Path) -> None:
    assert Catalog.open(tmp_path / "nothing", SHARD, SHARDS) is None


@pytest.mark.parametrize("at", [0, 9, 20, 40, 500, -1])
def test_a_damaged_base_is_refused(tmp_path: Path, at: int) -> None:
    catalog = fresh(tmp_path)
    catalog._apply(entries(list(range(100))).sort(), digests())
    catalog._merge()
    catalog.close()
    base = next(tmp_path.glob("base-*.cat"))
    raw = bytearray(base.read_bytes())
    raw[at] ^= 1
    base.write_bytes(raw)
    with pytest.raises(CatalogError):
        Catalog.open(tmp_path, SHARD, SHARDS)


def test_a_file_that_is_not_of_the_catalog_is_in_nobodys_way(tmp_path: Path) -> None:
    fresh(tmp_path).close()
    for name in ("base-x.cat", "base-7.cat.bak", "base-.cat"):
        (tmp_path / name).write_bytes(b"somebody's")
    found = Catalog.open(tmp_path, SHARD, SHARDS)
    assert found is not None
    found.close()


def test_a_catalog_of_another_division_is_refused(tmp_path: Path) -> None:
    fresh(tmp_path).close()
    with pytest.raises(CatalogError, match="shard 2 of 4"):
        Catalog.open(tmp_path, SHARD, 8)


def test_what_has_expired_is_listed_from_base_and_journal(tmp_path: Path) -> None:
    catalog = fresh(tmp_path)
    catalog._apply(entries([2, 4, 1]).sort(), digests())
    catalog._merge()
    catalog.commit(catalog.state, entries([6, 8, 3]), digests(4))
    gone = catalog.expired(1_800_000_000_000 + 6000)
    assert {d.tobytes() for d in gone.digest} == {d.tobytes() for d in digests(2, 6)}
    catalog.close()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8), st.integers(0, 9))
@settings(max_examples=40)
def test_a_state_reads_back_as_it_was_written(moments: list[tuple[int, int]], sweep: int) -> None:
    state = ShardState.begin(SHARD, SHARDS, 77)
    for start, value in moments:
        state.watermark[start * 100 : start * 100 + 50] = value
    floors = Floors.empty().after(digests(1, 2), np.array([5, 6]), 0)
    state = ShardState(**{**{f: getattr(state, f) for f in state.__slots__}, "sweep": sweep, "floors": floors})
    back = ShardState.from_json(state.to_json())
    assert np.array_equal(back.watermark, state.watermark)
    assert back.sweep == sweep
    assert back.floors.of(digests(2, 9)).tolist() == [6, 0]
    with pytest.raises(CatalogError):
        ShardState.from_json(b'{"shard": 1}')


def test_a_state_of_before_has_its_floors_in_pairs() -> None:
    state = ShardState.begin(SHARD, SHARDS, 77)
    raw = json.loads(state.to_json())
    raw["floors"] = [[d.tobytes().hex(), at] for d, at in zip(digests(2, 1), (6, 5), strict=True)]
    back = ShardState.from_json(json.dumps(raw).encode())
    assert back.floors.of(digests(1, 2, 9)).tolist() == [5, 6, 0]
    for damaged in ("ab", ["AAAA", "AAAA"], [["zz", 1]], ["", "AAAAAAAAAAA="]):
        raw["floors"] = damaged
        with pytest.raises(CatalogError):
            ShardState.from_json(json.dumps(raw).encode())


@given(st.lists(st.tuples(st.lists(st.tuples(st.integers(0, 199), st.integers(1, 9)), max_size=9), st.integers(0, 9))))
def test_floors_are_what_was_added_last_and_is_above(steps: list[tuple[list[tuple[int, int]], int]]) -> None:
    floors, plain = Floors.empty(), dict[int, int]()
    for added, above in steps:
        plain = {number: at for number, at in (plain | dict(added)).items() if at > above}
        numbers, moments = [number for number, _ in added], np.array([at for _, at in added], np.int64)
        floors = floors.after(digests(*numbers), moments, above)
    assert len(floors) == len(plain)
    assert floors.of(digests(*range(200))).tolist() == [plain.get(number, 0) for number in range(200)]


def test_more_sets_than_an_entry_can_name_are_told() -> None:
    names: dict[int, str | None] = {number: f"set {number}" for number in range(1, 40_000)}
    state, found = ShardState.begin(SHARD, SHARDS, 77).numbers_of(np.arange(1, 32_768, dtype=np.uint64), names)
    assert found.tolist() == list(range(1, 32_768))
    with pytest.raises(CatalogError, match="32,768 sets"):
        state.numbers_of(np.array([39_000], np.uint64), names)


def test_a_full_disk_is_told_once_and_not_again_when_the_journal_is_closed(tmp_path: Path) -> None:
    files.journal_path(tmp_path, 1).symlink_to("/dev/full")
    journal = files.Journal(tmp_path, 1)
    with pytest.raises(CatalogError, match="No space left"):
        journal.append(files.Batch(b"{}", entries([1, 2]), digests(3)))
    journal.close()
