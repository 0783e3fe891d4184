"""Which moments damaged objects cost. Pure.

A clone of a moment reads its view, a rewind to it everything beside its restore set (`cdc.archive.views`). What of that
is damaged makes the moment unrecoverable. Both change only at a few moments, so one of each piece is asked.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from cdc.archive import views, windows
from cdc.archive.listings import Listed, Listing
from cdc.archive.manifests import Manifest, RestoreSet, SegmentInfo
from cdc.archive.windows import Window


class Moments(NamedTuple):
    """A span of time, both ends included, in milliseconds."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a namespace's windows: what neither a clone nor a rewind reaches any more (`lost`), to what no rewind goes
    any more (`lost_in_place`: all of that, and more), and what is left. In order of time."""

    lost: tuple[Moments, ...]
    lost_in_place: tuple[Moments, ...]
    left: tuple[Moments, ...]


def shard_lost(
    manifest: Manifest, damaged: Collection[str], listed: Listed, *, in_place: bool = False
) -> list[Moments]:
    """The moments in a shard's windows for which a clone (or with `in_place` a rewind) would read a damaged object,
    index or listing; `damaged` has their names. A damaged listing is not asked for."""
    hurt = replace(manifest, segments=_hurt(manifest.segments, damaged))

    def hurt_of(made: RestoreSet) -> Listing:
        listing = Listing() if made.listing in damaged else listed(made)
        return Listing(_hurt(listing.segments, damaged), _hurt(listing.beside, damaged))

    spans = windows.shard_windows(manifest)
    edges = {w.start for w in spans} | {w.end + 1 for w in spans}
    # What a listing has beside its set is read for the set's own moment alone.
    edges |= {at for s in manifest.sets for at in (s.at, s.at + 1)}
    # A view takes a segment in from its first version on, or from the first blind interval that reaches back.
    seen = (*hurt.segments, *(s for made in manifest.sets for s in hurt_of(made).beside))
    edges |= {min(s.min_effective_at, s.min_unobserved_since + 1) for s in seen}
    found = []
    for start, end in pairwise(sorted(edges)):
        epoch = windows.epoch_at(manifest, start)
        if epoch is None:
            continue
        # No rewind goes to where changes are not kept.
        rewinds = in_place and start >= manifest.changes_kept_from
        needed = views.everything_beside if rewinds else views.view_of_epoch
        view = needed(hurt, epoch, start, hurt_of)
        if view.objects or (view.base is not None and view.base.listing in damaged):
            found.append(Moments(start, end - 1))
    return united(found)


def namespace_cost(shards: Sequence[tuple[Manifest | None, bool]], damaged: Collection[str], listed: Listed) -> Cost:
    """What damage costs a namespace: of each shard its newest sound manifest, and whether it is the one that counts. A
    shard whose last manifest is damaged gives nothing back as long as that stands."""
    whole = _spans(windows.namespace_windows([manifest for manifest, _ in shards]))
    if not all(counts for _, counts in shards):
        return Cost(tuple(whole), tuple(whole), ())
    known = [manifest for manifest, _ in shards if manifest is not None]
    lost = [span for manifest in known for span in shard_lost(manifest, damaged, listed)]
    in_place = [span for manifest in known for span in shard_lost(manifest, damaged, listed, in_place=True)]
    left = without(whole, united(lost))
    return Cost(tuple(without(whole, left)), tuple(without(whole, without(whole, united(in_place)))), tuple(left))


def united(spans: Iterable[Moments]) -> list[Moments]:
    """The same moments in order, spans that touch as one."""
    out: list[Moments] = []
    for span in sorted(spans):
        if out and span.start <= out[-1].end + 1:
            out[-1] = Moments(out[-1].start, max(out[-1].end, span.end))
        else:
            out.append(span)
    return out


def _spans(found: Iterable[Window]) -> list[Moments]:
    return united(Moments(w.start, w.end) for w in found)


def within(spans: Sequence[Moments], others: Sequence[Moments]) -> list[Moments]:
    """What of some spans lies in others."""
    return without(spans, without(spans, others))


def without(spans: Sequence[Moments], taken: Sequence[Moments]) -> list[Moments]:
    """What of some spans lies in none of others."""
    out = list(spans)
    for cut in taken:
        sides = [(Moments(s.start, min(s.end, cut.start - 1)), Moments(max(s.start, cut.end + 1), s.end)) for s in out]
        out = [part for both in sides for part in both if part.start <= part.end]
    return united(out)


def _hurt(infos: tuple[SegmentInfo, ...], damaged: Collection[str]) -> tuple[SegmentInfo, ...]:
    return tuple(i for i in infos if i.name in damaged or i.index_name in damaged)
