"""The moment to restore to, from the words of a person. Pure."""

import re
from collections.abc import Sequence
from typing import Protocol

from cdc.clock import parse_rfc3339, rfc3339
from cdc.errors import NotRecoverable, UsageError

LATEST = "latest"

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+")
_HINT = "Write 2026-01-31T12:00:00Z, 2026-01-31T13:00:00+01:00, a duration ago such as 10m or 1h30m, or latest."


class Span(Protocol):
    """A recoverable window: every moment from `start` to `end`, both included, in milliseconds."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def resolve(text: str, windows: Sequence[Span], now: int) -> int:
    """The moment that `text` means, in milliseconds, which lies in one of `windows`.

    `text` is RFC 3339 with a zone, a duration before `now` (`10m`, `1h30m`, `2d`), or `latest`: the end of the last
    window. UsageError when it is none of these; NotRecoverable, naming the windows and the nearest moments, when it
    cannot be restored.
    """
    text = text.strip()
    if text.lower() == LATEST:
        if not windows:
            raise NotRecoverable("nothing is recoverable yet: no base snapshot has been archived whole")
        return max(w.end for w in windows)
    at = now - duration_ms(text) if _DURATION.fullmatch(text) else _timestamp(text)
    require_recoverable(at, windows, now)
    return at


def duration_ms(text: str) -> int:
    """Milliseconds of `1h30m` and the like; UsageError when it is no duration."""
    if not _DURATION.fullmatch(text.strip()):
        raise UsageError(f"{text!r} is not a duration", _HINT)
    return round(sum(float(n) * _UNITS_MS[unit] for n, unit in _PART.findall(text)))


def require_recoverable(at: int, windows: Sequence[Span], now: int) -> None:
    """NotRecoverable unless `at` lies in a window; it lists the windows and the nearest moments that do."""
    if any(w.start <= at <= w.end for w in windows):
        return
    if not windows:
        raise NotRecoverable("nothing is recoverable yet: no base snapshot has been archived whole")
    where = "lies in the future" if at > now else "is not recoverable"
    spans = ", ".join(f"{rfc3339(w.start)} to {rfc3339(w.end)}" for w in sorted(windows, key=lambda w: w.start))
    nearest = " and ".join(rfc3339(ms) for ms in nearest_moments(at, windows))
    plural = "s are" if len(windows) > 1 else " is"
    raise NotRecoverable(
        f"{rfc3339(at)} {where}; the recoverable window{plural} {spans}",
        f"Nearest recoverable: {nearest}.",
    )


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
