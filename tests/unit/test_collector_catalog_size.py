"""How much a catalog takes, on disk and in memory, whatever it holds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.collector import catalog as catalog_module
from cdc.collector.catalog import Catalog
from cdc.collector.catalog_base import Base
from cdc.collector.entries import ENTRY_SIZE, Entries, keys_of, void_seconds
from cdc.collector.state import ShardState
from cdc.model import I64, U8, partitions_of

FIXED = 4096
"""Bytes beside the entries: head and state."""
NONE: U8 = np.empty((0, 20), np.uint8)


def random_digests(count: int, dice: np.random.Generator) -> U8:
    """Digests of shard 0 of 8."""
    out = dice.integers(0, 256, (count, 20), dtype=np.uint8)
    out[:, 1] &= 0xF1
    return out


def written(digest: U8, generation: int, void_time: I64 | None = None) -> Entries:
    n = len(digest)
    never: I64 = np.zeros(n, np.int64)
    return Entries.of(
        digest, np.full(n, 1_700_000_000_000 + generation), np.full(n, generation, np.int32),
        never if void_time is None else void_time, never.astype(np.uint64), never.astype(np.uint16),
    )  # fmt: skip


def test_a_million_records_take_forty_bytes_each_and_the_journal_its_bound(tmp_path: Path) -> None:
    dice = np.random.default_rng(4)
    catalog = Catalog.begin(tmp_path, ShardState.begin(0, 8, 1_700_000_000_000))
    known = random_digests(1_000_000, dice)
    most_open = 0.0
    for part in np.split(known, 10):
        catalog.commit(catalog.state, written(part, 1), NONE)
    for generation in range(2, 30):
        rows = dice.permutation(len(known))[:20_000]
        # A tenth of these goes, and is put in again in the next round.
        catalog.commit(catalog.state, written(known[rows[2_000:]], generation), known[rows[:2_000]])
        catalog.commit(catalog.state, written(known[rows[:2_000]], generation), NONE)
        journal = catalog.bytes_on_disk - _base_bytes(tmp_path)
        batch = 20_000 * ENTRY_SIZE + FIXED
        bound = max(catalog_module.JOURNAL_BYTES, ENTRY_SIZE * 1_000_000 // 4) + batch
        most_open = max(most_open, journal / bound)
    assert 0.5 < most_open <= 1.0  # the journal came near its bound, and was merged
    catalog._merge()
    assert len(catalog) == 1_000_000
    assert catalog.bytes_on_disk <= ENTRY_SIZE * 1_000_000 + FIXED
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) == catalog.bytes_on_disk
    catalog.close()


def _base_bytes(directory: Path) -> int:
    [base] = directory.glob("base-*.cat")
    return base.stat().st_size


TAKES = """
import ctypes, sys
from pathlib import Path
import numpy as np
from tests.unit.test_collector_catalog_size import NONE, random_digests, written
from cdc.collector.catalog import Catalog
from cdc.collector.state import ShardState

def own() -> int:
    # Memory that is this process's alone: mapped files, which the system may drop, do not count.
    ctypes.CDLL(None).malloc_trim(0)
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) * 1024

dice = np.random.default_rng(5)
catalog = Catalog.begin(Path(sys.argv[1]), ShardState.begin(0, 8, 1_700_000_000_000))
begun, most = own(), 0
for _ in range(int(sys.argv[2]) // 50_000):
    digests = random_digests(50_000, dice)
    catalog.commit(catalog.state, written(digests, 1), NONE)
    most = max(most, own())
catalog._merge()
for _ in range(20):
    again = np.concatenate([digests, random_digests(50_000, dice)])
    catalog.lookup(again)
    catalog.commit(catalog.state, written(digests, 2), NONE)
    catalog.expired(1_900_000_000_000)
    most = max(most, own())
print(most - begun)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    taken = []
    for count in (1_000_000, 4_000_000):
        arguments = [sys.executable, "-c", TAKES, str(tmp_path / str(count)), str(count)]
        taken.append(int(subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=300).stdout))
    assert all(0 < one < 96 << 20 for one in taken), taken  # 4,000,000 entries are 160 MB
    assert taken[1] - taken[0] < 16 << 20, taken


@given(
    st.lists(st.tuples(st.integers(0, 511), st.integers(0, 5)), max_size=40),
    st.lists(st.sets(st.integers(0, 39), max_size=8), max_size=4),
    st.lists(st.integers(-1, 6), min_size=1, max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_what_has_expired_is_found_whatever_has_gone(
    records: list[tuple[int, int]], goes: list[set[int]], asked: list[int]
) -> None:
    """Void times of 0 stand for never; the others count seconds from a moment."""
    epoch = 1_800_000_000_000
    digest = np.zeros((len(records), 20), np.uint8)
    for row, (partition, _) in enumerate(records):
        digest[row, 0], digest[row, 1], digest[row, 19] = partition & 0xFF, partition >> 8, row
    void = np.array([epoch + s * 1000 if s else 0 for _, s in records], np.int64)
    entries = written(digest, 1, void).sort()
    base = Base(entries, partitions_of(0, 8))
    left = np.ones(len(records), np.bool_)
    for rows in [set(), *goes]:
        gone = np.array(sorted(r for r in rows if r < len(records) and left[r]), np.int64)
        base.bury(gone)
        left[gone] = False
        for seconds in asked:
            before = epoch + seconds * 1000
            found = Entries.concat(base.expired(void_seconds(before))).sort()
            wanted = left & (entries.void_time > 0) & (entries.void_time <= before)
            assert np.array_equal(found.digest, entries.digest[wanted])
        assert np.array_equal(base.partitions(0, 511).digest, entries.digest[left])
        assert [
            int(base.rows(keys_of(entries.digest[i : i + 1]))[0]) >= 0 for i in range(len(entries))
        ] == left.tolist()


@given(st.lists(st.integers(0, 511), max_size=200), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_groups_are_all_partitions_in_order_and_of_bounded_size(placed: list[int], most: int) -> None:
    digest = np.zeros((len(placed), 20), np.uint8)
    for row, partition in enumerate(placed):
        digest[row, 0], digest[row, 1], digest[row, 18] = partition & 0xFF, partition >> 8, row
    base = Base(written(digest, 1).sort(), partitions_of(0, 8))
    groups = base.groups(most)
    assert [p for first, last in groups for p in range(first, last + 1)] == list(range(512))
    fullest = int(base.counts().max(initial=0))
    assert all(len(base.partitions(first, last)) <= most + fullest for first, last in groups)
