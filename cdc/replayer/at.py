"""The moment to restore to, from the words of a person. Pure."""

import difflib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from cdc.archive.keeps import is_name
from cdc.clock import parse_rfc3339, rfc3339
from cdc.errors import NotRecoverable, UsageError
from cdc.model import BEGINNING, END_OF_TIME

LATEST = "latest"
NAMED = 3
"""So many windows of single moments are named one by one."""

_NOTHING = "nothing is recoverable yet: no base snapshot has been archived whole"
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+")
NO_MARKS: Final[Mapping[str, int]] = MappingProxyType({})

_HINT = (
    "Write 2026-01-31T12:00:00Z, 2026-01-31T13:00:00+01:00, a duration ago such as 10m or 1h30m, latest, or the name "
    "of a mark."
)


class Span(Protocol):
    """A recoverable window: every moment from `start` to `end`, both included, in milliseconds."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def resolve(text: str, windows: Sequence[Span], now: int, marks: Mapping[str, int] = NO_MARKS) -> int:
    """The moment that `text` means, in milliseconds, which lies in one of `windows`.

    As `moment`, and NotRecoverable, naming the windows and the nearest moments, when it cannot be restored.
    """
    at = moment(text, windows, now, marks)
    require_recoverable(at, windows, now)
    return at


def moment(text: str, windows: Sequence[Span], now: int, marks: Mapping[str, int] = NO_MARKS) -> int:
    """The moment that `text` means, in milliseconds, recoverable or not.

    `text` is RFC 3339 with a zone, a duration before `now` (`10m`, `1h30m`, `2d`), the name of one of the `marks`
    (name to moment), or `latest`: the end of the last window. UsageError when it is none of these, or lies outside the
    years 1970 to 9999; NotRecoverable when there is no window for `latest` to end.
    """
    found = _moment(text.strip(), windows, now, marks)
    if not BEGINNING <= found <= END_OF_TIME:
        raise UsageError(f"{text!r} lies outside the years 1970 to 9999", _HINT)
    return found


def _moment(text: str, windows: Sequence[Span], now: int, marks: Mapping[str, int]) -> int:
    if text.lower() == LATEST:
        if not windows:
            raise NotRecoverable(_NOTHING)
        return max(w.end for w in windows)
    if text in marks:
        return marks[text]
    if marks and is_name(text):
        near = difflib.get_close_matches(text, marks) or sorted(marks)[:NAMED]
        raise UsageError(f"{text!r} is not a moment, and no mark has this name", f"Kept names: {', '.join(near)}.")
    return now - duration_ms(text) if is_duration(text) else _timestamp(text)


def is_duration(text: str) -> bool:
    """Whether words are a duration, such as `10m`."""
    return bool(_DURATION.fullmatch(text.strip()))


def duration_ms(text: str) -> int:
    """Milliseconds of `1h30m` and the like, END_OF_TIME at the most; UsageError when it is no duration."""
    if not is_duration(text):
        raise UsageError(f"{text!r} is not a duration", _HINT)
    return round(min(sum(float(n) * _UNITS_MS[unit] for n, unit in _PART.findall(text)), END_OF_TIME))


def require_recoverable(at: int, windows: Sequence[Span], now: int) -> None:
    """NotRecoverable unless `at` lies in a window; it lists the windows and the nearest moments that do."""
    if any(w.start <= at <= w.end for w in windows):
        return
    if not windows:
        raise NotRecoverable(_NOTHING)
    where = "lies in the future" if at > now else "is not recoverable"
    spans = ", ".join(_told(sorted(windows, key=lambda w: w.start)))
    nearest = " and ".join(rfc3339(ms) for ms in nearest_moments(at, windows))
    plural = "s are" if len(windows) > 1 else " is"
    raise NotRecoverable(
        f"{rfc3339(at)} {where}; the recoverable window{plural} {spans}",
        f"Nearest recoverable: {nearest}.",
    )


def instead_in_place(at: int, windows: Sequence[Span]) -> str:
    """What to do where a moment is recoverable, but not in place: `windows` are those that a rewind leads to."""
    nearest = " and ".join(rfc3339(ms) for ms in nearest_moments(at, windows))
    found = f"Nearest that a rewind leads to: {nearest}. " if nearest else ""
    return f"{found}A clone leads to this moment: give --into, another namespace."


def _told(windows: Sequence[Span]) -> list[str]:
    """Windows in words; many that are single moments in a few of them."""
    alone = [w for w in windows if w.start == w.end]
    long = [f"{rfc3339(w.start)} to {rfc3339(w.end)}" for w in windows if len(alone) <= NAMED or w.start < w.end]
    if len(alone) > NAMED:
        long.insert(0, f"{len(alone):,} single moments from {rfc3339(alone[0].start)} to {rfc3339(alone[-1].end)}")
    return long


def nearest_moments(at: int, windows: Sequence[Span]) -> list[int]:
    """The last recoverable moment before `at` and the first one after it, as far as they exist."""
    before = [w.end for w in windows if w.end < at]
    after = [w.start for w in windows if w.start > at]
    return sorted(before)[-1:] + sorted(after)[:1]


def _timestamp(text: str) -> int:
    try:
        return parse_rfc3339(text)
    except ValueError as e:
        zoneless = "time zone" in str(e)
        raise UsageError(f"{text!r} has no time zone" if zoneless else f"{text!r} is not a moment", _HINT) from None
