"""What the collector tells Kafka of indexes, UDFs, sets, settings, users and truncations, and when."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from cdc.cli.metadata import to_dict
from cdc.clock import parse_rfc3339, wall_clock
from cdc.collector import Collector
from cdc.config import AerospikeSettings, CollectorSettings, KafkaSettings, Settings
from cdc.embedded.aerospike import Emulator
from cdc.embedded.aerospike.security import Role
from cdc.model import BEGINNING, ItemKind, Op
from cdc.source import describe
from cdc.topics import Kept, Metadata, Topics, end_offsets, kept_metadata
from cdc.topics.whole import messages
from cdc.wire import Cluster
from tests.fixtures.collecting import Scene
from tests.integration.test_collector_stops import dies

MODULE = b"function one(record)\n  return 1\nend\n"


def told(scene: Scene) -> list[Metadata]:
    """Every message in the topic, in order: compaction has not come by yet."""
    ends = end_offsets(scene.settings.kafka, scene.topics.metadata, [0])
    found = messages(scene.settings.kafka, scene.topics, scene.topics.metadata, ends)
    return [Metadata.decode(message.value() or b"") for message in found]


def of(scene: Scene, kind: ItemKind, name: str) -> Metadata:
    """The last record of an item."""
    return [r for r in told(scene) if (r.item.kind, r.item.name) == (kind, name)][-1]


def info(scene: Scene, command: str) -> None:
    assert scene.client.info_random_node(command).rstrip("\n").endswith("ok")


def make_index(scene: Scene, name: str, over: str = "v") -> None:
    namespace = scene.settings.aerospike.namespace
    info(scene, f"sindex-create:namespace={namespace};set={scene.set_name};indexname={name};bin={over};type=numeric")


@pytest.fixture
def indexes(scene: Scene) -> Iterator[tuple[str, str]]:
    """Two names of indexes, removed afterwards."""
    names = ("cdct-one", "cdct-two")
    yield names
    for name in names:
        scene.client.info_random_node(f"sindex-delete:namespace={scene.settings.aerospike.namespace};indexname={name}")


def test_the_base_snapshot_tells_everything_and_later_looks_what_has_changed(
    scene: Scene, indexes: tuple[str, str], until: Callable[..., Any]
) -> None:
    one, two = indexes
    namespace = scene.settings.aerospike.namespace
    scene.put(1, 1)
    make_index(scene, one)
    content = base64.b64encode(MODULE).decode()
    info(scene, f"udf-put:filename=cdct.lua;content={content};content-len={len(content)};udf-type=LUA;")
    scene.once()
    first = told(scene)
    assert {ItemKind.INDEX, ItemKind.UDF, ItemKind.SET, ItemKind.NAMESPACE} <= {r.item.kind for r in first}
    assert all(r.unobserved_since == BEGINNING < r.looked_at <= r.observed_at for r in first)
    assert of(scene, ItemKind.UDF, "cdct.lua").item.content == MODULE
    assert of(scene, ItemKind.SET, scene.set_name).item.facts["enable-index"] == "false"
    assert of(scene, ItemKind.NAMESPACE, namespace).item.facts["default-ttl"] == "0"

    scene.once()
    assert told(scene) == first  # not even by a new process

    earliest = wall_clock()
    make_index(scene, two, over="w")
    latest = wall_clock()
    scene.once()
    [new] = told(scene)[len(first) :]
    assert (new.item.kind, new.item.name, new.removed) == (ItemKind.INDEX, two, False)
    assert new.unobserved_since == of(scene, ItemKind.INDEX, one).looked_at
    assert new.unobserved_since <= earliest
    assert latest <= new.observed_at

    earliest = wall_clock()
    info(scene, f"sindex-delete:namespace={namespace};indexname={one}")
    info(scene, "udf-remove:filename=cdct.lua;")
    scene.once()
    gone = told(scene)[len(first) + 1 :]
    assert [(r.item.kind, r.item.name, r.removed) for r in gone] == [
        (ItemKind.INDEX, one, True), (ItemKind.UDF, "cdct.lua", True),
    ]  # fmt: skip
    assert all(r.unobserved_since <= earliest <= r.observed_at for r in gone)
    assert gone[1].item.content == MODULE


def test_an_audit_tells_everything_again_and_keeps_since_when_it_was_so(scene: Scene, indexes: tuple[str, str]) -> None:
    scene.put(1, 1)
    make_index(scene, indexes[0])
    scene.once()
    first = told(scene)
    scene.once(audit=True)
    again = told(scene)[len(first) :]
    assert [(r.item, r.observed_at, r.unobserved_since) for r in again] == [
        (r.item, r.observed_at, r.unobserved_since) for r in first
    ]
    assert min(r.looked_at for r in again) > max(r.looked_at for r in first)


def test_a_collector_that_runs_tells_a_change_at_a_reconcile(
    scene: Scene, indexes: tuple[str, str], watched: Callable[[Collector], Any], until: Callable[..., Any]
) -> None:
    scene.put(1, 1)
    with scene.collector(reconcile_every_s=0.3) as collector, watched(collector):
        until(lambda: collector.stats.reconciled_at, 30)
        before = len(told(scene))
        make_index(scene, indexes[0])
        [new] = until(lambda: told(scene)[before:], 20)
        assert (new.item.kind, new.item.name) == (ItemKind.INDEX, indexes[0])
        # While it ran it looked in between, so it knows better than what Kafka was told.
        assert new.observed_at - new.unobserved_since < 10_000
        assert not collector.stats.notes[1:]


def test_of_two_workers_one_tells_and_the_other_goes_on_when_it_leaves(
    scene: Scene, indexes: tuple[str, str], watched: Callable[[Collector], Any], until: Callable[..., Any]
) -> None:
    scene.put(1, 1)
    one, two = indexes
    catalog = scene.settings.collector.catalog.with_name("other")

    def looked_past(moment: int, *workers: Collector) -> bool:
        return all(worker.stats.reconciled_at > moment for worker in workers)

    with scene.collector(reconcile_every_s=0.3, catalog=catalog) as second, watched(second):
        until(lambda: second.stats.reconciled_at, 30)
        with scene.collector(reconcile_every_s=0.3) as first, watched(first):
            until(lambda: looked_past(wall_clock() - 2_000, first, second), 40)
            make_index(scene, one)
            made = wall_clock()
            until(lambda: looked_past(made + 1_000, first, second), 30)
            # A worker that takes its shards up anew may tell everything again: since when it was so stays.
            assert len({(r.observed_at, r.unobserved_since) for r in told(scene) if r.item.name == one}) == 1
            # No index was there before: that is known from the looks that told the rest.
            assert BEGINNING < of(scene, ItemKind.INDEX, one).unobserved_since <= made
        until(lambda: looked_past(wall_clock() - 2_000, second), 40)
        make_index(scene, two, over="w")
        until(lambda: [r for r in told(scene) if r.item.name == two], 30)
        assert len({(r.observed_at, r.unobserved_since) for r in told(scene) if r.item.name == one}) == 1


def test_killed_after_the_commit_that_told_it_nothing_is_told_twice(scene: Scene, indexes: tuple[str, str]) -> None:
    scene.put(1, 1)
    scene.once()
    before = len(told(scene))
    make_index(scene, indexes[0])
    dies(scene, 1)
    assert len(told(scene)) == before + 1
    scene.once()
    assert len(told(scene)) == before + 1


def test_an_open_transaction_that_may_hide_what_was_told_is_waited_for(
    scene: Scene, indexes: tuple[str, str], until: Callable[..., Any]
) -> None:
    scene.put(1, 1)
    scene.once()
    before = told(scene)
    make_index(scene, indexes[0])
    stranger = Producer({"bootstrap.servers": scene.settings.kafka.bootstrap, "transactional.id": scene.topics.prefix})
    stranger.init_transactions(10)
    stranger.begin_transaction()
    stranger.produce(scene.topics.metadata, b"x", b"x", 0)
    assert stranger.flush(10) == 0
    with scene.collector() as collector:
        resolved = collector.run_once().resolved_at
        assert [note for note in collector.stats.notes if "another worker left open" in note]
        assert told(scene) == before
        stranger.abort_transaction(10)
        until(lambda: kept_metadata(scene.settings.kafka, scene.topics).whole)
        assert collector.run_once().resolved_at > resolved
    assert [record.item.name for record in told(scene)[len(before) :]] == [indexes[0]]


def test_what_was_told_and_cannot_be_read_is_told_again(scene: Scene) -> None:
    scene.put(1, 1)
    scene.once()
    stranger = Producer({"bootstrap.servers": scene.settings.kafka.bootstrap})
    key = of(scene, ItemKind.SET, scene.set_name).key
    stranger.produce(scene.topics.metadata, b"of another version", key, 0)
    assert stranger.flush(10) == 0
    stats = scene.once()
    assert [note for note in stats.notes if "told again" in note]
    kept = kept_metadata(scene.settings.kafka, scene.topics)
    assert [r.item.name for r in kept.records if r.key == key] == [scene.set_name]
    assert not kept.damaged  # a later message has the same key
    assert not scene.once().notes


def test_a_truncation_is_told_once_with_its_moment_and_every_records_end_beside_it(
    scene: Scene, until: Callable[..., Any]
) -> None:
    namespace = scene.settings.aerospike.namespace
    for i in range(20):
        scene.put(i, i)
    scene.once()
    before = len(told(scene))
    earliest = wall_clock()
    info(scene, f"truncate:namespace={namespace};set={scene.set_name}")
    latest = wall_clock()
    until(lambda: not scene.truth())
    scene.once()
    [announced] = told(scene)[before:]
    assert (announced.item.kind, announced.item.name) == (ItemKind.TRUNCATION, scene.set_name)
    moment = parse_rfc3339(announced.item.facts["truncated_at"])
    assert earliest - 50 <= moment <= latest + 50
    ended = scene.of(3)
    assert ended.op.tolist() == [Op.WRITE, Op.TRUNCATION]
    assert ended.effective_at[1] == moment


@pytest.mark.emulator_only
def test_a_set_whose_name_divides_answers_stops_neither_readings_nor_sweeps(scene: Scene) -> None:
    """On a real server such a set would stay for good, where other tests read the answers."""
    for name in ("a:b", "x;y", "p=q:r"):
        scene.client.put((scene.settings.aerospike.namespace, name, 1), {"v": 1})
    scene.once()
    scene.client.remove((scene.settings.aerospike.namespace, "x;y", 1))
    stats = scene.once()
    assert scene.captured() == scene.truth()
    assert not stats.notes
    assert {r.item.name for r in told(scene) if r.item.kind == ItemKind.SET} == {"a:b", "x;y", "p=q:r"}


def test_what_kafka_holds_is_shown(scene: Scene, indexes: tuple[str, str]) -> None:
    scene.put(1, 1)
    make_index(scene, indexes[0])
    scene.once()
    kept = kept_metadata(scene.settings.kafka, scene.topics)
    shown = json.loads(json.dumps(to_dict("test", kept)))
    assert shown["complete"]
    [item] = [item for item in shown["items"] if item["name"] == indexes[0]]
    assert item["kind"] == "INDEX"
    assert item["unobserved_since"] is None
    assert parse_rfc3339(item["observed_at"]) <= wall_clock() + 1000
    assert item["facts"]["bin"] == "v"


@pytest.fixture
def secured(kafka_settings: KafkaSettings, tmp_path: Any) -> Iterator[tuple[Emulator, Settings]]:
    """A cluster with security, as the Enterprise Edition has, and settings for it."""
    with Emulator(users={"backup": "geheim", "eva": "auch"}) as emulator:
        yield (
            emulator,
            Settings(
                aerospike=AerospikeSettings(hosts=tuple(emulator.hosts), user="backup", password="geheim"),  # type: ignore[arg-type]
                kafka=kafka_settings,
                collector=CollectorSettings(shards=1, catalog=tmp_path / "catalog"),
            ),
        )


def test_users_and_roles_are_told_without_what_is_secret(secured: tuple[Emulator, Settings]) -> None:
    emulator, settings = secured
    emulator.accounts.granted["eva"] = ("writer", "read")
    emulator.accounts.roles["writer"] = Role(((13, "test", "s"), (10, "", "")), "10.0.0.1,10.0.0.2", 5, 6)
    with Collector(settings) as collector:
        collector.run_once()
        kept = kept_metadata(settings.kafka, Topics(settings.kafka.prefix, "test"))
        assert not collector.stats.notes[1:]
    facts = {(r.item.kind, r.item.name): r.item.facts for r in kept.records}
    assert facts[ItemKind.USER, "eva"] == {"roles": "read,writer"}
    assert facts[ItemKind.USER, "backup"] == {"roles": ""}
    assert facts[ItemKind.ROLE, "writer"] == {
        "privileges": "read,write.test.s", "whitelist": "10.0.0.1,10.0.0.2", "read_quota": "5", "write_quota": "6",
    }  # fmt: skip


def test_what_may_not_be_asked_is_counted_and_told_once_and_capture_goes_on(
    secured: tuple[Emulator, Settings],
) -> None:
    emulator, settings = secured
    emulator.accounts.administrators = ()
    topics = Topics(settings.kafka.prefix, "test")
    with Collector(settings) as collector:
        for _ in range(3):
            resolved = collector.run_once().resolved_at
        assert resolved > 0
        notes = [note for note in collector.stats.notes if "metadata" in note]
        assert [note.split(" cannot be read")[0] for note in notes] == [
            "metadata of kind ROLE", "metadata of kind USER",
        ]  # fmt: skip
        kinds = {r.item.kind for r in kept_metadata(settings.kafka, topics).records}
        assert ItemKind.NAMESPACE in kinds
        assert not kinds & {ItemKind.USER, ItemKind.ROLE}
        emulator.accounts.administrators = ("backup",)
        collector.run_once()
        kept: Kept = kept_metadata(settings.kafka, topics)
        assert {r.item.name for r in kept.records if r.item.kind == ItemKind.USER} == {"backup", "eva"}


def test_while_a_node_is_silent_nothing_that_it_alone_may_know_is_judged() -> None:
    with Emulator(nodes=2) as emulator:
        settings = AerospikeSettings(hosts=tuple(emulator.hosts), timeout_s=0.5)
        with Cluster(settings) as cluster:
            assert not describe(cluster, "test", {}).failed
            emulator.nodes[1].faults.delay_s = 1.5
            found = describe(cluster, "test", {})
            assert found.failed.keys() == {ItemKind.SET, ItemKind.NAMESPACE, ItemKind.TRUNCATION}
            assert found.items.keys() == {ItemKind.INDEX, ItemKind.UDF}
            emulator.nodes[1].faults.delay_s = 0
