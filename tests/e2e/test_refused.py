"""A target that refuses records, at the prompt: what is said, how it ends, and how it goes on."""

import json
from pathlib import Path
from typing import Any

import aerospike
import pytest

from cdc.errors import RecordsRefused
from tests.fixtures.commands import TARGET, Operator


def allow_ttls(operator: Operator, allowed: bool) -> None:
    """Whether the target takes records that expire."""
    wanted = {"nsup-period": int(allowed), "allow-ttl-without-nsup": str(allowed).lower()}
    for name, value in wanted.items():
        answer = operator.client.info_random_node(f"set-config:context=namespace;namespace={TARGET};{name}={value}")
        assert answer.rstrip().endswith("ok")


def restored(operator: Operator, *arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    answer = operator.run("restore", *arguments, "--json")
    assert answer.code == code, answer
    report: dict[str, Any] = answer.json
    return report, answer.err


def test_a_target_that_takes_no_ttl_says_so_and_takes_the_rest_once_it_does(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(operator.folder)
    for key in range(20):
        ttl = 5000 if key % 4 else aerospike.TTL_NEVER_EXPIRE
        operator.client.put((operator.namespace, "s", key), {"v": key}, policy={"ttl": ttl})
    operator.good("collect", "--once")
    operator.good("compact", "--once")
    asked = ("--at", "latest", "--into", TARGET, "--yes")
    allow_ttls(operator, False)
    try:
        report, said = restored(operator, *asked, code=RecordsRefused.exit_code)
    finally:
        allow_ttls(operator, True)
    assert (report["written"], report["refused"], report["refusals"]) == (5, 15, {"22": 15})
    assert "15 because the record expires, and the namespace takes no TTL: its nsup-period is 0" in said
    assert "restore --resume" in said
    assert (report["verification"]["right"], report["verification"]["apart"]) == (5, 15)
    named = [json.loads(line) for line in Path(report["named_file"]).read_text().splitlines()]
    assert {(line["set"], line["code"]) for line in named} == {("s", 22)}
    assert len(named) == 15
    done, _ = restored(operator, "--resume", "last")
    assert (done["complete"], done["refused"]) == (True, 0)
    assert (done["verification"]["expected"], done["verification"]["right"]) == (20, 20)
    again = operator.good("restore", "--at", "latest", "--into", TARGET, "--existing", "newer", "--yes", "--no-verify")
    assert "0 written, 0 removed, 20 left as they were" in again.out
    assert "not verified" in again.out
    assert "existing   records in the target: they stay if they were written after" in again.out
