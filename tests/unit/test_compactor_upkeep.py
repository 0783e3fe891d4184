"""Upkeep: what is due is done, in any archive that others work on too, and what fails leaves garbage at most."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdc.archive import Archive, LocalStore, Manifest, RestoreSet, Store
from cdc.archive.debt import BYTES_PER_S, ROWS_PER_S, debt, debt_after
from cdc.archive.manifests import Epoch, SegmentInfo
from cdc.archive.segments import SegmentWriter, read
from cdc.archive.store import Data
from cdc.archive.versions import order
from cdc.compactor import upkeep as module
from cdc.compactor.sets import due_at
from cdc.compactor.upkeep import Upkeep
from cdc.config import AerospikeSettings, ArchiveSettings, CompactorSettings, RetentionSettings, Settings
from cdc.errors import ObjectMissing, StoreForbidden
from cdc.model import END_OF_TIME
from tests.fixtures.versions import change, versions

HOUR = 3_600_000
T0 = 400_000 * HOUR
EPOCH = Epoch(1, T0, 0, recoverable_from=T0 + 1, resolved_at=T0 + 30 * 60_000 + 5, reconciled_at=T0 + 30 * 60_000)


def configured(path: Path, **compactor: Any) -> Settings:
    given = {"merge_segments": 2, "recovery_time_s": 0, "set_every_s": 1e6, **compactor}
    return Settings(
        aerospike=AerospikeSettings(namespaces=("test",)),
        compactor=CompactorSettings(**given),
        archive=ArchiveSettings(path=path, block_bytes=4096, retention=RetentionSettings(every_s=0)),
    )


def filled(store: Store, shards: int = 1, segments: int = 6) -> Archive:
    """An archive with so many segments a shard, a change of one record in each."""
    archive = Archive.create(store, "test", shards)
    for shard in range(shards):
        manifest = replace(archive.first(shard), epochs=(EPOCH,))
        for n in range(segments):
            manifest = replace(manifest, segments=(*manifest.segments, segment(archive, shard, n)), next_changes=n + 1)
        archive.commit(manifest)
    return archive


def segment(archive: Archive, shard: int, n: int) -> SegmentInfo:
    made = versions([change(n, T0 + 60_000 * n)], [n])
    writer = SegmentWriter(ArchiveSettings(block_bytes=4096), 1)
    writer.add(made, order(made.columns.digest, made.offsets))
    return writer.finish(archive.store, archive.directory(shard, "segments"))


def held(archive: Archive) -> list[list[int]]:
    """Per shard the offsets in its segments, in order."""
    return [
        sorted(o for s in m.segments for v in read(archive.store, s) for o in v.offsets.tolist())
        for m in archive.all_shards()
        if m is not None
    ]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_round_does_all_that_is_due_and_the_next_one_nothing(tmp_path: Path) -> None:
    archive = filled(LocalStore(tmp_path, create=True), shards=2)
    done = Upkeep(configured(tmp_path, set_every_s=600.0), archive, lambda: 77).round()
    # Of six: two and two of tier 0 become two of tier 1, which wait for a third.
    assert (done.merges, done.rows, done.sets) == (4, 8, 2)
    manifests = [m for m in archive.all_shards() if m is not None]
    assert [[s.tier for s in m.segments] for m in manifests] == [[1, 1, 0, 0]] * 2
    assert [[(s.at, s.made_at) for s in m.sets] for m in manifests] == [[(T0 + 30 * 60_000, 77)]] * 2
    assert {m.written_at for m in manifests} == {77}
    assert held(archive) == [[0, 1, 2, 3, 4, 5]] * 2
    again = Upkeep(configured(tmp_path, set_every_s=600.0), archive).round()
    assert (again.merges, again.sets) == (0, 0)
    assert archive.all_shards() == manifests


class Refusing:
    """A store that refuses puts from the n-th on, for as long as it is told to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.left = 1 << 30

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, name: str, data: Data) -> None:
        self._count(name)
        self._store.put(name, data)

    def put_if_absent(self, name: str, data: Data) -> bool:
        self._count(name)
        return self._store.put_if_absent(name, data)

    def _count(self, name: str) -> None:
        if self.left <= 0:
            raise StoreForbidden(f"{name}: No space left on device")
        self.left -= 1


