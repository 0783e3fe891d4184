"""Words that name a moment, and moments that cannot be restored."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.archive.keeps import is_name
from cdc.clock import parse_rfc3339, rfc3339
from cdc.errors import NotRecoverable, UsageError
from cdc.replayer.at import duration_ms, instead_in_place, nearest_moments, resolve


@dataclass(frozen=True)
class Span:
    start: int
    end: int


NOON = parse_rfc3339("2026-01-31T12:00:00Z")
HOUR = 3_600_000
WINDOWS = [Span(NOON - 10 * HOUR, NOON - 5 * HOUR), Span(NOON - 2 * HOUR, NOON - 1000)]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T11:00:00Z", NOON - HOUR),
        ("2026-01-31T12:00:00+01:00", NOON - HOUR),
        ("2026-01-31 11:00:00.250Z", NOON - HOUR + 250),
        ("10m", NOON - 600_000),
        ("1h30m", NOON - 5_400_000),
        ("90s", NOON - 90_000),
        ("1.5h", NOON - 5_400_000),
        ("6h", NOON - 6 * HOUR),
        ("latest", NOON - 1000),
        ("LATEST", NOON - 1000),
    ],
)
def test_a_moment_may_be_a_timestamp_a_duration_ago_or_latest(text: str, moment: int) -> None:
    assert resolve(text, WINDOWS, NOON) == moment


@pytest.mark.parametrize(
    "text", ["2026-01-31T11:00:00", "yesterday", "", "10", "m", "-5m", "10x", "2026-13-01T00:00:00Z"]
)
def test_other_words_are_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(text, WINDOWS, NOON)
    assert "2026-01-31T12:00:00Z" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["99999999w", "9" * 400 + "d", "1900-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00",
             "9999-12-31T23:59:59-14:00"],
)  # fmt: skip
def test_moments_that_no_record_has_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="1970 to 9999"):
        resolve(text, WINDOWS, NOON)


def test_a_moment_without_a_zone_is_refused_for_that() -> None:
    with pytest.raises(UsageError, match="no time zone"):
        resolve("2026-01-31T11:00:00", WINDOWS, NOON)


@pytest.mark.parametrize(
    ("at", "nearest"),
    [
        (NOON - 20 * HOUR, [NOON - 10 * HOUR]),
        (NOON - 3 * HOUR, [NOON - 5 * HOUR, NOON - 2 * HOUR]),
        (NOON - 500, [NOON - 1000]),
        (NOON + HOUR, [NOON - 1000]),
    ],
)
def test_a_moment_outside_is_refused_with_the_windows_and_the_nearest_moments(at: int, nearest: list[int]) -> None:
    with pytest.raises(NotRecoverable) as caught:
        resolve(rfc3339(at), WINDOWS, NOON)
    for window in WINDOWS:
        assert f"{rfc3339(window.start)} to {rfc3339(window.end)}" in caught.value.message
    assert nearest_moments(at, WINDOWS) == nearest
    assert all(rfc3339(ms) in caught.value.hint for ms in nearest)
    assert ("future" in caught.value.message) == (at > NOON)


@pytest.mark.parametrize("text", ["latest", "10m"])
def test_without_any_window_nothing_is_recoverable(text: str) -> None:
    with pytest.raises(NotRecoverable, match="no base snapshot"):
        resolve(text, [], NOON)


def test_a_moment_that_no_rewind_leads_to_names_those_that_one_does() -> None:
    said = instead_in_place(NOON - 6 * HOUR, WINDOWS[1:])
    assert said.startswith(f"Nearest that a rewind leads to: {rfc3339(NOON - 2 * HOUR)}.")
    assert "--into" in said
    assert "Nearest" not in instead_in_place(NOON, [])


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_durations_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert duration_ms(f"{hours}h{minutes}m{seconds}s") == hours * HOUR + minutes * 60_000 + seconds * 1000


def test_many_single_moments_are_told_in_a_few_words() -> None:
    kept = [Span(NOON - n * 24 * HOUR, NOON - n * 24 * HOUR) for n in range(1, 201)]
    with pytest.raises(NotRecoverable) as told:
        resolve(rfc3339(NOON - 36 * HOUR), [*kept, *WINDOWS], NOON)
    assert f"200 single moments from {rfc3339(kept[-1].start)} to {rfc3339(kept[0].end)}, " in told.value.message
    assert len(told.value.message) < 300
    assert rfc3339(kept[1].start) in told.value.hint
    with pytest.raises(NotRecoverable, match=rfc3339(kept[1].start)):
        resolve(rfc3339(NOON - 36 * HOUR), [*kept[:3], *WINDOWS], NOON)


def test_a_kept_name_is_a_moment_and_an_unknown_one_names_those_that_are_near() -> None:
    marks = {"before-migration": NOON - HOUR, "before-launch": NOON - 6 * HOUR, "audit": NOON - 7 * HOUR}
    assert resolve(" before-launch ", WINDOWS, NOON, marks) == NOON - 6 * HOUR
    assert resolve("1h", WINDOWS, NOON, marks) == resolve("before-migration", WINDOWS, NOON, marks)
    with pytest.raises(UsageError, match="no mark has this name") as told:
        resolve("before-lunch", WINDOWS, NOON, marks)
    assert told.value.hint.startswith("Kept names: before-launch")
    with pytest.raises(UsageError) as told:
        resolve("zzz", WINDOWS, NOON, marks)
    assert told.value.hint == "Kept names: audit, before-launch, before-migration."


@given(st.text(max_size=10))
def test_no_name_of_a_mark_is_any_other_moment(text: str) -> None:
    if not is_name(text):
        return
    with pytest.raises(UsageError):
        resolve(text, WINDOWS, NOON)
