"""Every particle type comes back as it was: stored, captured as an Avro body, removed, written from it, read again."""

import time
from dataclasses import replace
from typing import Any

import aerospike
import numpy as np
import pytest

import cdc.codec.batch_kernels  # noqa: F401  compiled before a TTL is reckoned from now, not between
from cdc import codec
from cdc.codec import msgpack
from cdc.codec.decode import content_to_python
from cdc.codec.values_plain import GeoJSON, HyperLogLog, List, Map, Raw
from cdc.model import NEVER, PARTITIONS, Columns, Op, Origin
from cdc.wire import Cluster
from cdc.wire import messages as m
from cdc.wire.batch import read, write
from cdc.wire.query import query
from tests.fixtures import corpus
from tests.fixtures.corpus import CORPUS, KEPT, REFUSED, Item

Client = Any
Key = tuple[str, str, Any]

TYPED = {
    "list": List, "sorted": List, "levels": List, "emptylist": List, "map": Map, "bykey": Map, "byvalue": Map,
    "emptymap": Map, "depth64": List, "depth65": Raw, "depth100map": Raw, "foreign": Raw, "shortfloat": Raw,
    "point": GeoJSON, "circle": GeoJSON, "cells": GeoJSON, "hll4-4": HyperLogLog, "java": Raw, "erlang": Raw,
    "notutf8": Raw, "true": bool, "blob": bytes, "string": str, "nul": str, "quiet": float, "short1": int,
}  # fmt: skip


def capture(cluster: Cluster, namespace: str, set_name: str) -> codec.Records:
    found = codec.records(query(cluster, namespace, range(PARTITIONS), set_name=set_name))
    assert found.rejected == ()
    return found


