"""Tiers: what is merged into what, over weeks of commits that nobody writes."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Epoch, Manifest, SegmentInfo, tiers
from cdc.archive.tiers import Merge

SEGMENT_BYTES = 64 << 20
FIRST = SegmentInfo(
    name="", epoch=1, size=0, sha256="", index_size=0, index_sha256="", rows=1, raw_size=0, first_digest="",
    last_digest="", first_offset=0, last_offset=0, min_effective_at=0, max_effective_at=0, min_unobserved_since=0,
    max_observed_at=0,
)  # fmt: skip


class Shard:
    """A shard's manifest, to which commits are added; merges give objects of the sizes that merging would."""

    def __init__(self, merge_segments: int) -> None:
        self.merge_segments = merge_segments
        self.manifest = Manifest("test", 0, 1, epochs=(Epoch(1, 0, 0),))
        self.names = self.rewritten = self.brought = 0
        self.passed: dict[str, set[int]] = {}
        """Per segment the tiers in which its bytes have been."""

    def info(self, size: int, inputs: tuple[SegmentInfo, ...], tier: int) -> SegmentInfo:
        self.names += 1
        name = f"{self.names}.avro"
        self.passed[name] = {tier}.union(*(self.passed[s.name] for s in inputs))
        return replace(FIRST, name=name, size=size, tier=tier)

    def commit(self, size: int, at: int, offset: int) -> None:
        made = replace(
            self.info(size, (), 0), first_offset=offset, last_offset=offset, min_effective_at=at, max_effective_at=at
        )
        self.brought += size
        self.manifest = replace(self.manifest, segments=(*self.manifest.segments, made))

    def merge(self) -> list[Merge]:
        done = []
        while merges := tiers.plan(self.manifest, self.merge_segments, SEGMENT_BYTES):
            for merge in merges:
                self.carry_out(merge)
            done += merges
        return done

    def carry_out(self, merge: Merge) -> None:
        for info in merge.inputs:
            assert merge.tier not in self.passed[info.name], "a version is rewritten once per tier at most"
            assert not tiers.big(info, SEGMENT_BYTES), "what is big is not rewritten"
        self.rewritten += merge.size
        part, made, left = merge.part_bytes(SEGMENT_BYTES), list[SegmentInfo](), merge.size
        assert part <= SEGMENT_BYTES
        while left > 0:
            out = self.info(min(part, left), merge.inputs, merge.tier)
            made.append(
                replace(
                    out,
                    first_offset=min(s.first_offset for s in merge.inputs),
                    last_offset=max(s.last_offset for s in merge.inputs),
                    min_effective_at=min(s.min_effective_at for s in merge.inputs),
                    max_effective_at=max(s.max_effective_at for s in merge.inputs),
                )
            )
            left -= part
        found = tiers.applied(self.manifest.segments, merge, made)
        assert found is not None
        self.manifest = replace(self.manifest, segments=found)

    @property
    def bytes(self) -> int:
        return sum(s.size for s in self.manifest.segments)


sizes = st.sampled_from([1_000, 20_000, 300_000, 3 << 20, 20 << 20, 31 << 20, 40 << 20, 64 << 20])


@settings(max_examples=40, deadline=None)
@given(
    merge_segments=st.integers(2, 9),
    commits=st.lists(st.tuples(sizes, st.integers(1, 40)), min_size=1, max_size=20),
    late=st.booleans(),
)
def test_segments_stay_few_and_each_version_is_rewritten_once_per_tier(
    merge_segments: int, commits: list[tuple[int, int]], late: bool
) -> None:
    shard = Shard(merge_segments)
    offset = 0
    for size, times in commits:
        for _ in range(times):
            shard.commit(size, 1000 - offset if late else offset, offset)
            offset += 1
            shard.merge()
            small = [s for s in shard.manifest.segments if not tiers.big(s, SEGMENT_BYTES)]
            by_tier = [
                sum(s.tier == tier for s in small) for tier in range(max((s.tier for s in small), default=0) + 1)
            ]
            assert all(count < merge_segments + merge_segments // 2 for count in by_tier)
            assert len(by_tier) <= 1 + math.log(offset, merge_segments) + 1e-9
    assert shard.bytes == shard.brought, "nothing goes, and nothing comes twice"


@pytest.mark.parametrize(
    ("commit_bytes", "commits"), [(2_000, 30_000), (100_000, 30_000), (2_000_000, 10_000), (40_000_000, 2_000)]
)
def test_weeks_of_commits_every_ten_seconds_leave_few_segments_and_a_rewind_reads_little_more_than_it_undoes(
    commit_bytes: int, commits: int
) -> None:
    shard = Shard(8)
    worst = 0.0
    for offset in range(commits):  # 30,000 are three and a half days; weeks follow from the logarithm
        shard.commit(commit_bytes, offset * 10_000, offset)
        shard.merge()
        if offset > 1000 and offset % 7 == 0:
            for minutes in (1, 10, 60, 600):
                since = offset * 10_000 - minutes * 60_000
                read = sum(s.size for s in shard.manifest.segments if s.max_effective_at > since)
                worst = max(worst, read / (commit_bytes * minutes * 6))
    segments = shard.manifest.segments
    small = [s for s in segments if not tiers.big(s, SEGMENT_BYTES)]
    assert len(small) <= 11 * (1 + math.log(commits, 8))
    assert len(segments) - len(small) <= 2 * shard.bytes / SEGMENT_BYTES
    assert shard.rewritten <= shard.brought * math.log(commits, 8)
    assert worst <= 3


def test_a_year_of_small_commits_leaves_a_few_dozen_segments() -> None:
    shard = Shard(8)
    for offset in range(8760 * 4):  # as many as a year of quarters of an hour has
        shard.commit(5_000, offset, offset)
        shard.merge()
    assert len(shard.manifest.segments) < 60
    assert max(s.tier for s in shard.manifest.segments) <= 5


def test_an_epoch_that_is_over_becomes_one_segment_and_is_never_mixed_with_another() -> None:
    shard = Shard(8)
    for offset in range(5):
        shard.commit(1000, offset, offset)
    old = shard.manifest.segments
    assert shard.merge() == []
    again = Epoch(2, 5, 0)
    shard.manifest = replace(shard.manifest, epochs=(*shard.manifest.epochs, again))
    new = tuple(replace(s, name=f"new{s.name}", epoch=2) for s in old)
    shard.passed |= {s.name: {0} for s in new}
    shard.manifest = replace(shard.manifest, segments=(*old, *new))
    assert [(m.epoch, m.inputs) for m in shard.merge()] == [(1, old)]
    assert [s.epoch for s in shard.manifest.segments] == [1, *[2] * 5]


def test_nothing_is_merged_where_the_settings_say_never() -> None:
    for never in (0, 1):
        shard = Shard(never)
        for offset in range(100):
            shard.commit(1000, offset, offset)
        assert shard.merge() == []


def test_a_merge_whose_input_is_gone_is_void() -> None:
    shard = Shard(2)
    for offset in range(4):
        shard.commit(1000, offset, offset)
    [merge] = tiers.plan(shard.manifest, 2, SEGMENT_BYTES)[:1]
    made = shard.info(2000, merge.inputs, 1)
    segments = shard.manifest.segments
    assert tiers.applied(segments, merge, [made]) == (made, *segments[2:])
    assert tiers.applied(segments[1:], merge, [made]) is None


def test_tiers_have_the_names_of_what_they_span() -> None:
    assert [tiers.span_of(t) for t in (0, 1, 3, 5, 9)] == ["seconds", "minutes", "hours", "days", "days"]