def test_a_store_that_fails_in_the_middle_leaves_what_was_there_and_garbage(tmp_path: Path) -> None:
    for left in range(100):
        path = tmp_path / str(left)
        store: Any = Refusing(LocalStore(path, create=True))
        archive = filled(store)
        settings = configured(path, set_every_s=600.0)
        store.left = left
        try:
            Upkeep(settings, archive).round()
        except StoreForbidden:
            assert held(archive) == [[0, 1, 2, 3, 4, 5]]
            store.left = 1 << 30
            assert Upkeep(settings, archive).round().merges <= 2
            [manifest] = archive.all_shards()
            assert manifest is not None
            assert ([s.tier for s in manifest.segments], len(manifest.sets)) == ([1, 1, 0, 0], 1)
            assert held(archive) == [[0, 1, 2, 3, 4, 5]]
        else:
            break
    assert left > 8


def test_what_is_wrong_with_one_shard_does_not_hold_up_the_others(tmp_path: Path) -> None:
    archive = filled(LocalStore(tmp_path, create=True), shards=2)
    first = archive.shard(0)
    assert first is not None
    archive.store.delete(first.segments[0].name)
    with pytest.raises(ObjectMissing, match=first.segments[0].name):
        Upkeep(configured(tmp_path), archive).round()
    tiers = [[s.tier for s in m.segments] for m in archive.all_shards() if m is not None]
    assert tiers[1] == [1, 1, 0, 0]


def test_two_that_keep_the_same_archive_up_do_not_disturb_each_other(tmp_path: Path) -> None:
    archive = filled(LocalStore(tmp_path, create=True), segments=9)
    slow = Upkeep(configured(tmp_path, set_every_s=600.0), archive)
    manifest = archive.shard(0)
    assert manifest is not None
    slow.tell(manifest)  # what it believes is the newest while the other does all there is to do
    Upkeep(configured(tmp_path, set_every_s=600.0), archive).round()
    before = archive.shard(0)
    done = slow.round()
    assert (done.merges, done.sets) == (0, 0)
    assert archive.shard(0) == before
    assert held(archive) == [list(range(9))]


def test_what_another_merged_and_pruned_is_no_damage(tmp_path: Path) -> None:
    archive = filled(LocalStore(tmp_path, create=True), segments=9)
    slow = Upkeep(configured(tmp_path), archive)
    manifest = archive.shard(0)
    assert manifest is not None
    slow.tell(manifest)
    Upkeep(configured(tmp_path), archive).round()
    newest = archive.shard(0)
    assert newest is not None
    for info in set(manifest.segments) - set(newest.segments):
        archive.store.delete(info.name)
    assert slow.round().merges == 0
    assert held(archive) == [list(range(9))]


def test_in_a_thread_it_works_on_what_it_is_told_of_and_tries_again_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    store: Any = Refusing(LocalStore(tmp_path, create=True))
    archive = filled(store, segments=2)
    with Upkeep(configured(tmp_path), archive) as upkeep:
        added = archive.shard(0)
        assert added is not None
        infos = [segment(archive, 0, n) for n in (2, 3)]
        store.left = 1
        upkeep.tell(archive.commit(replace(added, segments=(*added.segments, *infos), next_changes=4)))
        until(lambda: isinstance(upkeep.trouble, StoreForbidden))
        upkeep.check()
        store.left = 1 << 30
        until(lambda: upkeep.done.merges == 1 and upkeep.trouble is None)
    assert held(archive) == [[0, 1, 2, 3]]


def test_in_a_thread_it_prunes_as_retention_says(tmp_path: Path) -> None:
    archive = filled(LocalStore(tmp_path, create=True))
    settings = configured(tmp_path)
    for every_s in (0.0, 3600.0):
        retention = RetentionSettings(grace_s=0, every_s=every_s)
        place = settings.archive.model_copy(update={"retention": retention})
        with Upkeep(settings.model_copy(update={"archive": place}), archive) as upkeep:
            until(lambda: bool(upkeep.rounds))
            manifest = archive.shard(0)
            assert manifest is not None
            kept = 2 * len(manifest.segments)
            if every_s:
                until(lambda: len(archive.store.list("test/shard-0000/segments")) == kept)  # noqa: B023
        left = len(archive.store.list("test/shard-0000/segments"))
        assert (left == kept) == bool(every_s)
    assert held(archive) == [[0, 1, 2, 3, 4, 5]]