def bodies(found: codec.Records) -> Any:
    n = len(found)
    now = np.full(n, time.time_ns() // 1_000_000)
    columns = Columns(
        digest=found.digest, op=np.full(n, Op.WRITE, np.uint8), origin=np.full(n, Origin.BASE, np.uint8), lut=now,
        generation=found.generation, void_time=found.void_time, effective_at=now, unobserved_since=now,
        observed_at=now, consecutive=np.zeros(n, np.bool_), set_hash=found.set_hash, checksum=found.checksum,
    )  # fmt: skip
    return codec.changes(columns, found.contents, np.arange(n))


def by_digest(found: codec.Records) -> dict[bytes, tuple[bytes, int]]:
    rows = range(len(found))
    return {found.digest[i].tobytes(): (found.contents[i], int(found.void_time[i])) for i in rows}


def of(set_name: str) -> list[Item]:
    """The corpus's records of one set, in another."""
    return [replace(item, set_name=set_name.encode()) for item in CORPUS if item.set_name == Item("", ()).set_name]


@pytest.fixture
def stored(client: Client, cluster: Cluster, namespace: str, set_name: str) -> set[bytes]:
    """The corpus, and records with keys of every type as a client sends them, with an expiry."""
    items = of(set_name)
    assert set(corpus.write(cluster, namespace, items).values()) == {0}
    digests = {item.digest for item in items}
    for user_key in (7, "text", bytearray(b"\x00blob")):
        key = (namespace, set_name, user_key)
        client.put(key, {"b": 1}, policy={"key": aerospike.POLICY_KEY_SEND, "ttl": 1000})
        digests.add(bytes(aerospike.calc_digest(*key)))
    return digests


def test_a_server_keeps_the_corpus_as_it_is_said_to(
    cluster: Cluster, namespace: str, set_name: str, stored: set[bytes]
) -> None:
    there = corpus.seen(cluster, namespace, set_name)
    for item in of(set_name):
        found = there[item.digest]
        sent = tuple((n, (kind, KEPT.get(item.name.removeprefix("particle "), data))) for n, (kind, data) in item.bins)
        key = None if item.key is None else bytes([item.key[0]]) + item.key[1]
        assert (found.set_name, found.key) == (item.set_name, key), item.name
        assert [n for n, _ in found.bins] == [n for n, _ in sent], item.name
        if item.name != "a bin of each":
            for (_, sent_particle), (_, kept) in zip(sent, found.bins, strict=True):
                assert plain(kept) == plain(sent_particle), item.name


def plain(particle: corpus.Particle) -> corpus.Particle:
    """A GeoJSON without its cells."""
    kind, data = particle
    return (kind, data[3 + 8 * int.from_bytes(data[1:3], "big") :]) if kind == corpus.GEO else particle


def test_a_server_refuses_what_it_is_said_to(cluster: Cluster, namespace: str, set_name: str) -> None:
    items = [Item(name, ((b"b", particle),), set_name.encode()) for name, (_, particle) in REFUSED.items()]
    assert corpus.write(cluster, namespace, items) == {name: code for name, (code, _) in REFUSED.items()}


def test_a_server_has_these_limits(cluster: Cluster, namespace: str, set_name: str) -> None:
    def item(name: str, bins: corpus.Bins = corpus.ONE, **given: Any) -> Item:
        return Item(name, bins, **{"set_name": set_name.encode(), **given})

    answers = {
        item("no bins", ()): m.Result.PARAMETER,
        item("only a null", ((b"b", (0, b"")),)): m.Result.NOT_FOUND,
        item("32,767 bins", many(32_767)): m.Result.OK,
        item("32,768 bins", many(32_768)): m.Result.PARAMETER,
        item("a long bin name", ((b"n" * 16, (3, b"")),)): m.Result.BIN_NAME,
        item("a bin name with a nul", ((b"n\0", (3, b"")),)): m.Result.BIN_NAME,
        item("a long set", set_name=b"s" * 64): m.Result.PARAMETER,
        item("a set with a nul", set_name=b"s\0"): m.Result.PARAMETER,
        item("a short integer as user key", key=(1, b"\1")): m.Result.UNSUPPORTED_FEATURE,
        item("a long life", ttl=corpus.TEN_YEARS + 1): m.Result.PARAMETER,
        item("a large blob", ((b"b", (4, bytes(corpus.MEBIBYTE))),)): m.Result.RECORD_TOO_BIG,
    }
    assert corpus.write(cluster, namespace, answers) == {i.name: code for i, code in answers.items()}
    found = capture(cluster, namespace, set_name)
    assert dict(content_to_python(found.contents[0])[2]) == {f"b{i}": i for i in range(32_767)}


def many(count: int) -> corpus.Bins:
    """So many bins with a number each."""
    return tuple((b"b%d" % i, (1, i.to_bytes(8, "big"))) for i in range(count))


def test_the_corpus_survives_capture_removal_and_restore(
    cluster: Cluster, namespace: str, set_name: str, stored: set[bytes]
) -> None:
    before, truth = capture(cluster, namespace, set_name), corpus.seen(cluster, namespace, set_name)
    changes = bodies(before)
    assert set(by_digest(before)) == stored

    removed = write(
        cluster, namespace, before.digest, lambda rows: codec.batch_removes(before.digest[rows], namespace.encode())
    )
    assert not removed.any()
    assert len(capture(cluster, namespace, set_name)) == 0

    def encode(rows: Any) -> bytes:
        return codec.batch_rows(changes, rows, namespace.encode(), time.time_ns() // 1_000_000)

    took: list[float] = []
    assert not write(cluster, namespace, before.digest, encode, took=took.append).any()
    late_ms = 1000 * max(took)  # a TTL counts from when the node takes a write up
    after = capture(cluster, namespace, set_name)
    assert {d: c for d, (c, _) in by_digest(after).items()} == {d: c for d, (c, _) in by_digest(before).items()}
    for digest, (_, void_time) in by_digest(after).items():
        was = by_digest(before)[digest][1]
        assert (void_time == NEVER) == (was == NEVER)
        assert -1000 <= void_time - was <= 1000 + late_ms
    there = corpus.seen(cluster, namespace, set_name)
    assert {d: replace(s, void_time=0) for d, s in there.items()} == {
        d: replace(s, void_time=0) for d, s in truth.items()
    }


def test_what_the_schema_can_say_is_typed(cluster: Cluster, namespace: str, set_name: str, stored: set[bytes]) -> None:
    found = capture(cluster, namespace, set_name)
    changes = bodies(found)
    row = {digest.tobytes(): i for i, digest in enumerate(found.digest)}

    def value(name: str) -> Any:
        return codec.to_python(changes[row[Item(f"particle {name}", ()).digest]])["bins"]["b"]

    assert {name: type(value(name)) for name in TYPED} == TYPED
    assert value("cells") == GeoJSON('{"type": "Point", "coordinates": [10, 20]}')
    assert value("byvalue").flags == msgpack.KEY_VALUE_ORDERED


def test_guards_let_a_write_through_for_the_generation_they_name_and_no_other(
    cluster: Cluster, client: Client, namespace: str, key: Key
) -> None:
    for value in range(3):
        client.put(key, {"b": value}, policy={"ttl": aerospike.TTL_NEVER_EXPIRE})
    found = capture(cluster, namespace, key[1])
    changes = bodies(found)

    def attempt(guard: int, create_only: bool = False) -> int:
        def encode(rows: Any) -> bytes:
            now = time.time_ns() // 1_000_000
            guards = np.array([guard], np.int32)[rows]
            return codec.batch_rows(changes, rows, namespace.encode(), now, guards, create_only=create_only)

        return int(write(cluster, namespace, found.digest, encode)[0])

    assert [attempt(2), attempt(0), attempt(codec.NO_GUARD, create_only=True)] == [3, 3, 5]
    assert attempt(3) == 0
    removes = [codec.batch_removes(found.digest, namespace.encode(), np.array([g], np.int32)) for g in (3, 4)]
    assert [int(write(cluster, namespace, found.digest, lambda rows, r=r: r)[0]) for r in removes] == [3, 0]
    assert attempt(0) == 0
    assert client.get(key)[2] == {"b": 2}


def test_a_batch_read_says_the_same_as_the_query(
    cluster: Cluster, namespace: str, set_name: str, stored: set[bytes]
) -> None:
    asked = capture(cluster, namespace, set_name)
    heads = codec.heads(asked.contents, np.arange(len(asked)))
    again: dict[bytes, tuple[bytes, int]] = {}
    for rows, frame in read(cluster, namespace, asked.digest):
        got = codec.records([frame], asked=asked.digest[rows], heads=codec.gather(heads, rows))
        assert got.rejected == ()
        again |= by_digest(got)

    assert again == by_digest(asked)
