"""How closely was watched: few spans, none of which ever says that looks were closer together than they were."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive.looks import ALIKE, MOST, Span, Spans, add, coarsest, thinned, together, typical

Look = tuple[int, int]

LENGTHS = st.one_of(st.integers(1, 40), st.integers(900, 1300), st.integers(1, 100_000))


@st.composite
def histories(draw: st.DrawFn, most: int = 40) -> list[Look]:
    """Looks as a collector makes them: each begins to be blind within the one before it, or where that one began."""
    at, out = draw(st.integers(0, 1000)), []
    for length, back in draw(st.lists(st.tuples(LENGTHS, st.integers(0, 60)), min_size=1, max_size=most)):
        out.append((at, at + length))
        at = max(at, at + length - back)
    return out


def folded(history: list[Look]) -> Spans:
    spans: Spans = ()
    for since, until in history:
        spans = add(spans, since, until)
    return spans


def whole(spans: Spans, history: list[Look]) -> bool:
    """Whether spans follow each other from the first moment to the last."""
    ends = (spans[0].start, spans[-1].end) == (history[0][0], max(until for _, until in history))
    return ends and all(a.end == b.start for a, b in pairwise(spans)) and all(s.start < s.end for s in spans)


def never_understates(spans: Spans, history: list[Look]) -> bool:
    return all(
        s.coarsest_ms >= until - since
        for since, until in history
        for s in spans
        if s.start <= until and s.end >= since
        if s.end > since and s.start < until
    )


@settings(max_examples=150, deadline=None)
@given(histories(), st.integers(0, 300_000), st.integers(0, 5_000))
def test_no_span_is_said_to_be_finer_than_a_look_that_reaches_into_it(history: list[Look], at: int, long: int) -> None:
    spans = folded(history)
    assert whole(spans, history)
    touched = [until - since for since, until in history if since < at + long and until > at]
    assert coarsest(spans, at, at + long) >= max(touched, default=0)
    assert never_understates(spans, history)


@settings(max_examples=100, deadline=None)
@given(histories(), st.integers(0, 300_000))
def test_no_moment_is_said_to_be_more_than_twice_as_coarse_as_it_is(history: list[Look], at: int) -> None:
    true = max((until - since for since, until in history if since < at < until), default=0)
    edge = any(at in look for look in history)
    if true and not edge:
        assert coarsest(folded(history), at, at) <= ALIKE * true


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(1, 6), st.data())
def test_thinning_keeps_the_whole_time_and_never_understates(
    history: list[Look], left: int, data: st.DataObject
) -> None:
    spans = thinned(folded(history), left, left)
    assert len(spans) <= left
    assert whole(spans, history)
    assert never_understates(spans, history)


def test_a_steady_collector_needs_one_span_and_a_pause_stays_apart() -> None:
    history = [(i * 1000, i * 1000 + 1100 + i % 7 * 100) for i in range(5000)]
    pause = (5_000_000, 5_600_000)
    after = [(5_599_000 + i * 1000, 5_600_100 + i * 1000) for i in range(5000)]
    spans = folded([*history, pause, *after])
    assert [(s.start, s.end, s.coarsest_ms) for s in spans] == [
        (0, 5_000_000, 1700), (5_000_000, 5_600_000, 600_000), (5_600_000, 10_599_100, 1100),
    ]  # fmt: skip
    assert typical(spans, 0, 10_600_000) == 1100
    assert (coarsest(spans, 5_300_000, 5_300_000), coarsest(spans, 6_000_000, 7_000_000)) == (600_000, 1100)


def test_many_spans_are_bounded_and_what_is_new_or_long_is_kept_best() -> None:
    history = []
    at = 0
    for i in range(3000):
        length = 1000 if i % 2 else 5000
        history.append((at, at + length))
        at += length
    long_pause = (at, at + 3_600_000)
    last = [(long_pause[1], long_pause[1] + 1000), (long_pause[1] + 1000, long_pause[1] + 6000)]
    spans = folded([*history, long_pause, *last])
    assert len(spans) <= MOST
    assert never_understates(spans, history)
    assert [s.coarsest_ms for s in spans[-3:]] == [3_600_000, 1000, 5000]
    assert max(s.coarsest_ms for s in spans[:-3]) == 5000


def test_a_clock_set_back_and_a_gap_make_nothing_finer() -> None:
    spans = add((), 100, 200)
    assert add(spans, 300, 250) == spans
    assert coarsest(add(spans, 500, 510), 300, 400) == 310
    assert coarsest(add(spans, 20, 50), 60, 60) == 100


@settings(max_examples=60, deadline=None)
@given(st.lists(histories(15), min_size=1, max_size=4))
def test_of_several_shards_the_coarsest_holds(shards: list[list[Look]]) -> None:
    joint = together(map(folded, shards))
    for spans in map(folded, shards):
        for s in spans:
            assert all(j.coarsest_ms >= s.coarsest_ms for j in joint if j.start < s.end and j.end > s.start)
    assert min(j.start for j in joint) == min(h[0][0] for h in shards)


def test_what_is_typical_half_of_the_looks_had() -> None:
    spans = (Span(0, 60, 10, 10), Span(60, 600, 540, 500))
    assert typical(spans, 0, 600) == 10
    assert typical(spans, 55, 600) == 540
    assert (typical(spans, 60, 60), typical(spans, 30, 30)) == (540, 10)
    assert typical((), 0, 10) == coarsest((), 0, 10) == 0
