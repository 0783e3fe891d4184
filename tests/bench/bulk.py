"""Rates of our bulk reads and writes against the server that AEROSPIKE_HOSTS names: per second and per CPU second.

    AEROSPIKE_HOSTS=127.0.0.1:3000 python -m tests.bench.bulk [records]

It writes records of five bins (an integer, a float, a text, a blob, a list) into the set `bench-bulk` of the namespace
`test` (or AEROSPIKE_NAMESPACE), reads them in every way we have, and removes them.
"""

import os
import struct
import sys
import time
from collections.abc import Callable

import numpy as np

from cdc.config import AerospikeSettings
from cdc.source import Scope, Source, expressions
from cdc.wire import Cluster
from cdc.wire import messages as m
from cdc.wire.batch import values, write
from cdc.wire.query import query
from cdc.wire.rows import Row, pack_rows

EVERYTHING = range(4096)
RUNS = 5


def rate(what: str, count: int, work: Callable[[], object]) -> None:
    """Print the median of a few runs."""
    wall, cpu = [], []
    for _ in range(RUNS):
        began, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    per_second, per_cpu = (round(count / sorted(spent)[RUNS // 2]) for spent in (wall, cpu))
    print(f"{what:<44} {per_second:>12,} /s {per_cpu:>14,} /CPU s")


def drain(frames: object) -> int:
    return sum(len(frame) for frame in frames)  # type: ignore[attr-defined]


def main(records: int) -> None:
    """Write, read, remove, and print."""
    hosts = tuple(os.environ["AEROSPIKE_HOSTS"].split(","))
    namespace, set_name = os.environ.get("AEROSPIKE_NAMESPACE", "test"), "bench-bulk"
    random = np.random.default_rng(1)
    digests = random.integers(0, 256, (records, 20), dtype=np.uint8)
    fields = ((int(m.FieldType.NAMESPACE), namespace.encode()), (int(m.FieldType.SET), set_name.encode()))

    def row(index: int, number: int) -> Row:
        bins = (
            m.Op(m.OpType.WRITE, b"number", m.Particle.INTEGER, struct.pack(">q", number)),
            m.Op(m.OpType.WRITE, b"half", m.Particle.FLOAT, struct.pack(">d", number / 2)),
            m.Op(m.OpType.WRITE, b"text", m.Particle.STRING, b"record %d" % number),
            m.Op(m.OpType.WRITE, b"blob", m.Particle.BLOB, random.bytes(100)),
            m.Op(
                m.OpType.WRITE, b"list", m.Particle.LIST, b"\x93\x01\xce" + struct.pack(">I", number) + b"\xa4\x03abc"
            ),
        )
        return Row(
            index,
            digests[number].tobytes(),
            0,
            m.INFO2_WRITE,
            m.INFO3_CREATE_OR_REPLACE,
            ttl=2**32 - 1,
            fields=fields,
            ops=bins,
        )

    built: dict[bytes, bytes] = {}

    def encode(rows: np.ndarray) -> bytes:
        key = rows.tobytes()
        if key not in built:
            built[key] = pack_rows(row(i, n) for i, n in enumerate(rows.tolist()))
        return built[key]

    def remove(rows: np.ndarray) -> bytes:
        return pack_rows(
            Row(i, digests[n].tobytes(), 0, m.INFO2_WRITE | m.INFO2_DELETE, fields=fields[:1])
            for i, n in enumerate(rows.tolist())
        )

    with Cluster(AerospikeSettings(hosts=hosts, namespaces=(namespace,))) as cluster:
        assert not write(cluster, namespace, digests, encode).any()
        source = Source(cluster, namespace, scope=Scope(include=(set_name,)))
        now = time.time_ns() // 1_000_000 + 60_000
        for connections in (1, 2, 3):
            rate(f"batch writes, built before, {connections} connections", records,
                 lambda n=connections: write(cluster, namespace, digests, encode, connections=n))  # fmt: skip
        for connections in (1, 2, 3):
            rate(f"drain all bins, {connections} connections", records,
                 lambda n=connections: drain(query(cluster, namespace, EVERYTHING, connections=n)))  # fmt: skip
        rate("drain digests", records, lambda: drain(query(cluster, namespace, EVERYTHING, bins=False)))
        rate("drain LUTs", records, lambda: drain(query(cluster, namespace, EVERYTHING, project=expressions.LUT)))
        rate("LUTs by batch", records, lambda: values(cluster, namespace, digests, expressions.LUT))
        rate("digests in columns", records, lambda: source.digests(EVERYTHING))
        rate("observe (bins, LUTs, joined, encoded)", records, lambda: source.observe(EVERYTHING))
        rate("idle look (nothing updated since)", records, lambda: source.observe(EVERYTHING, now))
        rate("partition counts (calls)", 1, source.partition_counts)
        assert not write(cluster, namespace, digests, remove).any()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
