"""Our reader of whole partitions and the official client agree on every record."""

import base64
import struct
import time
from typing import Any

import aerospike
import numpy as np
import pytest
from aerospike_helpers import HyperLogLog
from aerospike_helpers import expressions as exp
from aerospike_helpers.operations import expression_operations, operations

from cdc.clock import CITRUSLEAF_EPOCH_S
from cdc.model import PARTITIONS, partition_of
from cdc.source import Scope, expressions
from cdc.wire import Cluster
from cdc.wire import messages as m
from cdc.wire.batch import read, values
from cdc.wire.query import query

Client = Any
Key = tuple[str, str, Any]
DECODED = (m.Particle.INTEGER, m.Particle.FLOAT, m.Particle.STRING, m.Particle.BLOB, m.Particle.BOOL)
SKETCH = bytes.fromhex("0004000000000000000000000000004080000000000000")  # of two values, with 4 index bits
GEO = '{"type": "Point", "coordinates": [1.5, 2.5]}'


def bins(i: int) -> dict[str, Any]:
    return {
        "int": i - 3,
        "float": i / 7,
        "text": "grüße" * i,
        "blob": bytearray(range(i)),
        "flag": i % 2 == 0,
        "list": [i, "x", [1.5, None], {"k": bytearray(b"\x00")}],
        "map": {"a": i, 5: [True], bytearray(b"b").hex(): {"n": None}},
        "geo": aerospike.GeoJSON(GEO),
        "hll": HyperLogLog(SKETCH),
    }


@pytest.fixture
def stored(client: Client, namespace: str, set_name: str) -> dict[bytes, Key]:
    """Records with every type of bin, with and without user key and expiry, by digest."""
    keys = {}
    for i in range(60):
        key = (namespace, set_name, i if i % 3 else f"key {i}")
        policy = {
            "key": aerospike.POLICY_KEY_SEND if i % 2 else aerospike.POLICY_KEY_DIGEST,
            "ttl": 1000 + i if i % 5 == 0 else aerospike.TTL_NEVER_EXPIRE,
        }
        for _ in range(1 + i % 4):
            client.put(key, bins(i), policy=policy)
        keys[bytes(aerospike.calc_digest(*key))] = key
    return keys


def messages(frames: Any) -> dict[bytes, m.Message]:
    """The records of a query's frames, by digest."""
    found = {}
    for frame in frames:
        for message in m.parse_messages(frame.tobytes()):
            digest = message.field(m.FieldType.DIGEST)
            if digest is not None:
                assert digest not in found
                found[digest] = message
    return found


def particle(kind: int, value: bytes) -> Any:
    """A particle's bytes as the client gives it with `deserialize` off; containers and sketches stay bytes."""
    if kind == m.Particle.INTEGER:
        return struct.unpack(">q", value)[0]
    if kind == m.Particle.FLOAT:
        return struct.unpack(">d", value)[0]
    if kind == m.Particle.STRING:
        return value.decode()
    if kind == m.Particle.BOOL:
        return value != b"\x00"
    if kind == m.Particle.GEOJSON:
        cells = struct.unpack_from(">H", value, 1)[0]
        return value[3 + 8 * cells :].decode()
    return value


def plain(value: Any) -> Any:
    if isinstance(value, aerospike.GeoJSON):
        return GEO if value.unwrap() == aerospike.GeoJSON(GEO).unwrap() else value
    return bytes(value) if isinstance(value, bytes | bytearray) else value


def test_every_record_of_a_set_has_the_clients_bins_generation_key_and_expiry(
    cluster: Cluster, client: Client, namespace: str, set_name: str, stored: dict[bytes, Key]
) -> None:
    found = messages(query(cluster, namespace, range(PARTITIONS), set_name=set_name))
    assert found.keys() == stored.keys()
    for digest, key in stored.items():
        message = found[digest]
        _, meta, theirs = client.get(key, {"deserialize": False, "max_retries": 2})
        assert message.header.generation == meta["gen"]
        if meta["ttl"] == aerospike.TTL_NEVER_EXPIRE:
            assert message.header.record_ttl == 0
        else:
            void_time = message.header.record_ttl + CITRUSLEAF_EPOCH_S
            assert void_time == pytest.approx(time.time() + meta["ttl"], abs=1.5)
        ours = {op.name.decode(): particle(op.particle, op.value) for op in message.ops}
        assert {name: plain(value) for name, value in theirs.items()} == ours
        assert message.field(m.FieldType.SET) == set_name.encode()
        number = int(key[2]) if isinstance(key[2], int) else int(key[2].split()[1])
        user_key = message.field(m.FieldType.KEY)
        if number % 2 == 0:
            assert user_key is None
        else:
            assert user_key is not None
            assert particle(user_key[0], user_key[1:]) == key[2]


def test_the_types_of_bins_are_the_servers_own(
    cluster: Cluster, client: Client, namespace: str, set_name: str, stored: dict[bytes, Key]
) -> None:
    found = messages(query(cluster, namespace, range(PARTITIONS), set_name=set_name))
    digest, key = next(iter(stored.items()))
    names = [op.name.decode() for op in found[digest].ops]
    types = [expression_operations.expression_read(name, exp.BinType(name).compile()) for name in names]
    _, _, theirs = client.operate(key, types)
    assert {op.name.decode(): op.particle for op in found[digest].ops} == theirs


def test_partitions_divide_the_records_as_the_client_says(
    cluster: Cluster, client: Client, namespace: str, set_name: str, stored: dict[bytes, Key]
) -> None:
    rows = np.frombuffer(b"".join(stored), np.uint8).reshape(-1, 20)
    numbers = partition_of(rows)
    assert numbers.tolist() == [client.get_key_partition_id(*key) for key in stored.values()]
    some = sorted(set(numbers.tolist()))[::2]
    found = messages(query(cluster, namespace, some, set_name=set_name))
    assert found.keys() == {d for d, p in zip(stored, numbers.tolist(), strict=True) if p in some}


