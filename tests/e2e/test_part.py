"""A part of a namespace by the command line: brought back in place, some bins of it, and into another place."""

import json
import time
from typing import Any

import aerospike

from cdc.clock import rfc3339, wall_clock
from cdc.errors import RecordsRefused, TargetNotEmpty, UsageError
from cdc.replayer.keys import digest_of
from tests.fixtures.commands import TARGET, Operator

KEYS = (1, 2, 3, 4, 5)


def put(operator: Operator, set_name: str, key: int, bins: dict[str, Any], namespace: str = "") -> None:
    replace = {"exists": aerospike.POLICY_EXISTS_CREATE_OR_REPLACE}
    operator.client.put((namespace or operator.namespace, set_name, key), bins, policy=replace)


def bins(operator: Operator, set_name: str, key: int, namespace: str = "") -> dict[str, Any]:
    found: dict[str, Any] = operator.client.get((namespace or operator.namespace, set_name, key))[2]
    return found


def captured(operator: Operator) -> None:
    operator.good("collect", "--once")
    operator.good("compact", "--once")


def damaged(operator: Operator) -> str:
    """Prices and stocks of two sets of which all were spoiled after the moment that is given back."""
    for set_name in ("shoes", "hats"):
        for key in KEYS:
            put(operator, set_name, key, {"price": key, "stock": key, "state": "open" if key % 2 else "sold out"})
    captured(operator)
    time.sleep(0.3)
    at = rfc3339(wall_clock())
    time.sleep(0.3)
    for set_name in ("shoes", "hats"):
        for key in KEYS:
            put(operator, set_name, key, {"price": -1, "stock": 100 + key, "state": "?"})
    captured(operator)
    return at


def refuse_what_is_no_part(operator: Operator, at: str) -> None:
    (operator.folder / "keys").write_text("hats\t1\nhats 2\n")
    for wrong, said in (
        (("--key", "1", "--set", "a", "--set", "b"), "whose key"),
        (("--keys-file", str(operator.folder / "keys")), "line 2: 'hats 2' is not a digest"),
        (("--where", "price = 1"), "write =="),
        (("--partition", "9-3"), "partitions are 0 to 4095"),
    ):
        answer = operator.run("restore", "--at", at, *wrong, "--yes")
        assert answer.code == UsageError.exit_code, answer
        assert said in answer.err


def test_only_what_is_asked_for_comes_back(operator: Operator) -> None:
    at = damaged(operator)
    refuse_what_is_no_part(operator, at)
    (operator.folder / "keys").write_text(f"hats\t1\n{digest_of('hats', 2).hex()}\n")

    def restored(*part: str, into: str = "") -> tuple[int, int]:
        place = ("--into", into, "--existing", "replace") if into else ()
        planned = operator.good("restore", "--at", at, *part, *place, "--dry-run", "--json").json
        report = operator.good("restore", "--at", at, *part, *place, "--yes", "--json").json
        assert planned["counts"]["write"] == report["written"] + report["left"] - planned["counts"]["leave"]
        return report["written"], report["left"]

    said = operator.good("restore", "--at", at, "--set", "shoes", "--key", "1", "--bins", "price", "--dry-run").out
    assert "part       one record by name; of each only the bin price" in said
    assert "takes off  these bins of 0 records" in said
    assert "named      1 records, of which 1 changed since" in said
    misspelt = ("restore", "--at", at, "--set", "shoos", "--dry-run")
    assert "no records of this part changed since" in operator.good(*misspelt).out
    assert "no records of this part were there" in operator.good(*misspelt, "--into", TARGET).out
    of_two = operator.good("restore", "--at", at, "--key", "1", "--set", "hats", "--digest", "0" * 40, "--dry-run").out
    assert "named      2 records, of which 1 changed since" in of_two
    part = ("--set", "shoes", "--key", "1", "--bins", "price")
    assert "1 written, 0 relieved of price, 0 left" in operator.good("restore", "--at", at, *part, "--yes").out
    assert bins(operator, "shoes", 1) == {"price": 1, "stock": 101, "state": "?"}
    assert restored("--set", "shoes", "--where", "state == sold out", "--where", "price < 4") == (1, 0)
    assert bins(operator, "shoes", 2) == {"price": 2, "stock": 2, "state": "sold out"}
    assert restored("--keys-file", str(operator.folder / "keys")) == (2, 0)
    assert [bins(operator, "hats", key)["price"] for key in KEYS] == [1, 2, -1, -1, -1]
    assert [bins(operator, "shoes", key)["price"] for key in KEYS] == [1, 2, -1, -1, -1]

    assert restored("--set", "hats", "--bins", "price,state", into=TARGET) == (5, 0)
    assert bins(operator, "hats", 4, TARGET) == {"price": 4, "state": "sold out"}
    assert restored("--digest", digest_of("shoes", 5).hex(), "--expired", "shift", into=TARGET) == (1, 0)
    assert bins(operator, "shoes", 5, TARGET) == {"price": 5, "stock": 5, "state": "open"}
    assert (
        restored("--partition", "0-2047", into=TARGET)[0] + restored("--partition", "2048-4095", into=TARGET)[0] == 10
    )


