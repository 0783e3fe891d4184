"""A busy sweep, in portions that are spread over its period."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cdc.collector import Collector, pace
from cdc.model import BEGINNING, END_OF_TIME, PARTITIONS
from cdc.topics.progress import Kind
from tests.fixtures.collecting import SHARDS, Scene

RECORDS = 200


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PORTION_RECORDS", RECORDS // 8)


def write(scene: Scene, value: int) -> None:
    for i in range(RECORDS):
        scene.put(i, value)


@pytest.mark.parametrize("reconcile_every_s", [0.5, 60.0])
def test_shards_are_swept_one_after_the_other_while_much_is_written_and_together_while_nothing_is(
    scene: Scene, watched: Callable[[Collector], Any], until: Callable[..., Any], reconcile_every_s: float
) -> None:
    write(scene, 0)
    with scene.collector(sweep_every_s=1.0, reconcile_every_s=reconcile_every_s) as collector, watched(collector):
        until(lambda: collector.stats.look_s.get(Kind.SWEEP) is not None, 20)
        for value in range(1, 5):
            write(scene, value)
            time.sleep(0.6)
        until(lambda: scene.captured() == scene.truth(), 20)
        # Of four portions the second, which ends one shard, and the last begin 0.45 s apart.
        assert max(_apart(scene)) > 300
        until(lambda: _apart(scene)[-1] < 100, 20)
    assert scene.captured() == scene.truth()
    assert collector.stats.drift == 0
    assert not collector.stats.errors


def _apart(scene: Scene) -> list[int]:
    """Of each sweep, how far apart its shards were observed, in milliseconds."""
    told = [[p for p in scene.progress(k) if p.kind == Kind.SWEEP and p.complete] for k in range(SHARDS)]
    by_sweep = zip(*told, strict=False)
    return [max(p.observed_at for p in one) - min(p.observed_at for p in one) for one in by_sweep]


def test_a_collector_that_rests_within_a_sweep_stops_at_once(
    scene: Scene, watched: Callable[[Collector], Any], until: Callable[..., Any]
) -> None:
    write(scene, 0)
    with scene.collector(sweep_every_s=60.0) as collector:
        collector.run_once()
        write(scene, 1)
        collector.run_once()
        write(scene, 2)
        collector._session.sparing.swept(RECORDS)
        collector._swept_at = time.monotonic() - 61.0  # a period ago: it is not overdue
        with watched(collector):
            until(lambda: collector._sweeping is not None, 20)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        assert collector._sweeping is not None
    assert scene.once().changes.total() > 0
    assert scene.captured() == scene.truth()


def _spread(collector: Collector, *, reconciling: bool) -> Iterator[float]:
    """A sweep after one that brought all records."""
    collector._session.sparing.swept(RECORDS)
    return collector._sweep_on(reconciling=reconciling, spread=True)


def test_each_portion_reaches_back_to_its_own_last_sweep(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    write(scene, 0)
    asked: list[int] = []
    with scene.collector(sweep_every_s=0.4) as collector:
        collector.run_once()
        write(scene, 1)
        collector.run_once()
        session = collector._session
        observe = session.source.observe
        monkeypatch.setattr(
            session.source, "observe",
            lambda partitions, since, **rest: asked.append(since) or observe(partitions, since, **rest),
        )  # fmt: skip
        noticed = session.times.earliest() - 60_000
        session.swept_at[:] = noticed  # as a clock that was set back would have it
        for rests_until in _spread(collector, reconciling=False):
            time.sleep(max(0.0, rests_until - time.monotonic()))
        assert asked == [noticed - session.allowance.skew_ms - session.allowance.overlap_ms] * pace.PORTIONS
        assert int(session.swept_at.min()) > noticed + 59_000
        assert len(set(session.swept_at.tolist())) == pace.PORTIONS  # each began at a moment of its own


def test_a_sweep_is_given_up_where_shards_were_taken_up_while_it_rested(scene: Scene) -> None:
    write(scene, 0)
    with scene.collector(sweep_every_s=0.4) as collector:
        collector.run_once()
        write(scene, 1)
        collector.run_once()
        write(scene, 2)
        session = collector._session
        sweeping = _spread(collector, reconciling=True)
        next(sweeping)
        told = collector.stats.changes.total()
        assert session._membership is not None
        session._take_up(session._membership, session._membership.poll())
        session._assignment = object()  # type: ignore[assignment] # another one than before
        assert list(sweeping) == []
        assert collector.stats.changes.total() == told < 3 * RECORDS
    scene.once()
    assert scene.captured() == scene.truth()


def test_a_shard_that_comes_back_is_swept_from_where_another_worker_left_it_unless_clocks_went_back(
    scene: Scene,
) -> None:
    scene.put(1, 1)
    with scene.collector() as collector:
        collector.run_once()
        session = collector._session
        now = session.times.earliest()
        before, after = np.arange(PARTITIONS // 2), np.arange(PARTITIONS // 2, PARTITIONS)
        session.swept(before, now)
        session.swept(after, now - 3_600_000)  # behind the watermark: as if by a clock that was set back
        assert session._membership is not None
        session._take_up(session._membership, session._membership.poll())
        assert set(session.swept_at[before].tolist()) == {END_OF_TIME}
        assert set(session.swept_at[after].tolist()) == {now - 3_600_000}
        assert not session.forgotten
        session.swept_at[after[0]] = BEGINNING
        assert session.forgotten


@pytest.mark.emulator_only
def test_where_a_clock_went_back_while_a_sweep_rested_nothing_is_concluded_from_what_was_read_before(
    scene: Scene,
) -> None:
    assert scene.emulator is not None
    write(scene, 0)
    with scene.collector(sweep_every_s=0.4) as collector:
        collector.run_once()
        write(scene, 1)
        collector.run_once()
        found = collector.stats.reconciled_at
        for back in (True, False):
            sweeping = _spread(collector, reconciling=True)
            rests_until = next(sweeping)
            if back:
                for node in scene.emulator.nodes:
                    node.step_clock(-5_000)
                collector._session.watch_clocks(sharp=True)  # as whoever takes part in the group does now and then
            while rests_until:
                time.sleep(max(0.0, rests_until - time.monotonic()))
                rests_until = next(sweeping, 0.0)
            assert collector._session.steps_back == 1
            assert (collector.stats.reconciled_at == found) == back
            for node in scene.emulator.nodes if back else ():
                node.step_clock(5_000)
        collector.run_once()
    assert scene.captured() == scene.truth()
