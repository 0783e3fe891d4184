"""Which moments a policy keeps, and what goes; by manifests alone."""

from dataclasses import replace

import pytest

from cdc.archive import Epoch, Manifest, RestoreSet, SegmentInfo
from cdc.archive.retention import DAY_MS, Decision, ShardPlan, decide, plan
from cdc.archive.windows import namespace_windows, shard_windows
from cdc.clock import parse_rfc3339
from cdc.config import RetentionSettings

HOUR = 3_600_000
START = parse_rfc3339("2026-01-01T00:00:00Z")
POLICY = RetentionSettings(changes_days=2, hourly_days=7, daily_days=30, monthly_days=365)


def restore_set(at: int, through: int, number: int = 1) -> RestoreSet:
    return RestoreSet(at, through, number, 5, 500, f"{number}-{at}-{through}.json", 10, "", at)


def segment(at: int, offset: int, number: int = 1, *, since: int | None = None) -> SegmentInfo:
    """Of ten changes in an hour, which looks a minute apart found."""
    return SegmentInfo(
        f"{number}-{offset}.avro", number, 100, "", 10, "", 10, 100, "00", "ff", offset, offset + 9, at, at + HOUR - 1,
        at - 60_000 if since is None else since, at + HOUR,
    )  # fmt: skip


def epoch(number: int, start: int, end: int, ended: str = "") -> Epoch:
    return Epoch(number, start, 0, start, end, end, ended)


def hourly(shard: int, hours: int, number: int = 1, start: int = START) -> Manifest:
    """A shard with a segment for each hour, and a set at the end of each."""
    segments = tuple(segment(start + h * HOUR, h * 10, number) for h in range(hours))
    sets = tuple(restore_set(start + h * HOUR, h * 10, number) for h in range(1, hours + 1))
    one = epoch(number, start, start + hours * HOUR)
    return Manifest("test", shard, 2, 1, next_changes=hours * 10, epochs=(one,), segments=segments, sets=sets)


def completed(planned: ShardPlan) -> Manifest:
    """The manifest before, once listings have taken in what the plan asks for."""
    done = {s.listing: replace(s, beside_through=planned.before.next_changes) for s in planned.complete}
    return replace(planned.before, sets=tuple(done.get(s.listing, s) for s in planned.before.sets))


def pruned(shards: list[Manifest], decision: Decision) -> list[Manifest]:
    again = [completed(plan(m, decision)) for m in shards]
    done = [plan(m, decision) for m in again]
    assert not any(p.complete for p in done)
    return [p.after for p in done]


def test_sets_thin_out_with_age_and_their_number_does_not_grow() -> None:
    shards = [hourly(k, 24) for k in (0, 1)]
    counts = []
    for hour in range(24, 24 * 70, 12):
        now = START + hour * HOUR
        grown = [hourly(m.shard, hour) for m in shards]
        shards = [
            replace(
                m,
                epochs=g.epochs,
                next_changes=g.next_changes,
                segments=(*m.segments, *(s for s in g.segments if s.first_offset >= m.next_changes)),
                sets=(*m.sets, *(s for s in g.sets if s.through > m.next_changes)),
            )
            for m, g in zip(shards, grown, strict=True)
        ]
        decision = decide(shards, POLICY, {}, now)
        shards = pruned(shards, decision)
        assert pruned(shards, decide(shards, POLICY, {}, now)) == shards
        ats = [s.at for s in shards[0].sets]
        assert [s.at for s in shards[1].sets] == ats
        first = START + HOUR
        for days, step in ((2, HOUR), (7, HOUR), (30, DAY_MS)):
            wanted = range(-(-max(first, now - days * DAY_MS) // step) * step, now + 1, step)
            assert set(wanted) <= set(ats)
        [*alone, span] = shard_windows(shards[0])
        assert span.end == now
        assert span.start == max(START, now - 2 * DAY_MS)
        assert [w.start for w in alone] == [at for at in ats if at < span.start]
        counts.append((len(shards[0].segments), len(shards[0].sets)))
    # Two days of changes, and where a look reaches back over it the hour before them.
    assert max(segments for segments, _ in counts) <= 2 * 24 + 1
    assert max(sets for _, sets in counts) <= 7 * 24 + 1 + 30 + 12
    assert decision.sets[START + 59 * DAY_MS] == "the first of its month"


def test_a_moment_that_one_shard_lacks_is_kept_by_none() -> None:
    now = START + 10 * DAY_MS
    shards = [hourly(k, 240) for k in (0, 1)]
    lacking = START + 3 * DAY_MS
    shards[1] = replace(shards[1], sets=tuple(s for s in shards[1].sets if s.at != lacking))
    decision = decide(shards, POLICY, {}, now)
    assert lacking not in decision.sets
    assert decision.sets[lacking + HOUR] == "the first of its day"
    after = pruned(shards, decision)
    assert lacking not in {s.at for s in after[0].sets}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (None, "nothing in the archive"),
        (Manifest("test", 1, 2, 1), "shard 1 has no window"),
        (Manifest("test", 1, 2, 1, epochs=(Epoch(1, START, 0),)), "shard 1 has no window"),
    ],
)
def test_nothing_goes_while_a_shard_cannot_be_restored(other: Manifest | None, reason: str) -> None:
    decision = decide([hourly(0, 240), other], POLICY, {}, START + 10 * DAY_MS)
    assert reason in decision.held
    planned = plan(hourly(0, 240), decision)
    assert (planned.after, planned.complete) == (planned.before, ())


