"""A namespace observed: bins and LUTs that belong together, and what the nodes say of it."""

import threading
import time
from collections.abc import Callable
from typing import Any

import aerospike
import numpy as np
import pytest
from aerospike_helpers import expressions as exp
from aerospike_helpers.operations import expression_operations, operations

from cdc.clock import wall_clock
from cdc.model import PARTITIONS, partition_of
from cdc.source import Scope, Source
from cdc.source import source as source_module
from cdc.wire import Cluster

Client = Any
LUT = expression_operations.expression_read("lut", exp.LastUpdateTime().compile())
EVERYTHING = range(PARTITIONS)


def write(client: Client, namespace: str, set_name: str, key: int, value: int) -> tuple[bytes, int, int]:
    """Digest, generation and LUT (ms) of this very write."""
    where = (namespace, set_name, key)
    _, meta, bins = client.operate(where, [operations.write("n", value), LUT])
    return bytes(aerospike.calc_digest(*where)), meta["gen"], bins["lut"] // 1_000_000


@pytest.fixture(params=["projected", "batched"])
def both_ways(request: pytest.FixtureRequest, source: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """The source as it looks at many records, and at few (or at servers that project nothing in a query)."""
    monkeypatch.setattr(source_module, "FEW", 0 if request.param == "projected" else 1 << 40)
    return source


def test_observed_luts_and_generations_are_those_of_the_writes(
    both_ways: Source, client: Client, namespace: str, set_name: str
) -> None:
    truth = {}
    for key in range(50):
        for value in range(1 + key % 3):
            digest, generation, lut = write(client, namespace, set_name, key, value)
            truth[digest] = (generation, lut)
    seen = both_ways.observe(EVERYTHING)
    columns = zip(seen.records.digest, seen.records.generation.tolist(), seen.lut.tolist(), strict=True)
    assert {d.tobytes(): (g, lut) for d, g, lut in columns} == truth
    assert not seen.records.rejected
    assert len(seen.partitions) == PARTITIONS


def test_what_was_not_updated_since_is_not_observed(
    both_ways: Source, client: Client, namespace: str, set_name: str, until: Callable[..., Any]
) -> None:
    luts = []
    for key in range(6):
        luts.append(write(client, namespace, set_name, key, 0)[2])
        until(lambda: wall_clock() > luts[-1] + 1)
    seen = both_ways.observe(EVERYTHING, luts[3])
    assert sorted(seen.lut.tolist()) == luts[3:]
    assert len(both_ways.observe(EVERYTHING, luts[5] + 1)) == 0


def test_only_the_asked_partitions_and_sets_are_observed(
    source: Source, cluster: Cluster, client: Client, namespace: str, set_name: str
) -> None:
    digests = [write(client, namespace, set_name, key, 0)[0] for key in range(30)]
    numbers = partition_of(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 20))
    some = sorted(set(numbers.tolist()))[:5]
    seen = source.observe(some)
    assert {d.tobytes() for d in seen.records.digest} == {
        d for d, p in zip(digests, numbers.tolist(), strict=True) if p in some
    }
    assert len(Source(cluster, namespace, scope=Scope(include=("no such set", "nor this"))).observe(some)) == 0
    assert len(Source(cluster, namespace, scope=Scope(include=("", set_name))).observe(some)) >= len(seen)


def test_slices_together_hold_every_record_once(source: Source, client: Client, namespace: str, set_name: str) -> None:
    digests = {write(client, namespace, set_name, key, 0)[0] for key in range(100)}
    slices = list(source.observations(EVERYTHING, slice_records=10))
    assert len(slices) > 3
    assert np.concatenate([s.partitions for s in slices]).tolist() == list(EVERYTHING)
    seen = [d.tobytes() for s in slices for d in s.records.digest]
    assert sorted(seen) == sorted(digests)


