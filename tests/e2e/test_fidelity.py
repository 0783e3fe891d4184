"""Every record that a server can hold goes the whole way, and what comes back is what was there, to the byte."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cdc import codec
from cdc.clock import rfc3339, wall_clock
from cdc.codec import msgpack
from cdc.config import AerospikeSettings
from cdc.errors import CaptureIncomplete
from cdc.model import DIGEST_SIZE, PARTITIONS
from cdc.source import Scope, Source
from cdc.wire import Cluster
from cdc.wire import messages as m
from cdc.wire.batch import write
from tests.fixtures import corpus
from tests.fixtures.commands import TARGET, Operator
from tests.fixtures.corpus import CORPUS, ONE, Item, Stored

State = dict[bytes, Stored]

LATER_KEY = b"\x03later"
PATIENT: Any = {"timeout_s": 60}
ROUNDING_S = 1
"""A record's expiry is kept in whole seconds, and comes back as the seconds that are left."""
LATE_S = 30
"""A server counts a TTL from when it writes, which on a busy machine is seconds after it was reckoned."""


@pytest.fixture
def cluster(operator: Operator) -> Iterator[Cluster]:
    hosts = tuple(operator.hosts.split(","))
    with Cluster(AerospikeSettings(hosts=hosts, **PATIENT)) as connected:
        yield connected
        for namespace in (operator.namespace, TARGET):  # the official client cannot name every key
            remove(connected, namespace, list(corpus.seen(connected, namespace)))


def remove(cluster: Cluster, namespace: str, digests: list[bytes]) -> None:
    """By digest alone: the official client cannot name every set."""
    array = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_SIZE)
    assert not write(cluster, namespace, array, lambda rows: codec.batch_removes(array[rows], namespace.encode())).any()


def differing(there: State, before: State) -> dict[str, tuple[Stored | None, Stored | None]]:
    """What is not as it was, by its name in the corpus."""
    names = {item.digest: item.name for item in CORPUS}
    return {
        names.get(digest, digest.hex()): (before.get(digest), there.get(digest))
        for digest in before.keys() | there.keys()
        if not same(before.get(digest), there.get(digest))
    }


def same(before: Stored | None, after: Stored | None) -> bool:
    if before is None or after is None:
        return False
    mortal = (before.void_time == 0, after.void_time == 0)
    return (
        (before.set_name, before.key, before.bins) == (after.set_name, after.key, after.bins)
        and mortal in ((True, True), (False, False))
        and -ROUNDING_S <= after.void_time - before.void_time <= LATE_S
    )


def captured(operator: Operator) -> None:
    operator.good("collect", "--once")
    operator.good("compact", "--once")


@pytest.mark.parametrize("with_set", [False, True], ids=["segments", "restore set"])
def test_the_corpus_comes_back_into_another_namespace_and_in_place(
    operator: Operator, cluster: Cluster, with_set: bool
) -> None:
    operator.configure(aerospike=PATIENT, compactor={"set_every_s": 0.5 if with_set else 3600})
    namespace = operator.namespace
    assert set(corpus.write(cluster, namespace, CORPUS).values()) == {0}
    corpus.by_client(operator.client, namespace)
    brief = Item("soon gone", ONE, ttl=1)
    assert corpus.write(cluster, namespace, (brief,)) == {brief.name: 0}
    captured(operator)
    before = corpus.seen(cluster, namespace)
    before.pop(brief.digest, None)
    assert len(before) > len(CORPUS)
    time.sleep(1.2)  # a restore set is made at a multiple of its interval, once that lies behind
    moment = rfc3339(wall_clock())
    time.sleep(0.6)
    captured(operator)
    listed = operator.good("list", "--json").json
    assert all(bool(shard["sets"]) == with_set for shard in listed["archive"])

    operator.good("restore", "--at", moment, "--into", TARGET, "--yes")
    assert differing(corpus.seen(cluster, TARGET), before) == {}

    overwritten, removed = sorted(before)[::2], sorted(before)[1::2]
    overwrite(cluster, namespace, overwritten)
    remove(cluster, namespace, removed)
    captured(operator)
    assert len(differing(corpus.seen(cluster, namespace), before)) == len(before)
    operator.good("restore", "--at", moment, "--yes")
    # A server keeps the first user key that it is sent for as long as the record is there, whatever replaces it.
    expected = before | {d: replace(before[d], key=before[d].key or LATER_KEY) for d in overwritten}
    assert differing(corpus.seen(cluster, namespace), expected) == {}


def test_the_largest_records_go_the_whole_way_however_much_larger_they_are_as_avro(
    operator: Operator, cluster: Cluster
) -> None:
    operator.configure(aerospike=PATIENT)
    large = largest(cluster, operator.namespace)
    small_integers = msgpack.list_of([b"\x7f"] * (len(large.bins[0][1][1]) - 10))
    bins = tuple((b"b%d" % i, (corpus.INTEGER, i.to_bytes(8, "big"))) for i in range(32_767))
    items = (large, Item("integers", ((b"b", (corpus.LIST, small_integers)),)), Item("bins", bins))
    assert set(corpus.write(cluster, operator.namespace, items).values()) == {0}
    before = corpus.seen(cluster, operator.namespace)
    captured(operator)
    operator.good("restore", "--at", "latest", "--into", TARGET, "--yes")
    assert differing(corpus.seen(cluster, TARGET), before) == {}


