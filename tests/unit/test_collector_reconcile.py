"""One look for deletes at an emulated cluster: what it concludes, and when it must not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from cdc.collector.catalog import Catalog
from cdc.collector.deletes import Reading
from cdc.collector.entries import Entries
from cdc.collector.publish import Parcel
from cdc.collector.reconcile import Doubts, Outcome, Times, missed, read, read_before, reconcile
from cdc.collector.state import ShardState
from cdc.errors import PartitionUnavailable
from cdc.model import DIGEST_SIZE, U8, Bodies, Columns, Op
from cdc.source import Source
from cdc.topics.progress import Kind
from tests.model.edges import DirectCluster, Log, Points, patched
from tests.model.world import BEGINS, DIGESTS, NAMESPACE, PLACES, Delete, Pass, Put, Step, StepClock, Touch, World

SKEW_MS = 250
ERROR_MS = 5
NOBODY: U8 = np.empty((0, DIGEST_SIZE), np.uint8)


@dataclass(slots=True)
class Place:
    """A world, its one shard's catalog, and nodes' time as it was measured when the world began."""

    world: World
    source: Source
    catalog: Catalog
    delivered: list[Parcel] = field(default_factory=list)

    def times(self, ahead_ms: int = 0) -> Times:
        """As it was measured when the clocks were this far ahead of the true time; measured anew, as it is."""
        off = [ahead_ms]

        def measure() -> None:
            off[:] = [node.now() - self.world.now for node in self.world.emulator.nodes]

        return Times(
            lambda: self.world.now + min(off) - ERROR_MS, lambda: self.world.now + max(off) + ERROR_MS, SKEW_MS, measure
        )  # fmt: skip

    def know(self, key: int, *, generation: int = 1, lut: int = BEGINS, void_time: int = 0) -> None:
        """The catalog has the record in this version."""
        one = np.frombuffer(DIGESTS[key], np.uint8).reshape(1, -1)
        put = Entries.of(
            one, np.array([lut]), np.array([generation], np.int32), np.array([void_time]),
            np.array([key], np.uint64), np.zeros(1, np.uint16),
        )  # fmt: skip
        self.catalog.commit(self.catalog.state, put, NOBODY)

    def swept_until(self, moment: int) -> None:
        """Everything has been captured, and every delete found, up to the moment."""
        moments = np.full(len(self.catalog.state.watermark), moment)
        state = replace(self.catalog.state, watermark=moments, full=moments.copy(), reconciled=moments.copy())
        self.catalog.commit(state, Entries.empty(), NOBODY)

    def reconcile(self, times: Times | None = None) -> Outcome:
        """A look at everything; the sweep after it brings what the world has of record 0."""
        times = times or self.times()
        before = read(self.source, times)
        after = read(self.source, times)
        return self.decide(before, after, Doubts.begin(), times, self._sweep)

    def decide(
        self, before: Reading, after: Reading, doubts: Doubts, times: Times, sweep: Callable[[], None]
    ) -> Outcome:
        """By two readings; what is delivered stands in `delivered`."""
        self.delivered.clear()
        return reconcile(
            self.source, {0: self.catalog}, before, after, doubts, times, sweep, self.delivered.extend
        )  # fmt: skip

    def _sweep(self) -> None:
        state = self.world.history[0][-1]
        if state.state is not None:
            self.know(0, lut=state.mark[0], generation=state.mark[1])


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    world, points = World(), Points()
    patched(monkeypatch, world, Log(points, 1), points, lambda seconds: None, 0)
    source = Source(DirectCluster(world, points), NAMESPACE, clock=world.clock)  # type: ignore[arg-type]
    catalog = Catalog.begin(tmp_path / "shard", ShardState.begin(0, 1, BEGINS))
    made = Place(world, source, catalog)
    Put(0, 1).happen(world)
    Put(2, 1).happen(world)
    made.know(0)
    made.know(2)
    made.swept_until(BEGINS + 700)
    Pass(1_000).happen(world)
    world.note()
    yield made
    catalog.close()


def told(place: Place) -> list[tuple[int, Op, int, int]]:
    """Which record ended, how, and between which moments (since BEGINS)."""
    columns = Columns.concat([parcel.columns for parcel in place.delivered])
    return [
        (DIGESTS.index(columns.digest[i].tobytes()), Op(columns.op[i]), int(columns.unobserved_since[i]) - BEGINS,
         int(columns.effective_at[i]) - BEGINS)
        for i in range(len(columns))
    ]  # fmt: skip


def test_what_a_look_does_not_show_is_told_as_deleted_since_deletes_were_found_last(place: Place) -> None:
    Delete(0).happen(place.world)
    place.world.note()
    outcome = place.reconcile()
    assert not outcome.unrest
    assert told(place) == [(0, Op.DELETE, 700, 1_000 + ERROR_MS)]


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("step", [-60_000, -2_000, 2_000, 60_000])
def test_while_a_clock_contradicts_what_was_measured_nothing_is_concluded(place: Place, node: int, step: int) -> None:
    """Its moments say nothing: the look may hide what has not expired, and the sweep has asked for too little."""
    Delete(0).happen(place.world)
    StepClock(node, step).happen(place.world)
    place.world.note()
    outcome = place.reconcile()
    assert place.delivered == []
    assert outcome.unrest == f"the clock of node {place.world.emulator.nodes[node].id} was set"


def test_what_is_gone_was_there_until_the_clock_that_is_measured_when_it_is_missed(place: Place) -> None:
    """A step forward that no second has shown: it was deleted by the clock as it is now."""
    for node in range(2):
        StepClock(node, 700).happen(place.world)
    Delete(0).happen(place.world)
    place.world.note()
    place.reconcile()
    assert told(place) == [(0, Op.DELETE, 700, 1_700 + ERROR_MS)]


def test_a_record_that_the_sweep_after_a_look_brings_again_has_not_gone(place: Place) -> None:
    """The look did not show it, so it was away; its next version says so by its blind interval."""
    Delete(0).happen(place.world)
    place.world.note()
    sweep = place._sweep

    def comes_again() -> None:
        Put(0, 1).happen(place.world)
        place.world.note()
        sweep()

    times = place.times()
    before, after = read(place.source, times), read(place.source, times)
    place.decide(before, after, Doubts.begin(), times, comes_again)
    assert told(place) == []
    assert place.catalog.counts().sum() == 2


def went_unseen(place: Place, *steps: Step) -> Doubts:
    """A look, after steps that came too late for the sweep before it; record 0 is gone when the next sweep begins."""

    def too_late() -> None:
        Delete(0).happen(place.world)
        place.world.note()

    times = place.times()
    before, after = read(place.source, times), read(place.source, times)
    for step in steps:
        step.happen(place.world)
        place.world.note()
    doubts = Doubts.begin()
    place.decide(before, after, doubts, times, too_late)
    return doubts


def found(place: Place, key: int) -> int:
    """Up to when every delete in the record's partition is said to have been found, since BEGINS."""
    return int(place.delivered[-1].state.reconciled[PLACES[key][0]]) - BEGINS