def test_no_content_is_newer_than_its_lut_says_while_writers_go_on(
    both_ways: Source, client: Client, namespace: str, set_name: str
) -> None:
    """`both_ways` sees each record either as one write left it, or with the LUT of a later write."""
    truth: dict[tuple[bytes, int], int] = {}
    stop = threading.Event()

    def writing() -> None:
        value = 0
        while not stop.is_set():
            digest, generation, lut = write(client, namespace, set_name, value % 20, value)
            truth[digest, generation] = lut
            value += 1

    writer = threading.Thread(target=writing)
    writer.start()
    looks = []
    deadline = time.monotonic() + 10
    while len(looks) < 15 and time.monotonic() < deadline:
        looks.append(both_ways.observe(EVERYTHING))
    stop.set()
    writer.join()
    looks.append(both_ways.observe(EVERYTHING))  # nobody writes now
    total = 0
    for look in looks:
        assert len(look) <= 20
        for digest, generation, lut in zip(look.records.digest, look.records.generation, look.lut, strict=True):
            written = truth[digest.tobytes(), int(generation)]
            assert written <= lut
            total += 1
    assert total > 100
    assert [
        truth[d.tobytes(), g] for d, g in zip(look.records.digest, look.records.generation.tolist(), strict=True)
    ] == (look.lut.tolist())


def test_a_record_that_is_removed_between_the_queries_is_not_observed(
    both_ways: Source, client: Client, namespace: str, set_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in range(10):
        write(client, namespace, set_name, key, 0)
    query, values = source_module.query, source_module.values

    def projected(*args: Any, **how: Any) -> Any:
        if how.get("project") is not None:
            client.remove((namespace, set_name, 4))
        return query(*args, **how)

    def batched(*args: Any, **how: Any) -> Any:
        client.remove((namespace, set_name, 4))
        return values(*args, **how)

    monkeypatch.setattr(source_module, "query", projected)
    monkeypatch.setattr(source_module, "values", batched)
    seen = both_ways.observe(EVERYTHING)
    gone = bytes(aerospike.calc_digest(namespace, set_name, 4))
    assert len(seen) == 9
    assert gone not in {d.tobytes() for d in seen.records.digest}


def test_digests_and_partition_counts_agree(
    cluster: Cluster, client: Client, namespace: str, set_name: str, until: Callable[..., Any]
) -> None:
    whole = Source(cluster, namespace)
    for key in range(40):
        write(client, namespace, set_name, key, 0)

    def agree() -> bool:
        counts = whole.partition_counts()
        held = np.bincount(partition_of(whole.digests(EVERYTHING).digest), minlength=PARTITIONS)
        return counts.settled and bool(np.array_equal(counts.records, held))

    assert until(agree)


def test_a_delete_moves_the_counters(source: Source, client: Client, namespace: str, set_name: str) -> None:
    write(client, namespace, set_name, 1, 0)
    before = source.standing().nodes
    client.remove((namespace, set_name, 1))
    after = source.standing().nodes
    assert sum(node.deleted for node in after) > sum(node.deleted for node in before)
    for node, earlier in zip(after, before, strict=True):
        assert (node.name, node.cluster_key) == (earlier.name, earlier.cluster_key)
        assert 0 <= node.uptime_s - earlier.uptime_s <= 5
        assert abs(node.now_ms - wall_clock()) <= 2000


def test_node_clocks_are_ours_on_one_machine(source: Source, client: Client, namespace: str, set_name: str) -> None:
    for key in range(2000):
        client.put((namespace, set_name, key), {"n": 1})
    clocks = source.clocks()
    assert clocks.keys() == {node.name for node in source.cluster.nodes()}
    for clock in clocks.values():
        assert abs(clock.offset_ms) <= clock.error_ms + 2
        assert clock.error_ms < 200


def test_a_truncation_is_known_with_its_moment(
    source: Source, client: Client, namespace: str, set_name: str, until: Callable[..., Any]
) -> None:
    write(client, namespace, set_name, 1, 0)

    def latest() -> int:
        return max(node.truncations.sets.get(set_name, 0) for node in source.standing().nodes)

    earlier = latest()  # set names return on a real server
    before = wall_clock()
    client.info_random_node(f"truncate:namespace={namespace};set={set_name}")  # why by info: see below
    moment = until(lambda: max(0, latest() - earlier)) + earlier
    assert before - 50 <= moment <= wall_clock() + 50
    until(lambda: len(source.observe(EVERYTHING)) == 0)
