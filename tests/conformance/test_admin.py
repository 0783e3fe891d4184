"""Truncation, secondary indexes and UDFs: registered, listed, removed."""

from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aerospike
import pytest
from aerospike import exception
from aerospike_helpers import expressions as exp
from aerospike_helpers.operations import expression_operations, operations

from tests.fixtures.rawwire import RawRecords

Ask = Callable[[str], str]
MODULE = "function one(record)\n  return 1\nend\n"


def _rows(text: str) -> list[dict[str, str]]:
    return [dict(pair.split("=", 1) for pair in row.split(":")) for row in text.split(";") if row]


def _truncate_lut(info: Ask, namespace: str, set_name: str) -> int:
    return int(_rows(info(f"sets/{namespace}/{set_name}"))[0]["truncate_lut"])


def test_a_truncated_set_is_empty_and_says_when(
    client: Any, info: Ask, namespace: str, set_name: str, until: Any
) -> None:
    before = _truncate_lut(info, namespace, set_name) if info(f"sets/{namespace}/{set_name}") else 0
    for i in range(20):
        client.put((namespace, set_name, i), {"a": 1})
    client.truncate(namespace, set_name, 0)
    until(lambda: _truncate_lut(info, namespace, set_name) > before)
    until(lambda: all(client.exists((namespace, set_name, i))[1] is None for i in range(20)))
    until(lambda: _rows(info(f"sets/{namespace}/{set_name}"))[0]["objects"] == "0")


def test_another_set_is_left_alone(client: Any, namespace: str, set_name: str) -> None:
    kept = (namespace, f"{set_name}-kept", 1)
    client.put(kept, {"a": 1})
    client.put((namespace, set_name, 1), {"a": 1})
    client.truncate(namespace, set_name, 0)
    assert client.get(kept)[2] == {"a": 1}
    client.remove(kept)


def test_what_is_written_after_a_truncation_stays(client: Any, namespace: str, set_name: str, until: Any) -> None:
    key = (namespace, set_name, 1)
    client.put(key, {"a": 1})
    client.truncate(namespace, set_name, 0)

    def written() -> bool:
        client.put(key, {"a": 2})
        return client.exists(key)[1] is not None

    until(written)
    assert client.get(key)[2] == {"a": 2}


def test_a_truncation_may_spare_what_was_written_later(client: Any, namespace: str, set_name: str, until: Any) -> None:
    lut = expression_operations.expression_read("lut", exp.LastUpdateTime().compile())
    early = client.operate((namespace, set_name, "early"), [operations.write("a", 1), lut])[2]["lut"]

    def later() -> Any:
        found = client.operate((namespace, set_name, "late"), [operations.write("a", 1), lut])[2]["lut"]
        return found if found > early + 2_000_000 else None

    between = until(later) - 1_000_000
    client.truncate(namespace, set_name, between)
    until(lambda: client.exists((namespace, set_name, "early"))[1] is None)
    assert client.get((namespace, set_name, "late"))[2] == {"a": 1}


@pytest.mark.emulator_only
def test_a_whole_namespace_may_be_truncated(client: Any, info: Ask) -> None:
    key = ("restore", "cdct", 1)
    client.put(key, {"a": 1})
    client.truncate("restore", None, 0)
    assert client.exists(key)[1] is None
    figures = dict(pair.split("=", 1) for pair in info("namespace/restore").split(";"))
    assert int(figures["truncate_lut"]) > 0


@pytest.fixture
def index(client: Any, namespace: str) -> Iterator[str]:
    name = "cdct-index"
    yield name
    client.index_remove(namespace, name)


INDEXES = [
    ("numeric", aerospike.INDEX_NUMERIC, "numeric"),
    ("string", aerospike.INDEX_STRING, "string"),
    ("blob", aerospike.INDEX_BLOB, "blob"),
    ("geo", aerospike.INDEX_GEO2DSPHERE, "geo2dsphere"),
]


