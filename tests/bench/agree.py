"""Do our reader and the official client see the same records?"""

import threading
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from cdc.codec.decode import content_to_python
from cdc.codec.values_plain import List
from cdc.model import PARTITIONS
from cdc.source import Source
from cdc.wire import Cluster
from tests.bench.bench import Bench

SAMPLE = 16
"""One in so many records is compared by its values."""

Sums = dict[bytes, bytes]


def measure(bench: Bench, namespace: str) -> None:
    """Read a whole namespace both ways; count, and compare the values of a sample with each other and the truth."""
    official, count = _official(bench, namespace)
    ours, mine = _ours(bench, namespace)
    numbers = np.flatnonzero(bench.workload.digest[:, 19] % SAMPLE == 0).tolist()
    truth = {bench.workload.digest[i].tobytes(): _sum(bench.workload.bins(i)) for i in numbers}
    bench.check(
        f"the official client and our reader agree on {namespace}",
        count == mine == bench.records and official == ours == truth,
        f"{count:,} and {mine:,} records; {len(truth):,} of them compared by value with what was written",
    )


def _ours(bench: Bench, namespace: str) -> tuple[Sums, int]:
    with Cluster(bench.place.settings(namespace)) as cluster:
        records = Source(cluster, namespace).observe(range(PARTITIONS)).records
    sums = {}
    for i in np.flatnonzero(records.digest[:, 19] % SAMPLE == 0).tolist():
        _, _, bins = content_to_python(records.contents[i])
        sums[records.digest[i].tobytes()] = _sum(dict(bins))
    return sums, len(records)


def _official(bench: Bench, namespace: str) -> tuple[Sums, int]:
    sums: Sums = {}
    lock = threading.Lock()
    count = 0

    def seen(record: tuple[Any, Any, Mapping[str, Any]]) -> None:
        nonlocal count
        digest = bytes(record[0][3])
        with lock:
            count += 1
            if digest[19] % SAMPLE == 0:
                sums[digest] = _sum(record[2])

    client = bench.place.client()
    client.query(namespace, None).foreach(seen)
    client.close()
    return sums, count


def _sum(bins: Mapping[str, Any]) -> bytes:
    plain = {name: _plain(bins[name]) for name in sorted(bins)}
    return blake2b(repr(plain).encode(), digest_size=16).digest()


def _plain(value: Any) -> Any:
    if isinstance(value, List):
        return list(value.items)
    return bytes(value) if isinstance(value, bytearray) else value
