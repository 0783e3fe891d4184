"""To which moments one can restore: pure functions over manifests.

A shard has a window for each epoch, as far as changes are kept; before that, one of a single moment for each restore
set. The namespace's windows are what all shards share.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from cdc.archive import looks
from cdc.archive.looks import Spans
from cdc.archive.manifests import Epoch, Manifest
from cdc.clock import rfc3339

PRUNED = "changes were pruned, restore sets remain"
"""Why one cannot restore to what lies between two moments that are kept."""


_HOUR: Final = 3_600_000
_EVERY: Final = (
    (_HOUR // 2, "frequent"), (_HOUR * 3 // 2, "hourly"), (_HOUR * 36, "daily"), (_HOUR * 24 * 10, "weekly"),
    (_HOUR * 24 * 45, "monthly"),
)  # fmt: skip
"""Up to which distance the words for how restore sets follow each other are used, in milliseconds."""


class Resolution(NamedTuple):
    """How long the blind intervals of some span are, in milliseconds.

    Within `writes_ms` a record may have been overwritten again unseen; within `deletes_ms` one may have been deleted,
    or deleted and created again, before it was told.
    """

    writes_ms: int
    deletes_ms: int

    @property
    def coarser_ms(self) -> int:
        """The longer of the two."""
        return max(self)


@dataclass(frozen=True, slots=True)
class CoarseSpan:
    """A time in which looks were much farther apart than is typical of a window, and why."""

    start: int
    end: int
    resolution: Resolution
    reason: str


@dataclass(frozen=True, slots=True)
class Window:
    """An unbroken span to whose every moment one can restore, both ends included (milliseconds since 1970).

    Up to `reconciled_at` every delete has been found. `writes` and `deletes` are the resolution, span by span, as the
    looks of the collector give it (`cdc.archive.looks`). What looks missed, and only an audit found, or what could
    only be kept aside, has a longer blind interval of its own, which that record alone bears. `scope` says in words
    which records it is about; empty: all of them.
    """

    start: int
    end: int
    reconciled_at: int
    writes: Spans = ()
    deletes: Spans = ()
    scope: str = ""

    def __contains__(self, at: int) -> bool:
        return self.start <= at <= self.end

    @property
    def single(self) -> bool:
        """Whether it is one moment."""
        return self.start == self.end

    def part(self, start: int, end: int) -> "Window | None":
        """What of it lies between two moments, both included; what is coarse is still judged by the whole."""
        start, end = max(self.start, start), min(self.end, end)
        return replace(self, start=start, end=end) if start <= end else None

    def resolution(self) -> Resolution:
        """The longest blind intervals that reach into it."""
        return self._over(self.start, self.end)

    def typical(self) -> Resolution:
        """The resolution that half of the looks in it had, or a finer one."""
        return Resolution(*(looks.typical(s, self.start, self.end) for s in (self.writes, self.deletes)))

    def coarse(self) -> list[CoarseSpan]:
        """Whatever in it is much coarser than what is typical, in order of time; spans that touch are one."""
        usual = Resolution(*(looks.typical(s, s[0].start, s[-1].end) if s else 0 for s in (self.writes, self.deletes)))
        worse = [
            (s.start, s.end)
            for spans, typical in zip((self.writes, self.deletes), usual, strict=True)
            for s in spans
            if s.coarsest_ms > looks.COARSE * typical
        ]
        return [self._told(*span, usual) for span in _united(worse) if span[0] <= self.end and span[1] >= self.start]

    def _over(self, start: int, end: int) -> Resolution:
        return Resolution(*(looks.coarsest(s, start, end) for s in (self.writes, self.deletes)))

    def _told(self, start: int, end: int, usual: Resolution) -> CoarseSpan:
        found = self._over(start, end)
        if start <= min(s[0].start for s in (self.writes, self.deletes) if s):
            reason = "the first look came long after the base snapshot began"
        elif found.writes_ms > looks.COARSE * usual.writes_ms:
            reason = "collector paused or lagged"
        else:
            reason = "deletes were looked for late"
        return CoarseSpan(start, end, found, reason)


@dataclass(frozen=True, slots=True)
class Hole:
    """A span that cannot be restored, ends excluded, and why."""

    start: int
    end: int
    reason: str


def epoch_window(epoch: Epoch) -> Window | None:
    """The window of one shard's epoch while all its changes are kept; None while there is none."""
    if epoch.recoverable_from is None or epoch.resolved_at < epoch.recoverable_from:
        return None
    return _window(epoch, epoch.recoverable_from, epoch.resolved_at)


