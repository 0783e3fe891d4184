"""Primary-index queries: which records come, in which order, with what."""

from typing import Any

import aerospike
import pytest
from aerospike import exception
from aerospike_helpers import expressions as exp
from aerospike_helpers.operations import expression_operations

from cdc.model import PARTITIONS

COUNT = 300
LUT = expression_operations.expression_read("v", exp.LastUpdateTime().compile())


def _partition(digest: bytes) -> int:
    return digest[0] | (digest[1] & 0x0F) << 8


@pytest.fixture
def stored(client: Any, namespace: str, set_name: str) -> dict[bytes, int]:
    """Digest to the number in bin `n`."""
    found = {}
    for i in range(COUNT):
        key = (namespace, set_name, i)
        client.put(key, {"n": i, "s": str(i)})
        found[bytes(aerospike.calc_digest(*key))] = i
    return found


def _run(query: Any, policy: dict[str, Any] | None = None, options: dict[str, Any] | None = None) -> list[Any]:
    found: list[Any] = []

    def keep(*arguments: Any) -> None:
        found.append(arguments[-1])

    query.foreach(keep, policy or {}, options or {})
    return found


def _digests(records: list[Any]) -> list[bytes]:
    return [bytes(record[0][3]) for record in records]


def test_a_query_gives_every_record_of_a_set_once(
    client: Any, namespace: str, set_name: str, stored: dict[bytes, int]
) -> None:
    records = _run(client.query(namespace, set_name))
    assert len(records) == COUNT
    assert {bytes(key[3]): bins["n"] for key, _, bins in records} == stored
    assert {meta["gen"] for _, meta, _ in records} == {1}


def test_a_query_of_another_set_gives_nothing(client: Any, namespace: str, set_name: str, stored: Any) -> None:
    assert _run(client.query(namespace, set_name + "x")) == []


def test_a_query_of_the_namespace_holds_the_set(client: Any, namespace: str, stored: dict[bytes, int]) -> None:
    assert set(stored) <= set(_digests(_run(client.query(namespace), {}, {"nobins": True})))


def test_without_bins_there_are_only_keys_and_metadata(
    client: Any, namespace: str, set_name: str, stored: dict[bytes, int]
) -> None:
    records = _run(client.query(namespace, set_name), {}, {"nobins": True})
    assert set(_digests(records)) == set(stored)
    assert all(not bins for _, _, bins in records)


def test_selected_bins_come_alone(client: Any, namespace: str, set_name: str, stored: Any) -> None:
    query = client.query(namespace, set_name)
    query.select("s")
    assert {tuple(bins) for _, _, bins in _run(query)} == {("s",)}


def test_a_partition_filter_gives_its_partitions_in_descending_digest_order(
    client: Any, namespace: str, set_name: str, stored: dict[bytes, int]
) -> None:
    middle = PARTITIONS // 2
    lower = _run(client.query(namespace, set_name), {"partition_filter": {"begin": 0, "count": middle}})
    upper = _run(client.query(namespace, set_name), {"partition_filter": {"begin": middle, "count": middle}})
    assert len(lower) + len(upper) == COUNT
    assert all(_partition(digest) < middle for digest in _digests(lower))
    for partition in {_partition(digest) for digest in stored}:
        digests = [d for d in _digests(lower) + _digests(upper) if _partition(d) == partition]
        assert digests == sorted(digests, reverse=True)


def test_one_partition_may_be_asked_for(client: Any, namespace: str, set_name: str, stored: dict[bytes, int]) -> None:
    wanted = _partition(next(iter(stored)))
    records = _run(client.query(namespace, set_name), {"partition_filter": {"begin": wanted, "count": 1}})
    assert set(_digests(records)) == {digest for digest in stored if _partition(digest) == wanted}


def test_a_filter_over_bins(client: Any, namespace: str, set_name: str, stored: Any) -> None:
    policy = {"expressions": exp.And(exp.GE(exp.IntBin("n"), 100), exp.LT(exp.IntBin("n"), 110)).compile()}
    assert {bins["n"] for _, _, bins in _run(client.query(namespace, set_name), policy)} == set(range(100, 110))


