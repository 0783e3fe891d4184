"""Looking before a leap: what differs between two moments, by the command line."""

import json
from typing import Any

import aerospike

from cdc.clock import rfc3339, wall_clock
from cdc.errors import Differs, NotRecoverable, UsageError
from tests.e2e.test_one_record import captured, moment
from tests.fixtures.commands import Operator

SENT = {"key": aerospike.POLICY_KEY_SEND}


def put(operator: Operator, set_name: str, key: Any, bins: dict[str, Any], **policy: Any) -> None:
    operator.client.put((operator.namespace, set_name, key), bins, policy=SENT | policy)


def test_what_differs_is_told_by_set_by_record_and_by_bin(operator: Operator) -> None:
    for key in range(5):
        put(operator, "orders", key, {"n": key, "state": "open"})
    put(operator, "users", "alice", {"age": 40}, ttl=10_000)
    captured(operator)
    before = moment()
    put(operator, "orders", 1, {"n": 1, "state": "gone wrong"})
    put(operator, "orders", 2, {"n": 2, "state": "open"})
    put(operator, "orders", 77, {"n": 77})
    operator.client.remove((operator.namespace, "orders", 3))
    put(operator, "users", "alice", {"age": 40}, ttl=90_000)
    captured(operator)
    captured(operator)

    found = operator.good("diff", before, "--json", "--records").json
    assert found["since"] == before
    assert found["compared_whole"] is None
    orders, users = found["sets"]
    counted = ("created", "removed", "changed", "expiry", "touched")
    assert [orders[name] for name in counted] == [1, 1, 1, 0, 1]
    assert [users[name] for name in counted] == [0, 0, 0, 1, 0]
    assert found["different"] == 4
    assert sum(found["total"][sure] for sure in ("exact", "presumed", "fuzzy")) == 4
    by_key = {one["key"]: one for one in found["records"]}
    assert by_key[1]["bins"] == {"state": {"before": "open", "after": "gone wrong"}}
    assert (by_key[77]["before"], by_key[77]["kind"]) == (None, "created")
    assert (by_key[3]["after"], by_key[3]["kind"]) == (None, "removed")
    assert (by_key["alice"]["bins"], by_key["alice"]["kind"]) == ({}, "expiry")

    text = operator.good("diff", before, "--values").out
    assert "4 records differ, 1 were written again as they were" in text
    assert 'state: "open" -> "gone wrong"' in text
    assert "n: (not there) -> 77" in text
    back = operator.good("diff", "latest", before, "--json", "--records").json["records"]
    assert {one["key"]: one["kind"] for one in back} == {1: "changed", 77: "removed", 3: "created", "alice": "expiry"}

    listed = operator.folder / "differ.jsonl"
    operator.good("diff", before, "--list", str(listed), "--set", "orders")
    assert {json.loads(line)["key"] for line in listed.read_text().splitlines()} == {1, 3, 77}
    lines = operator.good("diff", before, "--list", "-", "--set", "orders", "--key", "1").out.splitlines()
    assert [json.loads(line)["key"] for line in lines] == [1]
    assert operator.good("diff", before, "--where", "state == 'gone wrong'", "--json").json["different"] == 1
    assert operator.good("diff", before, "--bins", "n", "--json").json["different"] == 2
    assert operator.run("diff", before, "--exit-code").code == Differs.exit_code
    itself = operator.run("diff", before, before, "--exit-code")
    assert (itself.code, itself.out.endswith("no record differs\n")) == (0, True)


def test_wrong_words(operator: Operator) -> None:
    put(operator, "orders", 1, {"n": 1})
    captured(operator)
    early = rfc3339(wall_clock() - 3_600_000)
    for code, *words in (
        (NotRecoverable.exit_code, early),
        (NotRecoverable.exit_code, "latest", early),
        (UsageError.exit_code, "yesterday"),
        (UsageError.exit_code,),
        (UsageError.exit_code, "latest", "--all", "--json"),
        (UsageError.exit_code, "latest", "--list", "-", "--records"),
        (UsageError.exit_code, "latest", "--key", "1", "--set", "a", "--set", "b"),
        (UsageError.exit_code, "latest", "--list", str(operator.folder)),
    ):
        assert operator.run("diff", *words).code == code, words
