"""Whatever a restore is told to do, what it leaves is what its verification expects."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aerospike
import pytest

from cdc.archive import Archive, LocalStore
from cdc.config import AerospikeSettings, ArchiveSettings, ReplayerSettings
from cdc.embedded.aerospike import Emulator
from cdc.replayer.clone import clone
from cdc.replayer.plan import Kind, plan
from cdc.replayer.rewind import rewind
from cdc.replayer.target import Target
from cdc.replayer.verify import Verification, verify
from cdc.replayer.wanted import Expired, Part, Wanted
from cdc.source import Source
from cdc.wire import Cluster
from tests.fixtures.restores import History, remove_all

TTLS = (100, 100_000, aerospike.TTL_NEVER_EXPIRE)


@dataclass
class Clock:
    """The time of everything here: the machine's, and more."""

    more_ms: int = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.more_ms


@dataclass
class World:
    """A namespace of 90 records: thirty each that expire soon, late and never. After `at` some of each were changed,
    removed, or made anew with another life, and some came; then the first have expired."""

    cluster: Cluster
    history: History
    clock: Clock
    at: int = field(init=False)

    def __post_init__(self) -> None:
        for i in range(90):
            self.put(i, {"v": i, "w": "kept"}, TTLS[i % 3])
        self.history.look()
        self.at = self.history.look()
        self.clock.more_ms += 10
        for i in range(0, 30):
            self.put(i, {"v": -1, "x": 1}, TTLS[i % 3])
        for i in range(30, 45):
            self.cluster.client.remove(("test", "s", i))
        for i in range(45, 60):
            self.put(i, {"v": i, "w": "kept"}, TTLS[(i + 1) % 3])
        for i in range(90, 100):
            self.put(i, {"v": i}, TTLS[i % 3])
        self.clock.more_ms += 200_000
        self.history.look()

    def put(self, i: int, bins: dict[str, Any], ttl: int) -> None:
        exists = aerospike.POLICY_EXISTS_CREATE_OR_REPLACE
        self.cluster.client.put(("test", "s", i), bins, policy={"ttl": ttl, "exists": exists})

    def target(self, namespace: str) -> Target:
        return Target.of(
            Source(self.cluster, namespace, clock=self.clock), ReplayerSettings(batch_records=20), self.clock
        )

    def verified(self, kind: Kind, wanted: Wanted) -> Verification:
        target = self.target("test" if kind == "rewind" else "other")
        made = plan(self.history.archive, self.at, kind, now=target.now(), into=target.namespace, wanted=wanted)
        report = (rewind if kind == "rewind" else clone)(self.history.archive, made, target)
        assert (report.refused, report.conflicts) == (0, 0)
        return verify(self.history.archive, made, target, report=report)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = Clock()
    emulator = Emulator(namespaces=("test", "other"), clock=clock)
    with emulator, Cluster(AerospikeSettings(hosts=emulator.hosts)) as cluster:
        archive = Archive.create(LocalStore(tmp_path / "archive", create=True), "test", 2)
        yield World(cluster, History(archive, Source(cluster, "test", clock=clock), ArchiveSettings(), clock), clock)


EXPIRED: tuple[Expired, ...] = ("keep", "leave", "shift")


def test_a_clone_is_right_by_what_it_was_told(world: World) -> None:
    for expired in EXPIRED:
        for bins in ((), ("v",), ("w", "x")):
            found = world.verified("clone", Wanted(Part(bins=bins), expired))
            assert found.expected == (90 if expired == "shift" else 60)
            assert (found.right, found.wrong, found.changed, found.unlike) == (found.expected, 0, 0, 0)
            remove_all(world.target("other"))


@pytest.mark.parametrize(
    ("expired", "bins"), [("keep", ()), ("leave", ()), ("shift", ()), ("keep", ("v",)), ("shift", ("w", "x"))]
)
def test_a_rewind_is_right_by_what_it_was_told(world: World, expired: Expired, bins: tuple[str, ...]) -> None:
    found = world.verified("rewind", Wanted(Part(bins=bins), expired))
    assert found.expected > 0
    assert (found.right, found.wrong, found.changed) == (found.expected, 0, 0)


def test_a_part_is_verified_as_a_part(world: World) -> None:
    found = world.verified("rewind", Wanted(Part(partitions=tuple(range(0, 4096, 2))), overwrite=True))
    assert 0 < found.expected < 70
    assert (found.right, found.wrong) == (found.expected, 0)
