"""`drill` at a prompt and by a schedule."""

from cdc.archive import LocalStore, drills
from cdc.errors import ConfigError, ObjectDamaged, TargetNotEmpty, UsageError
from tests.e2e.test_commands import between_looks, captured
from tests.fixtures.commands import TARGET, Operator
from tests.fixtures.service import Service


def records(operator: Operator, namespace: str) -> int:
    found: list[object] = []
    operator.client.query(namespace).foreach(found.append, {}, {"nobins": True})
    return len(found)


def test_a_drill_shows_that_a_restore_works_and_what_it_takes(operator: Operator) -> None:
    asked = {"into": TARGET, "sample": "all", "at": "latest"}
    operator.configure(collector={"shards": 1}, drill=asked)
    operator.shop().place(100)
    captured(operator)
    between_looks()
    captured(operator)

    assert operator.run("drill", "--into", operator.namespace, "--yes").code == ConfigError.exit_code
    assert operator.run("drill").code == UsageError.exit_code  # nobody said yes
    assert operator.run("drill", "--sample", "1%", "--list").code == UsageError.exit_code
    assert "no drill yet" in operator.good("drill", "--list").out
    assert "empty scratch namespace" in operator.run("check").out
    done = operator.good("drill", "--yes", "--json").json
    assert (done["passed"], done["written"], done["live_same"]) == (True, 100, 100)
    assert records(operator, TARGET) == 0
    part = operator.good("drill", "--yes", "--sample", "25%", "--at", "random").out
    assert "25%" in part
    assert "for everything, by this sample" in part
    assert "is empty again" in part

    operator.client.put((TARGET, "mine", 1), {"v": 1})
    refused = operator.run("drill", "--yes")
    assert (refused.code, "none was removed" in refused.err) == (TargetNotEmpty.exit_code, True)
    assert records(operator, TARGET) == 1
    operator.client.remove((TARGET, "mine", 1))

    segment = next((operator.folder / "archive").rglob("segments/*.avro"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    failed = operator.run("drill", "--yes")
    assert failed.code == ObjectDamaged.exit_code
    assert "FAILED" in failed.out
    assert "not compared: the restore came to no end" in failed.out
    assert segment.name in failed.err
    assert records(operator, TARGET) == 0

    told = operator.good("drill", "--list", "--json").json
    assert [one["passed"] for one in told["drills"]] == [True, True, False]
    assert "FAILED" in operator.good("drill", "--list").out
    assert operator.good("status", "--json").json["drill"]["passed"] is False
    assert "FAILED" in operator.good("status").out


def test_a_running_service_drills_by_its_schedule_and_says_so(service: Service) -> None:
    operator = service.operator
    service.configure(drill={"into": TARGET, "sample": "all", "at": "random", "schedule": "* * * * * *"})
    operator.shop().place(50)
    service.start()

    def passed() -> int:
        if not (operator.folder / "archive").exists():
            return 0
        found = drills.load(LocalStore(operator.folder / "archive"), operator.namespace)
        assert all(one.passed for one in found), found
        return len(found)

    service.until(lambda: passed() >= 2, "no drills")
    roles = {role["role"]: role for role in service.health()[1]["roles"]}
    assert roles["drill"]["up"]
    service.stop()
    assert any("drill passed: 50 records" in line for line in service.said()), service.said()
    assert records(operator, TARGET) == 0
    assert records(operator, operator.namespace) == 50
