"""What the collector tells Kafka of writes, deletes and expiries, and what it leaves untold."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from cdc.model import BEGINNING, Op, Origin
from cdc.topics.progress import Kind
from tests.fixtures.collecting import SHARDS, Scene


def test_a_base_snapshot_and_the_sweeps_after_it_tell_every_record_once(scene: Scene) -> None:
    for i in range(300):
        scene.put(i, i)
    first = scene.once()
    assert scene.captured() == scene.truth()
    base = first.changes[Op.WRITE, Origin.BASE]
    assert base == len(scene.truth())
    for i in range(0, 300, 3):
        scene.put(i, -i)
    scene.put(1000, 1)
    second = scene.once()
    assert scene.captured() == scene.truth()
    assert second.changes == {(Op.WRITE, Origin.SWEEP): 101}
    version = scene.of(3)
    assert version.origin.tolist() == [Origin.BASE, Origin.SWEEP]
    assert version.consecutive.tolist() == [False, True]
    assert version.unobserved_since[0] == BEGINNING
    assert version.unobserved_since[1] < version.effective_at[1] == version.lut[1] <= version.observed_at[1]


def test_an_idle_sweep_tells_only_progress(scene: Scene) -> None:
    for i in range(50):
        scene.put(i, i)
    with scene.collector() as collector:
        collector.run_once()
        before = scene.progress(0)
        told = sum(collector.stats.changes.values())
        collector.run_once()
        assert sum(collector.stats.changes.values()) == told
    news = scene.progress(0)[len(before) :]
    assert {p.kind for p in news} == {Kind.SWEEP}  # which says that nothing has gone either
    assert all(p.changes_from == p.changes_through == before[-1].changes_through for p in news)
    assert all(p.complete for p in news)
    assert news[-1].resolved_at > before[-1].resolved_at
    assert news[-1].reconciled_at > before[-1].reconciled_at


def test_progress_never_runs_backwards_and_the_base_resolves_nothing_before_its_end(scene: Scene) -> None:
    for i in range(100):
        scene.put(i, i)
    for _ in range(3):
        scene.once()
    for shard in range(SHARDS):
        told = scene.progress(shard)
        assert all(p.resolved_at == 0 == p.reconciled_at for p in told if p.kind == Kind.BASE and not p.complete)
        ends = [p for p in told if p.complete]
        assert ends[0].kind == Kind.BASE
        assert [p.resolved_at for p in ends] == sorted(p.resolved_at for p in ends)
        assert [p.reconciled_at for p in ends] == sorted(p.reconciled_at for p in ends)
        assert [p.changes_through for p in told] == sorted(p.changes_through for p in told)
        assert len({p.epoch for p in told}) == 1


def test_deletes_are_found_with_a_blind_interval_that_holds_their_moment(scene: Scene) -> None:
    for i in range(100):
        scene.put(i, i)
    scene.once()
    scene.put(200, 1)
    moments = {}
    for i in (5, 50, 95):
        earliest = time.time_ns() // 1_000_000
        scene.client.remove(scene.key(i))
        moments[i] = earliest, time.time_ns() // 1_000_000
    stats = scene.once()
    assert stats.changes[Op.DELETE, Origin.RECONCILE] == 3
    assert scene.captured() == scene.truth()
    for i, (earliest, latest) in moments.items():
        told = scene.of(i)
        assert told.op.tolist() == [Op.WRITE, Op.DELETE]
        assert told.unobserved_since[1] <= earliest
        assert latest <= told.effective_at[1]
        assert told.generation[1] == told.generation[0]
    assert sum(scene.once().changes.values()) == 0


def test_a_record_deleted_and_created_again_is_told_as_it_is_now(scene: Scene) -> None:
    for i in range(20):
        scene.put(i, i)
    scene.put(7, 8)
    scene.once()
    scene.client.remove(scene.key(7))
    scene.put(7, 9)
    scene.client.remove(scene.key(8))
    scene.once()
    scene.put(8, 10)
    scene.once()
    assert scene.captured() == scene.truth()
    assert scene.of(7).op.tolist() == [Op.WRITE, Op.WRITE]
    assert scene.of(7).generation.tolist() == [2, 1]
    assert not scene.of(7).consecutive[1]
    again = scene.of(8)
    assert again.op.tolist() == [Op.WRITE, Op.DELETE, Op.WRITE]
    assert again.effective_at.tolist() == sorted(again.effective_at.tolist())


def test_an_insert_does_not_hide_a_delete_in_the_same_partition(scene: Scene) -> None:
    for i in range(40):
        scene.put(i, i)
    scene.once()
    partition = scene.digest(3)[0] | (scene.digest(3)[1] & 15) << 8
    other = next(
        i for i in range(1000, 60_000) if scene.digest(i)[0] | (scene.digest(i)[1] & 15) << 8 == partition
    )  # fmt: skip
    with scene.collector() as collector:
        collector.run_once()
        scene.put(other, 1)
        scene.client.remove(scene.key(3))
        collector.run_once()
        collector.run_once()
    assert scene.captured() == scene.truth()
    assert scene.of(3).op.tolist() == [Op.WRITE, Op.DELETE]


def test_an_expiry_is_told_at_its_void_time(scene: Scene, until: Callable[..., Any]) -> None:
    scene.put(2, 2)
    with scene.collector() as collector:
        collector.run_once()
        scene.put(1, 1, ttl=3)
        collector.run_once()
        until(lambda: (Op.EXPIRY, Origin.RECONCILE) in collector.run_once().changes, 30)
    told = scene.of(1)
    assert told.op.tolist() == [Op.WRITE, Op.EXPIRY]
    assert told.effective_at[1] == told.void_time[0] > told.lut[0]
    assert scene.captured() == scene.truth()


@pytest.mark.emulator_only
def test_what_a_clock_set_back_hides_from_sweeps_is_found_by_an_audit_and_holds_from_then_on(scene: Scene) -> None:
    assert scene.emulator is not None
    for i in range(20):
        scene.put(i, i)
    with scene.collector() as collector:
        collector.run_once()
        collector.run_once()
        node = next(iter(scene.emulator.nodes))
        node.step_clock(-60_000)
        scene.put(500, 1)
        node.step_clock(60_000)
        before = time.time_ns() // 1_000_000
        collector._sweep(reconciling=False)
        assert scene.captured() != scene.truth()
        stats = collector.run_once(audit=True)
    assert scene.captured() == scene.truth()
    assert stats.drift == 1
    late = scene.of(500)
    assert late.origin.tolist() == [Origin.AUDIT]
    assert late.effective_at[0] >= before > late.lut[0]
    assert late.unobserved_since[0] < before


@pytest.mark.emulator_only
def test_a_digest_look_that_shows_a_stranger_has_its_partition_audited(scene: Scene) -> None:
    assert scene.emulator is not None
    for i in range(20):
        scene.put(i, i)
    with scene.collector() as collector:
        collector.run_once()
        node = next(iter(scene.emulator.nodes))
        node.step_clock(-60_000)
        scene.put(500, 1)
        node.step_clock(60_000)
        collector.run_once()
        collector.run_once()
    assert scene.captured() == scene.truth()
    assert scene.of(500).origin.tolist() == [Origin.AUDIT]


@pytest.mark.emulator_only
@pytest.mark.parametrize("restarted", [False, True])
def test_while_a_clock_is_set_back_sweeps_still_show_what_is_written(scene: Scene, restarted: bool) -> None:
    """Its LUT lies below the watermark: it is told as of its detection, with all that may have hidden it."""
    assert scene.emulator is not None
    node = next(iter(scene.emulator.nodes))
    for i in range(20):
        scene.put(i, i)

    def meanwhile() -> int:
        node.step_clock(-60_000)
        scene.client.remove(scene.key(7))  # a rewritten record would keep its LUT
        scene.put(7, 1_000)
        return time.time_ns() // 1_000_000

    with scene.collector() as collector:
        collector.run_once()
        if not restarted:
            before = meanwhile()
            collector.run_once()
    if restarted:
        before = meanwhile()
        scene.once()
    assert scene.captured() == scene.truth()
    newest = scene.of(7)
    assert newest.origin[-1] == Origin.SWEEP
    assert newest.effective_at[-1] > newest.lut[-1]
    assert newest.unobserved_since[-1] < before
    node.step_clock(60_000)