@pytest.mark.parametrize("changes", [(Put(0, 5),), (Touch(0, 20),), (Delete(0), Put(0, 5))])
def test_a_version_that_no_sweep_brings_does_not_prolong_the_one_before_it(
    place: Place, changes: tuple[Step, ...]
) -> None:
    """It came after one sweep and went before the other: what is catalogued was over when the look showed it."""
    doubts = went_unseen(place, *changes, Pass(5_000))
    assert told(place) == [(0, Op.DELETE, 700, 6_000 + ERROR_MS)]
    assert found(place, 0) == found(place, 2) == 1_000 - ERROR_MS - SKEW_MS
    assert missed({0: place.catalog}, doubts).tolist() == []


def test_a_record_that_went_and_came_again_in_the_same_generation_was_away_though_a_look_has_shown_it(
    place: Place,
) -> None:
    """It went long before the sweep, came again after it, and went again before the next one."""
    Delete(0).happen(place.world)
    place.world.note()
    Pass(3_000).happen(place.world)
    went_unseen(place, Put(0, 5))
    assert told(place) == [(0, Op.DELETE, 700, 4_000 + ERROR_MS)]


@pytest.mark.parametrize("known", [{"generation": 2}, {"lut": BEGINS + 900}, {"void_time": BEGINS + 90_000}])
def test_a_look_proves_nothing_of_a_version_that_sweeps_have_overlooked(place: Place, known: dict[str, int]) -> None:
    """It was written before what is to be proven, so no sweep to come brings it."""
    place.know(2, **known)
    times, doubts = place.times(), Doubts.begin()
    before, after = read(place.source, times), read(place.source, times)
    place.decide(before, after, doubts, times, lambda: None)
    assert told(place) == []
    assert found(place, 2) == 700
    assert found(place, 0) == 1_000 - ERROR_MS - SKEW_MS
    assert missed({0: place.catalog}, doubts).tolist() == [PLACES[2][0]]


