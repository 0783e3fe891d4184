"""How deletes are found: what it costs when there are none, under a scope, by which reason, and within what bound."""

import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from cdc.collector import Collector
from cdc.config import ScopeSettings
from cdc.model import END_OF_TIME, PARTITIONS, Op, Origin
from cdc.source import Source
from cdc.wire import Cluster
from tests.fixtures.collecting import Scene


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of the nodes from now on: partitions of digest looks, by the first of their two questions; names of
    commands."""
    seen: list[Any] = []
    digests, ask = Source.digests, Cluster.ask

    def look(source: Source, partitions: Any, **when: Any) -> Any:
        if "since_ms" not in when:
            seen.append(sorted(partitions))
        return digests(source, partitions, **when)

    def told(cluster: Cluster, node: Any, *commands: str) -> Any:
        seen.append(commands)
        return ask(cluster, node, *commands)

    monkeypatch.setattr(Source, "digests", look)
    monkeypatch.setattr(Cluster, "ask", told)
    return seen


def looks(asked: list[Any]) -> list[list[int]]:
    return [one for one in asked if isinstance(one, list)]


def test_where_nothing_changes_totals_do_and_a_delete_makes_partitions_counted_before_and_after_a_sweep(
    scene: Scene, asked: list[Any]
) -> None:
    for i in range(60):
        scene.put(i, i)
    with scene.collector() as collector:
        collector.run_once()
        collector.run_once()
        before, nodes = collector.stats.reconciled_at, len(collector._session.source.cluster.nodes())
        asked.clear()
        collector._sweep(reconciling=True, sharp=True)
        assert looks(asked) == []
        assert sum("statistics" in commands for commands in asked) == 3 * nodes
        assert not any("partition-info" in commands for commands in asked)
        assert collector.stats.reconciled_at > before
        scene.client.remove(scene.key(7))
        asked.clear()
        collector.run_once()
        assert [len(look) for look in looks(asked)] == [1]
        assert sum("partition-info" in commands for commands in asked) == 3 * nodes  # the third after the look
    assert scene.of(7).op.tolist() == [Op.WRITE, Op.DELETE]


def test_sweeps_that_are_far_apart_find_nothing_without_a_look_unless_a_life_was_shortened(
    scene: Scene, asked: list[Any]
) -> None:
    for i in range(20):
        scene.put(i, i)
    with scene.collector() as collector:
        collector.run_once()
        collector.run_once()
        for shortened in (False, True):
            if shortened:
                scene.put(7, 8, ttl=1)
            asked.clear()
            collector._session.swept_at[:] = END_OF_TIME  # nobody knows how long ago that was
            collector._sweep(reconciling=True, sharp=True)
            assert bool(looks(asked)) == shortened


@pytest.mark.parametrize("kind", ["include", "exclude"])
def test_a_scope_of_sets_is_proven_by_what_the_server_counts_of_them(scene: Scene, asked: list[Any], kind: str) -> None:
    inside = scene.set_name if kind == "include" else "cdct-outside"
    named = ScopeSettings.model_validate({kind: (scene.set_name,)})
    settings = scene.settings.model_copy(update={"scope": {scene.settings.aerospike.namespace: named}})
    limited = replace(scene, settings=settings)
    namespace = scene.settings.aerospike.namespace
    keys = {name: [(namespace, name, i) for i in range(30)] for name in (scene.set_name, "cdct-outside")}
    for some in keys.values():
        for key in some:
            scene.client.put(key, {"v": 1})
    with limited.collector() as collector:
        collector.run_once()
        collector.run_once()
        asked.clear()
        collector._sweep(reconciling=True)
        assert looks(asked) == []
        scene.client.put(keys[inside][0], {"v": 2})
        scene.client.remove(keys[inside][1])
        asked.clear()
        stats = collector.run_once()
        assert sum(len(look) for look in looks(asked)) == PARTITIONS
        assert stats.changes[Op.DELETE, Origin.RECONCILE] == 1
    for some in keys.values():
        for key in some[:1] + some[2:]:
            scene.client.remove(key)
    scene.client.put(keys[inside][1], {"v": 1})
    scene.client.remove(keys[inside][1])
    other = keys["cdct-outside" if inside == scene.set_name else scene.set_name][1]
    scene.client.remove(other)


@pytest.mark.emulator_only
def test_what_went_while_records_were_evicted_and_none_was_deleted_was_evicted(scene: Scene) -> None:
    assert scene.emulator is not None
    store = scene.emulator.nodes[0].stores["test"]

    def evict(*keys: int) -> None:
        with scene.emulator.lock:  # type: ignore[union-attr]
            store.evict(scene.digest(key) for key in keys)

    for i in range(20):
        scene.put(i, i, ttl=3000 if i < 10 else 0)
    with scene.collector() as collector:
        collector.run_once()
        evict(1, 2)
        collector.run_once()
        evict(3)
        scene.client.remove(scene.key(4))
        collector.run_once()
        scene.client.remove(scene.key(11))
        collector.run_once()
    ends = {i: Op(int(scene.of(i).op[-1])) for i in (1, 2, 3, 4, 11, 12)}
    assert ends == {1: Op.EVICTION, 2: Op.EVICTION, 3: Op.DELETE, 4: Op.DELETE, 11: Op.DELETE, 12: Op.WRITE}
    assert scene.captured() == scene.truth()


def test_a_truncation_ends_its_records_at_its_own_moment(scene: Scene, until: Callable[..., Any]) -> None:
    namespace = scene.settings.aerospike.namespace
    for i in range(20):
        scene.put(i, i)
    with scene.collector() as collector:
        collector.run_once()
        source = collector._session.source

        def cut_at() -> int:
            return max(node.truncations.sets.get(scene.set_name, 0) for node in source.standing().nodes)

        before = cut_at()  # set names return on a real server
        scene.client.info_random_node(f"truncate:namespace={namespace};set={scene.set_name}")
        moment = until(lambda: max(0, cut_at() - before)) + before
        until(lambda: time.time_ns() // 1_000_000 > moment + 5)
        scene.put(100, 1)
        until(lambda: collector.run_once().changes[Op.TRUNCATION, Origin.RECONCILE] == 20, 20)
    told = scene.of(3)
    assert told.op.tolist() == [Op.WRITE, Op.TRUNCATION]
    assert told.effective_at[1] == moment
    assert scene.of(100).op.tolist() == [Op.WRITE]
    assert scene.captured() == scene.truth()


@pytest.mark.emulator_only
def test_while_partitions_migrate_nothing_is_concluded_that_is_told_and_it_ends_at_the_next_sweep(
    scene: Scene,
) -> None:
    assert scene.emulator is not None
    faults = scene.emulator.nodes[0].faults
    for i in range(20):
        scene.put(i, i)
    with scene.collector(reconcile_every_s=1000.0) as collector:
        collector.run_once()
        found, collector._sweeps.reconcile_due = collector.stats.reconciled_at, float("-inf")
        faults.migrations_remaining = 3
        scene.client.remove(scene.key(5))
        scene.put(21, 1)
        collector._sweep(reconciling=True)
        assert collector.stats.reconciled_at == found
        assert collector._sweeps.reconcile_due == float("-inf")  # due again at once, whatever reconcile_every_s says
        assert [n for n in collector.stats.notes if "partitions migrate" in n]
        assert scene.digest(21) in scene.captured()
        faults.migrations_remaining = 0
        collector._sweep(reconciling=True, sharp=True)
        assert collector.stats.reconciled_at > found
        assert collector.stats.notes[-1] == "deletes are told again"
    assert scene.of(5).op.tolist() == [Op.WRITE, Op.DELETE]
    assert scene.of(5).unobserved_since[1] == found


def test_while_deletes_keep_coming_each_is_told_within_the_bound(
    scene: Scene, until: Callable[..., Any], watched: Callable[[Collector], Any]
) -> None:
    for i in range(150):
        scene.put(i, i)
    removed: dict[int, int] = {}
    stop = Event()

    def remove() -> None:
        for i in range(120):
            scene.client.remove(scene.key(i))
            removed[i] = time.time_ns() // 1_000_000
            if stop.wait(0.05):
                return

    with scene.collector(reconcile_every_s=1.0) as collector, watched(collector) as future:
        until(lambda: future.done() or collector.stats.reconciled_at, 90)
        thread = Thread(target=remove)
        thread.start()
        thread.join()
        stop.set()
        until(lambda: future.done() or collector.stats.changes[Op.DELETE, Origin.RECONCILE] == 120, 30)
    changes = scene.changes()
    ends = changes.take(np.flatnonzero(changes.op == Op.DELETE))
    at = {digest.tobytes(): int(moment) for digest, moment in zip(ends.digest, ends.observed_at, strict=True)}
    late = [at[scene.digest(i)] - moment for i, moment in removed.items()]
    # The bound, and what this machine takes for a look while it does other things.
    assert max(late) < 1000 + 4000
    assert scene.captured() == scene.truth()


@pytest.mark.emulator_only
def test_a_look_that_breaks_off_midway_is_taken_again(
    scene: Scene, until: Callable[..., Any], watched: Callable[[Collector], Any]
) -> None:
    assert scene.emulator is not None
    for i in range(100):
        scene.put(i, i)
    with scene.collector(reconcile_every_s=0.5) as collector, watched(collector) as future:
        until(lambda: future.done() or collector.stats.reconciled_at, 90)
        for i in range(0, 30, 3):
            scene.client.remove(scene.key(i))
            scene.emulator.nodes[0].faults.cut_frames = 2
            told = i // 3 + 1
            until(lambda n=told: future.done() or collector.stats.changes[Op.DELETE, Origin.RECONCILE] >= n, 30)
    assert scene.captured() == scene.truth()


@pytest.mark.real_only
def test_a_read_that_touches_is_told_with_the_same_generation(scene: Scene) -> None:
    scene.put(1, 1, ttl=3000)
    scene.put(2, 2, ttl=3000)
    with scene.collector() as collector:
        collector.run_once()
        time.sleep(1.1)  # void times are whole seconds
        scene.client.get(scene.key(1), policy={"read_touch_ttl_percent": 100})
        collector.run_once()
    touched = scene.of(1)
    assert touched.op.tolist() == [Op.WRITE, Op.WRITE]
    assert touched.generation.tolist() == [1, 1]
    assert touched.void_time[1] > touched.void_time[0]
    assert touched.lut[1] > touched.lut[0]
    assert len(scene.of(2)) == 1


@pytest.mark.emulator_only
def test_what_was_written_while_a_clock_was_back_and_no_collector_ran_is_swept_when_one_begins(
    scene: Scene, until: Callable[..., Any]
) -> None:
    """By then the clock has passed the watermark again: only the offset that was measured before tells."""
    assert scene.emulator is not None
    node = scene.emulator.nodes[0]
    for i in range(20):
        scene.put(i, i)
    watermark = scene.once().resolved_at
    node.step_clock(-3_000)
    scene.put(500, 1)
    until(lambda: node.now() > watermark + 1000, 20)
    stats = scene.once()
    assert scene.of(500).lut[0] < watermark - 1000
    assert stats.changes[Op.WRITE, Origin.SWEEP] == 1
    assert scene.captured() == scene.truth()
    late = scene.of(500)
    assert late.unobserved_since[0] <= watermark < late.effective_at[0]
