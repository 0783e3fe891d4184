"""Drills: a restore rehearsed in a scratch namespace, compared with the truth, and removed again."""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from cdc.archive import drills
from cdc.archive.drills import Drilled
from cdc.clock import wall_clock
from cdc.config import AerospikeSettings, ArchiveSettings, DrillSettings, ReplayerSettings, ScopeSettings, Settings
from cdc.embedded.aerospike import Emulator
from cdc.errors import (
    ArchiveError,
    CdcError,
    ConfigError,
    Differs,
    NotRecoverable,
    ObjectDamaged,
    RecordsRefused,
    RestoreError,
    ServerRefused,
    TargetNotEmpty,
)
from cdc.model import PARTITIONS
from cdc.replayer import rates, unchanged
from cdc.replayer.drill import changed_since, drill
from cdc.replayer.keys import digest_of
from cdc.replayer.report import Cancelled, Watch
from cdc.replayer.sample import choose
from cdc.replayer.scratch import notes
from cdc.replayer.target import Target
from cdc.replayer.unchanged import Unchanged
from cdc.source import Source
from cdc.wire.messages import Result
from tests.fixtures.aerospike import Client
from tests.fixtures.restores import History, tick


@pytest.fixture
def settings(aerospike_hosts: list[tuple[str, int]], namespace: str, empty: Target, tmp_path: Path) -> Settings:
    return Settings(
        aerospike=AerospikeSettings(
            hosts=tuple(f"{host}:{port}" for host, port in aerospike_hosts), namespaces=(namespace,), timeout_s=5
        ),
        archive=ArchiveSettings(path=tmp_path / "unused"),
        replayer=ReplayerSettings(batch_records=50, journal=tmp_path / "restores"),
        drill=DrillSettings(into=empty.namespace, sample="all", at="latest"),
    )


@pytest.fixture
def filled(client: Client, history: History, namespace: str, set_name: str) -> History:
    """300 records, of which some changed, went and came in between three looks."""
    for i in range(300):
        client.put((namespace, set_name, i), {"v": i}, policy={"ttl": 5000 if i % 3 else -1})
    history.look()
    tick(history.now)
    for i in range(0, 100, 2):
        client.put((namespace, set_name, i), {"v": -i})
    history.look()
    tick(history.now)
    for i in range(100, 110):
        client.remove((namespace, set_name, i))
    history.look()
    return history


def left(empty: Target) -> int:
    return len(empty.source.digests(range(PARTITIONS)))


def as_it_is(history: History) -> dict[bytes, tuple[int, int]]:
    """The source's records, with generation and content."""
    found = history.source.observe(range(PARTITIONS)).records
    return {
        digest.tobytes(): (int(generation), int(checksum))
        for digest, generation, checksum in zip(found.digest, found.generation, found.checksum, strict=True)
    }


def drilled(history: History, settings: Settings, watch: Watch | None = None, **asked: str) -> Drilled:
    wanted = settings.drill.model_copy(update=asked)
    chosen = choose(history.archive, wanted, history.now(), random.Random(5))
    return drill(history.archive, settings, chosen, watch=watch)


def planting(phase: str, plant: Callable[[], None]) -> Watch:
    """A watch that plants something just before a phase begins."""
    planted = Event()

    def progress(done: int, total: int, named: str) -> None:
        if named == phase and not planted.is_set():
            planted.set()
            plant()

    return Watch(progress=progress)


def failed(caught: "pytest.ExceptionInfo[CdcError]") -> Drilled:
    assert isinstance(caught.value.report, Drilled)
    return caught.value.report


def test_a_drill_restores_compares_and_leaves_nothing_behind(
    client: Client, filled: History, settings: Settings, empty: Target, namespace: str, set_name: str
) -> None:
    before = as_it_is(filled)
    done = drilled(filled, settings)
    assert (done.passed, done.wrong, done.partitions) == (True, "", PARTITIONS)
    assert (done.written, done.live_same, done.differences) == (len(before), len(before), 0)
    assert (done.uncompared, done.left) == ("", 0)
    assert min(done.read_s, done.write_s, done.verify_s, done.compare_s, done.clean_s) > 0
    assert done.projected_s == done.recovery_s
    assert left(empty) == 0
    assert drills.load(filled.archive.store, namespace) == [done]
    assert as_it_is(filled) == before


def test_a_sample_is_a_part_of_it_and_is_projected(filled: History, settings: Settings, empty: Target) -> None:
    done = drilled(filled, settings, sample="25%", at="random")
    assert done.passed
    assert done.partitions == PARTITIONS // 4
    assert 0 < done.written < len(as_it_is(filled)) / 2
    assert done.projected_s > done.recovery_s
    assert 0 < done.read_bytes <= done.stored_bytes
    assert left(empty) == 0


def test_what_was_written_since_the_moment_is_not_judged(
    client: Client, filled: History, settings: Settings, namespace: str, set_name: str
) -> None:
    for i in range(200, 210):
        client.put((namespace, set_name, i), {"v": "since"})
    for i in range(210, 215):
        client.remove((namespace, set_name, i))
    client.put((namespace, set_name, "new"), {"v": 1})
    done = drilled(filled, settings)
    assert (done.passed, done.live_changed) == (True, 16 + 10 + 5 - 10 - 5)