def test_what_a_look_has_shown_is_read_though_the_sweep_after_it_fails(place: Place) -> None:
    """Two records that no count tells of: one that nobody knew, and one with another generation."""
    Put(0, 5).happen(place.world)
    Put(7, 5).happen(place.world)
    place.world.note()
    times, doubts = place.times(), Doubts.begin()
    before, after = read(place.source, times), read(place.source, times)

    def fails() -> None:
        raise PartitionUnavailable("nobody answers")

    with pytest.raises(PartitionUnavailable):
        place.decide(before, after, doubts, times, fails)
    doubts.hazy[:] = False
    overlooked = missed({0: place.catalog}, doubts).tolist()
    assert overlooked == sorted([PLACES[0][0], PLACES[7][0]])
    assert np.flatnonzero(doubts.hazy).tolist() == overlooked


def idle_sweep(place: Place) -> list[Parcel]:
    """What a sweep that brought nothing says, not delivered yet: it began now."""
    began = place.times().earliest()
    state = place.catalog.state
    swept = replace(state, watermark=np.full(len(state.watermark), began - SKEW_MS), sweep=state.sweep + 1)
    return [
        Parcel(
            place.catalog, swept, Columns.empty(), Bodies(np.empty(0, np.uint8), np.zeros(1, np.int64)),
            np.empty(0, np.int64), (None,), Entries.empty(), NOBODY, (), Kind.SWEEP, True, (), began, began,
            state.resolved_at,
        )
    ]  # fmt: skip


def in_turn(place: Place, transactions: list[list[Parcel]]) -> Callable[[list[Parcel]], None]:
    """Notes what is delivered, as the collector does."""

    def deliver(parcels: list[Parcel]) -> None:
        transactions.append(parcels)
        for parcel in parcels:
            parcel.catalog.commit(parcel.state, parcel.put, parcel.out)

    return deliver


def quietly(place: Place, doubts: Doubts, *, brief: bool) -> list[list[Parcel]]:
    """The transactions of a sweep that brings nothing and of the reconciling after it, by readings of either kind."""
    transactions: list[list[Parcel]] = []
    times = place.times()
    before = read_before(place.source, times, brief=brief)
    held = idle_sweep(place)
    after = read(place.source, times, brief=brief)
    assert before.brief == after.brief == brief
    again = in_turn(place, transactions)
    reconcile(
        place.source, {0: place.catalog}, before, after, doubts, times, lambda: again(idle_sweep(place)), again, held
    )  # fmt: skip
    return transactions


