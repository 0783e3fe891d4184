"""A busy sweep, in portions that are spread over its period."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from cdc.collector import Collector, pace
from cdc.model import PARTITIONS
from cdc.topics.progress import Kind
from tests.fixtures.collecting import SHARDS, Scene

RECORDS = 200


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PORTION_RECORDS", RECORDS // 8)


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def write(scene: Scene, value: int) -> None:
    for i in range(RECORDS):
        scene.put(i, value)


@pytest.mark.parametrize("reconcile_every_s", [0.5, 60.0])
def test_shards_are_swept_one_after_the_other_while_much_is_written_and_together_while_nothing_is(
    scene: Scene, watched: Callable[[Collector], Any], reconcile_every_s: float
) -> None:
    write(scene, 0)
    with scene.collector(sweep_every_s=1.0, reconcile_every_s=reconcile_every_s) as collector, watched(collector):
        until(lambda: collector.stats.look_s.get(Kind.SWEEP) is not None)
        for value in range(1, 5):
            write(scene, value)
            time.sleep(0.6)
        until(lambda: scene.captured() == scene.truth())
        # Of four portions the second, which ends one shard, and the last begin 0.45 s apart.
        assert max(_apart(scene)) > 300
        until(lambda: _apart(scene)[-1] < 100)
    assert scene.captured() == scene.truth()
    assert collector.stats.drift == 0
    assert not collector.stats.errors


def _apart(scene: Scene) -> list[int]:
    """Of each sweep, how far apart its shards were observed, in milliseconds."""
    told = [[p for p in scene.progress(k) if p.kind == Kind.SWEEP and p.complete] for k in range(SHARDS)]
    by_sweep = zip(*told, strict=False)
    return [max(p.observed_at for p in one) - min(p.observed_at for p in one) for one in by_sweep]


def test_a_collector_that_rests_within_a_sweep_stops_at_once(scene: Scene, watched: Callable[[Collector], Any]) -> None:
    write(scene, 0)
    with scene.collector(sweep_every_s=60.0) as collector:
        collector.run_once()
        write(scene, 1)
        collector.run_once()
        write(scene, 2)
        with watched(collector):
            until(lambda: collector._sweeping is not None)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        assert collector._sweeping is not None
    assert scene.once().changes.total() > 0
    assert scene.captured() == scene.truth()


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
        for rests_until in collector._sweep_on(reconciling=False):
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
        sweeping = collector._sweep_on(reconciling=True)
        next(sweeping)
        told = collector.stats.changes.total()
        assert session._membership is not None
        session._take_up(session._membership, session._membership.poll())
        session._assignment = object()  # type: ignore[assignment] # another one than before
        assert list(sweeping) == []
        assert collector.stats.changes.total() == told < 3 * RECORDS
    scene.once()
    assert scene.captured() == scene.truth()


def test_portions_cover_all_partitions_and_are_no_more_than_asked() -> None:
    for portions in range(1, pace.PORTIONS + 1):
        look = pace.Pace.expecting(1 << 30, 0, portions)
        left, pieces = PARTITIONS, 0
        while left > 0:
            left, pieces = left - look.partitions, pieces + 1
            look = look.after(look.partitions, 0, 0)
        assert pieces == portions