def test_a_difference_in_the_scratch_fails_it_with_its_count(
    client: Client, filled: History, settings: Settings, empty: Target, namespace: str, set_name: str
) -> None:
    def plant() -> None:
        client.put((empty.namespace, set_name, 250), {"v": "planted"})
        client.remove((empty.namespace, set_name, 251))

    with pytest.raises(Differs, match="not as it was meant to be") as caught:
        drilled(filled, settings, planting("compare", plant))
    done = failed(caught)
    assert (done.passed, done.missing, done.different, done.extra) == (False, 1, 1, 0)
    assert (done.live_different, done.live_missing) == (1, 1)
    assert "not as it was meant to be" in done.wrong
    assert left(empty) == 0
    assert drills.load(filled.archive.store, namespace) == [done]


def test_an_archive_that_has_lost_a_change_fails_against_the_live_source_alone(
    client: Client, filled: History, settings: Settings, empty: Target, namespace: str, set_name: str
) -> None:
    """What the archive says is restored without a difference; only the source can tell that it is not the truth."""
    for i in (5, 7):
        client.put((namespace, set_name, i), {"v": "captured"})
    before = [filled.archive.shard(k) for k in range(filled.archive.shards)]
    filled.look()
    tick(filled.now)
    filled.look()
    for manifest in before:
        assert manifest is not None
        newest = filled.archive.shard(manifest.shard)
        assert newest is not None
        filled.archive.commit(replace(newest, segments=manifest.segments))
    with pytest.raises(Differs, match="records that have not changed since") as caught:
        drilled(filled, settings)
    done = failed(caught)
    assert (done.missing, done.different, done.extra) == (0, 0, 0)
    assert (done.live_different, done.live_missing) == (2, 0)
    assert left(empty) == 0


def test_a_damaged_archive_fails_it_and_is_named(
    filled: History, settings: Settings, empty: Target, namespace: str
) -> None:
    manifest = filled.archive.shard(0)
    assert manifest is not None
    name, store = manifest.segments[-1].name, filled.archive.store
    damaged = bytearray(store.get(name))
    damaged[-30] ^= 1
    store.delete(name)
    store.put_if_absent(name, bytes(damaged))
    with pytest.raises(ObjectDamaged, match=name) as caught:
        drilled(filled, settings)
    assert (failed(caught).passed, failed(caught).written, left(empty)) == (False, 0, 0)
    assert drills.load(store, namespace) == [failed(caught)]


def test_a_scratch_that_holds_records_is_refused_and_left_as_it_is(
    client: Client, filled: History, settings: Settings, empty: Target, namespace: str
) -> None:
    client.put((empty.namespace, "mine", 1), {"v": "mine"})
    with pytest.raises(TargetNotEmpty, match="nothing was written, and none was removed") as caught:
        drilled(filled, settings)
    assert caught.value.report is None
    assert client.get((empty.namespace, "mine", 1))[2] == {"v": "mine"}
    assert drills.load(filled.archive.store, namespace) == []


def test_the_source_is_no_scratch_by_whatever_name(
    filled: History, settings: Settings, namespace: str, aerospike_hosts: list[tuple[str, int]]
) -> None:
    with pytest.raises(ConfigError, match="is the source itself"):
        drilled(filled, settings, into=namespace)
    other = ",".join(f"localhost:{port}" for _, port in aerospike_hosts)
    with pytest.raises(ConfigError, match="is the source itself: node"):
        drilled(filled, settings, into=f"{namespace}@{other}")


def test_what_a_killed_drill_left_is_removed_by_the_next_one(
    client: Client, filled: History, settings: Settings, empty: Target, set_name: str
) -> None:
    class Killed(BaseException):
        """Nothing after it is run, as after a kill -9."""

    def kill() -> None:
        assert left(empty) > 0
        raise Killed

    with pytest.raises(Killed):
        drilled(filled, settings, planting("compare", kill))
    assert left(empty) > 0
    assert drilled(filled, settings).passed
    assert left(empty) == 0


def test_what_was_written_over_what_a_killed_drill_left_is_not_removed(
    client: Client, filled: History, settings: Settings, empty: Target, set_name: str
) -> None:
    """Such as a restore in an emergency: its records have the digests that the drill noted."""

    class Killed(BaseException):
        """Nothing after it is run, as after a kill -9."""

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        drilled(filled, settings, planting("compare", kill))
    there = left(empty)
    [noted] = settings.replayer.journal.glob("drill-*.digests")
    hour_ago = noted.stat().st_mtime - 3600
    os.utime(noted, (hour_ago, hour_ago))
    with pytest.raises(TargetNotEmpty, match="after a drill that did not clean up") as caught:
        drilled(filled, settings)
    assert caught.value.report is None
    assert left(empty) == there > 0