def _window(epoch: Epoch, start: int, end: int) -> Window:
    # Nobody has looked for deletes since: so far that interval is as long as everything after it.
    seen = max(epoch.resolved_at, epoch.writes[-1].end if epoch.writes else epoch.resolved_at)
    deletes = looks.add(epoch.deletes, epoch.reconciled_at, seen)
    return Window(
        start, end, epoch.reconciled_at,
        looks.touching(epoch.writes, start, end), looks.touching(deletes, start, end), epoch.scope,
    )  # fmt: skip


def epoch_at(manifest: Manifest, at: int) -> Epoch | None:
    """The newest epoch of a shard with a window that holds a moment."""
    for epoch in reversed(manifest.epochs):
        if not _within(epoch, at):
            continue
        if at >= manifest.changes_kept_from or any(s.at == at and s.epoch == epoch.number for s in manifest.sets):
            return epoch
    return None


def shard_windows(manifest: Manifest) -> list[Window]:
    """A shard's windows in order of time. Where two epochs overlap (a clock was set back) each keeps its own."""
    found = []
    for epoch in manifest.epochs:
        if epoch.recoverable_from is None:
            continue
        start = max(epoch.recoverable_from, manifest.changes_kept_from)
        if start <= epoch.resolved_at:
            found.append(_window(epoch, start, epoch.resolved_at))
        found += [_window(epoch, at, at) for at in _kept_alone(manifest, epoch)]
    return sorted(found, key=lambda w: (w.start, w.end))


def _kept_alone(manifest: Manifest, epoch: Epoch) -> set[int]:
    """The moments of an epoch that restore sets stand for, since the changes around them are not kept."""
    return {
        made.at
        for made in manifest.sets
        if made.epoch == epoch.number and made.at < manifest.changes_kept_from and _within(epoch, made.at)
    }


def _within(epoch: Epoch, at: int) -> bool:
    return epoch.recoverable_from is not None and epoch.recoverable_from <= at <= epoch.resolved_at


def namespace_windows(shards: Sequence[Manifest | None]) -> list[Window]:
    """The namespace's windows: where every shard has one. A shard without a manifest leaves none."""
    if not shards or any(m is None for m in shards):
        return []
    per_shard = [shard_windows(m) for m in shards if m is not None]
    common = per_shard[0]
    for windows in per_shard[1:]:
        common = _intersect(common, windows)
    return common


def rewindable(shards: Sequence[Manifest | None]) -> list[Window]:
    """The windows to whose every moment the namespace can be rewound: where, in every shard, the history goes on to
    this day and every change since is kept."""
    return namespace_windows([m and replace(m, epochs=m.epochs[-1:], sets=()) for m in shards])


def _intersect(left: list[Window], right: list[Window]) -> list[Window]:
    """Single moments are many and long windows few: only where one of the two is long is each asked about each."""
    alone = defaultdict(list)
    for b in right:
        if b.single:
            alone[b.start].append(b)
    long = [b for b in right if not b.single]
    pairs = [(a, b) for a in left for b in ((*long, *alone[a.start]) if a.single else right) if _share(a, b)]
    both = [
        Window(
            max(a.start, b.start),
            min(a.end, b.end),
            min(a.reconciled_at, b.reconciled_at),
            looks.together((a.writes, b.writes)),
            looks.together((a.deletes, b.deletes)),
            either((a.scope, b.scope)),
        )
        for a, b in pairs
    ]
    return sorted(both, key=lambda w: (w.start, w.end))


