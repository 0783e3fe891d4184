"""Several destinations: each goes on by itself, is told of by its name, and is restored from alone."""

import os
import re
import shutil
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cdc.clock import rfc3339, wall_clock
from cdc.config import Settings
from cdc.errors import CdcError, ConfigError, KeyRefused, NotRecoverable, ObjectMissing, StoreForbidden, UsageError
from tests.e2e.test_commands import between_looks, captured
from tests.fixtures.commands import TARGET, Operator, empty_namespace
from tests.fixtures.service import Service, states, windows, writing
from tests.fixtures.stores import Bucket, Failing

ONE = pytest.mark.parametrize("bucket", ["s3"], indirect=True)
"""What does not differ from cloud to cloud."""
FOR_EVER = 100_000
OUTAGE_S = 10.0
FLAT_S = 5.0
"""Half of what an outage lasts, and as much as a busy machine may take."""


def key(operator: Operator, name: str) -> dict[str, Any]:
    """An encryption section with a key of its own, in a file."""
    path = operator.folder / name
    if not path.exists():
        path.write_text(os.urandom(32).hex())
    return {"key_file": name}


def in_bucket(bucket: Bucket, port: int, **more: Any) -> dict[str, Any]:
    return {"url": bucket.url, "options": bucket.options(port), "timeout_s": 10, "retry_s": 1, **more}


def archived(settings: Settings, moment: int) -> bool:
    """Whether every write and delete before a moment is at the settings' only destination."""
    return any(min(window.end, window.reconciled_at) > moment for window in windows(settings))


def everywhere(service: Service) -> None:
    """Wait until what has been written until now is at every destination."""
    moment = wall_clock()
    places = service.settings.each_destination()
    service.until(lambda: all(archived(one, moment) for one in places), "a destination does not catch up")


def lag_s(service: Service, seconds: float) -> float:
    """How far `main` was behind at the most by the service's own metrics, looking for so many seconds."""
    worst = 0.0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        moments = [
            float(v) for v in re.findall(r'archived_timestamp_seconds{destination="main",.*} (.*)', page(service))
        ]
        worst = max(worst, wall_clock() / 1000 - min(moments))
        time.sleep(0.2)
    return worst


def page(service: Service) -> str:
    """What /metrics answers."""
    address = next(line.partition("metrics at ")[2] for line in service.said() if "metrics at " in line)
    with urllib.request.urlopen(address, timeout=10) as answer:
        told: str = answer.read().decode()
        return told


def told(service: Service, destination: str) -> list[str]:
    """What was said of a destination's compactor."""
    head = f"compactor {service.operator.namespace} at {destination}: "
    return [line.removeprefix(head) for line in service.said() if line.startswith(head)]


@ONE
def test_one_that_is_away_for_a_while_holds_up_no_other_and_catches_up(
    service: Service, bucket: Bucket, failing: Failing
) -> None:
    operator = service.operator
    offsite = in_bucket(bucket, failing.port)
    encrypted: dict[str, Any] = {
        "archive.encryption": key(operator, "one"),
        "destinations.offsite.encryption": key(operator, "two"),
    }
    service.configure(**encrypted | {"destinations.offsite": offsite})
    shop = operator.shop()
    shop.place(200)
    service.start()
    everywhere(service)
    with writing(shop):
        before = lag_s(service, OUTAGE_S)
        failing.faults.extend([503] * FOR_EVER)
        service.until(lambda: told(service, "offsite"), "it says nothing")
        moment, during = wall_clock(), lag_s(service, OUTAGE_S)
        assert (service.health()[0], service.health("readyz")[0]) == (503, 200)
        down = {r["destination"] for r in service.health()[1]["roles"] if not r["up"]}
        assert down == {"offsite"}
        assert re.search(r'role_up{destination="offsite",.*} 0.0', page(service))
        assert during < before + FLAT_S
        failing.faults.clear()
        service.until(lambda: service.health()[0] == 200, "it does not get well", 150)
    everywhere(service)
    everywhere(service)  # a delete holds from its detection on
    service.stop()
    assert [line.partition(":")[0] for line in told(service, "offsite")] == ["StoreUnreachable", "goes on"]
    assert told(service, "main") == []

    ends = [windows(one)[-1].end for one in service.settings.each_destination()]
    for at in (moment, min(ends)):
        # Of what was gone by then one may say so, where the other's restore set has nothing of it any more.
        found = [states(one, at).items() for one in service.settings.each_destination()]
        here, there = ({digest: sure for digest, (held, sure) in each if held} for each in found)
        assert here == there
    for name in service.settings.destination_names:
        empty_namespace(operator.client, TARGET)
        operator.good(
            "restore", "--at", rfc3339(min(ends)), "--into", TARGET, "--yes", "--destination", name
        )  # fmt: skip
        assert shop.differences(shop.at(min(ends)), TARGET) == [], name
        assert operator.good("verify", "--tier", "decode", "--destination", name, "--json").json["ok"]


