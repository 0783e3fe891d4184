"""Every particle type comes back as it was: stored, captured as an Avro body, removed, written from it, read again."""

import time
from typing import Any

import aerospike
import numpy as np
import pytest

import cdc.codec.batch_kernels  # noqa: F401  compiled before a TTL is reckoned from now, not between
from cdc import codec
from cdc.codec import msgpack
from cdc.codec.values_plain import GeoJSON, HyperLogLog, List, Map, Raw
from cdc.model import NEVER, PARTITIONS, Columns, Op, Origin
from cdc.wire import Cluster
from cdc.wire.batch import read, write
from cdc.wire.query import query
from tests.fixtures.rawwire import RawRecords

Client = Any
Key = tuple[str, str, Any]

POINT = '{"type": "Point", "coordinates": [1.5, 2.5]}'
CIRCLE = '{"type": "AeroCircle", "coordinates": [[-122.0, 37.5], 1000]}'
INTEGERS = [s * (1 << b) + d for b in (5, 7, 8, 15, 16, 31, 32, 62) for d in (-1, 0, 1) for s in (1, -1)]
NESTED = [None, True, False, 1.5, "", "grüße" * 20, {"k": [1, {"n": []}]}, *INTEGERS]


def packed(value: Any) -> bytes:
    return msgpack.pack(value)


MIXED = msgpack.list_of([*map(packed, NESTED), msgpack.typed(4, b""), msgpack.typed(4, bytes(300))])
SKETCH = bytes.fromhex("0004000000000000000000001000000000000000002000")  # of "x" and "y", with 4 index bits


ORDERED = msgpack.list_of([b"\x01", b"\x02"], msgpack.ORDERED)
BY_KEY = msgpack.map_of([packed("a"), ORDERED, packed("b"), b"\xc0"], msgpack.ORDERED)
BY_VALUE = msgpack.map_of([packed("a"), b"\x01", packed("b"), BY_KEY], msgpack.KEY_VALUE_ORDERED)
PARTICLES: dict[str, tuple[int, bytes]] = {
    "integer": (1, (-5).to_bytes(8, "big", signed=True)),
    "float": (2, b"\x3f\xf8" + bytes(6)),
    "nan": (2, b"\x7f\xf8" + bytes(5) + b"\x01"),
    "string": (3, "a\0ü".encode()),
    "notutf8": (3, b"\xff\xfe"),
    "empty": (3, b""),
    "blob": (4, bytes(range(256))),
    "java": (7, b"\xac\xed\x00\x05"),
    "csharp": (8, b"c"),
    "python": (9, b"p"),
    "ruby": (10, b"r"),
    "php": (11, b"h"),
    "erlang": (12, b"e"),
    "bool": (17, b"\x01"),
    "hll": (18, SKETCH),
    "list": (20, MIXED),
    "emptylist": (20, b"\x90"),
    "ordered": (20, ORDERED),
    "inside": (20, msgpack.list_of([ORDERED, BY_KEY, msgpack.typed(23, POINT.encode()), msgpack.typed(7, b"j")])),
    "map": (19, packed({"a": 1, 5: [True], "n": {"m": None}})),
    "bykey": (19, BY_KEY),
    "byvalue": (19, BY_VALUE),
    "emptymap": (19, b"\x80"),
    "oldheader": (20, b"\xdc\x00\x01\x01"),
    "longint": (20, b"\x91\xcd\x00\x05"),
    "point": (23, b"\x00\x00\x00" + POINT.encode()),
    "circle": (23, b"\x00\x00\x00" + CIRCLE.encode()),
}
TYPED = {
    "list": List, "ordered": List, "inside": List, "emptylist": List, "map": Map, "bykey": Map, "byvalue": Map,
    "emptymap": Map, "point": GeoJSON, "circle": GeoJSON, "hll": HyperLogLog, "java": Raw, "erlang": Raw,
    "notutf8": Raw, "bool": bool, "blob": bytes, "string": str, "float": float, "integer": int,
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


@pytest.fixture
def stored(client: Client, raw: RawRecords, namespace: str, set_name: str) -> set[bytes]:
    """One record per particle, and some with keys of every type and an expiry."""
    digests = set()
    for name, particle in PARTICLES.items():
        key = (namespace, set_name, name)
        assert raw.write(key, {name: particle}) == 0, name
        digests.add(bytes(aerospike.calc_digest(*key)))
    for user_key in (7, "text", bytearray(b"\x00blob")):
        key = (namespace, set_name, user_key)
        client.put(key, {"b": 1}, policy={"key": aerospike.POLICY_KEY_SEND, "ttl": 1000})
        digests.add(bytes(aerospike.calc_digest(*key)))
    return digests


def test_every_particle_user_key_and_expiry_survives_capture_removal_and_restore(
    cluster: Cluster, raw: RawRecords, namespace: str, set_name: str, stored: set[bytes]
) -> None:
    before = capture(cluster, namespace, set_name)
    particles = {name: raw.read((namespace, set_name, name)) for name in PARTICLES}
    changes = bodies(before)
    assert set(by_digest(before)) == stored

    removed = write(
        cluster, namespace, before.digest, lambda rows: codec.batch_removes(before.digest[rows], namespace.encode())
    )
    assert not removed.any()
    assert len(capture(cluster, namespace, set_name)) == 0

    def encode(rows: Any) -> bytes:
        return codec.batch_rows(changes, rows, namespace.encode(), time.time_ns() // 1_000_000)

    assert not write(cluster, namespace, before.digest, encode).any()
    after = capture(cluster, namespace, set_name)
    assert {d: c for d, (c, _) in by_digest(after).items()} == {d: c for d, (c, _) in by_digest(before).items()}
    for digest, (_, void_time) in by_digest(after).items():
        was = by_digest(before)[digest][1]
        assert (void_time == NEVER) == (was == NEVER)
        assert abs(void_time - was) <= 1000
    assert {name: raw.read((namespace, set_name, name)) for name in PARTICLES} == particles


def test_what_the_schema_can_say_is_typed(cluster: Cluster, namespace: str, set_name: str, stored: set[bytes]) -> None:
    changes = bodies(capture(cluster, namespace, set_name))
    seen: dict[str, Any] = {}
    for i in range(len(changes)):
        seen |= codec.to_python(changes[i])["bins"]

    assert {name: type(seen[name]) for name in TYPED} == TYPED
    assert seen["point"] == GeoJSON(POINT)
    assert seen["byvalue"].flags == msgpack.KEY_VALUE_ORDERED


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
