"""By the command line: what the collector captured and no compactor archived yet is restored from Kafka."""

import time

from cdc.clock import parse_rfc3339, rfc3339, wall_clock
from cdc.embedded.kafka import free_ports
from cdc.errors import BrokerUnreachable, NotRecoverable, ObjectMissing
from tests.fixtures.commands import TARGET, Operator


def put(operator: Operator, value: int, keys: range) -> None:
    for i in keys:
        operator.client.put((operator.namespace, "tail", i), {"n": value})


def values(operator: Operator, namespace: str, keys: range) -> list[int | None]:
    found = operator.client.batch_read([(namespace, "tail", i) for i in keys])
    return [record.record[2]["n"] if record.result == 0 else None for record in found.batch_records]


def moment() -> int:
    """A moment clearly between what was written before and what is written after."""
    time.sleep(0.3)
    now = wall_clock()
    time.sleep(0.3)
    return now


def test_while_the_compactor_is_down_a_moment_ago_is_brought_back(operator: Operator) -> None:
    keys = range(30)
    put(operator, 1, keys)
    operator.good("collect", "--once")
    operator.good("compact", "--once")
    first = operator.good("list", "--json").json["windows"][-1]
    put(operator, 2, range(10, 30))
    operator.good("collect", "--once")
    good = moment()
    put(operator, 3, range(20, 30))
    operator.client.remove((operator.namespace, "tail", 0))
    put(operator, 3, range(30, 33))
    operator.good("collect", "--once")
    operator.good("collect", "--once")  # the window ends where the look began that found the delete

    ago = f"{wall_clock() - good}ms"
    assert operator.run("restore", "--at", ago, "--dry-run", "--tail", "never").code == NotRecoverable.exit_code
    looked = operator.good("restore", "--at", rfc3339(good), "--dry-run", "--json").json
    assert parse_rfc3339(looked["captured_until"]) > good > parse_rfc3339(first["end"])
    done = operator.good("restore", "--at", rfc3339(good), "--yes", "--json").json
    assert (done["written"], done["removed"], done["conflicts"]) == (11, 3, 0)
    assert values(operator, operator.namespace, range(33)) == [1] * 10 + [2] * 20 + [None] * 3
    operator.good("restore", "--at", f"{wall_clock() - good}ms", "--into", TARGET, "--yes")
    assert values(operator, TARGET, range(33)) == [1] * 10 + [2] * 20 + [None] * 3
    assert operator.good("list", "--json").json["windows"] == [first]
    assert list(operator.folder.glob("restores/*/tail")) == []

    operator.configure(kafka={"bootstrap": f"127.0.0.1:{free_ports(1)[0]}"})
    late = operator.run("restore", "--at", rfc3339(good), "--yes")
    assert late.code == NotRecoverable.exit_code
    assert "Connection refused" in late.err
    assert f"Nearest recoverable: {first['end']}" in late.err
    there = ("restore", "--at", first["end"], "--dry-run", "--json")
    assert operator.run(*there, "--tail", "always").code == BrokerUnreachable.exit_code
    alone = operator.good(*there)
    assert alone.json["captured_until"] == first["end"]
    assert alone.err.count("what Kafka has beyond the archive is not known") == 1


def test_where_no_compactor_ever_ran_it_is_said_what_makes_an_archive_of_kafka(operator: Operator) -> None:
    keys = range(5)
    put(operator, 1, keys)
    operator.good("collect", "--once")
    good = moment()
    put(operator, 2, keys)
    operator.good("collect", "--once")
    for command in (("restore", "--at", rfc3339(good), "--yes"), ("diff", rfc3339(good)), ("show", "--key", "1")):
        answer = operator.run(*command)
        assert answer.code == ObjectMissing.exit_code, answer
        assert "`aerospike-cdc compact --once` makes the archive of what Kafka has" in answer.err
    operator.good("compact", "--once")
    operator.good("restore", "--at", rfc3339(good), "--yes")
    assert values(operator, operator.namespace, keys) == [1] * 5
