"""An archive's life on every cloud's store while requests fail: the outcome is as if none had."""

import itertools
import random
from typing import Any

import pytest

from cdc.archive import Archive, Store, cloud
from cdc.archive.cloud import Limits
from cdc.errors import StoreUnreachable
from tests.faults.history import NAMESPACE, SHARDS, History, days, sound
from tests.faults.killing import Memory
from tests.faults.rounds import ROUNDS
from tests.fixtures.stores import Bucket, Failing

PATIENT = Limits(requests=4, timeout_s=1.0, retry_s=90.0)
FAULTS = (500, 503, 429, "reset", "lost")


def life(store: Store) -> tuple[History, list[Any]]:
    """An archive from its beginning through every round, and what its manifests then count."""
    history = days(Archive.create(store, NAMESPACE, SHARDS), 2)
    for run in ROUNDS.values():
        run(store)
    return history, counted(store)


def counted(store: Store) -> list[Any]:
    """What the last manifests say, without what differs from run to run."""
    archive = Archive.open(store, NAMESPACE)
    return [
        (m.sequence, m.epochs, [s.rows for s in m.segments], [(s.at, s.through, s.rows) for s in m.sets])
        for m in archive.all_shards()
        if m is not None
    ]


@pytest.fixture(scope="module")
def wanted() -> list[Any]:
    """The outcome where nothing fails."""
    return life(Memory())[1]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "BACK_OFF_S", 0.01)


def test_whatever_fails_now_and_then_the_outcome_is_the_same(
    bucket: Bucket, failing: Failing, wanted: list[Any]
) -> None:
    dice = random.Random(11)
    failing.chance = lambda: dice.choice(FAULTS) if dice.random() < 0.2 else "slow" if dice.random() < 0.003 else "ok"
    store = bucket.store(failing.port, PATIENT)
    history, found = life(store)
    assert found == wanted
    assert len(sound(store, history, 2)) == 2
    assert counted(bucket.store()) == wanted


def test_a_store_that_stays_away_is_named_and_nothing_is_lost_by_it(
    bucket: Bucket, failing: Failing, wanted: list[Any]
) -> None:
    dice = random.Random(12)
    impatient = bucket.store(failing.port, Limits(requests=4, timeout_s=1.0, retry_s=0.02))
    history = days(Archive.create(bucket.store(), NAMESPACE, SHARDS), 2)
    said = []
    for run in ROUNDS.values():
        for away in itertools.count():
            # So many requests are answered, then none for longer than is waited; each time many more are.
            failing.faults.clear()
            failing.faults.extend(["ok"] * dice.randrange(4**away, 4 ** (away + 1)))
            failing.chance = lambda: dice.choice(("lost", 503))
            try:
                run(impatient)
            except StoreUnreachable as error:
                said.append(error.message)
            else:
                break
        assert len(sound(bucket.store(), history, 2)) >= 2
    assert len(said) > len(ROUNDS)
    assert all("archives/one/" in message for message in said)
    assert counted(bucket.store()) == wanted
