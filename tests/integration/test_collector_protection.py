"""A collector that keeps to limits, and gives way to nodes that say that they are busy."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from cdc.collector import Collector, strain
from cdc.config import ProtectionSettings
from cdc.errors import ServerRefused
from cdc.service.checks import checks
from cdc.topics.progress import Kind
from cdc.wire import messages as m
from tests.fixtures.collecting import Scene


def spared(scene: Scene, **limits: int) -> Collector:
    """A collector with these limits."""
    return Collector(scene.settings.model_copy(update={"protection": ProtectionSettings(**limits)}))


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_records_per_second_bound_base_and_sweeps_and_nothing_is_lost_for_it(
    scene: Scene, watched: Callable[[Collector], Any]
) -> None:
    for i in range(100):
        scene.put(i, i)
    with spared(scene, records_per_s=100) as collector:
        began = time.monotonic()
        with watched(collector):
            until(lambda: Kind.BASE in collector.stats.look_s)
            # Bins and LUTs of each; connections that end at different times leave some of the rate unused, never more.
            assert time.monotonic() - began > 0.8 * 2 * 100 / 100
            for i in range(100):
                scene.put(i, -i)
            until(lambda: any("records_per_s" in text for text in collector.stats.notes))
            until(lambda: sum(collector.stats.changes.values()) == 200)
    assert scene.captured() == scene.truth()


def test_a_base_snapshot_rests_for_every_partition(scene: Scene) -> None:
    for i in range(50):
        scene.put(i, i)
    with spared(scene, pause_ms=1) as collector:
        began = time.monotonic()
        collector.run_once()
        assert time.monotonic() - began > 4.0
    assert scene.captured() == scene.truth()


def test_a_ceiling_on_query_threads_leaves_fewer_connections(scene: Scene) -> None:
    scene.put(1, 1)
    with spared(scene, query_threads=7) as collector:
        collector.run_once()
        # A query may use four threads, as servers have it where nobody sets it.
        assert collector._session.source.connections == 1
    with spared(scene, query_threads=8) as collector:
        collector.run_once()
        assert collector._session.source.connections == 2


@pytest.mark.parametrize("ceiling", [2, 4])
def test_check_says_when_even_one_query_takes_more_threads_than_allowed(scene: Scene, ceiling: int) -> None:
    limited = scene.settings.model_copy(update={"protection": ProtectionSettings(query_threads=ceiling)})
    (found,) = [outcome for outcome in checks(limited) if "query threads" in outcome.rule]
    assert isinstance(found.error, ServerRefused) == (ceiling < 4)
    assert "single-query-threads is 4" in found.detail


def test_a_busy_node_is_given_way_to_and_asked_as_before_once_it_is_calm(
    scene: Scene, watched: Callable[[Collector], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if scene.emulator is None:
        pytest.skip("a real node cannot be told to be busy")
    monkeypatch.setattr(strain, "UP_S", 0.0)
    monkeypatch.setattr(strain, "DOWN_S", 0.5)
    for i in range(20):
        scene.put(i, i)
    faults = scene.emulator.nodes[0].faults
    with scene.collector() as collector, watched(collector):
        until(lambda: collector.stats.look_s.get("SWEEP") is not None)
        sparing = collector._session.sparing
        levels = []
        for result in (m.Result.FORBIDDEN, m.Result.DEVICE_OVERLOAD):
            seen = collector.stats.busy.total()
            faults.refuse_queries.append(result)
            until(lambda seen=seen: collector.stats.busy.total() > seen)
            levels.append(sparing.strain.level)
        assert levels == [1, 2]
        assert sparing.sweep_every_s == pytest.approx(0.4)
        assert collector._session.source.connections == 1
        scene.put(1, 100)
        until(lambda: sparing.strain.level == 0)
        assert sparing.sweep_every_s == pytest.approx(0.1)
        assert collector._session.source.connections == 2
        until(lambda: collector.stats.changes.total() == 21)
    assert collector.stats.busy == {"FORBIDDEN": 1, "DEVICE_OVERLOAD": 1}
    told = [text for text in collector.stats.notes if "nodes" in text]
    assert [text.split(":")[0] for text in told] == ["nodes are busy (FORBIDDEN)", "nodes answer freely again"]
    assert not collector.stats.errors


def test_a_record_whose_update_time_a_node_refuses_to_say_is_not_left_out(
    scene: Scene, watched: Callable[[Collector], Any]
) -> None:
    if scene.emulator is None:
        pytest.skip("a real node cannot be told to refuse")
    scene.put(1, 1)
    with scene.collector() as collector, watched(collector):
        until(lambda: collector.stats.look_s.get("SWEEP") is not None)
        scene.put(2, 2)
        scene.emulator.nodes[0].faults.refuse_records.append(m.Result.PARAMETER)
        until(lambda: collector.stats.errors["PartitionUnavailable"] > 0)
        until(lambda: scene.digest(2) in scene.captured())
    assert scene.captured() == scene.truth()
