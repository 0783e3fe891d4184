"""The whole product by its command line: capture, archive, look, restore."""

import json
import time

import pytest

from cdc.clock import rfc3339, wall_clock
from cdc.errors import CaptureIncomplete
from tests.fixtures.commands import TARGET, Operator, write_badly_named_bin


def captured(operator: Operator) -> None:
    """Everything up to now is in the archive."""
    operator.good("collect", "--once")
    operator.good("compact", "--once")


def between_looks() -> int:
    """A moment that lies clearly after everything written so far and before everything written later."""
    time.sleep(0.3)
    moment = wall_clock()
    time.sleep(0.3)
    return moment


def test_a_rewind_undoes_a_bad_deploy_and_nothing_else(operator: Operator) -> None:
    shop = operator.shop()
    shop.place(300)
    captured(operator)
    shop.trade(100)
    between_looks()
    captured(operator)
    moment = between_looks()
    expected, untouched = shop.at(moment), shop.generations()
    shop.bad_deploy(corrupt=30, delete=20)
    captured(operator)

    plan = operator.good("restore", "--at", rfc3339(moment), "--dry-run", "--json").json
    assert plan["counts"]["write"] == 50
    assert len(shop.differences(expected)) == 50

    report = operator.good("restore", "--at", rfc3339(moment), "--yes", "--json")
    done = json.loads(report.out)
    assert (done["written"], done["removed"], done["conflicts"], done["refused"]) == (50, 0, 0, 0)
    assert done["exact"] + done["presumed"] + done["fuzzy"] == 50
    assert shop.differences(expected) == []
    changed = shop.changed_since(moment)
    after = shop.generations()
    assert all(after[order] == generation for order, generation in untouched.items() if order not in changed)


def test_a_clone_brings_any_moment_back_elsewhere(operator: Operator) -> None:
    shop = operator.shop()
    shop.place(200)
    captured(operator)
    first = between_looks()
    shop.trade(150)
    between_looks()
    captured(operator)
    answer = operator.good("restore", "--at", rfc3339(first), "--into", TARGET, "--yes")
    assert "clone of" in answer.out
    assert shop.differences(shop.at(first), TARGET) == []
    # Again, later, over what is there now:
    assert operator.run("restore", "--at", "latest", "--into", TARGET, "--yes").code == 17


def test_status_and_list_tell_windows_and_lag(operator: Operator) -> None:
    operator.shop().place(50)
    captured(operator)
    status = operator.good("status", "--json").json
    assert status["lag_ms"] >= 0
    assert status["aside"] == []
    [window] = status["windows"]
    assert window["start"] <= window["end"] <= status["resolved_at"]
    listed = operator.good("list", "--json").json
    assert listed["windows"] == status["windows"]
    assert sum(shard["versions"] for shard in listed["archive"]) == 50
    for command in ("status", "list"):
        assert "recoverable from" in operator.good(command).out


def test_consume_prints_every_change_as_a_line_of_json(operator: Operator) -> None:
    shop = operator.shop()
    shop.place(20)
    operator.good("collect", "--once")
    lines = [json.loads(line) for line in operator.good("consume").out.splitlines()]
    assert {line["user_key"] for line in lines} == {f"order-{i:06d}" for i in range(1, 21)}
    one = next(line for line in lines if line["user_key"] == "order-000007")
    assert one["bins"]["total"] == shop.now("order-000007")["total"]
    assert len(operator.good("consume", "--limit", "3").out.splitlines()) == 3


def test_metadata_shows_what_kafka_holds_by_kind_and_since_when(operator: Operator) -> None:
    operator.shop().place(5)
    named = f"namespace={operator.namespace};indexname=cdct-e2e"
    operator.client.info_random_node(f"sindex-create:{named};bin=total;type=numeric")
    try:
        operator.good("collect", "--once")
        found = operator.good("metadata", "--json").json
        assert (found["namespace"], found["complete"], found["damaged"]) == (operator.namespace, True, [])
        [index] = [item for item in found["items"] if item["name"] == "cdct-e2e"]
        assert (index["kind"], index["removed"], index["content"]) == ("INDEX", False, None)
        assert index["facts"] == {"bin": "total", "type": "numeric", "indextype": "default"}
        assert index["unobserved_since"] is None
        assert index["looked_at"] <= index["observed_at"]
    finally:
        operator.client.info_random_node(f"sindex-delete:{named}")
    operator.good("collect", "--once")
    text = operator.good("metadata").out
    assert "bin=total indextype=default type=numeric" in text
    assert "removed 2" in text
    assert "settings (--json has them)" in text


def test_check_has_a_line_for_each_rule(operator: Operator) -> None:
    lines = operator.good("check").out.splitlines()
    assert len(lines) >= 8
    assert all(line.startswith("OK ") for line in lines)
    assert all(rule["ok"] for rule in operator.good("check", "--json").json)


def test_a_record_that_cannot_be_encoded_is_named_and_kept_and_the_sweep_goes_on(
    operator: Operator, badly_named_bin: bytes
) -> None:
    operator.shop().place(30)
    answer = operator.run("collect", "--once", "--json")
    assert answer.code == CaptureIncomplete.exit_code
    assert answer.json["writes"] == 30
    assert answer.json["aside"] == 1
    status = operator.run("status", "--json")
    assert status.code == CaptureIncomplete.exit_code
    [kept] = status.json["aside"]
    assert kept["digest"] == badly_named_bin.hex()
    assert "UTF-8" in kept["reason"]
    operator.good("compact", "--once")
    [window] = operator.good("list", "--json").json["windows"]
    at = window["reconciled_at"]  # later on a delete may not have been found
    counts = operator.good("restore", "--at", at, "--into", TARGET, "--dry-run", "--json").json["counts"]
    assert (counts["write"], counts["exact"], counts["fuzzy"]) == (30, 30, 1)


def test_a_rewind_undoes_what_could_only_be_kept_aside(operator: Operator) -> None:
    key = (operator.namespace, "odd", "old")
    operator.client.put(key, {"a": 1})
    operator.good("collect", "--once")
    operator.good("compact", "--once")
    before = operator.good("list", "--json").json["windows"][-1]["end"]
    write_badly_named_bin(operator, "old")
    write_badly_named_bin(operator, "new")
    assert operator.run("collect", "--once").code == CaptureIncomplete.exit_code
    operator.good("collect", "--once")  # so that the window ends after they were seen
    operator.good("compact", "--once")
    after = operator.good("restore", "--at", "latest", "--dry-run", "--json").json["counts"]
    assert (after["write"], after["remove"], after["leave"], after["exact"], after["fuzzy"]) == (0, 0, 2, 0, 2)
    operator.good("restore", "--at", before, "--yes")
    assert operator.client.get(key)[2] == {"a": 1}
    assert operator.client.exists((operator.namespace, "odd", "new"))[1] is None


@pytest.mark.emulator_only
def test_the_demo_ends_well() -> None:
    from cdc.cli.app import invoke

    assert invoke(["demo", "--orders", "600"]) == 0
