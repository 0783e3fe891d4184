"""Which segments are merged into which: pure.

What comes from Kafka is of tier 0, a merge of tier t makes segments of tier t + 1. The oldest `merge_segments` of a
tier are merged once half as many newer ones of it stand after them. From this follows all that is promised:

- Each version is rewritten at most once per tier, and never again once its segment is big (half of `segment_bytes`).
- Of one tier there are fewer than one and a half times `merge_segments` that are not big, and so many commits make no
  more tiers than their logarithm to that base. The number of segments does not grow with the age of an archive, only
  with its bytes.
- A rewind reads every segment with a change after its moment, so it reads of older changes what shares a segment with
  a newer one. Because half as many came after the segments were merged, that is at most twice as many commits as came
  since: undoing ten minutes reads what half an hour brought, not a month, however large tiers have grown.

Order is the offsets': a late version, whose moment is older than its neighbours', is no case of its own. An epoch that
another one followed gets no more segments, and no rewind reaches it: what is small in it becomes one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cdc.archive.manifests import Manifest, SegmentInfo

SPANS: Final = ("seconds", "minutes", "minutes", "hours", "hours", "days")
"""What segments of a tier span where one comes from Kafka every ten seconds and eight become one."""


def span_of(tier: int) -> str:
    """A tier in one word, for people and metrics: seconds, minutes, hours or days."""
    return SPANS[min(tier, len(SPANS) - 1)]


@dataclass(frozen=True, slots=True)
class Merge:
    """Segments of one epoch, in order of offset, which are to become segments of `tier`."""

    epoch: int
    tier: int
    inputs: tuple[SegmentInfo, ...]

    @property
    def size(self) -> int:
        """Bytes to read, compressed."""
        return sum(s.size for s in self.inputs)

    def part_bytes(self, segment_bytes: int) -> int:
        """Where to end an output, so that all have the same size, at most about `segment_bytes`, and none is a rest
        that would be rewritten again."""
        return -(-self.size // -(-self.size // segment_bytes)) if self.size else segment_bytes


def plan(manifest: Manifest, merge_segments: int, segment_bytes: int) -> tuple[Merge, ...]:
    """What to merge now, small tiers first; no segment is in two of them. With fewer than two `merge_segments` nothing
    ever is."""
    if merge_segments < 2:
        return ()
    found: list[Merge] = []
    for epoch in manifest.epochs:
        small = [s for s in manifest.segments if s.epoch == epoch.number and not big(s, segment_bytes)]
        small.sort(key=lambda s: (s.first_offset, s.last_offset, s.name))
        if epoch.number == manifest.epochs[-1].number:
            found += _of_tiers(epoch.number, small, merge_segments)
        elif len(small) > 1:
            found.append(Merge(epoch.number, max(s.tier for s in small) + 1, tuple(small)))
    return tuple(sorted(found, key=lambda m: m.tier))


def applied(
    manifest_segments: Sequence[SegmentInfo], merge: Merge, made: Sequence[SegmentInfo]
) -> tuple[SegmentInfo, ...] | None:
    """A shard's segments with a merge's inputs replaced by what was made of them; None where an input is gone."""
    names = {s.name for s in merge.inputs}
    left = [s for s in manifest_segments if s.name not in names]
    if len(left) + len(names) != len(manifest_segments):
        return None
    place = next((i for i, s in enumerate(manifest_segments) if s.name in names), 0)
    return (*left[:place], *made, *left[place:])


def big(segment: SegmentInfo, segment_bytes: int) -> bool:
    """Whether a segment is left as it is."""
    return 2 * segment.size >= segment_bytes


def _of_tiers(epoch: int, small: list[SegmentInfo], merge_segments: int) -> list[Merge]:
    found = []
    for tier in sorted({s.tier for s in small}):
        own = [s for s in small if s.tier == tier]
        while len(own) >= merge_segments + merge_segments // 2:
            found.append(Merge(epoch, tier + 1, tuple(own[:merge_segments])))
            own = own[merge_segments:]
    return found
