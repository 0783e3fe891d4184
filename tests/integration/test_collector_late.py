"""What comes late, or by a clock that is behind: it is told, under a blind interval that holds when it truly came."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import aerospike
import pytest

from cdc.collector.session import Session
from cdc.config import AerospikeSettings, CollectorSettings, KafkaSettings, Settings
from cdc.embedded.aerospike import Emulator
from cdc.model import Op, Origin
from cdc.topics import Topics
from tests.fixtures.collecting import SHARDS, Scene

pytestmark = pytest.mark.emulator_only


@pytest.fixture
def stage(kafka_settings: KafkaSettings, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """Makes a scene over an emulator of the given kind."""
    with ExitStack() as stack:

        def made(**kind: Any) -> Scene:
            emulator = stack.enter_context(Emulator(**kind))
            hosts = tuple(emulator.hosts)
            client = aerospike.client({"hosts": [(h.split(":")[0], int(h.split(":")[1])) for h in hosts]}).connect()
            stack.callback(client.close)
            settings = Settings(
                aerospike=AerospikeSettings(hosts=hosts, namespaces=("test",)),
                kafka=kafka_settings,
                collector=CollectorSettings(shards=SHARDS, catalog=tmp_path / "catalog", sweep_every_s=0.1),
            )
            return Scene(settings, Topics(kafka_settings.prefix, "test"), client, emulator, "cdct-late")

        yield made


def now() -> int:
    return time.time_ns() // 1_000_000


def test_what_a_node_writes_that_joins_with_its_clock_behind_is_swept_at_once(
    stage: Callable[..., Scene], until: Callable[..., Any]
) -> None:
    scene = stage(nodes=2, replication=2)
    assert scene.emulator is not None
    scene.emulator.kill(1)
    until(lambda: len(scene.client.get_node_names()) == 1)
    for i in range(40):
        scene.put(i, i)
    with scene.collector() as collector:
        collector.run_once()
        watermark = collector.stats.resolved_at
        scene.emulator.nodes[1].step_clock(-30_000)
        scene.emulator.restart(1)
        until(lambda: len(collector._session.source.cluster.nodes()) == 2)
        before = now()
        for i in range(100, 140):
            scene.put(i, i)
        collector._sweep(reconciling=True)
        assert scene.captured() == scene.truth()
        assert collector.stats.resolved_at >= watermark
        assert any("30.0 s apart" in note for note in collector.stats.notes)
    told = [scene.of(i) for i in range(100, 140)]
    late = [one for one in told if one.lut[0] < watermark]
    assert late
    assert len(late) < len(told)
    for one in late:
        assert one.origin.tolist() == [Origin.SWEEP]
        assert one.unobserved_since[0] < before <= one.effective_at[0]
        assert not one.consecutive[0]


def test_a_single_round_waits_for_the_slowest_clock_and_keeps_its_shards(
    stage: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = stage(nodes=2)
    assert scene.emulator is not None
    scene.emulator.nodes[1].step_clock(-4_000)
    for i in range(40):
        scene.put(i, i)
    heard = []
    still = Session.still
    monkeypatch.setattr(Session, "still", lambda session: (heard.append(time.monotonic()), still(session)))
    begun = now()
    stats = scene.once()
    assert stats.resolved_at >= begun
    assert max(after - before for before, after in pairwise(heard)) < 3
    assert heard[-1] - heard[0] > 3
    assert scene.captured() == scene.truth()


def test_partitions_that_move_in_the_middle_of_a_sweep_lose_nothing(stage: Callable[..., Scene]) -> None:
    scene = stage(nodes=2)
    assert scene.emulator is not None
    emulator = scene.emulator
    for i in range(300):
        scene.put(i, i)
    moved: list[int] = []

    def move(partition: int) -> None:
        if len(moved) < 40 and partition % 7 == 0:
            moved.append(partition)
            emulator.move("test", [partition], to=1 - emulator.nodes.index(emulator.master("test", partition)))  # type: ignore[arg-type]

    with scene.collector() as collector:
        collector.run_once()
        for i in range(0, 300, 2):
            scene.put(i, -i)
        for i in range(1, 300, 10):
            scene.client.remove(scene.key(i))
        for node in emulator.nodes:
            node.faults.before_partition = move
        collector.run_once()
        for node in emulator.nodes:
            node.faults.before_partition = None
        collector.run_once()
    assert len(moved) == 40
    assert scene.captured() == scene.truth()


def test_what_a_restart_brings_back_from_a_forgotten_truncation_is_told_as_drift_from_then_on(
    stage: Callable[..., Scene],
) -> None:
    scene = stage(persisted=True)
    assert scene.emulator is not None
    for i in range(30):
        scene.put(i, i)
    with scene.collector() as collector:
        collector.run_once()
        scene.emulator.truncate("test", scene.set_name.encode(), now() + 1)
        collector.run_once()
        assert scene.of(3).op.tolist() == [Op.WRITE, Op.TRUNCATION]
        before = now()
        scene.emulator.restart(0)
        collector._session._leave_source()
        collector.run_once()
        stats = collector.run_once()
    assert len(scene.truth()) == 30
    assert scene.captured() == scene.truth()
    assert stats.drift == 30
    back = scene.of(3)
    assert back.op.tolist() == [Op.WRITE, Op.TRUNCATION, Op.WRITE]
    assert back.origin[2] == Origin.AUDIT
    assert back.lut[2] == back.lut[0]
    assert back.unobserved_since[2] < before <= back.effective_at[2]
    assert not back.consecutive[2]
