"""Restores that are ended from outside, and go on from the command line."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdc.cli import INTERRUPTED
from cdc.clock import wall_clock
from tests.fixtures.commands import TARGET, Operator

PATIENCE_S = 60.0
THROTTLE = {"records_per_s": 150, "batch_records": 10}
ORDERS = 400


def ended(operator: Operator, number: signal.Signals, ready: Callable[[], bool], *arguments: str) -> tuple[int, str]:
    """A command that is sent a signal as soon as it is ready: its code, and what it said."""
    program = str(Path(sys.executable).with_name("aerospike-cdc"))
    command = [program, "--config", str(operator.folder / "aerospike-cdc.toml"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        until = time.monotonic() + PATIENCE_S
        while not ready():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until, "it does not begin"
            time.sleep(0.05)
        process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, said


def restores(operator: Operator) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = operator.good("restores", "--json").json["restores"]
    return found


def test_a_restore_that_was_ended_twice_goes_on_and_says_how_far_it_is(operator: Operator) -> None:
    operator.configure(replayer=THROTTLE)
    shop = operator.shop()
    shop.place(ORDERS)
    operator.good("collect", "--once")
    operator.good("compact", "--once")

    def written() -> int:
        keys: list[Any] = []
        operator.client.query(TARGET).foreach(keys.append, {}, {"nobins": True})
        return len(keys)

    command = ("restore", "--at", "latest", "--into", TARGET, "--yes")
    code, said = ended(operator, signal.SIGTERM, lambda: written() > 20, *command)
    [first] = restores(operator)
    assert code == INTERRUPTED, said
    assert f"aerospike-cdc --config {operator.folder}/aerospike-cdc.toml restore --resume {first['id']}" in said
    assert (first["state"], first["into"], first["kind"]) == ("interrupted", TARGET, "clone")

    before = written()
    assert 20 < before < ORDERS
    code, said = ended(operator, signal.SIGKILL, lambda: written() > before + 20, "restore", "--resume", first["id"])
    assert code == -signal.SIGKILL, said
    assert [one["state"] for one in restores(operator)] == ["interrupted"]
    assert "can go on" in operator.good("restores").out

    refused = operator.run("restore", "--resume", "last", "--into", TARGET)
    assert (refused.code, "--into with --resume" in refused.err) == (2, True)
    operator.configure()
    report = operator.good("restore", "--resume", "last", "--json").json
    assert (report["id"], report["complete"]) == (first["id"], True)
    assert report["written"] + report["left"] == ORDERS
    assert report["exact"] + report["presumed"] + report["fuzzy"] == ORDERS
    assert shop.differences(shop.at(wall_clock()), TARGET) == []

    [last] = restores(operator)
    assert (last["state"], last["runs"], last["done"]) == ("complete", 3, ORDERS)
    assert operator.run("restore", "--resume", first["id"]).code == 2
    assert operator.good("restores", "--forget-complete", "--json").json == {"forgotten": [first["id"]]}
    assert restores(operator) == []
