"""Stops of every kind, and that the collector goes on where it stopped: nothing lost, nothing told twice."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdc.collector import Collector
from cdc.embedded.kafka import EmbeddedKafka
from cdc.errors import CatalogError
from cdc.model import Op, Origin
from tests.fixtures.collecting import SHARDS, Scene

DIES_AFTER_COMMIT = """
import os, signal, sys
from cdc.collector import Collector
from cdc.config import Settings
left = int(sys.argv[2])
def die():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
with Collector(Settings.model_validate_json(sys.argv[1]), after_commit=die) as collector:
    collector.run_once()
"""


def dies(scene: Scene, commits: int) -> None:
    """A collector in a process of its own that is killed after so many commits, before the catalog notes the last."""
    arguments = [sys.executable, "-c", DIES_AFTER_COMMIT, scene.settings.model_dump_json(), str(commits)]
    assert subprocess.run(arguments, timeout=120).returncode == -signal.SIGKILL


def test_a_new_process_goes_on_where_the_old_one_stopped(scene: Scene) -> None:
    for i in range(100):
        scene.put(i, i)
    scene.once()
    told = len(scene.changes())
    scene.put(5, 6)
    scene.client.remove(scene.key(6))
    scene.once()
    assert scene.captured() == scene.truth()
    assert len(scene.changes()) == told + 2


def test_killed_between_commit_and_catalog_it_still_finds_the_delete_of_what_only_kafka_knows(scene: Scene) -> None:
    for i in range(60):
        scene.put(i, i)
    scene.once()
    scene.put(777, 1)
    scene.put(3, 4)
    dies(scene, 4)  # the first sweep of a process has four pieces: the last of them is not noted
    assert scene.digest(777) in scene.captured()
    scene.client.remove(scene.key(777))
    stats = scene.once()
    assert scene.captured() == scene.truth()
    assert stats.changes[Op.DELETE, Origin.RECONCILE] == 1
    assert stats.changes[Op.WRITE, Origin.SWEEP] == 0
    assert scene.of(777).op.tolist() == [Op.WRITE, Op.DELETE]
    assert not stats.notes


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_killed_within_the_base_snapshot_it_finishes_it_in_the_same_epoch(scene: Scene, commits: int) -> None:
    for i in range(200):
        scene.put(i, i)
    dies(scene, commits)
    scene.put(9, 10)
    scene.once()
    assert scene.captured() == scene.truth()
    assert len(scene.changes()) <= 201
    assert all(len({p.epoch for p in scene.progress(shard) if p.complete}) == 1 for shard in range(SHARDS))


def test_a_catalog_that_is_behind_is_brought_up_from_kafka(scene: Scene, tmp_path: Path) -> None:
    for i in range(60):
        scene.put(i, i)
    scene.once()
    shutil.copytree(tmp_path / "catalog", tmp_path / "old")
    scene.put(5, 6)
    scene.put(800, 1)
    scene.client.remove(scene.key(6))
    scene.once()
    told = len(scene.changes())
    shutil.rmtree(tmp_path / "catalog")
    (tmp_path / "old").rename(tmp_path / "catalog")
    scene.client.remove(scene.key(800))
    stats = scene.once()
    assert scene.captured() == scene.truth()
    assert len(scene.changes()) == told + 1
    assert not stats.notes


def test_two_collectors_cannot_share_a_catalog(scene: Scene) -> None:
    with scene.collector(), pytest.raises(CatalogError, match="another collector"):
        scene.collector()


def test_while_kafka_is_away_the_collector_waits_and_then_tells_everything(
    scene: Scene, kafka: EmbeddedKafka, until: Callable[..., Any], watched: Callable[[Collector], Any]
) -> None:
    for i in range(100):
        scene.put(i, i)
    patient = scene.settings.kafka.model_copy(update={"timeout_s": 2.0})
    with Collector(scene.settings.model_copy(update={"kafka": patient})) as collector, watched(collector) as future:
        until(lambda: future.done() or collector.stats.resolved_at, 90)
        kafka.stop()
        try:
            scene.put(5, 50)
            scene.put(900, 1)
            scene.client.remove(scene.key(6))
            until(lambda: future.done() or collector.stats.errors["BrokerUnreachable"], 60)
            resolved = collector.stats.resolved_at
            scene.put(901, 1)
        finally:
            kafka.start()
        until(lambda: future.done() or collector.stats.resolved_at > resolved, 60)
    scene.once()
    assert scene.captured() == scene.truth()


@pytest.mark.emulator_only
def test_while_the_cluster_is_away_the_collector_waits_and_then_tells_everything(
    scene: Scene, until: Callable[..., Any], watched: Callable[[Collector], Any]
) -> None:
    assert scene.emulator is not None
    for i in range(100):
        scene.put(i, i)
    short = scene.settings.aerospike.model_copy(update={"timeout_s": 1.0})
    with Collector(scene.settings.model_copy(update={"aerospike": short})) as collector, watched(collector) as future:
        until(lambda: future.done() or collector.stats.resolved_at, 90)
        scene.emulator.kill(0)
        until(lambda: future.done() or collector.stats.errors, 60)
        resolved = collector.stats.resolved_at
        scene.emulator.restart(0)
        until(lambda: future.done() or collector.stats.resolved_at > resolved, 60)
    scene.once()
    assert scene.captured() == scene.truth()


def test_two_workers_share_the_shards_and_one_takes_over_from_the_other(
    scene: Scene, tmp_path: Path, until: Callable[..., Any], watched: Callable[[Collector], Any]
) -> None:
    for i in range(100):
        scene.put(i, i)
    with scene.collector() as first, watched(first) as one:
        until(lambda: one.done() or first.stats.resolved_at, 90)
        with scene.collector(catalog=tmp_path / "second") as second, watched(second) as other:
            until(lambda: one.done() or other.done() or second.stats.resolved_at, 60)
            for i in range(100, 200):
                scene.put(i, i)
            until(lambda: one.done() or other.done() or second.stats.changes[Op.WRITE, Origin.SWEEP], 60)
        for i in range(200, 250):
            scene.put(i, i)
        until(lambda: one.done() or set(scene.captured()) >= {scene.digest(i) for i in range(200, 250)}, 60)
    scene.once()
    assert scene.captured() == scene.truth()
