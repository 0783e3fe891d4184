"""What a target refuses is counted and named with its reason, and a target that takes nothing ends the restore soon."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aerospike
import pytest

from cdc.clock import wall_clock
from cdc.errors import RecordsRefused
from cdc.model import PARTITIONS
from cdc.replayer import refusals
from cdc.replayer.clone import clone
from cdc.replayer.plan import plan
from cdc.replayer.report import Report
from cdc.replayer.target import Target
from cdc.wire.messages import Result
from tests.fixtures.aerospike import Client
from tests.fixtures.restores import History

SETTINGS = {"max-record-size": 1 << 20, "nsup-period": 1, "stop-writes-sys-memory-pct": 90}


@pytest.fixture
def limited(empty: Target) -> Iterator[Callable[..., None]]:
    """Changes settings of the empty namespace, which are what they were afterwards."""

    def change(**settings: Any) -> None:
        for name, value in settings.items():
            setting = f"{name.replace('_', '-')}={value}"
            answers = empty.source.cluster.ask_all(
                f"set-config:context=namespace;namespace={empty.namespace};{setting}",
            )
            assert [list(said.values()) for said in answers.values() if isinstance(said, dict)] == [["ok"]]

    yield change
    change(allow_ttl_without_nsup="true", **{name.replace("-", "_"): value for name, value in SETTINGS.items()})
    stops(empty, False)


def stops(target: Target, whether: bool) -> None:
    """Wait until the namespace says whether it has stopped writes; a server looks every ten seconds."""
    command = f"namespace/{target.namespace}"
    until = time.monotonic() + 30
    while True:
        (said,) = target.source.cluster.ask_all(command).values()
        assert isinstance(said, dict)
        if f"stop_writes={str(whether).lower()}" in said[command].split(";"):
            return
        assert time.monotonic() < until
        time.sleep(0.2)


def refused(history: History, at: int, target: Target, named_file: Path) -> tuple[RecordsRefused, Report]:
    made = plan(history.archive, at, now=target.now(), into=target.namespace)
    with pytest.raises(RecordsRefused) as caught:
        clone(history.archive, made, target, named_file=named_file)
    report = caught.value.report
    assert isinstance(report, Report)
    return caught.value, report


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_namespace_that_takes_no_ttl_is_told_by_the_settings_that_make_it_so(
    client: Client, history: History, empty: Target, limited: Callable[..., None], namespace: str, set_name: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    for i in range(30):
        ttl = 5000 if i % 3 else aerospike.TTL_NEVER_EXPIRE
        client.put((namespace, set_name, i), {"v": i}, policy={"key": aerospike.POLICY_KEY_SEND, "ttl": ttl})
    history.look()
    at = history.look()
    limited(nsup_period=0, allow_ttl_without_nsup="false")
    with within(15):
        error, report = refused(history, at, empty, tmp_path / "refused.jsonl")
    assert (report.written, report.refused, report.complete) == (10, 20, True)
    assert report.refusals == {Result.FORBIDDEN: 20}
    assert report.reasons == {refusals.NO_TTL: 20}
    assert f"20 because {refusals.NO_TTL}" in error.message
    assert "nsup-period" in error.hint
    assert {(line["set"], line["code"], line["reason"]) for line in lines(tmp_path / "refused.jsonl")} == {
        (set_name, 22, refusals.NO_TTL)
    }
    assert sorted(line["key"] for line in lines(tmp_path / "refused.jsonl")) == [i for i in range(30) if i % 3]


def test_records_that_are_too_big_are_named_and_the_others_are_written(
    client: Client, history: History, empty: Target, limited: Callable[..., None], namespace: str, set_name: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    for i in range(30):
        client.put((namespace, set_name, i), {"v": bytearray(i * 200)}, policy={"key": aerospike.POLICY_KEY_SEND})
    history.look()
    at = history.look()
    limited(max_record_size=3000)
    error, report = refused(history, at, empty, tmp_path / "refused.jsonl")
    assert report.written + report.refused == 30
    assert report.refusals == {Result.RECORD_TOO_BIG: report.refused}
    assert "max-record-size" in error.message
    assert "max-record-size" in error.hint
    keys = sorted(line["key"] for line in lines(tmp_path / "refused.jsonl"))
    assert keys == list(range(30 - len(keys), 30))
    assert 0 < len(keys) < 30


def test_a_target_that_has_stopped_writes_is_left_alone_soon(
    client: Client, history: History, empty: Target, limited: Callable[..., None], namespace: str, set_name: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for i in range(300):
        client.put((namespace, set_name, i), {"v": i})
    history.look()
    at = history.look()
    limited(stop_writes_sys_memory_pct=1)
    stops(empty, True)
    monkeypatch.setattr(refusals, "IN_A_ROW", 100)
    with within(15):
        error, report = refused(history, at, empty, tmp_path / "refused.jsonl")
    assert (report.complete, report.written) == (False, 0)
    assert report.refusals == {Result.OUT_OF_SPACE: report.refused}
    assert report.refused >= 100
    assert "has stopped writes" in error.message
    assert "nothing more was sent: 0 had been written" in error.message
    assert len(lines(tmp_path / "refused.jsonl")) == report.refused


def test_what_is_forbidden_just_after_a_truncation_is_written_a_little_later(
    client: Client, history: History, namespace: str, set_name: str
) -> None:
    from cdc.config import AerospikeSettings, ReplayerSettings
    from cdc.embedded.aerospike import Emulator
    from cdc.source import Source
    from cdc.wire import Cluster

    for i in range(20):
        client.put((namespace, set_name, i), {"v": i})
    history.look()
    at = history.look()
    with Emulator(namespaces=("elsewhere",)) as emulator, Cluster(AerospikeSettings(hosts=emulator.hosts)) as cluster:
        target = Target.of(Source(cluster, "elsewhere"), ReplayerSettings(batch_records=50))
        emulator.nodes[0].stores["elsewhere"].truncate(None, wall_clock() + 700)
        made = plan(history.archive, at, now=target.now())
        report = clone(history.archive, made, target)
        assert (report.written, report.refused) == (20, 0)
        assert len(target.source.digests(range(PARTITIONS))) == 20