def _share(a: Window, b: Window) -> bool:
    return max(a.start, b.start) <= min(a.end, b.end)


def runs(found: Sequence[Window]) -> list[tuple[str, list[Window]]]:
    """Windows in order, with those of single moments that follow each other at about one distance taken together, and
    the word for the distance; empty where there is none. A window of more than a moment stands by itself."""
    out: list[tuple[str, list[Window]]] = []
    for window in found:
        if window.single and out and out[-1][1][-1].single:
            word, run = out[-1]
            every = _every(window.start - run[-1].start)
            if len(run) == 1 or every == word:
                out[-1] = (every, [*run, window])
                continue
        out.append(("", [window]))
    return out


def _every(ms: int) -> str:
    return next((word for most, word in _EVERY if ms <= most), "")


def either(scopes: Iterable[str]) -> str:
    """The scopes of several shards in one text: they differ only while collectors are set differently."""
    found = dict.fromkeys(part for scope in scopes for part in (scope or "everything").split("; or "))
    return "" if list(found) in ([], ["everything"]) else "; or ".join(found)


def namespace_holes(shards: Sequence[Manifest | None]) -> list[Hole]:
    """The spans between the windows, and behind the last one if its history has ended; and shards that keep the
    namespace from having a window at all."""
    windows = namespace_windows(shards)
    if not windows:
        return [Hole(0, 0, reason) for reason in _missing(shards)]
    holes = [
        Hole(a.end, b.start, _why(shards, a.end, b.start)) for a, b in itertools.pairwise(windows) if a.end < b.start
    ]
    end = windows[-1].end
    last = max(e.resolved_at for m in shards if m is not None for e in m.epochs)
    reasons = [m.epochs[-1].ended for m in shards if m is not None and m.epochs[-1].ended]
    if reasons:
        holes.append(Hole(end, max(last, end), reasons[0]))
    return holes


def _united(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def holes_within(windows: Sequence[Window], holes: Sequence[Hole], start: int, end: int) -> list[Hole]:
    """Of a namespace's holes those that reach into a span, and what of it lies before all windows or behind them."""
    found = [h for h in holes if not h.end or (h.start < end and h.end > start)]
    if windows:
        first, last = min(w.start for w in windows), max([w.end for w in windows] + [h.end for h in holes])
        if start < first:
            found.insert(0, Hole(start, min(first, end), "nothing is kept from before the first window"))
        if end > last:
            found.append(Hole(max(last, start), end, "not in the archive yet"))
    return found


def _missing(shards: Sequence[Manifest | None]) -> list[str]:
    reasons = []
    for shard, manifest in enumerate(shards):
        if manifest is None or not manifest.epochs:
            reasons.append(f"shard {shard} has nothing in the archive")
        elif manifest.epochs[-1].recoverable_from is None:
            began = rfc3339(manifest.epochs[-1].began_at)
            reasons.append(f"shard {shard} has an unfinished base snapshot, begun {began}")
        elif epoch_window(manifest.epochs[-1]) is None:
            reasons.append(f"shard {shard} has not been swept since its base snapshot")
    return reasons or ["the shards' windows have no moment in common"]


def _why(shards: Sequence[Manifest | None], start: int, end: int) -> str:
    """Why the span between two windows cannot be restored: what ended the shards' histories in it."""
    known = [m for m in shards if m is not None]
    reasons = {e.ended for m in known for e in m.epochs if e.ended and start <= e.resolved_at <= end}
    if any(start < m.changes_kept_from for m in known):
        reasons.add(PRUNED)
    return "; ".join(sorted(reasons)) or "the shards' histories have no moment in common"
