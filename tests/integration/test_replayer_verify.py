"""What a restore left is compared with what it was meant to leave; what others did since is told apart."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aerospike
import numpy as np
import pytest

from cdc.config import AerospikeSettings, ReplayerSettings
from cdc.embedded.aerospike import Emulator
from cdc.errors import RecordsRefused
from cdc.model import DIGEST_SIZE, partition_of
from cdc.replayer import verify as verifying
from cdc.replayer.clone import clone
from cdc.replayer.plan import Plan, plan
from cdc.replayer.report import Report
from cdc.replayer.rewind import rewind
from cdc.replayer.target import Target
from cdc.replayer.verify import verify
from cdc.replayer.wanted import Part, Wanted
from cdc.source import Source
from cdc.wire import Cluster
from cdc.wire.messages import Result
from tests.fixtures.aerospike import Client
from tests.fixtures.restores import History, tick


def lines(path: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for line in map(json.loads, path.read_text().splitlines()):
        found.setdefault(line["outcome"], []).append(line["key"])
    return {outcome: sorted(keys) for outcome, keys in found.items()}


class Records:
    """Two hundred records with user keys, every third with an expiry."""

    def __init__(self, client: Client, history: History, namespace: str, set_name: str) -> None:
        self.client, self.history, self.set_name, self.namespace = client, history, set_name, namespace
        for i in range(200):
            self.put(i, i)
        history.look()
        self.at = history.look()
        tick(history.now)

    def put(self, i: int, value: Any, namespace: str = "", **bins: Any) -> None:
        policy = {"key": aerospike.POLICY_KEY_SEND, "ttl": 5000 if i % 3 == 0 else aerospike.TTL_NEVER_EXPIRE}
        self.client.put((namespace or self.namespace, self.set_name, i), {"v": value, **bins}, policy=policy)

    def remove(self, i: int, namespace: str = "") -> None:
        self.client.remove((namespace or self.namespace, self.set_name, i))

    def cloned(self, target: Target, wanted: Wanted | None = None) -> tuple[Plan, Report]:
        made = plan(self.history.archive, self.at, now=target.now(), into=target.namespace, wanted=wanted)
        report = clone(self.history.archive, made, target)
        tick(target.now)
        return made, report


@pytest.fixture
def records(client: Client, history: History, namespace: str, set_name: str) -> Records:
    return Records(client, history, namespace, set_name)


@pytest.mark.parametrize("at_once", [40, 200_000])
def test_a_clone_into_an_empty_namespace_is_compared_with_all_that_is_there(
    records: Records, empty: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(verifying, "AT_ONCE", at_once)
    made, report = records.cloned(empty)
    archive = records.history.archive
    found = verify(archive, made, empty, report=report)
    assert (found.expected, found.found, found.right, found.unlike) == (200, 200, 200, 0)
    assert found.error() is None
    records.put(1, -1, empty.namespace)
    records.remove(2, empty.namespace)
    records.put(1000, 0, empty.namespace)
    others = verify(archive, made, empty, report=report, named_file=tmp_path / "wrong.jsonl")
    assert (others.right, others.changed, others.missing, others.different, others.extra) == (198, 2, 1, 0, 0)
    assert others.unlike == 2
    # Without the report nobody knows that this came after the restore.
    strict = verify(archive, made, empty, named_file=tmp_path / "wrong.jsonl")
    assert (strict.right, strict.changed, strict.missing, strict.different, strict.extra) == (198, 0, 1, 1, 1)
    assert strict.error() is not None
    assert strict.named_file is not None
    assert lines(strict.named_file) == {"missing": [2], "different": [1], "extra": [None]}


def test_a_clone_into_a_filled_place_answers_for_its_own_records_and_for_those_it_should_keep(
    client: Client, history: History, empty: Target, namespace: str, set_name: str, tmp_path: Path
) -> None:
    client.put((empty.namespace, set_name, 5), {"v": "older"})
    client.put((empty.namespace, set_name, 1000), {"v": "of others"})
    tick(history.now)
    records = Records(client, history, namespace, set_name)
    records.put(7, "newer", empty.namespace)
    tick(history.now)
    made, report = records.cloned(empty, Wanted(existing="newer"))
    found = verify(history.archive, made, empty, report=report, named_file=tmp_path / "wrong.jsonl")
    assert (found.expected, found.right, found.kept, found.wrong) == (200, 199, 1, 0)
    assert (found.unlike, found.named_file) == (None, None)
    kept = verify(history.archive, replace(made, wanted=Wanted(existing="keep")), empty, report=report)
    assert (kept.right, kept.kept, kept.wrong) == (199, 1, 0)
    replaced = verify(history.archive, replace(made, wanted=Wanted(existing="replace")), empty, report=report)
    assert (replaced.right, replaced.different) == (199, 1)


def test_what_was_refused_is_not_called_wrong_again(records: Records) -> None:
    with Emulator(namespaces=("elsewhere",)) as emulator, Cluster(AerospikeSettings(hosts=emulator.hosts)) as cluster:
        target = Target.of(Source(cluster, "elsewhere"), ReplayerSettings(batch_records=50))
        emulator.nodes[0].faults.refuse_records.extend([int(Result.RECORD_TOO_BIG)] * 3)
        with pytest.raises(RecordsRefused) as caught:
            records.cloned(target)
        report = caught.value.report
        assert isinstance(report, Report)
        made = plan(records.history.archive, records.at, now=target.now(), into="elsewhere")
        found = verify(records.history.archive, made, target, report=report)
        refused = np.frombuffer(report.named, np.uint8).reshape(-1, DIGEST_SIZE)
        assert (found.right, found.apart, found.wrong) == (197, 3, 0)
        assert found.unlike == len(np.unique(partition_of(refused)))


@pytest.mark.parametrize("bins", [(), ("v",)])
def test_a_rewind_is_verified_by_the_records_that_it_was_about(
    records: Records, in_place: Target, tmp_path: Path, bins: tuple[str, ...]
) -> None:
    for i in range(40):
        records.put(i, -1)
    for i in range(40, 60):
        records.remove(i)
    for i in range(200, 210):
        records.put(i, i)
    records.history.look()
    records.put(0, 1000)  # a conflict
    archive = records.history.archive
    made = plan(archive, records.at, "rewind", now=in_place.now(), wanted=Wanted(part=Part(bins=bins)))
    report = rewind(archive, made, in_place)
    tick(in_place.now)
    assert report.conflicts == 1
    found = verify(archive, made, in_place, report=report)
    assert (found.expected, found.right, found.apart, found.wrong) == (70, 69, 1, 0)
    records.put(1, -1)  # by others since: changed
    records.put(205, 1)
    records.remove(2)  # nobody can tell this from a write that was lost
    again = verify(archive, made, in_place, report=report, named_file=tmp_path / "wrong.jsonl")
    assert (again.right, again.changed, again.missing, again.wrong) == (66, 2, 1, 1)
    assert lines(tmp_path / "wrong.jsonl") == {"missing": [2]}


def test_a_rewind_that_was_not_done_is_found_out(records: Records, in_place: Target, tmp_path: Path) -> None:
    for i in range(5):
        records.put(i, -1)
    records.put(200, 0)
    records.remove(10)
    records.history.look()
    archive = records.history.archive
    made = plan(archive, records.at, "rewind", now=in_place.now())
    found = verify(archive, made, in_place, named_file=tmp_path / "wrong.jsonl")
    assert (found.expected, found.right, found.different, found.missing, found.extra) == (7, 0, 5, 1, 1)
    assert lines(tmp_path / "wrong.jsonl") == {"different": list(range(5)), "missing": [10], "extra": [200]}
