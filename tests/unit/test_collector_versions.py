"""What a look's versions are published as: new or not, from when on, and blind since when."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.collector.entries import Entries, key_order
from cdc.collector.state import Floors
from cdc.collector.versions import Moments, Seen, differing, ended, judge
from cdc.model import BEGINNING, Columns, Op, Origin

OVERLAP = 1000
moments_ms = st.integers(1, 100_000)


def digest_of(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint8).repeat(20).reshape(n, 20)


def seen(luts: list[int], generations: list[int]) -> Seen:
    n = len(luts)
    return Seen(
        digest_of(n), np.array(luts, np.int64), np.array(generations, np.int32), np.zeros(n, np.int64),
        np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64),
    )  # fmt: skip


def entries(luts: list[int], generations: list[int]) -> Entries:
    s = seen(luts, generations)
    return Entries.of(s.digest, s.lut, s.generation, s.void_time, s.checksum, np.zeros(len(s), np.uint16))


def judged(
    lut: int, watermark: int, *, full: int = 1, floor: int = 0, now: int = 200_000, kind: Origin = Origin.SWEEP,
    generation: int = 1, before: int | None = None, lut_before: int = 1, found: int = 1,
) -> Columns:  # fmt: skip
    moments = Moments(np.array([watermark]), np.array([full]), np.array([found]), np.array([floor]))
    known = np.array([before is not None])
    return judge(
        seen([lut], [generation]), known, entries([lut_before], [before or 0]), moments, kind, now, OVERLAP
    )  # fmt: skip


@given(moments_ms, moments_ms, moments_ms, moments_ms, st.sampled_from([Origin.SWEEP, Origin.AUDIT]))
@settings(max_examples=150)
def test_the_blind_interval_holds_every_moment_at_which_the_version_may_have_come(
    lut: int, watermark: int, full: int, floor: int, kind: Origin
) -> None:
    full = min(full, watermark)
    out = judged(lut, watermark, full=full, floor=floor, kind=kind)
    since, effective = int(out.unobserved_since[0]), int(out.effective_at[0])
    assert effective >= max(lut, floor)
    if lut >= watermark:
        assert (since, effective) == (watermark, max(lut, floor))
    else:
        assert effective >= out.observed_at[0]
        assert not out.consecutive[0]
        assert since == (watermark if lut >= watermark - OVERLAP else full)
        assert since <= effective


@given(moments_ms, moments_ms, moments_ms, moments_ms)
@settings(max_examples=100)
def test_a_known_record_may_have_been_away_since_deletes_were_last_looked_for(
    lut_before: int, found: int, watermark: int, lut: int
) -> None:
    """Deleted before a sweep, which does not show it, and created again after it: in the millisecond of its LUT at the
    earliest."""
    lut = max(lut, watermark, lut_before)
    out = judged(lut, watermark, before=3, generation=1, lut_before=lut_before, found=found)
    assert out.unobserved_since[0] == min(watermark, max(found, lut_before - 1))


def test_a_base_version_is_blind_since_the_beginning_and_holds_from_its_lut() -> None:
    out = judged(50, BEGINNING, kind=Origin.BASE)
    assert (out.unobserved_since[0], out.effective_at[0], out.origin[0]) == (BEGINNING, 50, Origin.BASE)
    assert not out.consecutive[0]


def test_only_what_no_sweep_could_have_shown_is_the_audits() -> None:
    assert judged(49_000, 50_000, kind=Origin.AUDIT).origin[0] == Origin.SWEEP
    assert judged(48_999, 50_000, kind=Origin.AUDIT).origin[0] == Origin.AUDIT
    assert judged(48_999, 50_000, kind=Origin.SWEEP).origin[0] == Origin.SWEEP


@given(st.integers(1, 65_535), st.integers(1, 65_535))
@settings(max_examples=60)
def test_consecutive_means_the_next_generation_and_one_follows_the_highest(before: int, after: int) -> None:
    out = judged(60_000, 50_000, generation=after, before=before)
    assert out.consecutive[0] == (after == (1 if before == 65_535 else before + 1))
    assert judged(60_000, 50_000, generation=1, before=65_535).consecutive[0]


def test_a_first_generation_of_an_unknown_record_is_presumed_to_be_its_only_write() -> None:
    assert judged(60_000, 50_000, generation=1).consecutive[0]
    assert not judged(60_000, 50_000, generation=2).consecutive[0]


def test_a_version_differs_by_any_of_lut_generation_void_time_and_checksum() -> None:
    base, known = seen([5], [1]), np.array([True])
    same = entries([5], [1])
    assert not differing(base, ~known, known, same)[0]
    assert differing(base, ~known, np.array([False]), same)[0]
    for column, value in (("lut", 6), ("generation", 2), ("void_time", 1_800_000_000_000), ("checksum", 9)):
        other = replace(base, **{column: np.array([value], getattr(base, column).dtype)})
        assert differing(other, ~known, known, same)[0], column


def test_of_a_torn_record_only_the_lut_says_nothing() -> None:
    known, same = np.array([True]), entries([5], [1])
    newer = replace(seen([5], [1]), lut=np.array([6]))
    assert not differing(newer, known, known, same)[0]
    for column in ("generation", "checksum"):
        other = replace(newer, **{column: getattr(newer, column) + 1})
        assert differing(other, known, known, same)[0], column


@given(st.lists(st.integers(0, 6), max_size=40))
@settings(max_examples=60)
def test_of_a_digest_seen_twice_the_later_answer_stays(numbers: list[int]) -> None:
    digest = np.array(numbers, np.uint8).repeat(20).reshape(len(numbers), 20)
    rows = key_order(digest)
    last = {number: row for row, number in enumerate(numbers)}
    assert sorted(rows.tolist()) == sorted(last.values())


def test_what_has_ended_is_blind_since_it_was_last_known_to_be_there() -> None:
    known = entries([500, 900], [3, 3])
    out = ended(
        known, Op.DELETE, np.zeros(2, np.uint64), np.array([700, 700]), np.array([1000, 1000]), np.array([0, 1200]),
        1000, Origin.RECONCILE,
    )  # fmt: skip
    assert out.unobserved_since.tolist() == [700, 899]
    assert out.effective_at.tolist() == [1000, 1200]


def test_floors_keep_the_latest_moment_until_nothing_can_run_below_it() -> None:
    floors = Floors.empty().after(digest_of(3), np.array([10, 20, 30]), 0)
    floors = floors.after(digest_of(1), np.array([15]), 15)
    assert floors.of(digest_of(4)).tolist() == [0, 20, 30, 0]
