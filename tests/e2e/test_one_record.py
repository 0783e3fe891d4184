"""One record by the command line: its history, and what it was at a moment."""

import json
import time
from typing import Any

import aerospike

from cdc.clock import parse_rfc3339, rfc3339, wall_clock
from cdc.embedded.kafka import free_ports
from cdc.errors import BrokerUnreachable, NotRecoverable, ObjectMissing, UsageError
from tests.fixtures.commands import Operator

SENT = {"key": aerospike.POLICY_KEY_SEND}


def put(operator: Operator, key: Any, bins: dict[str, Any], set_name: str = "one") -> None:
    operator.client.put((operator.namespace, set_name, key), bins, policy=SENT)


def captured(operator: Operator) -> None:
    """Everything up to now is in the archive."""
    operator.good("collect", "--once")
    operator.good("compact", "--once")


def moment() -> str:
    """A moment clearly between what was written before and what is written after."""
    time.sleep(0.3)
    now = wall_clock()
    time.sleep(0.3)
    return rfc3339(now)


def test_history_and_show_tell_what_a_record_was(operator: Operator) -> None:
    put(operator, "alice", {"n": 1, "blob": bytearray(b"\x00\xff")})
    put(operator, 17, {"n": 5})
    captured(operator)
    first = moment()
    put(operator, "alice", {"n": 2, "tags": ["a", {"b": 1}]})
    captured(operator)
    second = moment()
    operator.client.remove((operator.namespace, "one", "alice"))
    captured(operator)
    captured(operator)  # the window ends where the look began that found the delete

    found = operator.good("history", "--set", "one", "--key", "alice", "--json").json
    assert [v["op"] for v in found["versions"]] == ["WRITE", "WRITE", "DELETE"]
    assert [v["generation"] for v in found["versions"]] == [1, 2, 2]
    assert [v["bins"].get("n") for v in found["versions"]] == [1, 2, None]
    assert found["versions"][1]["bins"]["tags"] == ["a", {"b": 1}]
    assert found["versions"][1]["within_blind_interval"] == "presumed"
    assert found["versions"][2]["within_blind_interval"] == "fuzzy"
    effective = [parse_rfc3339(v["effective_at"]) for v in found["versions"]]
    assert effective == sorted(effective)
    assert effective[1] > parse_rfc3339(first)
    changed = operator.good("history", "--digest", found["digest"], "--changes", "--json").json["versions"]
    assert changed[0]["changed"]["n"] == {"after": 1}
    assert changed[1]["changed"] == {"n": {"before": 1, "after": 2}, "tags": {"after": ["a", {"b": 1}]}}
    assert set(changed[2]["changed"]) == {"n", "blob", "tags"}
    brief = operator.good("history", "--digest", found["digest"], "--changes", "--limit", "2").out
    assert "n: 1 -> 2, +tags:" in brief
    assert "-n, -blob, -tags" in brief
    assert "and 1 older ones" in brief
    text = operator.good("history", "--digest", found["digest"]).out
    assert "DELETE" in text
    assert '"n": 2' in text
    assert "captured up to" in text

    [then, later] = [
        operator.good("show", "--set", "one", "--key", "str:alice", "--at", at, "--json").json for at in (first, second)
    ]
    assert then["version"]["bins"] == {"n": 1, "blob": {"$bytes": "AP8="}}
    assert then["version"]["user_key"] == "alice"
    assert (then["present"], then["certainty"]) == (True, "presumed")
    assert "nothing was seen of it from" in then["reason"]
    assert later["version"]["bins"]["n"] == 2
    operator.good("keep", "v2", "--at", second)
    assert operator.good("show", "--set", "one", "--key", "alice", "--at", "v2", "--json").json == later
    gone = operator.good("show", "--set", "one", "--key", "alice", "--json").json
    assert (gone["present"], gone["version"], gone["ended_by"]["op"]) == (False, None, "DELETE")
    said = operator.good("show", "--set", "one", "--key", "alice").out
    assert ": absent, exact" in said
    assert "delete " in said
    assert "  bin   n  5\n" in operator.good("show", "--set", "one", "--key", "17").out


def test_the_tail_shows_what_is_not_in_the_archive_yet(operator: Operator) -> None:
    put(operator, 1, {"n": 1})
    captured(operator)
    put(operator, 1, {"n": 2})
    operator.good("collect", "--once")
    record = ("--set", "one", "--key", "1", "--json")
    assert len(operator.good("history", *record, "--tail", "never").json["versions"]) == 1
    found = operator.good("history", *record)
    assert [(v["bins"]["n"], v["epoch"]) for v in found.json["versions"]] == [(1, 1), (2, 1)]
    assert operator.good("show", *record).json["version"] == {
        name: value for name, value in found.json["versions"][1].items() if name != "within_blind_interval"
    }
    assert operator.good("show", *record, "--tail", "never").json["version"]["bins"]["n"] == 1
    operator.configure(kafka={"bootstrap": f"127.0.0.1:{free_ports(1)[0]}", "timeout_s": 1.5})
    alone = operator.good("history", *record)  # the archive alone needs no Kafka
    assert (len(alone.json["versions"]), alone.err.count("\n")) == (1, 1)
    assert "what Kafka has beyond the archive is not known" in alone.err
    assert operator.run("history", *record, "--tail", "always").code == BrokerUnreachable.exit_code


def test_records_that_nothing_is_known_of(operator: Operator) -> None:
    operator.configure(scope={operator.namespace: {"include": ["one"]}})
    record = ("--set", "one", "--key", "1")
    missing = operator.run("history", *record)
    assert missing.code == ObjectMissing.exit_code
    put(operator, 1, {"n": 1})
    put(operator, 1, {"n": 1}, "other")
    captured(operator)
    assert operator.good("history", "--set", "one", "--key", "2", "--json").json["versions"] == []
    assert "no version of it was captured" in operator.good("history", "--set", "one", "--key", "2").out
    assert ": absent, exact" in operator.good("show", "--set", "one", "--key", "2").out
    for command in ("history", "show"):
        assert "nothing is known" in operator.good(command, "--set", "other", "--key", "1").out
    before = operator.run("show", *record, "--at", rfc3339(wall_clock() - 3_600_000))
    assert before.code == NotRecoverable.exit_code
    assert "is not recoverable; the recoverable window is" in before.err
    assert operator.run("show", *record, "--at", rfc3339(wall_clock() + 3_600_000)).code == NotRecoverable.exit_code


def test_wrong_words(operator: Operator) -> None:
    put(operator, 1, {"n": 1})
    captured(operator)
    for wrong, said in (
        (("--set", "one"), "--key"),
        (("--key", "1", "--digest", "00" * 20), "--key"),
        (("--digest", "00ff"), "is not a digest"),
        (("--digest", "00" * 20, "--set", "one"), "--set goes with --key"),
        (("--key", "hex:0g"), "is not hexadecimal"),
        (("--key", "int:x"), "is not an integer"),
        (("--key", str(1 << 63)), "64 bits"),
        (("--key", "hex:"), "names no record"),
        (("--set", "s" * 70, "--key", "1"), "names no record"),
    ):
        for command in ("history", "show"):
            answer = operator.run(command, *wrong)
            assert answer.code == UsageError.exit_code, (command, wrong, answer)
            assert said in answer.err
    answer = operator.run("show", "--key", "1", "--at", "yesterday", "--json")
    assert answer.code == UsageError.exit_code
    assert json.loads(answer.err or answer.out)["error"]
