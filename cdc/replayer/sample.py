"""What a drill rehearses: which moment, and which partitions. Pure, but that `choose` reads manifests."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cdc.archive import Archive, keeps
from cdc.config import DrillSettings
from cdc.errors import ConfigError, UsageError
from cdc.model import PARTITIONS, partitions_of
from cdc.replayer.at import LATEST, NO_MARKS, Span, resolve
from cdc.replayer.wanted import Part

RANDOM: Final = "random"
ALL: Final = "all"
RECENT_MS: Final = 7 * 86_400_000
"""A moment by chance lies in the last so many milliseconds that are recoverable, if any does."""

_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a drill is to rehearse: a moment (milliseconds), these partitions (ascending), into a place in words."""

    at: int
    partitions: tuple[int, ...]
    into: str

    @property
    def part(self) -> Part:
        """As a restore is told."""
        return Part() if len(self.partitions) == PARTITIONS else Part(partitions=self.partitions)


def choose(archive: Archive, settings: DrillSettings, now: int, chance: random.Random | None = None) -> Chosen:
    """What the settings ask for; `chance` decides what they leave open.

    Raises ConfigError where they name no scratch namespace or the archive's own, UsageError for words that say no
    moment or no sample, NotRecoverable.
    """
    if not settings.into:
        raise ConfigError("no scratch namespace is named", "Set drill.into, or give --into: empty, and nobody else's.")
    if settings.into == archive.namespace:
        raise ConfigError(
            f"the scratch namespace {settings.into} is the source itself", "A drill never writes to the source."
        )
    chance = chance or random.Random()
    marks = {name: keep.at for name, keep in keeps.load(archive.store, archive.namespace).items()}
    at = moment(settings.at, archive.windows(), now, chance, marks)
    chosen = partitions(share(settings.sample), archive.shards, chance.randrange(256))
    return Chosen(at, chosen, settings.into)


def share(text: str) -> float:
    """The part of the namespace that `1%` or `all` means, above 0 and up to 1. UsageError when it is neither."""
    if text.strip().lower() == ALL:
        return 1.0
    found = _PERCENT.fullmatch(text.strip())
    part = float(found[1]) / 100 if found else 0.0
    if not 0 < part <= 1:
        raise UsageError(f"{text!r} is not a sample", "Write a share of the partitions, such as 1% or 12.5%, or all.")
    return part


def partitions(part: float, shards: int, first: int) -> tuple[int, ...]:
    """About this part of the partitions, at least one of every shard, ascending; all of them where it is 1.

    A digest's first byte is the low byte of its partition, and objects are sorted by digest. So each shard gives those
    from the low byte `first` (0 to 255) on, or its last ones: what a sample reads lies together.
    """
    found: list[int] = []
    for shard in range(shards):
        mine = sorted(partitions_of(shard, shards), key=lambda p: (p % 256, p))
        count = max(1, round(part * len(mine)))
        start = min(sum(p % 256 < first for p in mine), len(mine) - count)
        found += mine[start : start + count]
    return tuple(sorted(found))


def moment(
    text: str, windows: Sequence[Span], now: int, chance: random.Random, marks: Mapping[str, int] = NO_MARKS
) -> int:
    """The moment that `text` means, as `at.resolve` reads it; `random` is any recoverable one of the last RECENT_MS,
    or of the last window where that ended before."""
    if text.strip().lower() != RANDOM or not windows:
        return resolve(LATEST if text.strip().lower() == RANDOM else text, windows, now, marks)
    spans = [(max(w.start, now - RECENT_MS), w.end) for w in windows if w.end >= now - RECENT_MS]
    last = max(windows, key=lambda w: w.end)
    spans = spans or [(last.start, last.end)]
    start, end = chance.choices(spans, [end - start + 1 for start, end in spans])[0]
    return chance.randint(start, end)