@pytest.mark.parametrize(("kind", "listed"), [case[1:] for case in INDEXES], ids=[case[0] for case in INDEXES])
def test_a_secondary_index_is_listed(
    client: Any, info: Ask, namespace: str, set_name: str, index: str, kind: int, listed: str, until: Any
) -> None:
    client.index_single_value_create(namespace, set_name, "b", kind, index)
    until(lambda: any(row["indexname"] == index for row in _rows(info(f"sindex-list:ns={namespace}"))))
    row = next(row for row in _rows(info(f"sindex-list:ns={namespace}")) if row["indexname"] == index)
    assert row["ns"] == namespace
    assert row["set"] == set_name
    assert row["bin"] == "b"
    assert row["type"] == listed
    assert row["indextype"] == "default"
    assert row["context"] == "null"
    assert row["exp"] == "null"
    until(lambda: ":state=RW" in next(r for r in info(f"sindex-list:ns={namespace}").split(";") if index in r))
    assert "load_pct=" in info(f"sindex/{namespace}/{index}")


COLLECTIONS = [
    ("list", aerospike.INDEX_TYPE_LIST, "list"),
    ("map keys", aerospike.INDEX_TYPE_MAPKEYS, "mapkeys"),
    ("map values", aerospike.INDEX_TYPE_MAPVALUES, "mapvalues"),
]


@pytest.mark.parametrize(("kind", "listed"), [c[1:] for c in COLLECTIONS], ids=[c[0] for c in COLLECTIONS])
def test_an_index_over_a_collection_is_listed(
    client: Any, info: Ask, namespace: str, set_name: str, index: str, kind: int, listed: str
) -> None:
    create = {
        aerospike.INDEX_TYPE_LIST: client.index_list_create,
        aerospike.INDEX_TYPE_MAPKEYS: client.index_map_keys_create,
        aerospike.INDEX_TYPE_MAPVALUES: client.index_map_values_create,
    }[kind]
    create(namespace, set_name, "b", aerospike.INDEX_STRING, index)
    row = next(row for row in _rows(info(f"sindex-list:ns={namespace}")) if row["indexname"] == index)
    assert (row["type"], row["indextype"]) == ("string", listed)


def test_a_removed_index_is_not_listed(client: Any, info: Ask, namespace: str, set_name: str, index: str) -> None:
    client.index_single_value_create(namespace, set_name, "b", aerospike.INDEX_NUMERIC, index)
    client.index_remove(namespace, index)
    assert all(row["indexname"] != index for row in _rows(info(f"sindex-list:ns={namespace}")))


@pytest.fixture
def module(client: Any, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "cdct_module.lua"
    path.write_text(MODULE)
    yield path
    client.udf_remove(path.name)


@pytest.fixture(scope="module")
def udf_client(aerospike_hosts: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client that keeps the Lua files it sends in a directory of its own."""
    directory = str(tmp_path_factory.mktemp("lua"))
    client = aerospike.client({"hosts": aerospike_hosts, "lua": {"user_path": directory}}).connect()
    yield client
    client.close()


def test_a_udf_is_listed_with_its_hash_and_given_back(
    client: Any, udf_client: Any, info: Ask, module: Path, until: Any
) -> None:
    udf_client.udf_put(str(module), aerospike.UDF_TYPE_LUA)

    def listed() -> dict[str, str] | None:
        rows = [dict(pair.split("=", 1) for pair in row.split(",")) for row in info("udf-list").split(";") if row]
        return next((row for row in rows if row["filename"] == module.name), None)

    row = until(listed)
    assert row["type"] == "LUA"
    assert len(row["hash"]) == 40
    parts = dict(pair.split("=", 1) for pair in info(f"udf-get:filename={module.name}").split(";") if "=" in pair)
    assert parts["type"] == "LUA"
    assert b64decode(parts["content"]).decode() == MODULE
    udf_client.udf_remove(module.name)
    until(lambda: listed() is None)


def test_a_udf_that_is_not_there(client: Any) -> None:
    with pytest.raises(exception.AerospikeError) as refused:
        client.udf_get("cdct-none.lua")
    assert refused.value.code == 100


def test_a_removed_record_leaves_no_trace(client: Any, raw: RawRecords, key: Any) -> None:
    client.put(key, {"a": 1})
    client.remove(key)
    with pytest.raises(exception.RecordNotFound):
        client.remove(key)