def test_an_error_that_is_no_stores_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = filled(LocalStore(tmp_path, create=True))

    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(module.tiers, "plan", broken)
    with pytest.raises(ValueError, match="a bug"), Upkeep(configured(tmp_path), archive) as upkeep:
        until(lambda: not upkeep.alive)


FIRST = SegmentInfo(
    name="0", epoch=1, size=1, sha256="", index_size=1, index_sha256="", rows=1000 * ROWS_PER_S, raw_size=0,
    first_digest="", last_digest="", first_offset=0, last_offset=10, min_effective_at=T0, max_effective_at=T0 + 60_000,
    min_unobserved_since=T0, max_observed_at=T0,
)  # fmt: skip
SET = RestoreSet(T0 + 60_000, 11, 1, 10_000_000, 0, "", 0, "")
RULES = CompactorSettings(set_every_s=3600.0, recovery_time_s=300.0)


def standing(*segments: SegmentInfo, made: tuple[RestoreSet, ...] = (SET,), shards: int = 1) -> Manifest:
    return Manifest("test", 0, shards, next_changes=100, epochs=(EPOCH,), segments=segments, sets=made)


def test_the_debt_is_what_stands_beside_the_newest_set() -> None:
    since = replace(FIRST, first_offset=11, last_offset=20, rows=3 * ROWS_PER_S, raw_size=2 * BYTES_PER_S)
    assert debt(standing(FIRST)).seconds(1) == 0, "the size of the set itself does not count"
    assert debt(standing(FIRST, since)).seconds(1) == 5
    assert debt(standing(FIRST, since)).seconds(8) == 40, "eight shards share what a clone can do"
    assert debt(standing(FIRST, made=())).seconds(1) == 1000, "without a set it is everything"
    assert debt(replace(standing(FIRST, since), epochs=(EPOCH, replace(EPOCH, number=2)))).rows == 0
    late = replace(FIRST, rows=7, max_effective_at=END_OF_TIME)
    assert debt(standing(FIRST, late)).rows == 7
    assert debt_after(standing(late, since), T0 + 30 * 60_000).rows == 7


def test_a_set_is_made_early_when_the_debt_is_more_than_the_objective_and_the_set_would_lower_it() -> None:
    since = replace(FIRST, first_offset=11, last_offset=20, rows=301 * ROWS_PER_S, max_effective_at=T0 + 29 * 60_000)
    early = T0 + 30 * 60_000
    assert due_at(standing(FIRST, since), RULES) == early, "a full minute"
    assert due_at(standing(FIRST, replace(since, rows=299 * ROWS_PER_S)), RULES) is None
    assert due_at(standing(FIRST, replace(since, rows=299 * ROWS_PER_S), shards=2), RULES) == early
    assert due_at(standing(FIRST, since), RULES.model_copy(update={"recovery_time_s": 0.0})) is None
    assert due_at(standing(FIRST, since, made=(SET, replace(SET, at=early))), RULES) is None, "one a minute at most"
    late = replace(since, max_effective_at=END_OF_TIME)
    assert due_at(standing(FIRST, late), RULES) is None, "it would be beside the next set as well"
    assert due_at(standing(FIRST), RULES) is None, "a large base alone is no reason"


def test_sets_are_not_made_more_often_than_making_one_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = 0
    monkeypatch.setattr(module, "steady_clock", lambda: lambda: passed)

    def slowly(*given: Any) -> RestoreSet:
        nonlocal passed
        passed += 500_000
        return make(*given)

    make = module.make
    monkeypatch.setattr(module, "make", slowly)
    archive = filled(LocalStore(tmp_path, create=True))
    upkeep = Upkeep(configured(tmp_path, set_every_s=60.0), archive)
    assert upkeep.round().sets == 1
    manifest = archive.shard(0)
    assert manifest is not None
    upkeep.tell(archive.commit(replace(manifest, epochs=(replace(EPOCH, resolved_at=T0 + 40 * 60_000),))))
    passed += 499_000
    assert upkeep.round().sets == 1
    passed += 1_000
    assert upkeep.round().sets == 2
