"""Info commands: what they say, in the form that the product and the official client read, and counters that move."""

from base64 import b64decode
from collections.abc import Callable
from typing import Any

import aerospike
import pytest
from aerospike import exception
from aerospike_helpers import expressions as exp
from aerospike_helpers.batch import records as br
from aerospike_helpers.operations import expression_operations, operations

from cdc.model import PARTITIONS

Ask = Callable[[str], str]
COLUMNS = (
    "namespace", "partition", "state", "n_replicas", "replica", "succession", "n_dupl", "working_master", "proxy_dst",
    "emigrates", "lead_emigrates", "immigrates", "records", "tombstones", "regime", "tree_id", "version",
    "final_version",
)  # fmt: skip


def _pairs(text: str, separator: str = ";") -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(separator) if "=" in pair)


def _partitions(info: Ask, namespace: str) -> list[dict[str, str]]:
    heading, *rows = info("partition-info").split(";")  # it answers for all namespaces, whatever is asked for
    names = heading.split(":")
    return [dict(zip(names, row.split(":"), strict=True)) for row in rows if row.startswith(f"{namespace}:")]


def _partition(digest: bytes) -> int:
    return digest[0] | (digest[1] & 0x0F) << 8


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("edition", "Aerospike Community Edition"), ("status", "ok"), ("namespace/no-such", "type=unknown"),
        ("sets/no-such", "ns_type=unknown"),
    ],
)  # fmt: skip
def test_fixed_answers(info: Ask, command: str, expected: str) -> None:
    assert info(command) == expected


def test_an_unknown_command_is_a_parameter_error(info: Ask) -> None:
    with pytest.raises(exception.InvalidRequest):
        info("no-such-command")


def test_the_build_is_a_version_of_numbers(info: Ask) -> None:
    parts = info("build").split(".")
    assert len(parts) == 4
    assert all(part.isdigit() for part in parts)


def test_the_namespaces_are_named(info: Ask, namespace: str) -> None:
    assert namespace in info("namespaces").split(";")


def test_a_node_has_a_name_and_its_cluster_a_key(info: Ask) -> None:
    assert int(info("node"), 16) > 0
    assert int(info("cluster-stable:"), 16) == int(_pairs(info("statistics"))["cluster_key"], 16)


def test_features_that_the_client_needs(info: Ask) -> None:
    assert {"pquery", "pscans", "batch-any", "peers", "replicas"} <= set(info("features").split(";"))


def test_partition_info_has_one_row_per_partition(info: Ask, namespace: str) -> None:
    assert tuple(info("partition-info").split(";", 1)[0].split(":")) == COLUMNS
    rows = _partitions(info, namespace)
    assert [int(row["partition"]) for row in rows] == list(range(PARTITIONS))
    assert {row["state"] for row in rows} == {"S"}
    assert {row["working_master"] for row in rows} == {info("node")}
    assert {row["emigrates"] + row["immigrates"] for row in rows} == {"00"}


def test_partition_info_has_every_namespace(info: Ask) -> None:
    rows = info("partition-info").split(";")[1:]
    names = info("namespaces").split(";")
    assert len([row for row in rows if row]) == PARTITIONS * len(names)


def test_partition_info_counts_records(client: Any, info: Ask, namespace: str, set_name: str) -> None:
    before = [int(row["records"]) for row in _partitions(info, namespace)]
    keys = [(namespace, set_name, i) for i in range(200)]
    for key in keys:
        client.put(key, {"a": 1})
    expected = list(before)
    for key in keys:
        expected[_partition(aerospike.calc_digest(*key))] += 1
    assert [int(row["records"]) for row in _partitions(info, namespace)] == expected
    client.batch_remove(keys)
    assert [int(row["records"]) for row in _partitions(info, namespace)] == before


