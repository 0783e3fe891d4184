"""Windows and holes from epochs."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cdc.archive import Epoch, Hole, Manifest, RestoreSet, Window
from cdc.archive.looks import Span, Spans, add
from cdc.archive.windows import (
    PRUNED,
    epoch_at,
    holes_within,
    namespace_holes,
    namespace_windows,
    runs,
    shard_windows,
)


def epoch(number: int, start: int | None, end: int, *, writes: int = 5, deletes: int = 9, ended: str = "") -> Epoch:
    watched = [() if start is None else (Span(start - 10, end, ms, ms),) for ms in (writes, deletes)]
    return Epoch(number, number * 1000, 0, start, end, end - 1, ended, writes=watched[0], deletes=watched[1])


def shard(number: int, *epochs: Epoch) -> Manifest:
    return Manifest("test", number, 2, epochs=epochs)


def test_a_window_opens_when_the_base_is_complete_and_something_later_is_resolved() -> None:
    assert shard_windows(shard(0, epoch(1, None, 0))) == []
    assert shard_windows(shard(0, epoch(1, 100, 99))) == []
    [window] = shard_windows(shard(0, epoch(1, 100, 100)))
    assert (window.start, window.end, window.reconciled_at, window.resolution()) == (100, 100, 99, (5, 9))


def test_the_namespaces_window_is_what_all_shards_share() -> None:
    shards = [shard(0, epoch(1, 100, 200, writes=7)), shard(1, epoch(1, 120, 180, writes=3, deletes=10))]
    [window] = namespace_windows(shards)
    assert (window.start, window.end, window.reconciled_at, window.resolution()) == (120, 180, 179, (7, 10))
    assert namespace_holes(shards) == []


def test_a_shard_with_nothing_leaves_no_window_and_is_named() -> None:
    whole = shard(0, epoch(1, 100, 200))
    assert namespace_windows([whole, None]) == []
    assert namespace_holes([whole, None]) == [Hole(0, 0, "shard 1 has nothing in the archive")]
    assert [h.reason for h in namespace_holes([whole, shard(1, epoch(1, None, 0))])] == [
        "shard 1 has an unfinished base snapshot, begun 1970-01-01T00:00:01.000Z"
    ]
    assert namespace_windows([]) == []


def test_a_new_epoch_leaves_a_hole_with_its_reason() -> None:
    shards = [shard(k, epoch(1, 100, 200 + k, ended="lost"), epoch(2, 300 - k, 400)) for k in (0, 1)]
    assert [(w.start, w.end) for w in namespace_windows(shards)] == [(100, 200), (300, 400)]
    assert namespace_holes(shards) == [Hole(200, 300, "lost")]


def test_a_history_that_has_ended_says_so_behind_its_window() -> None:
    shards = [shard(0, epoch(1, 100, 200, ended="gone")), shard(1, epoch(1, 100, 250))]
    assert namespace_holes(shards) == [Hole(200, 250, "gone")]


def test_shards_without_a_common_moment_are_told() -> None:
    shards = [shard(0, epoch(1, 100, 200)), shard(1, epoch(1, 300, 400))]
    assert namespace_windows(shards) == []
    assert [h.reason for h in namespace_holes(shards)] == ["the shards' windows have no moment in common"]


def test_where_epochs_overlap_the_newer_one_is_used() -> None:
    both = shard(0, epoch(1, 100, 300), epoch(2, 200, 400))
    assert [getattr(epoch_at(both, at), "number", None) for at in (99, 100, 199, 200, 400, 401)] == [
        None, 1, 1, 2, 2, None,
    ]  # fmt: skip


def steady(start: int, end: int, every: int) -> Spans:
    spans: Spans = ()
    for at in range(start, end, every):
        spans = add(spans, at, at + every)
    return spans


def paused() -> Window:
    """A look a second for an hour, a pause of five minutes, then another hour; deletes every 30 s."""
    hour = 3_600_000
    writes, deletes = steady(0, hour, 1000), steady(0, hour, 30_000)
    for since, until in ((hour, hour + 300_000), (hour + 300_000, hour + 301_000)):
        writes = add(writes, since, until)
    deletes = add(deletes, hour, hour + 302_000)
    writes = (*writes[:-1], Span(writes[-1].start, 2 * hour, 1000, 1000))
    deletes = (*deletes, Span(hour + 302_000, 2 * hour, 30_000, 30_000))
    made = Epoch(1, 0, 0, 0, 2 * hour, 2 * hour - 20_000, writes=writes, deletes=deletes)
    [window] = shard_windows(shard(0, made))
    return window


def test_a_pause_is_a_coarse_span_of_its_own_and_the_rest_stays_fine() -> None:
    window = paused()
    assert (window.typical(), window.resolution()) == ((1000, 30_000), (300_000, 302_000))
    [coarse] = window.coarse()
    assert (coarse.start, coarse.end, coarse.resolution) == (3_600_000, 3_902_000, (300_000, 302_000))
    assert coarse.reason == "collector paused or lagged"


def test_the_resolution_of_a_part_is_its_own_and_what_is_coarse_is_judged_by_the_whole() -> None:
    window = paused()
    before, within = window.part(0, 3_000_000), window.part(3_700_000, 3_800_000)
    assert window.part(9_000_000, 10**8) is None
    assert before is not None
    assert within is not None
    assert (before.resolution(), before.coarse()) == ((1000, 30_000), [])
    assert (within.resolution(), within.typical()) == ((300_000, 302_000), (300_000, 302_000))
    assert within.coarse() == window.coarse()


def test_the_time_since_deletes_were_looked_for_counts() -> None:
    made = Epoch(1, 0, 0, 1000, 900_000, 5000, writes=steady(0, 901_000, 1000), deletes=steady(0, 5000, 1000))
    [window] = shard_windows(shard(0, made))
    assert window.resolution() == (1000, 896_000)
    assert window.part(0, 4000) == Window(1000, 4000, 5000, window.writes, window.deletes)
    part = window.part(0, 4000)
    assert part is not None
    assert part.resolution() == (1000, 1000)
    [late] = Window(0, 10_000, 9000, steady(0, 10_000, 10), add(steady(0, 9000, 10), 9000, 9900)).coarse()
    assert (late.start, late.end, late.reason) == (9000, 9900, "deletes were looked for late")


def test_a_long_base_snapshot_is_said_to_be_why_its_end_is_coarse() -> None:
    writes = add((), 0, 60_000)
    for at in range(60_000, 600_000, 1000):
        writes = add(writes, at, at + 1000)
    [window] = shard_windows(shard(0, Epoch(1, 0, 0, 59_000, 600_000, 600_000, writes=writes, deletes=writes)))
    [first] = window.coarse()
    assert (first.start, first.end, first.resolution) == (0, 60_000, (60_000, 60_000))
    assert "base snapshot" in first.reason


def test_of_a_span_the_parts_before_and_behind_all_windows_are_told() -> None:
    shards = [shard(k, epoch(1, 100, 200, ended="lost"), epoch(2, 300, 400)) for k in (0, 1)]
    windows, holes = namespace_windows(shards), namespace_holes(shards)
    said = [(h.start, h.end, h.reason) for h in holes_within(windows, holes, 50, 500)]
    assert said == [
        (50, 100, "nothing is kept from before the first window"),
        (200, 300, "lost"),
        (400, 500, "not in the archive yet"),
    ]
    assert holes_within(windows, holes, 120, 190) == []
    assert [h.reason for h in holes_within(windows, holes, 10, 20)] == ["nothing is kept from before the first window"]
    assert [h.reason for h in holes_within([], [Hole(0, 0, "nothing")], 10, 20)] == ["nothing"]


def made(at: int, number: int = 1) -> RestoreSet:
    return RestoreSet(at, 5, number, 1, 1, f"{at}.json", 1, "")


def test_before_the_changes_that_are_kept_each_set_that_all_shards_have_is_a_window_of_one_moment() -> None:
    first = replace(
        shard(0, epoch(1, 100, 400)), changes_kept_from=300, sets=tuple(made(at) for at in (90, 150, 200, 250, 350))
    )
    other = replace(shard(1, epoch(1, 100, 380)), changes_kept_from=200, sets=tuple(made(at) for at in (150, 180)))
    assert [(w.start, w.end) for w in shard_windows(first)] == [(150, 150), (200, 200), (250, 250), (300, 400)]
    assert [(w.start, w.end) for w in namespace_windows([first, other])] == [
        (150, 150), (200, 200), (250, 250), (300, 380),
    ]  # fmt: skip
    assert {h.reason for h in namespace_holes([first, other])} == {PRUNED}
    held = [at for at in range(401) if epoch_at(first, at) is not None]
    assert held == [150, 200, 250, *range(300, 401)]
    lost = replace(first, epochs=(replace(first.epochs[0], resolved_at=220, ended="lost"), epoch(2, 290, 400)))
    assert [(w.start, w.end) for w in shard_windows(lost)] == [(150, 150), (200, 200), (300, 400)]
    assert namespace_holes([lost])[-1].reason == f"{PRUNED}; lost"


@given(
    st.lists(
        st.builds(
            lambda number, kept, end, ats: replace(
                shard(number, epoch(1, 10, 40), epoch(2, 35, end)),
                changes_kept_from=kept,
                sets=tuple(made(at, 1 + at % 2) for at in ats),
            ),
            st.integers(0, 1), st.integers(0, 60), st.integers(30, 60), st.lists(st.integers(0, 60), max_size=8),
        ),
        min_size=1, max_size=3,
    )
)  # fmt: skip
def test_a_moment_is_the_namespaces_when_it_is_every_shards(shards: list[Manifest]) -> None:
    windows = namespace_windows(shards)
    for at in range(62):
        assert any(at in w for w in windows) == all(epoch_at(m, at) is not None for m in shards)


def test_single_moments_are_taken_together_by_their_distance() -> None:
    hour, day = 3_600_000, 86_400_000
    ats = [0, day, 2 * day, 3 * day, 3 * day + hour, 3 * day + 2 * hour]
    windows = [Window(at, at, at) for at in ats] + [Window(3 * day + 3 * hour, 9 * day, 0)]
    assert [(word, len(run)) for word, run in runs(windows)] == [("daily", 4), ("hourly", 2), ("", 1)]
    assert runs([]) == []
