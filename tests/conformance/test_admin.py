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


def _truncate_until_gone(client: Any, key: Any, until: Any, set_name: str | None = "") -> None:
    """A record written in the very millisecond of a truncation survives it; so truncate again until it has gone."""
    where = key[1] if set_name == "" else set_name

    def gone() -> bool:
        client.truncate(key[0], where, 0)
        return client.exists(key)[1] is None

    until(gone)


def test_a_truncated_set_is_empty_and_says_when(
    client: Any, info: Ask, namespace: str, set_name: str, until: Any
) -> None:
    before = _truncate_lut(info, namespace, set_name) if info(f"sets/{namespace}/{set_name}") else 0
    for i in range(20):
        client.put((namespace, set_name, i), {"a": 1})
    _truncate_until_gone(client, (namespace, set_name, 19), until)
    assert _truncate_lut(info, namespace, set_name) > before
    assert all(client.exists((namespace, set_name, i))[1] is None for i in range(20))
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
def test_a_whole_namespace_may_be_truncated(client: Any, info: Ask, until: Any) -> None:
    key = ("restore", "cdct", 1)
    client.put(key, {"a": 1})
    _truncate_until_gone(client, key, until, set_name=None)
    figures = dict(pair.split("=", 1) for pair in info("namespace/restore").split(";"))
    assert int(figures["truncate_lut"]) > 0


@pytest.fixture
def index(info: Ask, namespace: str) -> Iterator[str]:
    name = "cdct-index"
    yield name
    assert info(f"sindex-delete:ns={namespace};indexname={name}") == "ok"


def _create(info: Ask, namespace: str, set_name: str, index: str, data: str, collection: str = "") -> None:
    # Not by the client: it polls for a second or two until an index is built.
    kind = f";indextype={collection}" if collection else ""
    command = f"sindex-create:ns={namespace};set={set_name};indexname={index}{kind};indexdata={data}"
    assert info(command).lower() == "ok"


def _index(info: Ask, namespace: str, index: str) -> dict[str, str] | None:
    rows = _rows(info(f"sindex-list:ns={namespace}"))
    return next((row for row in rows if row["indexname"] == index), None)


@pytest.mark.parametrize("kind", ["numeric", "string", "blob", "geo2dsphere"])
def test_a_secondary_index_is_listed(
    info: Ask, namespace: str, set_name: str, index: str, kind: str, until: Any
) -> None:
    _create(info, namespace, set_name, index, f"b,{kind}")
    until(lambda: (_index(info, namespace, index) or {}).get("state") == "RW")
    assert _index(info, namespace, index) == {
        "ns": namespace, "indexname": index, "set": set_name, "bin": "b", "type": kind, "indextype": "default",
        "context": "null", "exp": "null", "state": "RW",
    }  # fmt: skip
    assert "load_pct=100" in info(f"sindex/{namespace}/{index}")


@pytest.mark.parametrize("collection", ["list", "mapkeys", "mapvalues"])
def test_an_index_over_a_collection_is_listed(
    info: Ask, namespace: str, set_name: str, index: str, collection: str, until: Any
) -> None:
    _create(info, namespace, set_name, index, "b,string", collection)
    row = until(lambda: _index(info, namespace, index))
    assert (row["type"], row["indextype"]) == ("string", collection)


def test_the_client_makes_and_removes_an_index(
    client: Any, info: Ask, namespace: str, set_name: str, index: str, until: Any
) -> None:
    client.index_single_value_create(namespace, set_name, "b", aerospike.INDEX_NUMERIC, index)
    until(lambda: _index(info, namespace, index))
    client.index_remove(namespace, index)
    until(lambda: _index(info, namespace, index) is None)


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