def test_a_filter_over_what_some_records_lack_leaves_those_out(
    client: Any, namespace: str, set_name: str, stored: Any
) -> None:
    client.put((namespace, set_name, 5), {"extra": 1})
    policy = {"expressions": exp.GT(exp.IntBin("extra"), 0).compile()}
    assert [bins["n"] for _, _, bins in _run(client.query(namespace, set_name), policy)] == [5]


def test_a_lower_bound_on_the_last_update_time_gives_what_was_written_since(
    client: Any, namespace: str, set_name: str, stored: Any, until: Any
) -> None:
    before = client.operate((namespace, set_name, 0), [LUT])[2]["v"]
    last = max(client.operate((namespace, set_name, i), [LUT])[2]["v"] for i in range(COUNT))

    def rewritten() -> bool:
        client.put((namespace, set_name, 7), {"n": 7000})
        return bool(client.operate((namespace, set_name, 7), [LUT])[2]["v"] > last)

    until(rewritten)
    policy = {"expressions": exp.GT(exp.LastUpdateTime(), last).compile()}
    assert [bins["n"] for _, _, bins in _run(client.query(namespace, set_name), policy)] == [7000]
    everything = {"expressions": exp.GE(exp.LastUpdateTime(), before).compile()}
    assert len(_run(client.query(namespace, set_name), everything)) == COUNT


def test_a_projection_gives_each_records_last_update_time(
    client: Any, namespace: str, set_name: str, stored: dict[bytes, int]
) -> None:
    query = client.query(namespace, set_name)
    query.add_ops([LUT])
    projected = {bytes(key[3]): bins["v"] for key, _, bins in _run(query)}
    assert set(projected) == set(stored)
    for i in (0, 9):
        key = (namespace, set_name, i)
        assert projected[bytes(aerospike.calc_digest(*key))] == client.operate(key, [LUT])[2]["v"]


def test_a_projection_and_a_filter_go_together(client: Any, namespace: str, set_name: str, stored: Any) -> None:
    query = client.query(namespace, set_name)
    query.add_ops([expression_operations.expression_read("v", exp.Add(exp.IntBin("n"), 1000).compile())])
    policy = {"expressions": exp.LT(exp.IntBin("n"), 3).compile()}
    assert {bins["v"] for _, _, bins in _run(query, policy)} == {1000, 1001, 1002}


def test_a_malformed_filter_ends_a_query_with_a_parameter_error(client: Any, namespace: str, set_name: str) -> None:
    for bad in (exp.IntBin("n"), exp.Eq(exp.IntBin("n"), "x")):
        with pytest.raises(exception.InvalidRequest):
            _run(client.query(namespace, set_name), {"expressions": bad.compile()})


def test_at_most_so_many_records_are_given(client: Any, namespace: str, set_name: str, stored: Any) -> None:
    query = client.query(namespace, set_name)
    query.max_records = 10
    assert len(_run(query)) == 10


def test_a_set_name_and_a_null_set(client: Any, namespace: str, set_name: str, stored: Any) -> None:
    names = {key[1] for key, _, _ in _run(client.query(namespace, set_name))}
    assert names == {set_name}


def test_what_was_removed_is_not_given(client: Any, namespace: str, set_name: str, stored: dict[bytes, int]) -> None:
    for i in range(10):
        client.remove((namespace, set_name, i))
    assert {bins["n"] for _, _, bins in _run(client.query(namespace, set_name))} == set(range(10, COUNT))


def test_what_has_expired_is_not_given(client: Any, namespace: str, set_name: str, until: Any) -> None:
    client.put((namespace, set_name, "gone"), {"n": 1}, policy={"ttl": 1})
    client.put((namespace, set_name, "stays"), {"n": 2}, policy={"ttl": 100})
    until(lambda: [bins["n"] for _, _, bins in _run(client.query(namespace, set_name))] == [2], 5.0)
