"""What our batches write is what the official client reads, and what was read can be written back byte for byte."""

import struct
from typing import Any

import aerospike
import numpy as np
import pytest
from aerospike import exception

from cdc.clock import CITRUSLEAF_EPOCH_S
from cdc.errors import NamespaceUnknown
from cdc.model import PARTITIONS
from cdc.wire import Cluster
from cdc.wire import messages as m
from cdc.wire.batch import write
from cdc.wire.query import query
from cdc.wire.rows import Row, pack_rows
from tests.conformance.test_bulk_read import Client, Key, messages, stored

__all__ = ["stored"]
REPLACE = m.INFO3_CREATE_OR_REPLACE
NEVER = 0xFFFFFFFF


def send(cluster: Cluster, namespace: str, rows: list[Row], **how: int) -> list[int]:
    """Write rows through batches of their own numbering; the result codes."""
    digests = np.frombuffer(b"".join(row.digest for row in rows), np.uint8).reshape(-1, 20)

    def encode(chosen: np.ndarray) -> bytes:
        picked = [rows[i] for i in chosen.tolist()]
        return pack_rows(
            Row(i, r.digest, r.info1, r.info2, r.info3, r.info4, r.generation, r.ttl, r.fields, r.ops)
            for i, r in enumerate(picked)
        )

    return list(write(cluster, namespace, digests, encode, **how))


def row(
    namespace: str, set_name: str, digest: bytes, ops: tuple[m.Op, ...], info3: int = REPLACE, ttl: int = NEVER
) -> Row:
    fields = ((int(m.FieldType.NAMESPACE), namespace.encode()), (int(m.FieldType.SET), set_name.encode()))
    return Row(0, digest, 0, m.INFO2_WRITE, info3, ttl=ttl, fields=fields, ops=ops)


def integer(name: bytes, value: int) -> m.Op:
    return m.Op(m.OpType.WRITE, name, m.Particle.INTEGER, struct.pack(">q", value))


def digest_of(namespace: str, set_name: str, key: Any) -> bytes:
    return bytes(aerospike.calc_digest(namespace, set_name, key))


def test_written_rows_are_read_by_the_client(cluster: Cluster, client: Client, namespace: str, set_name: str) -> None:
    rows = [row(namespace, set_name, digest_of(namespace, set_name, i), (integer(b"n", i),)) for i in range(300)]
    assert send(cluster, namespace, rows, batch_records=37) == [0] * 300
    for i in range(0, 300, 23):
        _, meta, bins = client.get((namespace, set_name, i))
        assert bins == {"n": i}
        assert meta["gen"] == 1


def test_a_row_replaces_the_whole_record(cluster: Cluster, client: Client, namespace: str, set_name: str) -> None:
    key = (namespace, set_name, "k")
    client.put(key, {"old": 1, "n": 1})
    assert send(cluster, namespace, [row(namespace, set_name, digest_of(*key), (integer(b"n", 2),))]) == [0]
    assert client.get(key)[2] == {"n": 2}


def test_each_row_gets_its_own_result(cluster: Cluster, client: Client, namespace: str, set_name: str) -> None:
    client.put((namespace, set_name, "there"), {"n": 1})
    there, absent = (digest_of(namespace, set_name, k) for k in ("there", "absent"))
    remove = Row(0, absent, 0, m.INFO2_WRITE | m.INFO2_DELETE, fields=((0, namespace.encode()),))
    only = row(namespace, set_name, there, (integer(b"n", 2),), info3=m.INFO3_UPDATE_ONLY)
    assert send(cluster, namespace, [remove, only]) == [m.Result.NOT_FOUND, m.Result.OK]
    create = Row(0, there, 0, m.INFO2_WRITE | m.INFO2_CREATE_ONLY, fields=only.fields, ops=only.ops)
    assert send(cluster, namespace, [create]) == [m.Result.RECORD_EXISTS]


def test_a_removed_row_is_gone(cluster: Cluster, client: Client, namespace: str, set_name: str) -> None:
    key = (namespace, set_name, "k")
    client.put(key, {"n": 1})
    remove = Row(0, digest_of(*key), 0, m.INFO2_WRITE | m.INFO2_DELETE, fields=((0, namespace.encode()),))
    assert send(cluster, namespace, [remove]) == [m.Result.OK]
    with pytest.raises(exception.RecordNotFound):
        client.get(key)


def test_records_that_were_read_can_be_written_back_byte_for_byte(
    cluster: Cluster, client: Client, namespace: str, set_name: str, stored: dict[bytes, Key]
) -> None:
    before = messages(query(cluster, namespace, range(PARTITIONS), set_name=set_name))
    now = messages_time(client)
    for key in stored.values():
        client.remove(key)
    rows = []
    for digest, message in before.items():
        ttl = message.header.record_ttl - now if message.header.record_ttl else NEVER
        ops = tuple(m.Op(m.OpType.WRITE, op.name, op.particle, op.value) for op in message.ops)
        kept = (m.FieldType.NAMESPACE, m.FieldType.SET, m.FieldType.KEY)
        fields = tuple(sorted(f for f in message.fields if f[0] in kept))
        rows.append(Row(0, digest, 0, m.INFO2_WRITE, REPLACE, ttl=ttl, fields=fields, ops=ops))
    assert send(cluster, namespace, rows) == [0] * len(rows)
    after = messages(query(cluster, namespace, range(PARTITIONS), set_name=set_name))
    assert after.keys() == before.keys()
    for digest, message in before.items():
        again = after[digest]
        assert sorted(again.ops, key=lambda op: op.name) == sorted(message.ops, key=lambda op: op.name)
        for kind in (m.FieldType.SET, m.FieldType.KEY):
            assert again.field(kind) == message.field(kind)
        assert again.header.record_ttl == pytest.approx(message.header.record_ttl, abs=2)
        assert again.header.generation == 1


def messages_time(client: Client) -> int:
    """The node's time in seconds since 2010."""
    answer = client.info_random_node("namespace/" + "test")
    return int(answer.split("current_time=")[1].split(";")[0])


def test_a_namespace_that_is_not_there_is_named(cluster: Cluster) -> None:
    with pytest.raises(NamespaceUnknown, match="no-such"):
        list(query(cluster, "no-such", [0]))
    assert CITRUSLEAF_EPOCH_S == 1_262_304_000