def test_digests_alone_come_without_bins(
    cluster: Cluster, namespace: str, set_name: str, stored: dict[bytes, Key]
) -> None:
    found = messages(query(cluster, namespace, range(PARTITIONS), set_name=set_name, bins=False))
    assert found.keys() == stored.keys()
    assert not any(message.ops for message in found.values())


def test_luts_by_query_by_batch_and_by_operate_are_the_same(
    cluster: Cluster, client: Client, namespace: str, set_name: str, stored: dict[bytes, Key]
) -> None:
    lut = exp.LastUpdateTime().compile()
    theirs = {}
    for digest, key in stored.items():
        ops = [operations.increment("int", 1), expression_operations.expression_read("lut", lut)]
        theirs[digest] = client.operate(key, ops)[2]["lut"]
    asked = query(cluster, namespace, range(PARTITIONS), set_name=set_name, project=expressions.LUT)
    by_query = {d: struct.unpack(">q", message.ops[0].value)[0] for d, message in messages(asked).items()}
    assert by_query == theirs
    rows = np.frombuffer(b"".join(stored), np.uint8).reshape(-1, 20)
    answers = values(cluster, namespace, rows, expressions.LUT, batch_records=7)
    assert answers.value.tolist() == list(theirs.values())
    assert not answers.result.any()


def test_a_batch_read_has_the_bins_of_the_query(
    cluster: Cluster, namespace: str, set_name: str, stored: dict[bytes, Key]
) -> None:
    by_query = messages(query(cluster, namespace, range(PARTITIONS), set_name=set_name))
    digests = [*stored, bytes(range(20))]
    rows = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 20)
    missing = []
    for asked, frame in read(cluster, namespace, rows, batch_records=13):
        for message in m.parse_messages(frame.tobytes()):
            if message.header.info3 & m.INFO3_LAST:
                continue
            digest = digests[asked[message.header.transaction_ttl]]
            if message.header.result == m.Result.NOT_FOUND:
                missing.append(digest)
                continue
            assert message.header.generation == by_query[digest].header.generation
            assert sorted(message.ops, key=lambda op: op.name) == sorted(by_query[digest].ops, key=lambda op: op.name)
    assert missing == [bytes(range(20))]


def test_a_filter_on_the_last_update_time_is_a_lower_bound(
    cluster: Cluster, client: Client, namespace: str, set_name: str, stored: dict[bytes, Key]
) -> None:
    rows = np.frombuffer(b"".join(stored), np.uint8).reshape(-1, 20)
    luts = values(cluster, namespace, rows, expressions.LUT).value // 1_000_000
    for bound in (int(luts.min()), int(np.median(luts)), int(luts.max()), int(luts.max()) + 1):
        frames = query(cluster, namespace, range(PARTITIONS), set_name=set_name, filter=expressions.lut_at_least(bound))
        assert messages(frames).keys() == {d for d, lut in zip(stored, luts, strict=True) if lut >= bound}
        frames = query(cluster, namespace, range(PARTITIONS), set_name=set_name, filter=expressions.lut_before(bound))
        assert messages(frames).keys() == {d for d, lut in zip(stored, luts, strict=True) if lut < bound}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (expressions.lut_at_least(0), exp.GE(exp.LastUpdateTime(), 0)),
        (expressions.lut_at_least(1_795_000_000_123), exp.GE(exp.LastUpdateTime(), 1_795_000_000_123_000_000)),
        (expressions.lut_before(1_795_000_000_123), exp.LE(exp.LastUpdateTime(), 1_795_000_000_122_000_000)),
        (expressions.LUT, exp.LastUpdateTime()),
        (expressions.TELLS_TIME, exp.GE(exp.SinceUpdateTime(), 1)),
        (expressions.NODE_NOW, exp.Add(exp.Div(exp.LastUpdateTime(), 1_000_000), exp.SinceUpdateTime())),
        (expressions.in_sets(["abc"]), exp.Eq(exp.SetName(), "abc")),
        (expressions.in_sets([""]), exp.Eq(exp.SetName(), "")),
        (
            expressions.in_sets(["a", "b" * 60]),
            exp.Or(exp.Eq(exp.SetName(), "a"), exp.Eq(exp.SetName(), "b" * 60)),
        ),
        (
            expressions.in_sets([f"set-{i}" for i in range(20)]),
            exp.Or(*(exp.Eq(exp.SetName(), f"set-{i}") for i in range(20))),
        ),
        (
            expressions.both(expressions.lut_at_least(1), expressions.in_sets(["x"])),
            exp.And(exp.GE(exp.LastUpdateTime(), 1_000_000), exp.Eq(exp.SetName(), "x")),
        ),
        (expressions.not_in_sets([""]), exp.NE(exp.SetName(), "")),
        (
            Scope(exclude=("a", "b" * 60)).expression(),
            exp.And(exp.NE(exp.SetName(), "a"), exp.NE(exp.SetName(), "b" * 60)),
        ),
    ],
)
def test_our_packed_expressions_are_those_of_the_client(client: Client, ours: bytes, theirs: Any) -> None:
    assert ours == base64.b64decode(client.get_expression_base64(theirs.compile()))


def test_every_partition_has_an_owner_among_the_nodes(cluster: Cluster, namespace: str) -> None:
    owners = cluster.owners(namespace)
    assert owners.keys() == set(range(PARTITIONS))
    assert set(owners.values()) <= set(cluster.nodes())
    assert namespace in cluster.namespaces()