def kinds(transactions: list[list[Parcel]]) -> list[tuple[Kind, int, int]]:
    """Of each: its kind, how many ends it tells, and up to when it says that deletes were found (since BEGINS)."""
    return [(p.kind, len(p.columns), p.state.reconciled_at - BEGINS) for [p] in transactions]


def test_where_nothing_went_the_sweep_s_own_transaction_says_so_and_totals_do_from_then_on(place: Place) -> None:
    doubts = Doubts.begin()
    looked = kinds(quietly(place, doubts, brief=False))
    assert [kind for kind, _, _ in looked] == [Kind.SWEEP, Kind.SWEEP, Kind.RECONCILE]  # everything was doubted
    assert not doubts.calm
    proven = BEGINS
    for brief in (False, True, True):
        Pass(1_000).happen(place.world)
        proven = place.world.now - ERROR_MS - SKEW_MS
        assert kinds(quietly(place, doubts, brief=brief)) == [(Kind.SWEEP, 0, proven - BEGINS)]
        assert doubts.calm


@pytest.mark.parametrize("known", [0, 2])
def test_what_totals_do_not_prove_is_counted_at_once_and_found(place: Place, known: int) -> None:
    doubts = Doubts.begin()
    quietly(place, doubts, brief=False)
    quietly(place, doubts, brief=False)
    Delete(known).happen(place.world)
    place.world.note()
    Pass(1_000).happen(place.world)
    up_to = place.world.now - ERROR_MS - SKEW_MS - BEGINS
    told_of = kinds(quietly(place, doubts, brief=True))
    assert [(kind, ends) for kind, ends, _ in told_of] == [
        (Kind.SWEEP, 0), (Kind.SWEEP, 0), (Kind.SWEEP, 0), (Kind.RECONCILE, 1),
    ]  # fmt: skip
    assert told_of[-1][2] == up_to
    assert len(place.catalog) == 1
    assert not doubts.calm


def test_totals_do_not_do_once_anything_has_gone_though_as_many_are_there_again(place: Place) -> None:
    """Record 7 stands for one that came and went between two sweeps."""
    doubts = Doubts.begin()
    quietly(place, doubts, brief=False)
    quietly(place, doubts, brief=False)
    for step in (Put(7, 1), Delete(7)):
        step.happen(place.world)
        place.world.note()
    Pass(1_000).happen(place.world)
    told_of = kinds(quietly(place, doubts, brief=True))
    assert [(kind, ends) for kind, ends, _ in told_of] == [(Kind.SWEEP, 0), (Kind.SWEEP, 0), (Kind.RECONCILE, 0)]
    assert not doubts.calm


def test_one_that_expired_is_told_in_a_transaction_of_its_own(place: Place) -> None:
    Put(6, 1, 20).happen(place.world)
    place.know(6, lut=place.world.now, void_time=place.world.now + 20_000)
    doubts = Doubts.begin()
    quietly(place, doubts, brief=False)
    quietly(place, doubts, brief=False)
    Pass(30_000).happen(place.world)
    ended = kinds(quietly(place, doubts, brief=True))
    assert [(kind, ends) for kind, ends, _ in ended][-1] == (Kind.RECONCILE, 1)
    assert not doubts.calm


def test_while_partitions_migrate_what_is_held_is_left_to_the_caller(place: Place) -> None:
    doubts = Doubts.begin()
    quietly(place, doubts, brief=False)
    quietly(place, doubts, brief=False)
    place.world.emulator.nodes[0].faults.migrations_remaining = 1
    assert quietly(place, doubts, brief=True) == []
    assert not doubts.calm


