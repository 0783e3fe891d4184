"""Several namespaces by one configuration: each by itself, all in one process, and what is said of wrong words."""

import urllib.request
from typing import Any

import pytest

from cdc.clock import wall_clock
from tests.fixtures.commands import TARGET, Operator
from tests.fixtures.service import Service, windows

SCOPES = "the scope was"


def both(operator: Operator, **sections: Any) -> None:
    operator.configure(aerospike={"namespaces": [operator.namespace, TARGET]}, **sections)


def put(operator: Operator, namespace: str, *keys: int, set_name: str = "things") -> None:
    for key in keys:
        operator.client.put((namespace, set_name, key), {"v": key})


def count(operator: Operator, namespace: str) -> int:
    keys: list[Any] = []
    operator.client.query(namespace).foreach(lambda record: keys.append(record[0]))
    return len(keys)


def test_every_namespace_is_captured_archived_listed_and_restored_by_itself(operator: Operator) -> None:
    both(operator)
    put(operator, operator.namespace, *range(10))
    put(operator, TARGET, *range(4))
    collected = operator.good("collect", "--once", "--json").json["namespaces"]
    assert [(one["namespace"], one["writes"]) for one in collected] == [(operator.namespace, 10), (TARGET, 4)]
    said = operator.good("compact", "--once").out
    assert f"{operator.namespace}: 10 versions archived" in said
    assert f"{TARGET}: 4 versions archived" in said
    listed = operator.good("list", "--json").json["namespaces"]
    assert [one["namespace"] for one in listed] == [operator.namespace, TARGET]
    assert [one["namespace"] for one in operator.good("status", "--json").json["namespaces"]] == [
        operator.namespace,
        TARGET,
    ]
    # With one named, the answer is that of one configured alone.
    assert operator.good("list", "--namespace", TARGET, "--json").json == listed[1]
    assert operator.good("status", "--namespace", TARGET, "--json").json["namespace"] == TARGET
    assert [check["ok"] for check in operator.good("check", "--namespace", TARGET, "--json").json].count(False) == 0
    checked = operator.good("check", "--json").json["namespaces"]
    assert [one["namespace"] for one in checked] == [operator.namespace, TARGET]
    assert all(rule["ok"] for one in checked for rule in one["checks"])

    then = listed[1]["windows"][-1]["end"]
    put(operator, TARGET, 7)
    put(operator, operator.namespace, 70)
    operator.good("collect", "--once")
    operator.good("compact", "--once")
    operator.good("restore", "--namespace", TARGET, "--at", then, "--yes")
    assert (count(operator, operator.namespace), count(operator, TARGET)) == (11, 4)
    assert len(operator.good("consume", "--namespace", operator.namespace).out.splitlines()) == 11


@pytest.mark.parametrize("command", [["restore", "--at", "latest"], ["consume"]])
def test_a_command_about_one_namespace_wants_to_know_which(operator: Operator, command: list[str]) -> None:
    both(operator)
    answer = operator.run(*command)
    assert answer.code == 3
    assert f"several namespaces are configured: {operator.namespace}, {TARGET}" in answer.err
    assert "--namespace" in answer.err


@pytest.mark.parametrize("command", ["check", "collect", "compact", "consume", "list", "run", "status"])
def test_a_namespace_that_is_not_configured_is_refused(operator: Operator, command: str) -> None:
    both(operator)
    answer = operator.run(command, "--namespace", "nowhere")
    assert answer.code == 3
    assert "namespace nowhere is not configured" in answer.err
    assert TARGET in answer.err


def test_one_that_the_cluster_does_not_have_ends_the_service(operator: Operator) -> None:
    operator.configure(aerospike={"namespaces": [operator.namespace, "nowhere"]})
    answer = operator.run("run")
    assert answer.code == 12
    assert "nowhere" in answer.err


