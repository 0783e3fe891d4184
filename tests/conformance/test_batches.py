"""Batches: per-record results in the order asked, whatever happens to the others."""

from typing import Any

import aerospike
import pytest
from aerospike_helpers import expressions as exp
from aerospike_helpers.batch import records as br
from aerospike_helpers.operations import expression_operations, operations

OK, NOT_FOUND, GENERATION, PARAMETER, EXISTS, FILTERED = 0, 2, 3, 4, 5, 27
LUT = expression_operations.expression_read("lut", exp.LastUpdateTime().compile())


@pytest.fixture
def keys(client: Any, namespace: str, set_name: str) -> list[Any]:
    found = [(namespace, set_name, i) for i in range(6)]
    for key in found[:4]:
        client.put(key, {"n": key[2], "s": f"r{key[2]}"})
    return found


def _codes(batch: Any) -> list[int]:
    return [record.result for record in batch.batch_records]


def test_a_batch_read_answers_for_each_key_in_order(client: Any, keys: Any) -> None:
    batch = client.batch_read(keys)
    assert _codes(batch) == [OK] * 4 + [NOT_FOUND] * 2
    assert [r.record[2]["n"] for r in batch.batch_records[:4]] == [0, 1, 2, 3]


def test_a_batch_read_of_some_bins_or_none(client: Any, keys: Any) -> None:
    assert [r.record[2] for r in client.batch_read(keys[:2], ["s"]).batch_records] == [{"s": "r0"}, {"s": "r1"}]
    heads = client.batch_read(keys, []).batch_records
    assert [r.result for r in heads] == [OK] * 4 + [NOT_FOUND] * 2
    assert [r.record[1]["gen"] for r in heads[:4]] == [1] * 4
    assert all(len(r.record) == 2 or not r.record[2] for r in heads[:4])


def test_one_key_may_be_read_twice_with_bins_and_with_an_expression(client: Any, keys: Any) -> None:
    reads = br.BatchRecords(
        [r for key in keys[:3] for r in (br.Read(key, None, read_all_bins=True), br.Read(key, [LUT]))]
    )
    client.batch_write(reads)
    assert _codes(reads) == [OK] * 6
    for whole, projected in zip(reads.batch_records[::2], reads.batch_records[1::2], strict=True):
        assert whole.record[2]["s"].startswith("r")
        assert projected.record[2]["lut"] == client.operate(whole.key, [LUT])[2]["lut"]
        assert whole.record[1]["gen"] == projected.record[1]["gen"] == 1


def test_a_batch_may_write_read_and_remove(client: Any, keys: Any) -> None:
    batch = br.BatchRecords(
        [
            br.Write(keys[0], [operations.write("n", 100), operations.read("n")]),
            br.Read(keys[1], [operations.read("n")]),
            br.Remove(keys[2]),
            br.Remove(keys[5]),
            br.Write(keys[4], [operations.write("new", 1)]),
        ]
    )
    client.batch_write(batch)
    assert _codes(batch) == [OK, OK, OK, NOT_FOUND, OK]
    assert batch.batch_records[0].record[2] == {"n": 100}
    assert batch.batch_records[1].record[2] == {"n": 1}
    assert client.exists(keys[2])[1] is None
    assert client.get(keys[4])[2] == {"new": 1}


def test_one_refused_write_does_not_stop_the_others(client: Any, keys: Any) -> None:
    create = {"exists": aerospike.POLICY_EXISTS_CREATE}
    stale = {"gen": aerospike.POLICY_GEN_EQ}
    batch = br.BatchRecords(
        [
            br.Write(keys[0], [operations.write("n", 1)], policy=create),
            br.Write(keys[1], [operations.write("n", 50)], meta={"gen": 9}, policy=stale),
            br.Write(keys[2], [operations.write("n", 60)], meta={"gen": 1}, policy=stale),
            br.Write(keys[5], [operations.write("n", 70)], policy=create),
        ]
    )
    client.batch_write(batch)
    assert _codes(batch) == [EXISTS, GENERATION, OK, OK]
    assert [client.get(keys[i])[2]["n"] for i in (0, 1, 2, 5)] == [0, 1, 60, 70]


def test_a_filter_over_a_batch_filters_each_record(client: Any, keys: Any) -> None:
    policy = {"expressions": exp.GE(exp.IntBin("n"), 2).compile()}
    batch = client.batch_read(keys, None, policy)
    assert _codes(batch) == [FILTERED, FILTERED, OK, OK, NOT_FOUND, NOT_FOUND]


def test_a_records_own_filter_goes_before_the_batchs(client: Any, keys: Any) -> None:
    own = {"expressions": exp.Eq(exp.IntBin("n"), 0).compile()}
    batch = br.BatchRecords([br.Read(keys[0], None, read_all_bins=True, policy=own)])
    client.batch_write(batch, {"expressions": exp.Eq(exp.IntBin("n"), 99).compile()})
    assert _codes(batch) == [OK]


def test_batch_operate_reads_after_its_writes(client: Any, keys: Any) -> None:
    batch = client.batch_operate(keys[:3], [operations.increment("n", 10), operations.read("n")])
    assert [r.record[2]["n"] for r in batch.batch_records] == [10, 11, 12]


def test_batch_remove_answers_for_each_key(client: Any, keys: Any) -> None:
    assert _codes(client.batch_remove(keys)) == [OK] * 4 + [NOT_FOUND] * 2
    assert _codes(client.batch_remove(keys)) == [NOT_FOUND] * 6


def test_records_may_be_addressed_by_digest_alone(client: Any, keys: Any) -> None:
    by_digest = [(k[0], k[1], None, aerospike.calc_digest(*k)) for k in keys]
    assert _codes(client.batch_read(by_digest)) == [OK] * 4 + [NOT_FOUND] * 2


def test_a_write_keeps_its_ttl_and_user_key(client: Any, keys: Any) -> None:
    policy = {"ttl": 5000, "key": aerospike.POLICY_KEY_SEND}
    batch = br.BatchRecords([br.Write(keys[5], [operations.write("n", 1)], policy=policy)])
    client.batch_write(batch)
    assert _codes(batch) == [OK]
    assert 4990 <= client.exists(keys[5])[1]["ttl"] <= 5000
    read = expression_operations.expression_read("k", exp.KeyInt().compile())
    assert client.operate(keys[5], [read])[2] == {"k": 5}


def test_a_large_batch_is_answered_whole(client: Any, namespace: str, set_name: str) -> None:
    keys = [(namespace, set_name, i) for i in range(1500)]
    writes = br.BatchRecords([br.Write(key, [operations.write("n", key[2])]) for key in keys])
    client.batch_write(writes)
    assert set(_codes(writes)) == {OK}
    assert [r.record[2]["n"] for r in client.batch_read(keys).batch_records] == list(range(1500))
