"""What is doubted: counts, where a version may have come and expired between two sweeps, and clocks that were set."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cdc.clock import steady_clock, wall_clock
from cdc.collector.deletes import Reading
from cdc.collector.reconcile import Doubts
from cdc.model import END_OF_TIME, I64, PARTITIONS
from cdc.source import NodeStanding, Truncations


def swept(doubts: Doubts, before: I64, until: int, torn: tuple[int, ...] = ()) -> None:
    doubts.swept(np.arange(len(before)), before, until, np.array(torn, np.int64))


def test_a_version_that_was_glimpsed_and_not_brought_in_time_makes_its_partition_doubtful() -> None:
    doubts = Doubts.begin()
    doubts.hazy[:] = False
    swept(doubts, np.array([1_000, 1_000]), 1_999, torn=(1,))
    swept(doubts, np.array([2_000, 2_000]), 2_999)
    assert not doubts.hazy.any()
    swept(doubts, np.array([3_000, 3_000]), 3_999, torn=(1,))
    swept(doubts, np.array([4_000, 4_000]), 6_000)
    assert np.flatnonzero(doubts.hazy).tolist() == [1]


def test_sweeps_are_apart_after_a_first_one_and_after_a_pause() -> None:
    doubts = Doubts.begin()
    swept(doubts, np.array([1_999]), 2_000)
    swept(doubts, np.array([1_000, 1_999]), 2_999)
    assert not doubts.apart
    swept(doubts, np.array([2_000, 1_999]), 3_000)
    assert doubts.apart
    swept(doubts, np.array([1_999]), 2_000)
    assert doubts.apart
    doubts = Doubts.begin()
    swept(doubts, np.array([2_999, END_OF_TIME]), 3_000)  # of one partition it is not known
    assert doubts.apart


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000), st.integers(1, 4))
def test_a_version_that_a_later_sweep_cannot_show_any_more_leaves_a_doubt(
    before: int, wait: int, read_after: int, ttl: int
) -> None:
    written = before + wait
    read = written + read_after
    hidden = read // 1000 > written // 1000 + ttl
    doubts = Doubts.begin()
    swept(doubts, np.array([before]), read)
    assert doubts.apart >= hidden


MOMENT = 1_700_000_000_000


@given(st.integers(0, 5_000), st.integers(0, 3_000), st.integers(-5_000, 5_000))
def test_a_reading_contradicts_clocks_by_which_a_node_cannot_have_shown_its_second(
    at: int, took: int, shown: int
) -> None:
    node = NodeStanding("A", MOMENT + shown // 1000 * 1000, 1, "K", 0, 0, 0, 0, Truncations(0, {}), 1, 0, 0, 0, {})
    reading = Reading(MOMENT + at, 0.0, 0.0, (node,), np.zeros(PARTITIONS, np.int64), True)
    latest = MOMENT + at + took
    possible = any(moment // 1000 == shown // 1000 for moment in range(at, at + took + 1))
    assert bool(reading.contradicted_by(latest)) == (not possible)


def test_nobody_sets_a_steady_clock() -> None:
    clock = steady_clock()
    before, wall = clock(), wall_clock()
    assert abs(before - wall) < 1_000
    assert before <= clock()