def test_one_process_keeps_all_of_them_and_tells_them_apart(service: Service) -> None:
    operator = service.operator
    both(
        operator,
        collector={"sweep_every_s": 0.1, "reconcile_every_s": 0.3},
        compactor={"segment_every_s": 0.3},
    )
    each = [service.settings.of(name) for name in (operator.namespace, TARGET)]
    put(operator, operator.namespace, 1)
    put(operator, TARGET, 1)
    service.start()
    service.until(lambda: service.health()[0] == 200, "it does not become healthy")
    roles = [(r["namespace"], r["role"]) for r in service.health()[1]["roles"]]
    assert roles == sorted((n, r) for n in (operator.namespace, TARGET) for r in ("collector", "compactor"))

    def archived(moment: int) -> bool:
        return all(any(w.reconciled_at > moment for w in windows(settings)) for settings in each)

    def all_archived() -> None:
        now = wall_clock()
        service.until(lambda: archived(now), "not every namespace is archived")

    all_archived()
    put(operator, TARGET, 2, 3)
    operator.client.remove((operator.namespace, "things", 1))
    all_archived()
    address = next(line.partition("metrics at ")[2] for line in service.said() if "metrics at " in line)
    with urllib.request.urlopen(address, timeout=5) as answer:
        told = answer.read().decode()
    for name in (operator.namespace, TARGET):
        for role, at in (("collector", ""), ("compactor", "main")):
            assert f'aerospike_cdc_role_up{{destination="{at}",namespace="{name}",role="{role}"}} 1.0' in told
        assert any(line.startswith(f"collector {name}: ") for line in service.said())
    service.stop()
    lines = operator.good("consume", "--namespace", operator.namespace).out.splitlines()
    assert len(lines) == 2  # written, and deleted
    assert len(operator.good("consume", "--namespace", TARGET).out.splitlines()) == 3


def test_the_scope_is_shown_where_there_is_one(operator: Operator) -> None:
    scope = {f"scope.{operator.namespace}": {"include": ["things"]}}
    operator.configure(**scope)
    put(operator, operator.namespace, *range(3))
    put(operator, operator.namespace, *range(5), set_name="others")
    operator.good("collect", "--once")
    operator.good("compact", "--once")
    assert 'captured are only sets ["things"]' in operator.good("status").out
    assert operator.good("status", "--json").json["scope"] == 'sets ["things"]'
    assert 'only sets ["things"]' in operator.good("list").out
    plan = operator.good("restore", "--at", "latest", "--into", TARGET, "--dry-run", "--json").json
    assert (plan["scope"], plan["counts"]["write"]) == ('sets ["things"]', 3)
    rules = {c["rule"]: c["detail"] for c in operator.good("check", "--json").json}
    assert rules["scope can be asked for"] == 'sets ["things"]'
    operator.configure(**{f"scope.{operator.namespace}": {"include": ["things", "othres"]}})
    rules = {c["rule"]: c["detail"] for c in operator.good("check", "--json").json}
    assert rules["scope can be asked for"].endswith("nothing was ever written to othres")
    assert SCOPES in operator.good("collect", "--once").out
    operator.good("compact", "--once")
    [shard, *_] = operator.good("list", "--json").json["archive"]
    assert shard["versions"] > 0


@pytest.mark.parametrize(
    ("name", "scope", "said"),
    [
        ("test", {"include": ["a"], "exclude": ["a"]}, "'a' both included and excluded"),
        ("test", {"include": ["a", "a"]}, "named twice"),
        ("test", {"include": ["a:b"]}, "must be a set's name"),
        ("test", {"filter": "not base64"}, "get_expression_base64"),
        ("test", {"filter": "YWJj"}, "get_expression_base64"),
        ("test", {"filtr": ""}, "did you mean scope.NAMESPACE.filter?"),
        ("elsewhere", {"include": ["a"]}, "elsewhere is not among aerospike.namespaces"),
    ],
)
def test_a_wrong_scope_is_one_clear_line(operator: Operator, name: str, scope: dict[str, Any], said: str) -> None:
    operator.configure(aerospike={"namespaces": ["test"]}, **{f"scope.{name}": scope})
    answer = operator.run("status")
    assert answer.code == 3
    assert said in answer.err


def test_a_filter_that_the_server_does_not_understand_is_found_by_check(operator: Operator) -> None:
    operator.configure(**{f"scope.{operator.namespace}": {"filter": "kf8="}})
    answer = operator.run("check")
    assert answer.code == 16
    assert "FAILED  scope can be asked for" in answer.out
    assert operator.run("collect", "--once").code == 16