def test_replicas_name_the_masters_partitions_as_a_bitmap(info: Ask, namespace: str) -> None:
    by_namespace = dict(part.split(":", 1) for part in info("replicas").split(";"))
    regime, count, master, *_ = by_namespace[namespace].split(",")
    assert int(regime) >= 0
    assert int(count) >= 1
    assert b64decode(master) == b"\xff" * (PARTITIONS // 8)


def test_the_namespaces_time_is_in_seconds_since_2010_and_agrees_with_its_records(
    client: Any, info: Ask, key: Any, namespace: str
) -> None:
    first = int(_pairs(info(f"namespace/{namespace}"))["current_time"])
    read = exp.LastUpdateTime().compile()
    ops = [operations.write("a", 1), expression_operations.expression_read("lut", read)]
    lut = client.operate(key, ops)[2]["lut"]
    last = int(_pairs(info(f"namespace/{namespace}"))["current_time"])
    assert first - 1 <= lut // 10**9 - 1_262_304_000 <= last + 1


NAMESPACE_KEYS = (
    "objects", "master_objects", "tombstones", "current_time", "expired_objects", "evicted_objects", "truncate_lut",
    "stop_writes", "clock_skew_stop_writes", "migrate_tx_partitions_remaining", "migrate_rx_partitions_remaining",
    "default-ttl", "nsup-period", "replication-factor", "client_write_success", "client_delete_success",
    "client_delete_not_found", "client_read_success", "client_read_not_found", "batch_sub_write_success",
    "batch_sub_delete_success", "batch_sub_read_success", "client_lang_delete_success", "from_proxy_delete_success",
    "xdr_client_delete_success", "deleted_last_bin", "fail_generation", "fail_record_too_big",
)  # fmt: skip


def test_a_namespace_has_the_figures_that_the_product_reads(info: Ask, namespace: str) -> None:
    figures = _pairs(info(f"namespace/{namespace}"))
    assert [name for name in NAMESPACE_KEYS if name not in figures] == []


def test_statistics_have_the_figures_that_the_product_reads(info: Ask) -> None:
    figures = _pairs(info("statistics"))
    wanted = ("cluster_size", "cluster_key", "cluster_clock_skew_ms", "uptime", "objects", "client_connections",
              "migrate_partitions_remaining", "migrate_allowed", "cluster_integrity", "cluster_is_member")  # fmt: skip
    assert [name for name in wanted if name not in figures] == []
    assert figures["cluster_size"] == "1"


def _moved(info: Ask, namespace: str, act: Callable[[], Any], *names: str) -> dict[str, int]:
    before = _pairs(info(f"namespace/{namespace}"))
    act()
    after = _pairs(info(f"namespace/{namespace}"))
    return {name: int(after[name]) - int(before[name]) for name in names}


def test_counters_of_single_records_move(client: Any, info: Ask, namespace: str, key: Any) -> None:
    def act() -> None:
        client.put(key, {"a": 1})
        client.put(key, {"a": 2})
        client.get(key)
        client.remove(key)
        with pytest.raises(exception.RecordNotFound):
            client.remove(key)
        with pytest.raises(exception.RecordNotFound):
            client.get(key)

    assert _moved(
        info, namespace, act, "client_write_success", "client_read_success", "client_delete_success",
        "client_delete_not_found", "client_read_not_found", "objects",
    ) == {
        "client_write_success": 2, "client_read_success": 1, "client_delete_success": 1, "client_delete_not_found": 1,
        "client_read_not_found": 1, "objects": 0,
    }  # fmt: skip


def test_counters_of_batches_move(client: Any, info: Ask, namespace: str, set_name: str) -> None:
    keys = [(namespace, set_name, i) for i in range(5)]

    def act() -> None:
        client.batch_operate(keys, [operations.write("a", 1)])
        client.batch_read([*keys, (namespace, set_name, "none")])
        client.batch_remove(keys)

    assert _moved(
        info, namespace, act, "batch_sub_write_success", "batch_sub_read_success", "batch_sub_read_not_found",
        "batch_sub_delete_success",
    ) == {
        "batch_sub_write_success": 5, "batch_sub_read_success": 5, "batch_sub_read_not_found": 1,
        "batch_sub_delete_success": 5,
    }  # fmt: skip


def test_the_counter_of_last_bins_moves(client: Any, info: Ask, namespace: str, key: Any) -> None:
    client.put(key, {"a": 1})
    assert _moved(info, namespace, lambda: client.remove_bin(key, ["a"]), "deleted_last_bin") == {"deleted_last_bin": 1}


def test_the_counter_of_wrong_generations_moves(client: Any, info: Ask, namespace: str, key: Any) -> None:
    client.put(key, {"a": 1})
    batch_write = {"gen": aerospike.POLICY_GEN_EQ}
    batch = br.BatchRecords([br.Write(key, [operations.write("a", 2)], meta={"gen": 5}, policy=batch_write)])
    moved = _moved(info, namespace, lambda: client.batch_write(batch), "fail_generation")
    assert moved == {"fail_generation": 1}


def test_the_counter_of_expired_records_moves(
    client: Any, info: Ask, namespace: str, set_name: str, until: Any
) -> None:
    def expired() -> int:
        return int(_pairs(info(f"namespace/{namespace}"))["expired_objects"])

    before = expired()
    for i in range(3):
        client.put((namespace, set_name, i), {"a": 1}, policy={"ttl": 1})
    until(lambda: expired() >= before + 3, 10.0)


def test_a_set_is_listed_with_its_records(client: Any, info: Ask, namespace: str, set_name: str) -> None:
    for i in range(7):
        client.put((namespace, set_name, i), {"a": 1})
    alone = _pairs(info(f"sets/{namespace}/{set_name}").rstrip(";"), ":")
    assert alone["objects"] == "7"
    assert "ns" not in alone
    assert alone["truncate_lut"].isdigit()
    listed = [_pairs(row, ":") for row in info(f"sets/{namespace}").split(";") if row]
    assert [row["objects"] for row in listed if row["set"] == set_name] == ["7"]
    assert {row["set"]: row["objects"] for row in [_pairs(r, ":") for r in info("sets").split(";") if r]
            if row["ns"] == namespace}[set_name] == "7"  # fmt: skip