@ONE
@pytest.mark.parametrize("wrong", ["credentials", "key", "permission"])
def test_one_that_is_wrong_from_the_start_is_told_once_and_taken_up_when_it_is_put_right(
    service: Service, bucket: Bucket, failing: Failing, tmp_path: Path, wrong: str
) -> None:
    operator = service.operator
    place: dict[str, Any] = {"path": "other"}
    if wrong == "credentials":
        place = in_bucket(bucket, failing.port)
        failing.faults.extend([403] * FOR_EVER)
    elif wrong == "permission":  # root may write anywhere; but nobody makes a directory where a file stands
        (tmp_path / "other").write_text("in the way")
    section: dict[str, Any] = {"destinations.offsite": place}
    if wrong == "key":
        section["destinations.offsite.encryption"] = {"key_file": "later"}
    service.configure(**section)
    shop = operator.shop()
    shop.place(50)
    service.start()
    service.archived_past(wall_clock())
    service.until(lambda: told(service, "offsite"), "it says nothing")
    assert (service.health()[0], service.health("readyz")[0]) == (503, 200)
    shop.place(50)
    service.archived_past(wall_clock())
    if wrong == "key":
        key(operator, "later")
    elif wrong == "permission":
        (tmp_path / "other").unlink()
    failing.faults.clear()
    service.until(lambda: service.health()[0] == 200, "it does not get well")
    everywhere(service)
    service.stop()
    name = "KeyRefused" if wrong == "key" else "StoreForbidden"
    assert [line.partition(":")[0] for line in told(service, "offsite")] == [name, "goes on"]
    assert told(service, "main") == []


def test_where_no_destination_works_nothing_is_begun(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("a file, where a directory is wanted")
    operator.configure(
        **{"destinations.second": {"path": "second"}, "destinations.second.encryption": {"key_file": "missing"}}
    )
    operator.shop().place(5)
    answer = operator.run("run")
    assert answer.code in (StoreForbidden.exit_code, KeyRefused.exit_code)
    assert "error: " in answer.err
    both = operator.run("compact", "--once")
    assert both.code == StoreForbidden.exit_code


def test_the_command_line_speaks_of_each_and_does_the_others_where_one_fails(operator: Operator) -> None:
    third = {"path": "third", "retention": {"grace_s": 60}}
    operator.configure(**{"destinations.second": {"path": "second"}, "destinations.third": third})
    shop = operator.shop()
    shop.place(30)
    captured(operator)
    names = ["main", "second", "third"]
    assert re.findall("is removed (.*) later", operator.good("prune").out) == ["2 h", "2 h", "1 min"]
    for command in (("list",), ("status",), ("verify",), ("compact", "--once")):
        found = operator.good(*command, "--json").json
        assert [place["destination"] for place in found["destinations"]] == names
        one = operator.good(*command, "--destination", "second", "--json").json
        assert "destinations" not in one
    assert {o["rule"] for o in operator.good("check", "--json").json} >= {
        f"archive can be written (destination {name})" for name in names
    }  # fmt: skip

    shutil.rmtree(operator.folder / "second")
    (operator.folder / "second").write_text("a file, where a directory is wanted")
    for command in (("list",), ("status",), ("verify",), ("compact", "--once")):
        answer = operator.run(*command)
        assert answer.code == StoreForbidden.exit_code, (command, answer)
        assert "StoreForbidden" in answer.out
        document = operator.run(*command, "--json").json["destinations"]
        assert [bool(place["error"]) for place in document] == [False, True, False]
        operator.good(*command, "--destination", "third")
    answer = operator.run("list", "--destination", "fourth")
    assert (answer.code, "main, second, third" in answer.err) == (ConfigError.exit_code, True)
    answer = operator.run("rekey", "--new-key-env", "X")
    assert (answer.code, "--destination" in answer.err) == (UsageError.exit_code, True)


@pytest.mark.parametrize("loss", ["gone", "damaged", "behind"])
def test_a_restore_names_the_destinations_that_can_do_what_this_one_cannot(operator: Operator, loss: str) -> None:
    operator.configure(**{"destinations.second": {"path": "second"}})
    shop = operator.shop()
    shop.place(40)
    captured(operator)
    shop.place(20)
    between_looks()
    if loss == "behind":
        operator.good("collect", "--once")
        operator.good("compact", "--once", "--destination", "second")
    else:
        captured(operator)
    end = operator.good("list", "--json", "--destination", "second").json["windows"][-1]["end"]
    archive = operator.folder / "archive"
    expected: type[CdcError] = NotRecoverable
    if loss == "gone":
        shutil.rmtree(archive)
        expected = ObjectMissing
    elif loss == "damaged":
        for path in archive.glob("*/*/segments/*.avro"):
            path.unlink()
        expected = ObjectMissing
    answer = operator.run("restore", "--at", end, "--into", TARGET, "--yes", "--tail", "never")
    assert answer.code == expected.exit_code, answer
    assert "second can restore this moment: --destination second" in answer.err
    operator.good("restore", "--at", end, "--into", TARGET, "--yes", "--destination", "second")
    assert len(shop.differences(shop.at(wall_clock()), TARGET)) == 0
