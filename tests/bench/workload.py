"""The records that are measured with: five bins each, in a set of their own, made and checked without randomness."""

import os
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import aerospike
import numpy as np

from cdc.config import AerospikeSettings
from cdc.errors import CdcError
from cdc.model import I64, U8
from cdc.source import Source
from cdc.wire import Cluster
from cdc.wire import messages as m
from cdc.wire.batch import write
from cdc.wire.rows import Row

SET = "bench"
EMPTY_S = 60.0
MARK = 0x0102030405060708
"""Stands in the template where each record's own number goes."""


@dataclass(frozen=True, slots=True)
class Place:
    """The server that is measured against, and its two namespaces: both are emptied."""

    hosts: tuple[str, ...]
    source: str = "test"
    target: str = "restore"
    real: bool = False

    def settings(self, namespace: str) -> AerospikeSettings:
        """For the product."""
        return AerospikeSettings(hosts=self.hosts, namespaces=(namespace,))

    def client(self) -> Any:
        """The official client, connected."""
        pairs = [host.rpartition(":") for host in self.hosts]
        return aerospike.client({"hosts": [(host, int(port)) for host, _, port in pairs]}).connect()


@dataclass(frozen=True, slots=True)
class Workload:
    """`records` records: `digest[i]` and `blob[i]` (32 random bytes, the same in every run) are those of record i."""

    records: int
    digest: U8
    blob: U8

    @classmethod
    def of(cls, records: int) -> "Workload":
        """The first so many."""
        random = np.random.default_rng(1)
        return cls(
            records,
            random.integers(0, 256, (records, 20), dtype=np.uint8),
            random.integers(0, 256, (records, 32), dtype=np.uint8),
        )

    def bins(self, i: int) -> dict[str, Any]:
        """What record i holds."""
        return {
            "number": i,
            "half": i + 0.5,
            "text": f"record {i:08d}",
            "blob": self.blob[i].tobytes(),
            "list": [i, 1, 2, 3],
        }

    def encoder(self, namespace: str, rows: I64, numbers: I64) -> Callable[[I64], bytes]:
        """For `wire.batch.write` of `digest[rows]`: record `rows[i]` with the bins that number `numbers[i]` gives."""
        template, where = _template(namespace)

        def encode(asked: I64) -> bytes:
            made = np.tile(template, (len(asked), 1))
            number, row = numbers[asked], rows[asked]
            words = {
                "index": np.arange(len(asked), dtype=">u4"),
                "number": number.astype(">u8"),
                "half": (number + 0.5).astype(">f8"),
                "item": number.astype(">u4"),
            }
            for name, column in words.items():
                raw = column.view(np.uint8).reshape(len(asked), -1)
                made[:, where[name] : where[name] + raw.shape[1]] = raw
            text = np.frombuffer(b"".join(b"%08d" % i for i in number.tolist()), np.uint8).reshape(-1, 8)
            made[:, where["text"] : where["text"] + 8] = text
            made[:, where["digest"] : where["digest"] + 20] = self.digest[row]
            made[:, where["blob"] : where["blob"] + 32] = self.blob[row]
            return made.tobytes()

        return encode

    def fill(self, place: Place) -> None:
        """Write all of them. Raises what `wire.batch.write` raises, and CdcError when a record is refused."""
        self.write(place, np.arange(self.records), np.arange(self.records))

    def write(self, place: Place, rows: I64, numbers: I64) -> None:
        """Write some, record `rows[i]` with the bins that number `numbers[i]` gives. Raises as `fill`."""
        with Cluster(place.settings(place.source)) as cluster:
            encode = self.encoder(place.source, rows, numbers)
            refused = np.count_nonzero(write(cluster, place.source, self.digest[rows], encode, batch_records=500))
        if refused:
            raise CdcError(f"the server refused {refused} of {len(rows)} records")

    def remove(self, place: Place, numbers: Iterable[int]) -> None:
        """Have the official client delete some."""
        client = place.client()
        for i in numbers:
            client.remove((place.source, SET, None, bytearray(self.digest[i].tobytes())))
        client.close()

    def damage(self, place: Place, count: int) -> None:
        """What a bad deploy does: the official client overwrites bins of the first `count` records."""
        client = place.client()
        for i in range(count):
            client.put(
                (place.source, SET, None, bytearray(self.digest[i].tobytes())), {"number": -1, "text": "damaged"}
            )
        client.close()


def empty(place: Place, namespace: str) -> None:
    """Truncate a namespace, and return when nothing is left of it and its moment has passed. Raises CdcError."""
    client = place.client()
    client.truncate(namespace, None, 0)
    client.close()
    began = time.monotonic()
    with Cluster(place.settings(namespace)) as cluster:
        source = Source(cluster, namespace)
        while source.partition_counts().records.sum() or time.monotonic() < began + 1:
            if time.monotonic() > began + EMPTY_S:
                raise CdcError(f"the namespace {namespace} is not empty {EMPTY_S:g} s after it was truncated")
            time.sleep(0.1)


def at_least(place: Place, count: int) -> bool:
    """Whether the source's own count is this one."""
    with Cluster(place.settings(place.source)) as cluster:
        return int(Source(cluster, place.source).partition_counts().records.sum()) == count


@cache
def _template(namespace: str) -> tuple[U8, dict[str, int]]:
    """One packed row, and where its own values stand in it."""
    values = {
        "number": struct.pack(">Q", MARK),
        "half": struct.pack(">Q", MARK + 1),
        "blob": b"\xfe" * 32,
        "digest": b"\xfd" * 20,
        "item": b"\xce" + struct.pack(">I", MARK & 0xFFFFFFFF),
        "text": b"NUMBERED",
    }
    row = Row(
        0,
        values["digest"],
        0,
        m.INFO2_WRITE,
        m.INFO3_CREATE_OR_REPLACE,
        ttl=2**32 - 1,
        fields=((int(m.FieldType.NAMESPACE), namespace.encode()), (int(m.FieldType.SET), SET.encode())),
        ops=(
            m.Op(m.OpType.WRITE, b"number", m.Particle.INTEGER, values["number"]),
            m.Op(m.OpType.WRITE, b"half", m.Particle.FLOAT, values["half"]),
            m.Op(m.OpType.WRITE, b"text", m.Particle.STRING, b"record " + values["text"]),
            m.Op(m.OpType.WRITE, b"blob", m.Particle.BLOB, values["blob"]),
            m.Op(m.OpType.WRITE, b"list", m.Particle.LIST, b"\x94" + values["item"] + b"\x01\x02\x03"),
        ),
    ).pack()
    where = {name: row.index(value) for name, value in values.items()}
    return np.frombuffer(row, np.uint8), {**where, "item": where["item"] + 1, "index": 0}


def confirmed() -> bool:
    """Whether the environment says that a real server's namespaces may be emptied."""
    return os.environ.get("BENCH_MAY_EMPTY", "") not in ("", "0")
