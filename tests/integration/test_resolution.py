"""What was captured when the collector paused, stopped, or Kafka lost something: as windows, coarse spans and holes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from cdc import metrics
from cdc.archive import Archive, LocalStore
from cdc.collector import Collector
from cdc.compactor import Compactor
from cdc.config import ArchiveSettings, CompactorSettings, Settings
from cdc.errors import OffsetsLost
from cdc.replayer.doubts import Doubt
from cdc.replayer.plan import plan
from cdc.topics.progress import Kind
from tests.fixtures.collecting import SHARDS, Scene

Watched = Callable[[Collector], Any]

FINE_MS = 2_000
"""Node time that a collector is left to sweep undisturbed."""


def archiving(scene: Scene, path: Path) -> Settings:
    once = CompactorSettings(segment_every_s=3600)  # one commit, however slow the machine is
    return scene.settings.model_copy(update={"archive": ArchiveSettings(path=path), "compactor": once})


def compacted(settings: Settings) -> Archive:
    """The archive with everything in it that Kafka has now."""
    Compactor(settings).run_once()
    return Archive.open(LocalStore(settings.archive.path), settings.aerospike.namespace)


def collected(scene: Scene, watched: Watched, long_ms: int) -> int:
    """Let a collector sweep until, from its first sweep on, so much more time is resolved, and, by the slowest clock
    there may be, the end of the last base snapshot; how far it came."""

    def past_base() -> bool:
        ends = [p.observed_at for p in scene.all_progress() if p.kind == Kind.BASE and p.complete]
        return collector.stats.resolved_at >= max(ends)

    with scene.collector(sweep_every_s=0.1, reconcile_every_s=0.3) as collector, watched(collector) as running:
        deadline = time.monotonic() + 60
        taken_up = first = 0
        while not first or collector.stats.resolved_at < first + long_ms or not past_base():
            assert time.monotonic() < deadline
            assert not running.done()
            taken_up = taken_up or collector.stats.resolved_at
            first = first or (collector.stats.resolved_at if collector.stats.resolved_at > taken_up else 0)
            time.sleep(0.02)
    return collector.stats.resolved_at


@pytest.mark.emulator_only
def test_a_pause_is_a_coarse_span_of_its_length_and_before_and_after_stay_fine(
    scene: Scene, watched: Watched, tmp_path: Path
) -> None:
    assert scene.emulator is not None
    pause_ms = 600_000
    for i in range(10):
        scene.put(i, i)
    before = collected(scene, watched, FINE_MS)
    scene.emulator.nodes[0].step_clock(pause_ms // 2)
    scene.put(0, 100)
    scene.put(0, 101)
    scene.emulator.nodes[0].step_clock(pause_ms // 2)
    after = collected(scene, watched, FINE_MS)
    archive = compacted(archiving(scene, tmp_path / "archive"))

    [window] = archive.windows()
    assert window.end == after
    [coarse] = [c for c in window.coarse() if c.resolution.writes_ms >= pause_ms]
    assert coarse.reason == "collector paused or lagged"
    assert before - pause_ms / 100 < coarse.start <= before
    assert pause_ms <= coarse.resolution.writes_ms < 1.1 * pause_ms
    assert pause_ms <= coarse.resolution.deletes_ms < 1.1 * pause_ms
    for part in (window.part(window.start, coarse.start - 1), window.part(coarse.end + 1, window.end)):
        assert part is not None
        assert part.resolution().coarser_ms < pause_ms / 20

    gauges = {of: metrics.RESOLUTION.labels("test", "main", 0, of)._value.get() for of in ("writes", "deletes")}
    assert all(pause_ms <= 1000 * seconds < 1.1 * pause_ms for seconds in gauges.values())

    named: list[Doubt] = []
    made = plan(archive, before + pause_ms // 4, now=after, name=named.extend)
    assert made.resolution == coarse.resolution
    assert scene.digest(0) in {d.digest for d in named}
    [doubt] = [d for d in named if d.digest == scene.digest(0)]
    assert doubt.until is not None
    assert coarse.start <= doubt.since < made.at < doubt.until <= coarse.end
    assert doubt.set_name == scene.set_name


def test_where_a_collector_stops_the_window_ends_at_its_resolved_timestamp(
    scene: Scene, watched: Watched, tmp_path: Path
) -> None:
    scene.put(1, 1)
    resolved = collected(scene, watched, 500)
    settings = archiving(scene, tmp_path / "archive")
    [window] = compacted(settings).windows()
    assert window.end == resolved
    scene.put(1, 2)
    [still] = compacted(settings).windows()
    assert still == window


def test_changes_lost_in_kafka_are_a_hole_that_a_collector_closes_when_it_takes_up_its_shards(
    scene: Scene, watched: Watched, tmp_path: Path
) -> None:
    settings = archiving(scene, tmp_path / "archive")
    for i in range(10):
        scene.put(i, i)
    end = collected(scene, watched, 300)
    [window] = compacted(settings).windows()
    for i in range(10):
        scene.put(i, 100 + i)
    collected(scene, watched, 300)
    _lose_changes(scene)
    with pytest.raises(OffsetsLost):
        Compactor(settings).run_once()
    archive = compacted(settings)
    assert [(w.start, w.end) for w in archive.windows()] == [(window.start, window.end)]
    [hole] = archive.holes()
    assert hole.start == window.end == end
    assert f"no longer had {scene.topics.changes}" in hole.reason

    scene.settings = settings  # as a collector has them that knows where the archive is
    resolved = collected(scene, watched, 300)
    archive = compacted(settings)
    first, second = archive.windows()
    assert (first.start, first.end, second.end) == (window.start, window.end, resolved)
    [hole] = archive.holes()
    assert (hole.start, hole.end) == (first.end, second.start)
    assert f"no longer had {scene.topics.changes}" in hole.reason
    assert plan(archive, second.end, now=second.end).counts is not None


def _lose_changes(scene: Scene) -> None:
    """What Kafka's retention does: take every change there is."""
    admin = AdminClient({"bootstrap.servers": scene.settings.kafka.bootstrap})
    ends = [TopicPartition(scene.topics.changes, shard, -1) for shard in range(SHARDS)]
    for future in admin.delete_records(ends).values():
        future.result(10)
