"""A clone into a place that holds records: what was written after the version to be written stays."""

import pytest

from cdc.model import PARTITIONS
from cdc.replayer.clone import clone
from cdc.replayer.plan import plan
from cdc.replayer.report import Report
from cdc.replayer.target import Target
from cdc.replayer.wanted import Wanted
from tests.fixtures.aerospike import Client
from tests.fixtures.restores import History, tick


def newer(history: History, at: int, target: Target) -> Report:
    made = plan(history.archive, at, now=target.now(), into=target.namespace, wanted=Wanted(existing="newer"))
    return clone(history.archive, made, target)


@pytest.fixture
def at(client: Client, history: History, empty: Target, namespace: str, set_name: str) -> int:
    """Thirty records; of the first ten there are older ones in the target, of the next ten newer ones."""
    for i in range(10):
        client.put((empty.namespace, set_name, i), {"v": "older"})
    tick(history.now)
    for i in range(30):
        client.put((namespace, set_name, i), {"v": i}, policy={"ttl": 5000})
    tick(history.now)
    for i in range(10, 20):
        client.put((empty.namespace, set_name, i), {"v": "newer"})
    history.look()
    return history.look()


def test_what_is_newer_stays_and_what_is_older_or_not_there_is_written(
    client: Client, history: History, empty: Target, at: int, set_name: str
) -> None:
    report = newer(history, at, empty)
    assert (report.written, report.left, report.refused) == (20, 10, 0)
    for i in range(30):
        expected = "newer" if 10 <= i < 20 else i
        assert client.get((empty.namespace, set_name, i))[2] == {"v": expected}


def test_such_a_clone_run_again_writes_nothing(history: History, empty: Target, at: int) -> None:
    newer(history, at, empty)
    before = empty.source.digests(range(PARTITIONS))
    again = newer(history, at, empty)
    after = empty.source.digests(range(PARTITIONS))
    assert (again.written, again.left) == (0, 30)
    rows = [
        sorted((d.tobytes(), int(g)) for d, g in zip(found.digest, found.generation, strict=True))
        for found in (before, after)
    ]
    assert rows[0] == rows[1]
