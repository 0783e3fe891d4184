"""List and map operations answer, and leave behind, byte for byte what a real server did (see cdt_cases)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cdc.codec import msgpack
from tests.conformance.cdt_cases import CONTAINERS, MODIFY, READ, groups, is_modify
from tests.fixtures.rawwire import RawRecords

ANSWERS = Path(__file__).with_name("cdt_answers.json")
GROUPS = groups()
Recorded = dict[str, list[str]]


def _particle(particle: tuple[int, bytes] | None) -> str:
    return "-" if particle is None else f"{particle[0]}:{particle[1].hex()}"


def _answer(raw: RawRecords, key: Any, container: str, op: list[Any]) -> str:
    """The result code, the result, and the bin afterwards where it changed."""
    before = CONTAINERS[container]
    written = {"keep": (1, bytes(8))} | ({"c": before} if before else {})
    setup = [(14, 0, "", b"")] + [(2, kind, name, value) for name, (kind, value) in written.items()]
    assert raw.operate(key, setup)[0] == 0
    modify = is_modify(op)
    code, results = raw.operate(key, [(MODIFY if modify else READ, 4, "c", msgpack.pack(op))], writes=modify)
    answer = f"{code} {_particle(results.get('c'))}"
    if not modify:
        return answer
    after = raw.read(key).get("c")
    return answer if after == before else f"{answer} {_particle(after)}"


@pytest.fixture(scope="session")
def recorded() -> Recorded:
    answers: Recorded = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {}
    return answers


@pytest.mark.parametrize("group", GROUPS)
def test_operations_answer_as_recorded(raw: RawRecords, key: Any, recorded: Recorded, group: str) -> None:
    cases = GROUPS[group]
    found = [_answer(raw, key, container, op) for container, op in cases]
    if os.environ.get("CDT_RECORD") and os.environ.get("AEROSPIKE_HOSTS"):
        recorded[group] = found
        ANSWERS.write_text(json.dumps(recorded, indent=0, sort_keys=True) + "\n")
    expected = recorded[group]
    differing = [
        f"{container} {op}: {answer}, recorded {right}"
        for (container, op), answer, right in zip(cases, found, expected, strict=True)
        if answer != right
    ]
    assert not differing, f"{len(differing)} of {len(cases)}:\n" + "\n".join(differing[:40])
