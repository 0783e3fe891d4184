"""Every restore is verified unless told otherwise, and remembered by how fast it was."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cdc import Part, Replayer, Report, Settings, Wanted, Watch, digest_of
from cdc.config import AerospikeSettings, ReplayerSettings
from cdc.errors import Differs
from cdc.replayer import rates
from cdc.replayer.target import Target
from tests.fixtures.restores import History, tick

RECORDS = 1200


@pytest.fixture
def replayer(
    aerospike_hosts: list[tuple[str, int]], namespace: str, history: History, tmp_path: Path
) -> Iterator[Replayer]:
    settings = Settings(
        aerospike=AerospikeSettings(hosts=tuple(f"{h}:{p}" for h, p in aerospike_hosts), namespaces=(namespace,)),
        archive=history.settings,
        replayer=ReplayerSettings(batch_records=50, journal=tmp_path / "restores"),
    )
    with Replayer(settings, tail="never") as made:
        yield made


@pytest.fixture
def before(client: Any, namespace: str, set_name: str, history: History) -> int:
    for key in range(RECORDS):
        client.put((namespace, set_name, key), {"n": key})
    history.look()
    moment = history.look()
    tick(history.now)
    for key in range(0, RECORDS, 2):
        client.put((namespace, set_name, key), {"n": -1})
    history.look()
    return moment


def test_a_clone_says_that_it_is_right_and_the_next_plan_how_long_it_took(
    replayer: Replayer, before: int, empty: Target
) -> None:
    plan = replayer.plan(before, empty.namespace)
    assert plan.to_dict()["rates"]["measured"] == 0
    assert "s to verify (assumed)" in plan.to_text()
    done = replayer.restore(plan).report
    assert done.verification is not None
    assert (done.verification.expected, done.verification.right, done.verification.unlike) == (RECORDS, RECORDS, 0)
    assert done.to_dict()["verification"]["right"] == RECORDS
    (took,) = rates.load(replayer.settings.replayer.journal)
    assert (took.kind, took.records, took.compared) == ("clone", RECORDS, RECORDS)
    assert 0 < took.write_s <= done.seconds
    again = replayer.plan(before, empty.namespace)
    assert again.to_dict()["rates"]["writes_per_s"] == round(took.records / took.write_s)
    assert "as the last restore took" in again.to_text()


def test_what_is_not_as_it_was_meant_to_be_is_an_error_with_the_report(
    replayer: Replayer, client: Any, before: int, empty: Target, set_name: str, tmp_path: Path
) -> None:
    def meddle(done: int, total: int, phase: str) -> None:
        if phase == "compare" and not done:
            client.remove((empty.namespace, set_name, 3))

    named = tmp_path / "refused.jsonl"
    with pytest.raises(Differs, match=f"1 of {RECORDS:,} records are missing") as caught:
        replayer.restore(replayer.plan(before, empty.namespace), named_file=named, watch=Watch(progress=meddle))
    report = caught.value.report
    assert isinstance(report, Report)
    assert report.complete
    assert report.written == RECORDS
    (line,) = (tmp_path / "refused.differs.jsonl").read_text().splitlines()
    assert digest_of(set_name, 3).hex() in line
    assert not named.exists()


def test_a_verification_that_is_not_waited_for_leaves_a_restore_that_is_done(
    replayer: Replayer, before: int, empty: Target
) -> None:
    stop = Event()

    def enough(done: int, total: int, phase: str) -> None:
        if phase == "compare":
            stop.set()

    report = replayer.restore(replayer.plan(before, empty.namespace), watch=Watch(progress=enough, cancel=stop)).report
    assert (report.complete, report.written, report.verification) == (True, RECORDS, None)
    assert [entry.state for entry in replayer.restores()] == ["complete"]


def test_a_rewind_may_go_without_being_verified(replayer: Replayer, before: int, set_name: str) -> None:
    digests = tuple(sorted(digest_of(set_name, key) for key in range(10)))
    plan = replayer.plan(before, wanted=Wanted(Part(digests=digests)))
    assert replayer.restore(plan, verify=False).report.verification is None
    done = replayer.restore(replayer.plan(before)).report
    assert done.verification is not None
    assert (done.verification.expected, done.verification.right) == (RECORDS // 2, RECORDS // 2)


def test_rates_that_cannot_be_read_are_told_and_assumed(
    replayer: Replayer, before: int, empty: Target, history: History
) -> None:
    journal = replayer.settings.replayer.journal
    journal.mkdir()
    (journal / rates.FILE).write_text("[")
    told: list[str] = []
    with Replayer(replayer.settings, tail="never", tell=told.append) as telling:
        plan = telling.plan(before, empty.namespace)
        assert telling.restore(plan, verify=False).report.complete
    assert len(told) == 2
    assert all(rates.FILE in line for line in told)
    assert plan.speed.measured == 0


def test_what_was_damaged_again_and_not_captured_is_told_and_not_taken_for_left(
    replayer: Replayer, client: Any, before: int, namespace: str, set_name: str, history: History, tmp_path: Path
) -> None:
    named = tmp_path / "refused.jsonl"
    assert replayer.restore(replayer.plan(before), named_file=named).report.whole
    history.look()
    tick(history.now)
    for key in (0, 2, 4):
        client.put((namespace, set_name, key), {"n": -2})
    client.remove((namespace, set_name, 6))
    tick(history.now)
    again = replayer.restore(replayer.plan(before), named_file=named).report
    assert again.verification is not None
    assert (again.written, again.left, again.conflicts) == (0, RECORDS // 2, 0)
    assert (again.verification.unseen, again.verification.changed, again.whole) == (4, 0, False)
    lines = (tmp_path / "refused.differs.jsonl").read_text().splitlines()
    assert {line["digest"] for line in map(json.loads, lines)} == {
        digest_of(set_name, key).hex() for key in (0, 2, 4, 6)
    }
    assert {line["outcome"] for line in map(json.loads, lines)} == {"unseen"}
