"""Pruning on real archives: what is kept is restored as before, doubts included, and nothing else is needed."""

import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, Epoch, LocalStore, Manifest, Store, keeps, sets
from cdc.archive import chain as chains
from cdc.archive import segments as objects
from cdc.archive.keeps import Keep
from cdc.archive.prune import plan_of, prune
from cdc.archive.retention import DAY_MS
from cdc.archive.store import Data
from cdc.archive.verify import verify
from cdc.archive.versions import concat, order
from cdc.clock import wall_clock
from cdc.config import ArchiveSettings, CompactorSettings, RetentionSettings, Settings
from cdc.model import Op
from cdc.replayer.versions import ABSENT, Certainty, states
from tests.fixtures.versions import change, versions

T0 = 1_700_000_000_000
END = 12
SHARDS = 2
SECOND = 8 << 16
"""Added to a key, it makes a digest of the second shard."""
BLOCKS = ArchiveSettings(block_bytes=4096)

Told = dict[bytes, tuple[int | None, int, tuple[int, int] | None]]


def policy(now: int, changes_from: int, minimum_sets: int = 1, grace_s: float = 0.0) -> Settings:
    """Settings that keep changes from a moment on, and so many sets."""
    retention = RetentionSettings(
        changes_days=(now - T0 - changes_from) / DAY_MS, minimum_sets=minimum_sets, grace_s=grace_s
    )
    return Settings(archive=BLOCKS.model_copy(update={"retention": retention}))


def later() -> int:
    """A moment by which everything written so far is older than no grace at all."""
    return wall_clock() + 5_000


@dataclass
class Made:
    """An archive that grows by lots of changes, and its manifests."""

    archive: Archive

    @classmethod
    def new(cls, path: Path) -> "Made":
        made = cls(Archive.create(LocalStore(path, create=True), "test", SHARDS))
        for shard in range(SHARDS):
            made.archive.commit(replace(made.archive.first(shard), epochs=(epoch(1, 0, END),)))
        return made

    def manifest(self, shard: int) -> Manifest:
        found = self.archive.shard(shard)
        assert found is not None
        return found

    def segment(self, changes: list[dict[str, Any]], number: int = 1) -> None:
        """A lot of changes, in a segment of each shard."""
        for shard in range(SHARDS):
            before = self.manifest(shard)
            offsets = [before.next_changes + i for i in range(len(changes))]
            rows = versions([given_change(c, shard) for c in changes], offsets)
            writer = objects.SegmentWriter(BLOCKS, number)
            writer.add(rows, order(rows.columns.digest, rows.offsets))
            info = writer.finish(self.archive.store, self.archive.directory(shard, "segments"))
            segments = (*before.segments, info)
            self.archive.commit(replace(before, segments=segments, next_changes=offsets[-1] + 1, written_at=1))

    def make_set(self, at: int, shards: tuple[int, ...] = tuple(range(SHARDS))) -> None:
        for shard in shards:
            before = self.manifest(shard)
            new = sets.make(self.archive, before, before.epochs[-1], T0 + at, 0, CompactorSettings(), BLOCKS)
            self.archive.commit(replace(before, sets=(*before.sets, new)))

    def moments(self) -> set[int]:
        """Those that can be restored."""
        windows = self.archive.windows()
        return {at for at in range(END + 1) if any(T0 + at in w for w in windows)}

    def told(self, at: int) -> Told:
        """What a clone of a moment would write and say, record by record."""
        found: Told = {}
        for shard in range(SHARDS):
            view = self.archive.view(shard, T0 + at)
            rows = concat(list(self.archive.versions(view)))
            s = states(rows.columns, T0 + at, view.epoch.reconciled_at)
            for i in range(len(s)):
                held, blind = int(s.held[i]), int(s.blind[i])
                if held != ABSENT or s.certainty[i] != Certainty.EXACT:
                    found[s.digest[i].tobytes()] = (
                        None if held == ABSENT else int(rows.offsets[held]),
                        int(s.certainty[i]),
                        None
                        if blind == ABSENT
                        else (int(rows.columns.unobserved_since[blind]), int(rows.offsets[blind])),
                    )
        return found

    def names(self) -> set[str]:
        return set(self.archive.store.list("test"))


def epoch(number: int, start: int, end: int, reconciled: int | None = None) -> Epoch:
    known = end if reconciled is None else reconciled
    return Epoch(number, T0 + number, 0, recoverable_from=T0 + start, resolved_at=T0 + end, reconciled_at=T0 + known)


def given_change(fields: dict[str, Any], shard: int) -> dict[str, Any]:
    fields = dict(fields)
    key, at, blind = fields.pop("key"), T0 + fields.pop("at"), fields.pop("blind")
    void = fields.pop("void", None)
    return change(
        key + SECOND * shard,
        at,
        unobserved_since=max(at - blind, 0),
        void_time=None if void is None else T0 + void,
        **fields,
    )