def test_a_set_is_looked_at_beside_itself(operator: Operator) -> None:
    keys: list[Any] = [7, -1, "anna", "", bytearray(b"\x00\xff")]
    stored = {"key": aerospike.POLICY_KEY_SEND, "ttl": 9000}
    for key in keys:
        operator.client.put((operator.namespace, "shoes", key), {"price": 1, "l": [1, {"a": 2}]}, policy=stored)
    put(operator, "shoes", 99, {"price": 1})  # whose key nobody stored
    put(operator, "hats", 7, {"price": 1})
    captured(operator)
    time.sleep(0.3)
    at = rfc3339(wall_clock())
    time.sleep(0.3)
    for key in (*keys, 99):
        put(operator, "shoes", key, {"price": -1})
    captured(operator)

    named = operator.folder / "named.jsonl"
    beside = ("restore", "--at", at, "--set", "shoes", "--into-set", "shoes-then", "--named", str(named))
    looked = operator.good(*beside, "--dry-run", "--json").json
    assert (looked["kind"], looked["into"], looked["into_set"]) == ("clone", operator.namespace, "shoes-then")
    assert looked["counts"]["write"] == 6
    assert f"into {operator.namespace}, set shoes-then" in operator.good(*beside, "--dry-run").out
    done = operator.run(*beside, "--yes", "--json")
    assert done.code == RecordsRefused.exit_code
    assert "1 because its user key is not stored" in done.err
    assert (done.json["written"], done.json["refused"], done.json["verification"]["right"]) == (5, 1, 5)
    [line] = named.read_text().splitlines()
    assert json.loads(line)["digest"] == digest_of("shoes", 99).hex()
    for key in keys:
        assert bins(operator, "shoes-then", key) == {"price": 1, "l": [1, {"a": 2}]}
        _, meta, _ = operator.client.get((operator.namespace, "shoes-then", key))
        assert 8000 < meta["ttl"] <= 9000
        assert bins(operator, "shoes", key) == {"price": -1}
    assert operator.run(*beside, "--yes").code == TargetNotEmpty.exit_code
    [entry] = [one for one in operator.good("restores", "--json").json["restores"] if one["state"] == "failed"][:1]
    assert entry["into_set"] == "shoes-then"

    put(operator, "boots", 1, {"price": 5}, TARGET)
    only = ("--key", "7", "--into", TARGET, "--yes", "--json")
    assert operator.good(*beside, *only).json["written"] == 1
    assert bins(operator, "shoes-then", 7, TARGET) == {"price": 1, "l": [1, {"a": 2}]}
    put(operator, "shoes-then", 7, {"price": 6}, TARGET)
    kept = operator.run(*beside, *only, "--existing", "keep").json
    assert (kept["written"], kept["left"]) == (0, 1)
    assert operator.good(*beside, *only, "--existing", "replace").json["verification"]["right"] == 1
    assert bins(operator, "boots", 1, TARGET) == {"price": 5}

    for wrong, said in (
        (("--into-set", "x"), "takes the records of one set"),
        (("--into-set", "shoes", "--set", "shoes"), "is restored itself"),
        (("--into-set", "x", "--set", "shoes", "--metadata", "before"), "--metadata"),
        (("--into-set", "x", "--set", "shoes", "--overwrite"), "--overwrite"),
        (("--into-set", "a:b", "--set", "shoes"), "no set's name"),
    ):
        answer = operator.run("restore", "--at", at, *wrong, "--yes")
        assert answer.code == UsageError.exit_code, answer
        assert said in answer.err
