"""Indexes and modules by the command line: shown as they were at a moment, and made again with a clone."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cdc.archive import metadata as archived
from cdc.clock import rfc3339, wall_clock
from cdc.embedded.kafka import free_ports
from tests.fixtures.commands import TARGET, Operator

MODULE = b"function one(record)\n  return 1\nend\n"


def info(operator: Operator, command: str) -> str:
    answer: str = operator.client.info_random_node(command)
    return answer.partition("\t")[2].rstrip("\n")


def make_index(operator: Operator, name: str, over: str, namespace: str = "") -> None:
    where = namespace or operator.namespace
    assert info(operator, f"sindex-create:namespace={where};set=one;indexname={name};bin={over};type=numeric") == "ok"


def indexes(operator: Operator, namespace: str) -> dict[str, str]:
    answer = info(operator, f"sindex-list:namespace={namespace};b64=true")
    lines = [line for line in answer.split(";") if "indexname=cdct-" in line]
    return {line.split("indexname=")[1].split(":")[0]: line.split(":bin=")[1].split(":")[0] for line in lines}


def captured(operator: Operator) -> str:
    """Everything up to now is in the archive; a moment within its window, and after all that."""
    now = looked(operator)
    operator.good("compact", "--once")
    return rfc3339(now)


def looked(operator: Operator) -> int:
    """Everything up to now is in Kafka; a moment after all that, and before the last look."""
    operator.good("collect", "--once")
    time.sleep(0.3)
    now = wall_clock()
    time.sleep(0.3)
    operator.good("collect", "--once")
    return now


@pytest.fixture
def described(operator: Operator) -> Iterator[Operator]:
    """Indexes and modules whose names begin with cdct are removed afterwards."""
    yield operator
    for namespace in (operator.namespace, TARGET):
        for name in indexes(operator, namespace):
            info(operator, f"sindex-delete:namespace={namespace};indexname={name}")
    info(operator, "udf-remove:filename=cdct.lua;")


def items(found: Any) -> dict[str, tuple[str, str]]:
    return {
        item["name"]: (item["certainty"], item["facts"].get("bin", ""))
        for item in found["items"]
        if item["kind"] in ("INDEX", "UDF") and item["name"].startswith("cdct")
    }


def test_what_was_there_at_a_moment_is_shown_and_made_again_with_a_clone(described: Operator) -> None:
    operator = described
    operator.client.put((operator.namespace, "one", 1), {"n": 1})
    make_index(operator, "cdct-a", "n")
    make_index(operator, "cdct-b", "m")
    content = base64.b64encode(MODULE).decode()
    info(operator, f"udf-put:filename=cdct.lua;content={content};content-len={len(content)};udf-type=LUA;")
    first = captured(operator)
    for name in ("cdct-a", "cdct-b"):
        assert info(operator, f"sindex-delete:namespace={operator.namespace};indexname={name}") == "ok"
    make_index(operator, "cdct-a", "other")
    info(operator, "udf-remove:filename=cdct.lua;")
    second = captured(operator)

    # What only Kafka knows yet a clone of the latest moment makes too.
    make_index(operator, "cdct-c", "late")
    looked(operator)
    tail = operator.good(
        "restore", "--at", "latest", "--into", TARGET, "--metadata", "after", "--dry-run", "--json"
    ).json
    assert [item["name"] for item in tail["metadata"]["make"]] == ["cdct-a", "cdct-c"]
    assert "cdct-c" not in items(operator.good("metadata", "--at", "latest", "--json").json)

    # The archive alone is asked: Kafka is gone.
    [port] = free_ports(1)
    operator.configure(kafka={"bootstrap": f"127.0.0.1:{port}", "timeout_s": 0.5})
    then = operator.good("metadata", "--at", first, "--json").json
    assert items(then) == {"cdct-a": ("presumed", "n"), "cdct-b": ("presumed", "m"), "cdct.lua": ("presumed", "")}
    assert {i["name"]: i["content"] for i in then["items"]}["cdct.lua"] == content
    later = operator.good("metadata", "--at", second, "--json").json
    assert items(later) == {"cdct-a": ("presumed", "other")}
    said = operator.good("metadata", "--at", first).out
    assert "cdct-b" in said
    assert "presumed" in said
    assert operator.run("metadata", "--at", "2020-01-01T00:00:00Z").code == 61
    assert operator.run("metadata", "--destination", "main").code == 2
    assert operator.run("restore", "--at", first, "--metadata", "after").code == 2

    arguments = ("restore", "--at", first, "--into", TARGET, "--metadata", "before")
    plan = operator.good(*arguments, "--dry-run", "--json").json["metadata"]
    assert plan["when"] == "before"
    assert [item["name"] for item in plan["make"]] == ["cdct.lua", "cdct-a", "cdct-b"]
    assert "makes module cdct.lua (presumed), index cdct-a (presumed)" in operator.good(*arguments, "--dry-run").out
    assert indexes(operator, TARGET) == {}
    done = operator.good(*arguments, "--yes", "--json").json["metadata"]
    assert {item["name"]: item["outcome"] for item in done["items"]} == {
        "cdct.lua": "made", "cdct-a": "made", "cdct-b": "made",
    }  # fmt: skip
    assert indexes(operator, TARGET) == {"cdct-a": "n", "cdct-b": "m"}
    assert "filename=cdct.lua" in info(operator, "udf-list")

    # A target that is refused is not touched, nor are its indexes.
    for name in ("cdct-a", "cdct-b"):
        assert info(operator, f"sindex-delete:namespace={TARGET};indexname={name}") == "ok"
    assert operator.run(*arguments, "--yes").code == 17
    assert indexes(operator, TARGET) == {}

    # What has another definition is left, and the exit code says so.
    make_index(operator, "cdct-a", "third", TARGET)
    again = operator.run(*arguments[:-1], "after", "--existing", "replace", "--yes")
    assert again.code == 62
    assert "1 conflict" in again.out
    assert "conflict index cdct-a: index of this name is another: bin=third" in again.out
    assert indexes(operator, TARGET) == {"cdct-a": "third", "cdct-b": "m"}

    # What is damaged is found, and stops a restore that needs it before its first write.
    where = operator.folder / "archive"
    path = max(p for p in where.rglob("*.json") if archived.is_one(p.relative_to(where).as_posix()))
    path.write_bytes(path.read_bytes()[:-3])
    assert path.name in json.dumps(operator.run("verify", "--json").json["damage"])
    assert operator.run(*arguments, "--existing", "replace", "--yes").code == 44
    assert operator.good("restore", "--at", first, "--into", TARGET, "--existing", "replace", "--yes").code == 0
