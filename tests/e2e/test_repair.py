"""`repair` at a prompt: from another destination, from Kafka, and into a destination that is new or was away."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from cdc.archive import Archive, open_store
from cdc.clock import rfc3339
from cdc.config import Settings
from cdc.embedded.shop import Shop
from cdc.errors import ConfigError, ObjectDamaged, ObjectMissing, OffsetsLost, UsageError
from cdc.replayer.versions import Certainty
from cdc.settings import load
from cdc.topics import Topics
from tests.e2e.test_commands import between_looks, captured
from tests.fixtures.commands import TARGET, Operator, empty_namespace
from tests.fixtures.service import states, windows

SECOND = {"destinations.second": {"path": "second"}}


def settings(operator: Operator) -> Settings:
    return load(operator.folder / "aerospike-cdc.toml").of(operator.namespace)


def files(operator: Operator, place: str, part: str, end: str) -> list[Path]:
    every = sorted((operator.folder / place).rglob(f"*{end}"))
    return [p for p in every if part in str(p)]


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def traded(operator: Operator, rounds: int) -> tuple[Shop, list[int]]:
    """A shop that is captured round by round, and moments between the rounds."""
    shop, moments = operator.shop(), []
    shop.place(60)
    captured(operator)
    for _ in range(rounds):
        moments.append(between_looks())
        shop.trade(25)
        captured(operator)
    return shop, moments


def restores(operator: Operator, shop: Shop, moments: list[int], destination: str) -> None:
    for at in moments:
        empty_namespace(operator.client, TARGET)
        operator.good("restore", "--at", rfc3339(at), "--into", TARGET, "--yes", "--destination", destination)
        assert shop.differences(shop.at(at), TARGET) == [], rfc3339(at)


def known(of: Settings, moments: list[int]) -> list[dict[bytes, Any]]:
    """What is there at some moments, and how sure that is. What is surely gone a restore set may have left out."""
    gone = (False, Certainty.EXACT)
    return [{digest: state for digest, state in states(of, at).items() if state != gone} for at in moments]


def test_what_one_destination_lost_the_other_brings_back(operator: Operator) -> None:
    (operator.folder / "key").write_text(os.urandom(32).hex())
    operator.configure(
        compactor={"set_every_s": 1}, collector={"shards": 1}, **SECOND,
        **{"destinations.second.encryption": {"key_file": "key"}},
    )  # fmt: skip
    shop, moments = traded(operator, 3)
    main, second = settings(operator).each_destination()
    truth = known(second, moments)
    assert known(main, moments) == truth

    segment = files(operator, "archive", "/segments/", ".avro")[0]
    flipped(segment)
    files(operator, "archive", "/segments/", ".idx")[1].unlink()
    flipped(files(operator, "archive", "/sets/", ".json")[0])
    answer = operator.run("verify", "--destination", "main", "--json")
    assert answer.code == ObjectDamaged.exit_code
    named = {d["object"]: d["elsewhere"] for d in answer.json["damage"]}
    assert named[str(segment.relative_to(operator.folder / "archive"))] == ["second"]
    assert answer.json["elsewhere"][0]["destination"] == "second"
    assert answer.json["elsewhere"][0]["moments"] == answer.json["lost"]
    assert "second has " in operator.run("verify", "--destination", "main").out

    planned = operator.run("repair", "--destination", "main", "--dry-run", "--json")
    assert planned.code == ObjectDamaged.exit_code
    assert {s["how"] for s in planned.json["steps"]} == {"segment", "index", "set", "manifest"}
    assert operator.run("verify", "--destination", "main").code == ObjectDamaged.exit_code  # nothing was done
    done = operator.good("repair", "--destination", "main", "--from", "second", "--json").json
    assert [s["how"] for s in done["steps"]] == [s["how"] for s in planned.json["steps"]]
    assert {s["source"] for s in done["steps"] if s["how"] == "segment"} == {"second"}
    assert (done["left"], done["verification"]["ok"]) == ([], True)
    assert known(main, moments) == truth
    restores(operator, shop, moments, "main")

    flipped(files(operator, "archive", "/manifests/", ".json")[-1])
    assert operator.run("restore", "--at", rfc3339(moments[0]), "--into", TARGET, "--yes").code != 0
    assert "nothing to repair" not in operator.good("repair", "--destination", "main").out
    shop.trade(20)
    captured(operator)
    assert "nothing to repair" in operator.good("repair").out
    assert known(main, moments) == truth
    for name in ("main", "second"):
        operator.good("verify", "--tier", "decode", "--destination", name)


def test_what_nobody_else_has_is_read_from_kafka_again_while_it_can_be(operator: Operator) -> None:
    operator.configure(compactor={"set_every_s": 3600}, collector={"shards": 1})
    shop, moments = traded(operator, 3)
    [main] = settings(operator).each_destination()
    truth, window = known(main, moments), windows(main)[-1]

    for path in files(operator, "archive", "/segments/", ".avro")[:2]:
        flipped(path)
    done = operator.good("repair", "--json").json
    assert {s["source"] for s in done["steps"] if s["how"] == "segment"} == {"kafka"}
    assert known(main, moments) == truth

    flipped(files(operator, "archive", "/manifests/", ".json")[-1])
    files(operator, "archive", "/manifests/", ".json")[-2].unlink()
    told = operator.good("repair").out
    assert "reads it from Kafka again" in told
    captured(operator)
    assert windows(main)[-1].end >= window.end
    assert known(main, moments) == truth
    restores(operator, shop, moments, "main")

    _kafka_forgets(operator, main)
    named = _segments(main)[-1]
    (operator.folder / "archive" / named).unlink()
    answer = operator.run("repair", "--json")
    assert answer.code == ObjectMissing.exit_code
    assert [one["object"] for one in answer.json["left"]] == [named]
    assert [d["object"] for d in answer.json["verification"]["damage"]] == [named]
    assert "left     " in operator.run("repair").out


def _segments(of: Settings) -> list[str]:
    manifest = Archive.open(open_store(of.archive), of.aerospike.namespace).shard(0)
    assert manifest is not None
    return [s.name for s in manifest.segments]


def _kafka_forgets(operator: Operator, of: Settings, but: int = 0) -> None:
    """Retention takes every change and all progress that a destination has, but for so many of the latter."""
    topics = Topics(of.kafka.prefix, operator.namespace)
    manifest = Archive.open(open_store(of.archive), of.aerospike.namespace).shard(0)
    assert manifest is not None
    ends = ((topics.changes, manifest.next_changes), (topics.progress, manifest.next_progress - but))
    admin = AdminClient({"bootstrap.servers": operator.bootstrap})
    for future in admin.delete_records([TopicPartition(topic, 0, end) for topic, end in ends]).values():
        future.result(10)


def test_a_new_destination_is_begun_from_another_one(operator: Operator) -> None:
    operator.configure(compactor={"set_every_s": 1}, collector={"shards": 2})
    shop, moments = traded(operator, 2)
    operator.configure(compactor={"set_every_s": 1}, collector={"shards": 2}, **SECOND)
    _, second = settings(operator).each_destination()
    assert operator.run("repair", "--destination", "third").code == ConfigError.exit_code
    assert operator.run("repair", "--from", "third").code == ConfigError.exit_code
    assert operator.run("repair", "--from", "second", "--destination", "second").code == UsageError.exit_code
    assert operator.run("repair").code == ObjectMissing.exit_code  # it is not begun unless it is named
    planned = operator.good("repair", "--destination", "second", "--dry-run", "--json").json
    assert {s["how"] for s in planned["steps"]} == {"format", "history", "manifest", "metadata"}
    assert sum(s["bytes"] for s in planned["steps"]) > 1000
    assert not (operator.folder / "second").exists()
    operator.good("repair", "--destination", "second")
    truth = known(settings(operator).each_destination()[0], moments)
    assert known(second, moments) == truth
    shop.trade(20)
    captured(operator)
    moments.append(between_looks())
    captured(operator)
    restores(operator, shop, moments, "second")
    for name in ("main", "second"):
        operator.good("verify", "--tier", "decode", "--destination", name)
    assert "nothing to repair" in operator.good("repair").out

    # Its objects have the same bytes, so that those of one bring back those of the other.
    gone = files(operator, "second", "/segments/", ".avro")[0]
    gone.unlink()
    done = operator.good("repair", "--destination", "second", "--json").json
    assert [(s["how"], s["source"]) for s in done["steps"]] == [("copy", "main")]


@pytest.mark.parametrize("also", ["the base goes on", "another base came"])
def test_a_hole_that_the_other_destination_does_not_have_is_closed_from_it(operator: Operator, also: str) -> None:
    operator.configure(compactor={"set_every_s": 1}, collector={"shards": 1}, **SECOND)
    shop, moments = traded(operator, 2)

    def away(work: Callable[[], None]) -> None:
        """The second destination misses what comes, and Kafka does not keep it until it is back."""
        work()
        operator.good("collect", "--once")
        operator.good("compact", "--once", "--destination", "main")

    for _ in range(2):
        moments.append(between_looks())
        away(lambda: shop.trade(25))
    main, second = settings(operator).each_destination()
    another = also == "another base came"
    _kafka_forgets(operator, main, but=0 if another else 1)
    away(lambda: shop.trade(10))
    assert len(windows(main)) == 1 + another
    assert operator.run("compact", "--once", "--destination", "second").code == OffsetsLost.exit_code
    truth = known(main, moments)
    assert not any(at in w for w in windows(second) for at in moments[2:])
    planned = operator.good("repair", "--destination", "second", "--dry-run").out
    assert "is taken from main" in planned
    operator.good("repair", "--destination", "second")
    assert known(second, moments) == truth
    moments.append(between_looks())
    shop.trade(10)
    captured(operator)
    restores(operator, shop, moments, "second")
    assert known(second, moments) == known(main, moments)
    for name in ("main", "second"):
        operator.good("verify", "--tier", "decode", "--destination", name)
    assert "nothing to repair" in operator.good("repair", "--destination", "second").out
