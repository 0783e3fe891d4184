"""What a drill rehearses: a share of the partitions, and a moment."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import NotRecoverable, UsageError
from cdc.model import PARTITIONS, shard_of
from cdc.replayer.sample import RECENT_MS, moment, partitions, share

shards = st.sampled_from([1, 2, 8, 64])


@dataclass(frozen=True)
class Span:
    start: int
    end: int


@pytest.mark.parametrize(("text", "part"), [("1%", 0.01), ("12.5 %", 0.125), ("100%", 1.0), ("all", 1.0), ("ALL", 1.0)])
def test_a_share_is_a_percentage_or_all(text: str, part: float) -> None:
    assert share(text) == part


@pytest.mark.parametrize("text", ["", "0%", "101%", "1", "-1%", "half", "1e2%"])
def test_other_words_are_no_share(text: str) -> None:
    with pytest.raises(UsageError, match="not a sample"):
        share(text)


@given(st.floats(0.0001, 1), shards, st.integers(0, 255))
def test_a_sample_has_about_its_share_of_every_shard_and_lies_together(part: float, count: int, first: int) -> None:
    chosen = partitions(part, count, first)
    assert list(chosen) == sorted(set(chosen))
    mine = np.array(chosen)
    size = PARTITIONS // count
    assert np.bincount(shard_of(mine, count), minlength=count).tolist() == [max(1, round(part * size))] * count
    # Between the first and the last byte that a digest of the sample's shard begins with, nothing is passed over.
    every = np.arange(PARTITIONS)
    for shard in range(count):
        heads = mine[shard_of(mine, count) == shard] % 256
        between = every[(shard_of(every, count) == shard) & (every % 256 > heads.min()) & (every % 256 < heads.max())]
        assert set(between.tolist()) <= set(chosen)


@given(shards, st.integers(0, 255))
def test_everything_is_all_partitions(count: int, first: int) -> None:
    assert partitions(1.0, count, first) == tuple(range(PARTITIONS))


spans = st.lists(
    st.tuples(st.integers(0, 4 * RECENT_MS), st.integers(0, RECENT_MS)).map(lambda p: Span(p[0], p[0] + p[1])),
    min_size=1, max_size=5,
)  # fmt: skip


@given(spans, st.integers(0, 1 << 32))
def test_a_random_moment_is_recoverable_and_recent_where_any_is(windows: list[Span], seed: int) -> None:
    now = max(w.end for w in windows) + 1000
    at = moment("random", windows, now, random.Random(seed))
    assert any(w.start <= at <= w.end for w in windows)
    assert at >= now - RECENT_MS or all(w.end < now - RECENT_MS for w in windows)


@given(st.integers(0, 1 << 32))
def test_a_moment_by_chance_is_of_the_last_window_where_all_are_old(seed: int) -> None:
    windows = [Span(5, 9), Span(100, 200)]
    assert 100 <= moment("random", windows, 10 * RECENT_MS, random.Random(seed)) <= 200


def test_other_words_mean_what_they_mean_for_a_restore() -> None:
    windows = [Span(1_000, 600_000)]
    chance = random.Random(1)
    assert moment("latest", windows, 700_000, chance) == 600_000
    assert moment("5m", windows, 700_000, chance) == 400_000
    assert moment("deploy", windows, 700_000, chance, {"deploy": 5_000}) == 5_000
    with pytest.raises(NotRecoverable):
        moment("700s", windows, 700_000, chance)
    with pytest.raises(NotRecoverable, match="nothing is recoverable yet"):
        moment("random", [], 700_000, chance)