moment = st.integers(0, END)
a_change = st.fixed_dictionaries(
    {
        "key": st.integers(0, 3),
        "at": moment,
        "blind": st.integers(0, 6),
        "op": st.sampled_from([Op.WRITE, Op.WRITE, Op.WRITE, Op.DELETE, Op.EXPIRY, Op.TRUNCATION]),
        "void": st.none() | st.integers(1, END),
        "consecutive": st.booleans(),
    }
)
a_lot = st.tuples(st.lists(a_change, min_size=1, max_size=5), st.lists(moment, max_size=2))


@settings(max_examples=8, deadline=None)
@given(
    lots=st.lists(a_lot, min_size=1, max_size=6),
    horizons=st.lists(moment, min_size=1, max_size=2),
    minimum_sets=st.integers(1, 3),
    marks=st.dictionaries(st.sampled_from(["a", "b"]), moment),
    more=st.lists(a_change, max_size=4),
)
def test_what_is_kept_is_restored_as_before_and_doubted_as_before(
    tmp_path_factory: pytest.TempPathFactory,
    lots: list[Any],
    horizons: list[int],
    minimum_sets: int,
    marks: dict[str, int],
    more: list[dict[str, Any]],
) -> None:
    # Moments come in any order, worse than any clock would make them: nothing may rest on their order.
    made = Made.new(tmp_path_factory.mktemp("archive"))
    for changes, ats in lots:
        made.segment(changes)
        for at in ats:
            made.make_set(at)
    for name, at in marks.items():
        keeps.add(made.archive.store, "test", name, Keep(T0 + at, 0))
    for horizon in sorted(horizons):
        before = {at: made.told(at) for at in made.moments()}
        common = sorted(({s.at - T0 for s in made.manifest(0).sets} & before.keys()) - set(marks.values()))
        now = later()
        done = prune(made.archive, policy(now, horizon, minimum_sets), now)
        assert not done.plan.refused
        after = made.moments()
        assert after >= {at for at in before if at >= horizon} | set(common[-minimum_sets:])
        assert after >= set(marks.values()) & before.keys()
        assert after <= before.keys()
        for at in after:
            assert made.told(at) == before[at]
        # Again is nothing, and nothing is left to be damaged.
        names = made.names()
        again = prune(made.archive, policy(now, horizon, minimum_sets), now)
        assert (again.made, again.completed, again.plan.dropped_bytes) == (0, 0, 0)
        assert made.names() <= names
        found = verify(made.archive.store, "test", "decode")
        assert not found.damage, [d.text for d in found.damage]
        if more:  # what comes late may still concern a moment that is kept by itself
            made.segment(more)


class Killed(BaseException):
    """What no code gets to handle."""


class Dying:
    """A real store, in which the n-th write or removal is the process's last act."""

    def __init__(self, store: Store, step: int) -> None:
        self._store, self._left = store, step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, name: str, data: Data) -> None:
        self._acted(self._store.put(name, data))

    def put_if_absent(self, name: str, data: Data) -> bool:
        return bool(self._acted(self._store.put_if_absent(name, data)))

    def delete(self, name: str) -> None:
        self._acted(self._store.delete(name))

    def _acted(self, answer: object) -> object:
        self._left -= 1
        if not self._left:
            raise Killed
        return answer


def grown(path: Path) -> Made:
    """An archive with sets, late changes that concern them, and a mark between two sets."""
    made = Made.new(path)
    for at in (1, 4, 7, 10):
        made.segment([{"key": key, "at": at, "blind": 3, "op": Op.WRITE, "consecutive": False} for key in (at % 4, 5)])
        if at in (4, 7, 10):
            made.make_set(at)
    made.segment([{"key": 1, "at": 5, "blind": 3, "op": Op.WRITE, "consecutive": False}])
    keeps.add(made.archive.store, "test", "mark", Keep(T0 + 5, 0))
    return made


def test_killed_at_any_step_every_kept_moment_is_restored_and_the_next_prune_ends_the_work(tmp_path: Path) -> None:
    start, last = grown(tmp_path / "start"), {5, *range(10, END + 1)}
    before = {at: start.told(at) for at in last}
    now, steps = later(), 0
    for step in itertools.count(1):
        path = tmp_path / str(step)
        shutil.copytree(tmp_path / "start", path)
        try:
            prune(Archive.open(Dying(LocalStore(path), step), "test"), policy(now, 11), now)  # type: ignore[arg-type]
        except Killed:
            steps += 1
        left = Made(Archive.open(LocalStore(path), "test"))
        assert left.moments() >= last
        assert {at: left.told(at) for at in last} == before
        again = later()
        prune(left.archive, policy(again, 11), again)
        assert left.moments() == last
        assert {at: left.told(at) for at in last} == before
        found = verify(left.archive.store, "test", "hashes")
        assert (found.damage, found.garbage) == ((), ())
        if steps < step:
            break
    assert steps > 20