def test_one_that_is_cancelled_cleans_up_and_is_not_remembered(
    filled: History, settings: Settings, empty: Target, namespace: str
) -> None:
    watch = Watch()
    watch = replace(planting("compare", watch.cancel.set), cancel=watch.cancel)
    with pytest.raises(Cancelled):
        drilled(filled, settings, watch)
    assert left(empty) == 0
    assert drills.load(filled.archive.store, namespace) == []


def test_a_second_drill_in_the_same_scratch_is_refused(filled: History, settings: Settings, empty: Target) -> None:
    where = rates.place(empty.namespace, settings.aerospike.hosts)
    with notes(settings.replayer.journal, where), pytest.raises(RestoreError, match="another drill is at work"):
        drilled(filled, settings)
    assert drilled(filled, settings).passed


def test_a_drill_needs_a_scratch_and_a_moment(filled: History, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="no scratch namespace is named"):
        drilled(filled, settings, into="")
    with pytest.raises(NotRecoverable):
        drilled(filled, settings, at="2001-01-01T00:00:00Z")
    chosen = choose(filled.archive, settings.drill, filled.now())
    assert chosen.part.whole


@pytest.mark.emulator_only
def test_what_cannot_be_removed_is_told_and_removed_by_the_next_drill(filled: History, settings: Settings) -> None:
    with Emulator(namespaces=["scratch"]) as other:
        into, refuse = f"scratch@{other.hosts[0]}", other.nodes[0].faults.refuse_records
        with pytest.raises(ServerRefused) as caught:
            drilled(filled, settings, planting("live", lambda: refuse.extend([Result.PARAMETER] * 290)), into=into)
        done = failed(caught)
        assert (done.passed, done.differences, done.left) == (False, 0, 290)
        assert "290 records are left" in done.wrong
        again = drilled(filled, settings, into=into)
        assert (again.passed, again.written, again.left) == (True, 290, 0)


@pytest.mark.emulator_only
def test_a_scratch_that_refuses_records_fails_it(filled: History, settings: Settings) -> None:
    with Emulator(namespaces=["scratch"]) as other:
        refuse = other.nodes[0].faults.refuse_records
        with pytest.raises(RecordsRefused) as caught:
            drilled(
                filled, settings, planting("write", lambda: refuse.extend([Result.PARAMETER] * 7)),
                into=f"scratch@{other.hosts[0]}",
            )  # fmt: skip
        assert (failed(caught).passed, failed(caught).written, failed(caught).left) == (False, 283, 0)
        assert drills.load(filled.archive.store, filled.archive.namespace) == [failed(caught)]


def test_one_that_cannot_be_remembered_says_so_and_what_it_showed(
    filled: History, settings: Settings, empty: Target, namespace: str
) -> None:
    filled.archive.store.put(drills.directory(namespace), b"in the way of a directory")
    with pytest.raises(ArchiveError, match="the drill passed, but cannot be remembered") as caught:
        drilled(filled, settings)
    assert (failed(caught).passed, failed(caught).written, left(empty)) == (True, len(as_it_is(filled)), 0)


def test_differences_of_records_that_were_not_exact_are_not_judged(
    client: Client, source: Source, empty: Target, namespace: str, set_name: str
) -> None:
    for i in range(6):
        client.put((namespace, set_name, i), {"v": i})
        if i < 4:
            client.put((empty.namespace, set_name, i), {"v": i if i < 2 else -i})
    at = tick(wall_clock)
    asked: list[bytes] = []

    def unsure(digests: list[bytes]) -> set[bytes]:
        asked.extend(digests)
        return {digest_of(set_name, 3), digest_of(set_name, 5)}

    found = unchanged.compare(source, empty, range(PARTITIONS), at, unsure, Watch())
    assert asked == sorted(digest_of(set_name, i) for i in range(2, 6))
    first = min(digest_of(set_name, 2), digest_of(set_name, 4)).hex()
    assert found == Unchanged(same=2, different=1, missing=1, unsure=2, changed=0, named=first)
    # A moment before all that was written: nothing of it says anything.
    before = unchanged.compare(source, empty, range(PARTITIONS), 1000, unsure, Watch())
    assert (before.same, before.different, before.missing, before.changed) == (0, 0, 0, 6)


def test_what_changed_after_a_moment_is_known_by_the_archive_whatever_its_last_update_time(
    client: Client, history: History, namespace: str, set_name: str
) -> None:
    for i in range(20):
        client.put((namespace, set_name, i), {"v": i})
    history.look()
    at = history.look()
    tick(history.now)
    for i in (3, 5):
        client.put((namespace, set_name, i), {"v": -i})
    client.remove((namespace, set_name, 7))
    history.look()
    asked = sorted(digest_of(set_name, i) for i in (1, 3, 7))
    assert changed_since(history.archive, at, asked, history.now()) == {digest_of(set_name, i) for i in (3, 7)}


def test_of_another_scope_the_live_source_is_not_asked(
    filled: History, settings: Settings, namespace: str, set_name: str
) -> None:
    scoped = settings.model_copy(update={"scope": {namespace: ScopeSettings(include=(set_name,))}})
    done = drilled(filled, scoped)
    assert (done.passed, done.live_same) == (True, 0)
    assert "the archive is about everything at that moment" in done.uncompared