def test_a_record_too_large_for_kafka_is_kept_aside_named_and_counted_and_the_rest_goes_on(
    operator: Operator, cluster: Cluster
) -> None:
    operator.configure(aerospike=PATIENT, kafka={"max_message_bytes": corpus.MEBIBYTE})
    large, plain = largest(cluster, operator.namespace), Item("plain", ONE)
    assert set(corpus.write(cluster, operator.namespace, (large, plain)).values()) == {0}
    answer = operator.run("collect", "--once", "--json")
    assert answer.code == CaptureIncomplete.exit_code
    assert (answer.json["writes"], answer.json["aside"]) == (1, 1)
    status = operator.run("status", "--json")
    assert status.code == CaptureIncomplete.exit_code
    [kept] = status.json["aside"]
    assert kept["digest"] == large.digest.hex()
    assert "larger than the limit; kept are the first 1044480 of" in kept["reason"]
    assert operator.good("collect", "--once", "--json").json["aside"] == 0  # told once


def largest(cluster: Cluster, namespace: str) -> Item:
    """The record with the largest blob that the server takes: one byte more is refused."""

    def item(size: int) -> Item:
        return Item("largest", ((b"b", (corpus.BLOB, b"\xa5" * size)),))

    taken, refused = 1 << 10, corpus.MEBIBYTE + 1
    while refused - taken > 1:
        middle = (taken + refused) // 2
        code = corpus.write(cluster, namespace, (item(middle),))["largest"]
        assert code in (m.Result.OK, m.Result.RECORD_TOO_BIG)
        taken, refused = (middle, refused) if code == m.Result.OK else (taken, middle)
    return item(taken)


def overwrite(cluster: Cluster, namespace: str, digests: list[bytes]) -> None:
    """Other bins, another expiry, and a stored key where there was none, for records of any set."""
    items = {item.digest: item for item in CORPUS}
    found = corpus.seen(cluster, namespace)
    for digest in digests:
        name = items[digest].name if digest in items else digest.hex()
        was, other = found[digest], (corpus.STRING, b"other")
        key = (LATER_KEY[0], LATER_KEY[1:]) if was.key is None else None
        item = Item(name, ((b"other", other), (b"b", other)), was.set_name, key, ttl=7200)
        assert corpus.write(cluster, namespace, (item,), digest=digest) == {name: 0}


def test_every_change_of_the_corpus_is_a_line_of_json_that_says_what_it_holds(
    operator: Operator, cluster: Cluster
) -> None:
    assert set(corpus.write(cluster, operator.namespace, CORPUS).values()) == {0}
    operator.good("collect", "--once")
    lines = operator.good("consume").out.split("\n")[:-1]
    told = {line["digest"]: line for line in map(json.loads, lines)}
    assert len(lines) == len(told) == len(CORPUS)

    def value(name: str) -> object:
        return told[Item(f"particle {name}", ()).digest.hex()]["bins"]["b"]

    assert value("java") == {"$raw": "rO0ABWphdmE=", "$type": 7}
    assert value("notutf8") == {"$raw": "//7D", "$type": 3}
    assert value("foreign") == {"$raw": "kdQFAA==", "$type": 20}
    assert value("nul") == "a\0b\0"
    assert value("quiet") != value("quietpayload")
    assert value("signalling") != value("quiet")
    assert value("byvalue") == {"$map": [[1, 5], ["a", value("bykey")]], "$flags": 3}


@pytest.mark.emulator_only  # a server never forgets a set, and the official client cannot read this one's name
def test_a_set_that_no_schema_can_name_is_kept_aside_named_and_counted_and_the_rest_goes_on(
    operator: Operator, cluster: Cluster
) -> None:
    odd, plain = Item("odd", ONE, set_name=b"cdct-\xff"), Item("plain", ONE)
    assert set(corpus.write(cluster, operator.namespace, (odd, plain)).values()) == {0}
    answer = operator.run("collect", "--once", "--json")
    assert answer.code == CaptureIncomplete.exit_code
    assert (answer.json["writes"], answer.json["aside"]) == (1, 1)
    [kept] = operator.run("status", "--json").json["aside"]
    assert (kept["digest"], kept["reason"]) == (odd.digest.hex(), "the set's name is not UTF-8")
    remove(cluster, operator.namespace, [odd.digest])
    again = operator.good("collect", "--once", "--json").json
    assert (again["aside"], again["deletes"]) == (0, 1)
    included = Source(cluster, operator.namespace, scope=Scope(include=("cdct-corpus",)))
    included.learn_sets()
    assert included.observe(range(PARTITIONS)).records.digest.tobytes() == plain.digest