def test_nothing_goes_before_the_grace_is_over_but_no_manifest_names_it(tmp_path: Path) -> None:
    made = grown(tmp_path / "archive")
    names, now = made.names(), later()
    done = prune(made.archive, policy(now, 11, grace_s=3600), now)
    assert done.plan.dropped_bytes > 0
    assert (done.removed, done.completed > 0, done.made) == (0, True, SHARDS)
    assert names < made.names()
    assert made.moments() == {5, *range(10, END + 1)}
    hour = now + 3_700_000
    assert prune(made.archive, policy(hour, 11, grace_s=3600), hour).removed > 0
    assert prune(made.archive, policy(hour, 11, grace_s=3600), hour).removed == 0


def test_a_dry_run_says_what_a_prune_then_does_and_changes_nothing(tmp_path: Path) -> None:
    made = grown(tmp_path / "archive")
    garbage = "test/shard-0001/segments/none.avro"
    made.archive.store.put(garbage, b"x")
    names, now = made.names(), later()
    plan = plan_of(made.archive, policy(now, 11), now)
    assert made.names() == names
    assert garbage in {entry.name for entry in plan.garbage}
    done = prune(made.archive, policy(now, 11), now)
    assert done.plan.decision.changes_from == plan.decision.changes_from
    assert not made.archive.store.exists(garbage)


def test_of_a_shard_with_damaged_manifests_no_object_is_removed(tmp_path: Path) -> None:
    made = grown(tmp_path / "archive")
    names = [n for n in made.names() if "shard-0001/manifests" in n]
    (tmp_path / "archive" / sorted(names)[1]).write_bytes(b"{}")
    now = later()
    done = prune(made.archive, policy(now, 11, grace_s=3600), now)
    assert list(done.plan.refused) == [1]
    assert sorted(names)[1] in done.plan.refused[1]
    assert done.removed == 0


def test_nothing_is_pruned_of_changes_while_every_moment_is_kept(tmp_path: Path) -> None:
    made = grown(tmp_path / "archive")
    before, now = made.moments(), later()
    done = prune(made.archive, Settings(archive=BLOCKS), now)
    assert "for ever" in done.plan.decision.held
    assert made.moments() == before
    assert [m.sets for m in (made.manifest(0), made.manifest(1))] == [p.before.sets for p in done.plan.shards]


def test_what_was_deleted_or_has_expired_leaves_the_archive_once_no_kept_moment_needs_it(tmp_path: Path) -> None:
    made = Made.new(tmp_path / "archive")
    stays: dict[str, Any] = {"key": 1, "at": 1, "blind": 0}
    made.segment([stays, stays | {"key": 2}, stays | {"key": 3, "void": 5}])
    made.segment([{"key": 2, "at": 4, "blind": 0, "op": Op.DELETE}])
    made.make_set(3)
    for at in (6, 9):
        made.segment([{"key": 4, "at": at, "blind": 0}])
        made.make_set(at)

    def kept_keys() -> set[int]:
        found = set()
        for shard in range(SHARDS):
            manifest = made.manifest(shard)
            infos = [*manifest.segments, *(s for one in manifest.sets for s in made.archive.listing(one).objects)]
            for info in infos:
                for rows in objects.read(made.archive.store, info):
                    found |= {int(key) for key in rows.columns.digest[:, 3]}
        return found

    for horizon, left in ((3, {1, 2, 3, 4}), (8, {1, 4})):
        now = later()
        prune(made.archive, policy(now, horizon), now)
        assert kept_keys() == left
    every = {e.name for e in made.archive.store.entries("test")}
    chained = set().union(*(chains.read(made.archive, k, sorted(every)).named for k in range(SHARDS)))
    assert every - chained == {"test/format.json"}


def test_two_prunes_at_once_are_harmless(tmp_path: Path) -> None:
    # Within the grace: without one, either would take for garbage what the other has yet to name.
    made = grown(tmp_path / "archive")
    before, now = {at: made.told(at) for at in (5, *range(10, END + 1))}, later()
    archives = [Archive.open(LocalStore(tmp_path / "archive"), "test") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda archive: prune(archive, policy(now, 11, grace_s=60), now), archives))
    assert all(not one.plan.refused for one in done)
    again = later()
    prune(made.archive, policy(again, 11), again)
    assert {at: made.told(at) for at in made.moments()} == before
    found = verify(made.archive.store, "test", "decode")
    assert (found.damage, found.garbage) == ((), ())
