"""Time: milliseconds since 1970 as integers inside, RFC 3339 UTC outside.

The core has no clock of its own: whoever needs the time takes a `Clock`, so that tests can hand in theirs.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Returns milliseconds since 1970-01-01T00:00:00Z."""

CITRUSLEAF_EPOCH_S = 1_262_304_000
"""Aerospike counts void times in seconds from 2010-01-01T00:00:00Z (the server's `cf_clock.h`)."""


def wall_clock() -> int:
    """This machine's time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def steady_clock() -> Clock:
    """A clock that shows this machine's time of now, and from then on what has passed: nobody sets it. The time that
    the machine sleeps passes too, where the system tells (Linux)."""
    passing = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    begun_ms, begun_ns = wall_clock(), time.clock_gettime_ns(passing)
    return lambda: begun_ms + (time.clock_gettime_ns(passing) - begun_ns) // 1_000_000


def rfc3339(ms: int) -> str:
    """A moment as RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{ms % 1000:03d}Z"


def parse_rfc3339(text: str) -> int:
    """Milliseconds of an RFC 3339 moment with zone; ValueError if it is none or has no zone."""
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write 2026-01-31T12:00:00Z or +02:00")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * 86_400_000 + delta.seconds * 1000 + delta.microseconds // 1000
