import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.collector.pace import LEAD_MS, PORTION_RECORDS, PORTIONS, RESTING, SPREAD, Pace, next_start, portions
from cdc.collector.reconcile import Doubts
from cdc.collector.sparing import Sparing
from cdc.collector.stats import Stats
from cdc.collector.strain import DOWN_S, LEVELS, LONGEST_S, UP_S, Strain, connections_within, held_back
from cdc.config import ProtectionSettings, Settings
from cdc.model import PARTITIONS

SECONDS = st.floats(0.001, 10_000)


@given(st.integers(1, 4096), st.integers(0, 1 << 40), st.integers(1 << 10, 1 << 30))
@settings(max_examples=60)
def test_a_piece_aims_at_the_limit_and_grows_slowly(partitions: int, size: int, limit: int) -> None:
    after = Pace(limit, partitions).after(partitions, size, size).partitions
    assert 1 <= after <= min(PARTITIONS, 8 * partitions)
    assert after == 1 or after * size <= limit * partitions
    assert 1 <= Pace.expecting(limit, size, PARTITIONS, partitions).partitions <= partitions


@given(st.integers(1, 4096), st.integers(0, 1 << 30), st.integers(1, 1 << 20))
def test_a_piece_aims_at_its_records_too(partitions: int, brought: int, records: int) -> None:
    after = Pace(1 << 30, partitions, records).after(partitions, 0, brought).partitions
    assert after == 1 or after * brought <= records * partitions


@given(st.lists(st.integers(0, 1 << 20), min_size=1, max_size=20))
def test_a_look_that_rests_takes_few_partitions_at_a_time(sizes: list[int]) -> None:
    pace = Pace.unknown(1 << 30, most=RESTING)
    for size in sizes:
        assert pace.partitions <= RESTING
        pace = pace.after(pace.partitions, size, size)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100))))
def test_strain_moves_a_step_at_a_time_within_its_bounds(answers: list[tuple[int, float]]) -> None:
    strain, now = Strain(), 0.0
    for busy, later in answers:
        now += later
        after = strain.after(busy, now)
        assert 0 <= after.level <= LEVELS
        assert after.level - strain.level in ((0, 1) if busy else (0, -1))
        strain = after


@given(st.integers(1, LEVELS), st.floats(0, 1e9))
def test_strain_ends_when_nodes_stay_calm(level: int, now: float) -> None:
    strain = Strain(level, now)
    assert strain.after(0, now + DOWN_S / 2) == strain
    for _ in range(level):
        now += DOWN_S * 1.01
        strain = strain.after(0, now)
    assert strain.level == 0


def test_strain_that_lasts_reaches_its_bound_and_is_not_left_between_two_busy_answers() -> None:
    strain, now = Strain(), 1000.0
    for _ in range(LEVELS + 3):
        strain = strain.after(1, now)
        now += UP_S
    assert strain.level == LEVELS
    strain = strain.after(1, now + DOWN_S)
    assert strain.after(0, now + DOWN_S * 1.5).level == LEVELS
    assert strain.after(0, now + DOWN_S * 2).level == LEVELS - 1


@given(st.integers(0, LEVELS - 1), SECONDS, st.integers(1, 64))
def test_more_strain_never_asks_for_more(level: int, seconds: float, connections: int) -> None:
    calm, more = Strain(level), Strain(level + 1)
    assert seconds <= calm.sweep_every_s(seconds) <= more.sweep_every_s(seconds) <= max(seconds, LONGEST_S)
    assert 1 <= more.connections(connections) <= calm.connections(connections) <= connections
    assert calm.rest_s(seconds) <= more.rest_s(seconds) <= LONGEST_S


@given(SECONDS, st.integers(1, 64))
def test_without_strain_everything_is_as_the_settings_say(seconds: float, connections: int) -> None:
    assert Strain().sweep_every_s(seconds) == seconds
    assert Strain().connections(connections) == connections
    assert Strain().rest_s(seconds) == 0


@given(st.integers(1, 64), st.integers(0, 512), st.integers(1, 128))
def test_connections_keep_below_the_ceiling_where_one_can(usual: int, ceiling: int, threads: int) -> None:
    allowed = connections_within(usual, ceiling, threads)
    assert 1 <= allowed <= usual
    if ceiling >= threads:
        assert allowed * threads <= ceiling
    if not ceiling or usual * threads <= ceiling:
        assert allowed == usual


def test_a_sweep_is_held_back_when_its_records_take_longer_than_its_period() -> None:
    assert held_back(501, 1000, 1.0)
    assert not held_back(500, 1000, 1.0)
    assert not held_back(1 << 30, 0, 1.0)


def test_sweeps_that_the_limit_holds_back_are_told_of_once_an_episode() -> None:
    stats = Stats("pace")
    sparing = Sparing(Settings(protection=ProtectionSettings(records_per_s=100)), stats)
    for records in (50, 51, 70, 0, 90):
        sparing.swept(records)
    assert [text.partition("brought ")[2].partition(" ")[0] for text in stats.notes] == ["51", "90"]


@given(st.integers(0, 1 << 41), st.lists(st.integers(0, 900), min_size=1, max_size=10), st.integers(1, PORTIONS))
def test_sweeps_of_a_second_leave_no_doubt_when_each_is_over_in_the_second_after_the_one_before(
    began: int, took: list[int], portions: int
) -> None:
    doubts = Doubts.begin()
    began = next_start(began, 1000)
    for milliseconds in took:
        before, began = began, next_start(began, 1000)
        assert 0 < began - before <= 1000
        for later in (round(1000 * SPREAD * portion / portions) for portion in range(portions)):
            over = min(began + later + milliseconds, began - began % 1000 + 999)
            doubts.swept(np.array([7]), np.array([before + later]), over, np.empty(0, np.int64))
            assert began % 1000 + later < 700  # there is time left
        assert not doubts.apart
        assert began % 1000 <= LEAD_MS


@given(st.integers(1, PARTITIONS), st.integers(1, PORTIONS))
def test_a_sweep_has_no_more_pieces_than_portions_where_it_brings_little(partitions: int, portions: int) -> None:
    look = Pace.expecting(1 << 30, 0, partitions, -(-partitions // portions))
    pieces, left = 0, partitions
    while left > 0:
        pieces, left = pieces + 1, left - look.partitions
        look = look.after(look.partitions, 0, 0)
    assert pieces <= portions


@given(st.integers(0, 1 << 30))
def test_a_sweep_is_spread_the_more_it_brings(records: int) -> None:
    assert 1 <= portions(records) <= portions(2 * records) <= PORTIONS
    assert records >= portions(records) * PORTION_RECORDS or portions(records) == 1


@given(st.integers(0, 1 << 41), st.integers(1, 999) | st.integers(1001, 1 << 30))
def test_other_periods_are_kept_as_they_are(began: int, every: int) -> None:
    assert next_start(began, every) == began + every