def test_without_a_number_of_days_every_moment_is_kept() -> None:
    decision = decide([hourly(0, 240)], RetentionSettings(), {}, START + 900 * DAY_MS)
    assert "for ever" in decision.held


def test_what_a_history_that_stands_still_needs_to_go_on_is_kept_however_old() -> None:
    shards = [hourly(0, 240)]
    decision = decide(shards, POLICY, {}, START + 900 * DAY_MS)
    assert decision.changes_from == START + 10 * DAY_MS
    [after] = pruned(shards, decision)
    assert [(w.start, w.end) for w in namespace_windows([after])][-1] == (START + 10 * DAY_MS, START + 10 * DAY_MS)
    assert len(after.sets) == 2  # minimum_sets


def test_a_mark_keeps_its_moment_and_asks_for_a_set_only_when_the_changes_go() -> None:
    marks = {"launch": START + 30 * HOUR + 7, "early": START + 5 * HOUR, "never": START - DAY_MS}
    shards = [hourly(k, 48) for k in (0, 1)]
    young = decide(shards, POLICY, marks, START + 48 * HOUR)
    assert (young.make, young.lost) == ((), ("never",))
    shards = [hourly(k, 240) for k in (0, 1)]
    decision = decide(shards, POLICY, marks, START + 240 * HOUR)
    assert decision.make == (START + 30 * HOUR + 7,)
    assert decision.sets[START + 30 * HOUR + 7] == "kept as launch"
    assert decision.sets[START + 5 * HOUR] == "kept as early"
    assert all(plan(m, decision).after == m for m in shards)  # nothing goes before the set is there
    made = [replace(m, sets=(*m.sets, restore_set(START + 30 * HOUR + 7, m.next_changes))) for m in shards]
    after = pruned(made, decide(made, POLICY, marks, START + 240 * HOUR))
    assert {START + 30 * HOUR + 7, START + 5 * HOUR} <= {w.start for w in namespace_windows(after)}
    much = decide(after, POLICY, marks, START + 9000 * HOUR)
    assert {START + 30 * HOUR + 7, START + 5 * HOUR} <= set(much.sets)


def test_an_epoch_of_which_nothing_is_kept_goes_and_the_last_stays() -> None:
    old = hourly(0, 24)
    void = Epoch(2, START + 2 * DAY_MS, 0, ended="the scope became something else")
    new = hourly(0, 240, 3, START + 40 * DAY_MS)
    strange = segment(START + 2 * DAY_MS, 0, 2)
    both = replace(
        new,
        epochs=(replace(old.epochs[0], ended="lost"), void, *new.epochs),
        segments=(*old.segments, strange, *new.segments),
        sets=(*old.sets, *new.sets),
    )
    decision = decide([both], POLICY, {}, START + 50 * DAY_MS)
    [after] = pruned([both], decision)
    # The first of its month is of the first epoch.
    assert [e.number for e in after.epochs] == [1, 3]
    assert [s.epoch for s in after.sets][:2] == [1, 3]
    assert {s.epoch for s in after.segments} == {3}
    short = RetentionSettings(changes_days=2)
    [after] = pruned([both], decide([both], short, {}, START + 50 * DAY_MS))
    assert [e.number for e in after.epochs] == [3]


def test_what_came_late_stays_until_a_listing_has_it() -> None:
    marks, at = {"old": START + 60 * HOUR}, START + 60 * HOUR
    # Found 200 hours on, of records that nobody had seen since before the marked moment.
    late = segment(START + 200 * HOUR, 2400, since=START + 50 * HOUR)
    shard = hourly(0, 240)
    [shard] = pruned([shard], decide([shard], POLICY, marks, START + 240 * HOUR))
    shard = replace(shard, segments=(*shard.segments, late), next_changes=2410)
    now = START + 400 * HOUR
    shard = replace(shard, epochs=(epoch(1, START, now),), sets=(*shard.sets, restore_set(START + 340 * HOUR, 2410)))
    planned = plan(shard, decide([shard], POLICY, marks, now))
    assert at in {s.at for s in planned.complete}
    assert late in planned.after.segments
    [after] = pruned([shard], decide([shard], POLICY, marks, now))
    assert late not in after.segments
    assert {s.at: s.beside_through for s in after.sets}[at] == 2410
