"""When something that comes round is due: by a cron expression, or after so long. Pure."""

import itertools
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

LOOKED_AT: Final = 32
"""So many of the next times tell how far apart they are."""


def cron(text: str) -> str:
    """`text` if it is a cron expression that has a next time (five fields, or six that begin with seconds), or empty.
    Raises ValueError, in words for a person."""
    if text:
        try:
            next(CronSim(text, _at(0)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(
                f"{text!r} is not a cron expression that ever comes: minute, hour, day of the month, month, day of the "
                "week, such as 30 3 * * sun"
            ) from error
    return text


def next_after(expression: str, every_ms: int, moment: int) -> int:
    """The first time after a moment, in milliseconds: that of a cron expression, in UTC, where there is one, else
    `every_ms` later."""
    return _ms(next(CronSim(expression, _at(moment)))) if expression else moment + every_ms


def interval(expression: str, every_ms: int, moment: int) -> int:
    """How far apart the next times after a moment are at the most, in milliseconds."""
    if not expression:
        return every_ms
    times = [_ms(one) for one in itertools.islice(CronSim(expression, _at(moment)), LOOKED_AT)]
    return max((after - before for before, after in itertools.pairwise(times)), default=every_ms)


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC)


def _ms(at: datetime) -> int:
    return round(at.timestamp()) * 1000
