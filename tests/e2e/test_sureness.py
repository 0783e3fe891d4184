"""How exact a moment or a span is, as the command line tells it."""

import json
from pathlib import Path

import aerospike

from cdc.clock import rfc3339, wall_clock
from cdc.errors import UsageError
from tests.fixtures.commands import TARGET, Operator
from tests.fixtures.restores import tick


def captured(operator: Operator) -> str:
    """Everything up to now is in the archive; the end of its window."""
    operator.good("collect", "--once")
    operator.good("compact", "--once")
    return str(operator.good("list", "--json").json["windows"][-1]["end"])


def test_list_says_how_exact_a_window_is_and_any_part_of_it(operator: Operator) -> None:
    operator.shop().place(20)
    middle = captured(operator)
    end = captured(operator)
    listed = operator.good("list", "--json").json
    [window] = listed["windows"]
    assert 0 < window["typical"]["writes_ms"] <= window["worst"]["writes_ms"]
    assert 0 < window["typical"]["deletes_ms"] <= window["worst"]["deletes_ms"]
    assert operator.good("status", "--json").json["windows"] == [window]
    [part] = operator.good("list", "--from", middle, "--to", "latest", "--json").json["windows"]
    assert (part["start"], part["end"]) == (middle, end)
    assert part["worst"]["writes_ms"] <= window["worst"]["writes_ms"]
    text = operator.good("list", "--from", middle).out
    assert "writes within" in text
    assert middle in text
    assert window["start"] not in text


def test_list_tells_what_of_a_span_no_window_has(operator: Operator) -> None:
    operator.shop().place(5)
    end = captured(operator)
    before, after = rfc3339(wall_clock() - 3_600_000), rfc3339(wall_clock() + 3_600_000)
    holes = operator.good("list", "--from", before, "--to", after, "--json").json["holes"]
    assert [(h["start"], h["reason"]) for h in holes] == [
        (before, "nothing is kept from before the first window"), (end, "not in the archive yet"),
    ]  # fmt: skip
    wrong = operator.run("list", "--from", after, "--to", before)
    assert wrong.code == UsageError.exit_code
    assert "is later than" in wrong.err


def test_a_dry_run_says_the_resolution_of_the_moment_and_names_who_is_not_sure(operator: Operator) -> None:
    shop = operator.shop()
    shop.place(30)
    captured(operator)
    between = rfc3339(tick(wall_clock) - 1)  # not the very millisecond of what follows
    key = (operator.namespace, "sureness", "twice")
    for value in (1, 2, 3):
        operator.client.put(key, {"v": value}, policy={"key": aerospike.POLICY_KEY_SEND})
    captured(operator)
    file = Path(operator.folder / "doubts.jsonl")
    arguments = ("restore", "--at", between, "--into", TARGET, "--dry-run")
    plan = operator.good(*arguments, "--json", "--list-fuzzy", str(file)).json
    assert plan["resolution"]["writes_ms"] > 0
    named = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(named) == plan["counts"]["presumed"] + plan["counts"]["fuzzy"]
    [one] = [line for line in named if line["set"] == "sureness"]
    assert (one["key"], one["certainty"], one["present"]) == ("twice", "fuzzy", False)
    assert one["digest"] == bytes(aerospike.calc_digest(*key)).hex()
    assert one["unobserved_since"] < between < one["observed_from"]

    answer = operator.good(*arguments, "--list-fuzzy", "-")
    assert sorted(answer.out.splitlines()) == sorted(file.read_text().splitlines())
    assert "resolution within" in answer.err


def test_naming_records_is_for_a_dry_run_and_wants_a_place_to_write(operator: Operator) -> None:
    operator.shop().place(3)
    captured(operator)
    assert operator.run("restore", "--at", "latest", "--yes", "--list-fuzzy", "-").code == UsageError.exit_code
    missing = operator.folder / "none" / "doubts.jsonl"
    answer = operator.run("restore", "--at", "latest", "--dry-run", "--list-fuzzy", str(missing))
    assert answer.code == UsageError.exit_code
    assert "cannot be written" in answer.err