def test_many_ends_are_told_in_parts_and_prove_nothing_before_the_last(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.collector.reconcile.ENDS", 2)
    for key in (1, 3, 4):
        place.know(key)
    for key in (0, 2):
        Delete(key).happen(place.world)
    place.world.note()
    transactions: list[list[Parcel]] = []

    def deliver(parcels: list[Parcel]) -> None:
        transactions.append(parcels)
        for parcel in parcels:
            place.catalog.commit(parcel.state, parcel.put, parcel.out)

    times = place.times()
    before, after = read(place.source, times), read(place.source, times)
    reconcile(
        place.source, {0: place.catalog}, before, after, Doubts.begin(), times, lambda: None, deliver
    )  # fmt: skip
    assert [[len(p.columns) for p in parcels] for parcels in transactions] == [[2], [2], [1]]
    assert [[p.complete for p in parcels] for parcels in transactions] == [[False], [False], [True]]
    assert [set((parcels[0].state.reconciled - BEGINS).tolist()) for parcels in transactions] == [
        {700}, {700}, {1_000 - ERROR_MS - SKEW_MS},
    ]  # fmt: skip
    assert len(place.catalog) == 0
    ended = [DIGESTS.index(d.tobytes()) for parcels in transactions for p in parcels for d in p.columns.digest]
    assert sorted(ended) == [0, 1, 2, 3, 4]


def test_the_ends_of_all_shards_together_are_told_in_transactions_of_bounded_size(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.collector.reconcile.ENDS", 3)
    catalogs = {
        shard: Catalog.begin(tmp_path / f"{shard} of 4", ShardState.begin(shard, 4, BEGINS)) for shard in range(4)
    }
    for shard, catalog in catalogs.items():
        one = replace(place, catalog=catalog)
        one.swept_until(BEGINS + 700)
        for key in (key for key, (partition, _) in enumerate(PLACES) if partition // 1024 == shard):
            one.know(key)
            Delete(key).happen(place.world)
    place.world.note()
    transactions: list[list[Parcel]] = []
    times = place.times()
    before, after = read(place.source, times), read(place.source, times)
    reconcile(place.source, catalogs, before, after, Doubts.begin(), times, lambda: None, transactions.append)
    assert [[(p.state.shard, len(p.columns), p.complete) for p in parcels] for parcels in transactions] == [
        [(0, 3, True)], [(1, 3, True)], [(2, 1, True), (3, 1, True)],
    ]  # fmt: skip
    for catalog in catalogs.values():
        catalog.close()


def set_back(place: Place, ms: int) -> Times:
    """All clocks are set back, and measured anew."""
    for node in range(2):
        StepClock(node, -ms).happen(place.world)
    place.world.note()
    return place.times(-ms)


def test_what_goes_after_clocks_were_set_back_goes_after_what_was_captured(place: Place) -> None:
    """Up to the watermark it was there, whatever the clock shows now."""
    times = set_back(place, 60_000)
    Delete(0).happen(place.world)
    place.world.note()
    place.reconcile(times)
    assert told(place) == [(0, Op.DELETE, 700, 701)]


def test_what_clocks_that_were_set_back_show_again_is_not_told_as_expired(place: Place) -> None:
    Put(6, 1, 20).happen(place.world)
    void_time = BEGINS + 21_000
    place.know(6, lut=BEGINS + 1_000, void_time=void_time)
    Pass(30_000).happen(place.world)
    place.swept_until(BEGINS + 30_700)
    times = set_back(place, 20_000)
    place.reconcile(times)
    assert told(place) == []
    Pass(20_000).happen(place.world)
    place.reconcile(times)
    assert told(place) == [(6, Op.EXPIRY, 21_000, 21_000)]


@pytest.mark.parametrize(("now", "seen"), [(2_000, 2_000), (1_001, 1_001), (1_000, 1_001), (-50_000, 1_001)])
def test_whatever_is_seen_is_seen_after_every_watermark(place: Place, now: int, seen: int) -> None:
    state = place.catalog.state
    watermark = state.watermark.copy()
    watermark[7] = BEGINS + 1_000
    assert replace(state, watermark=watermark).seen(BEGINS + now) == BEGINS + seen
