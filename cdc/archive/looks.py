"""How closely a shard was watched, moment by moment: blind intervals of looks folded into few spans. Pure.

A look leaves an interval in which nothing could be seen: from the beginning of the look before it to its own end. Over
a year there are millions of them; what is kept is, for each span of time, the longest one that reaches into it. Spans
of like resolution become one, so that a steady collector needs a single span and a pause stands out as one of its own.
"""

import itertools
import math
from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

ALIKE = 2
"""Spans whose resolutions differ by no more than this factor, with all that was merged into them, become one."""
MOST = 256
"""A history keeps no more spans than this; when it has more, THINNED are left."""
THINNED = 192
ENDED = 64
"""So many spans are left of a history that has ended."""
COARSE = 4
"""A span this many times as coarse as what is typical of its window is worth telling."""


class Span(NamedTuple):
    """From `start` to `end` (milliseconds since 1970): `coarsest_ms` is the longest blind interval that reaches into
    it, `finest_ms` the shortest resolution of what was merged into it."""

    start: int
    end: int
    coarsest_ms: int
    finest_ms: int


Spans = tuple[Span, ...]
"""Spans in order of time, each beginning where the one before it ends."""


def add(spans: Spans, since: int, until: int) -> Spans:
    """The spans once a look is known that could not see what happened between `since` and `until`.

    A gap before or behind what is known counts to the look: nobody watched it. No span that the interval reaches into
    has a resolution below the interval's length afterwards, whatever is merged later.
    """
    if until <= since:  # a clock was set back: such a look has no interval
        return spans
    if spans:
        since, until = min(since, spans[-1].end), max(until, spans[0].start)
    kept = len(spans)
    while kept and spans[kept - 1].end > since:
        kept -= 1
    own = Span(since, until, until - since, until - since)
    before = max(0, kept - 1)  # a span that the interval does not reach may have become like what follows it
    return thinned((*spans[:before], *_merged([*spans[before:kept], *_laid(spans[kept:], (own,))])))


def thinned(spans: Spans, most: int = MOST, left: int = THINNED) -> Spans:
    """The spans if there are no more than `most`; else `left` of them, joined where that says least that is too coarse:
    by time, by how much too coarse, and the less the longer ago."""
    if len(spans) <= most:
        return spans
    out = list(spans)
    while len(out) > left:
        i = min(range(len(out) - 1), key=lambda i: _loss(out[i], out[i + 1], out[-1].end))
        out[i : i + 2] = [_join(out[i], out[i + 1])]
    return tuple(out)


def together(histories: Iterable[Spans]) -> Spans:
    """What holds for several shards: at every moment the coarsest of all."""
    return reduce(lambda left, right: thinned(tuple(_merged(_laid(left, right)))), histories, ())


def coarsest(spans: Spans, start: int, end: int) -> int:
    """The longest blind interval that reaches into the moments from `start` to `end`, both included; 0: none known."""
    return max((s.coarsest_ms for s in touching(spans, start, end)), default=0)


def typical(spans: Spans, start: int, end: int) -> int:
    """The resolution that half of the looks between two moments had, or a finer one; 0: none is known.

    By looks and not by time, so that one long pause is not what is typical of the hours around it.
    """
    found = sorted(
        (s.coarsest_ms, (min(s.end, end) - max(s.start, start)) / s.coarsest_ms) for s in touching(spans, start, end)
    )
    half = sum(count for _, count in found) / 2
    for resolution, count in found:
        half -= count
        if half < 0:
            return resolution
    return coarsest(spans, start, end)


def touching(spans: Spans, start: int, end: int) -> Spans:
    """The spans that have a moment in common with those from `start` to `end`."""
    return tuple(s for s in spans if s.start <= end and s.end >= start)


def _laid(left: Spans, right: Spans) -> list[Span]:
    """One history laid over another: where both are, the coarser holds."""
    edges = sorted({moment for s in (*left, *right) for moment in (s.start, s.end)})
    out = []
    i = j = 0
    for start, end in itertools.pairwise(edges):
        while i < len(left) and left[i].end <= start:
            i += 1
        while j < len(right) and right[j].end <= start:
            j += 1
        there = [s[k] for s, k in ((left, i), (right, j)) if k < len(s) and s[k].start <= start]
        if there:
            out.append(Span(start, end, max(s.coarsest_ms for s in there), max(s.finest_ms for s in there)))
    return out


def _merged(spans: list[Span]) -> list[Span]:
    out: list[Span] = []
    for span in spans:
        if out and max(out[-1].coarsest_ms, span.coarsest_ms) <= ALIKE * min(out[-1].finest_ms, span.finest_ms):
            out[-1] = _join(out[-1], span)
        else:
            out.append(span)
    return out


def _join(a: Span, b: Span) -> Span:
    return Span(a.start, b.end, max(a.coarsest_ms, b.coarsest_ms), min(a.finest_ms, b.finest_ms))


def _loss(a: Span, b: Span, now: int) -> float:
    coarser = max(a.coarsest_ms, b.coarsest_ms)
    lost = sum((s.end - s.start) * math.log2(coarser / s.coarsest_ms) for s in (a, b))
    return lost / (now - b.end + 1)
