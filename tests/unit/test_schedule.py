"""When something that comes round is due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc import schedule
from cdc.clock import parse_rfc3339

NOON = parse_rfc3339("2026-03-28T12:00:00Z")
DAY = 86_400_000
moments = st.integers(0, 4_000_000_000_000)


@pytest.mark.parametrize(
    ("expression", "following"),
    [
        ("30 3 * * sun", "2026-03-29T03:30:00Z"),
        ("*/10 * * * *", "2026-03-28T12:10:00Z"),
        ("0 12 * * *", "2026-03-29T12:00:00Z"),
        ("* * * * * *", "2026-03-28T12:00:01Z"),
    ],
)
def test_a_cron_expression_says_when_in_utc(expression: str, following: str) -> None:
    assert schedule.next_after(schedule.cron(expression), 1, NOON) == parse_rfc3339(following)


@given(st.sampled_from(["30 3 * * sun", "*/7 * * * *", "0 0 29 2 *", "* * * * * *"]), moments)
def test_the_next_time_is_later_and_nothing_lies_between(expression: str, moment: int) -> None:
    following = schedule.next_after(expression, 1, moment)
    assert following > moment
    assert schedule.next_after(expression, 1, following - 1) == following


@given(moments, st.integers(1, DAY))
def test_without_an_expression_it_is_so_long_after(moment: int, every_ms: int) -> None:
    assert schedule.next_after("", every_ms, moment) == moment + every_ms
    assert schedule.interval("", every_ms, moment) == every_ms


@pytest.mark.parametrize(("expression", "days"), [("30 3 * * *", 1), ("30 3 * * sun", 7), ("0 3 * * mon-fri", 3)])
def test_an_interval_is_the_longest_between_two_times(expression: str, days: int) -> None:
    assert schedule.interval(expression, 1, NOON) == days * DAY


@pytest.mark.parametrize("expression", ["daily", "0 0 30 2 *", "61 * * * *", "* * *"])
def test_what_never_comes_is_refused_in_words(expression: str) -> None:
    with pytest.raises(ValueError, match="not a cron expression that ever comes"):
        schedule.cron(expression)
