"""The nodes' clocks against ours: measured now and then, and watched at every sweep.

A measurement is sharp to about the time a request takes, and a query a node. Between two of them every sweep asks each
node for the second that its clock shows, which is one cheap request, and measures anew when that contradicts what is
known. So a step of more than a second is noticed by the next sweep, before it asks for anything; one in the middle of a
sweep that is spread by the next measurement or sweep, which then reaches back to before it. A smaller one is
noticed by the next measurement; until then no node is taken to be further than the begin of the second that it shows
(`earliest`), which costs little where sweeps begin when a second does, and the sweeps' overlap covers what was written
below the watermark. What was measured last is kept on disk: a clock that was set back while no collector ran may long
have passed the watermark again when one begins.
"""

import json
from collections.abc import Callable
from pathlib import Path

from cdc import metrics
from cdc.clock import Clock
from cdc.collector.stats import Stats
from cdc.errors import CatalogError
from cdc.model import BEGINNING
from cdc.source import NodeClock, Source

MEASURED_EVERY_S = 10.0
APART_MS = 2_000
"""Nodes' clocks that are so far apart are told of."""


class Clocks:
    """What is known of the nodes' clocks. `monotonic` are seconds that no step moves; `skew_ms` is allowed for; the
    file at `path` outlives the process."""

    def __init__(self, clock: Clock, monotonic: Callable[[], float], skew_ms: int, stats: Stats, path: Path) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._skew_ms = skew_ms
        self._stats = stats
        self._path = path
        self._known = _read(path)
        self._low, self._high = _span(self._known)
        self._shown = self._low
        self._measured_at = float("-inf")
        self._forgotten = True
        self._apart = False

    def earliest(self) -> int:
        """The slowest node's time, or before it."""
        return self._clock() + min(self._low, self._shown)

    def measured(self) -> int:
        """The slowest node's time by the last measurement, or before it: sharper than `earliest`, but a step since then
        is not allowed for."""
        return self._clock() + self._low

    def latest(self) -> int:
        """The fastest node's time, or after it."""
        return self._clock() + self._high

    def forget(self) -> None:
        """Measure at the next call: nothing was heard of the nodes for a while."""
        self._forgotten = True

    @property
    def due(self) -> bool:
        """Whether it is time for a measurement."""
        return self._forgotten or self._monotonic() - self._measured_at >= MEASURED_EVERY_S

    def measure(self, source: Source) -> int | None:
        """Measure all clocks.

        Where the slowest time went back (a step, or a slower node that joined): the moment, by the clocks as they are
        now, since which nobody knew; BEGINNING where no collector watched. Otherwise None. Raises SourceError and
        CatalogError.
        """
        members = {node.name for node in source.cluster.nodes()}
        found = source.clocks()
        for name, now in found.items():
            metrics.CLOCK_OFFSET.labels(self._stats.namespace, name).set(now.offset_ms / 1000)
            if name in self._known and apart(now, self._known[name]) > self._skew_ms:
                moved_s = (now.offset_ms - self._known[name].offset_ms) / 1000
                metrics.CLOCK_STEPS.labels(self._stats.namespace, name).inc()
                way = "back" if moved_s < 0 else "forward"
                self._stats.note(f"the clock of node {name} went {way} by about {abs(moved_s):.1f} s")
        # A member that gave no answer is taken to be where it was.
        known = {name: clock for name, clock in self._known.items() if name in members} | found
        low, high = _span(known)
        fell = bool(self._known) and low < self._low - self._skew_ms
        watched = self._measured_at > float("-inf")
        unwatched_ms = round((self._monotonic() - self._measured_at) * 1000) if watched else 0
        self._known, self._low, self._high, self._shown = known, low, high, low
        self._measured_at, self._forgotten = self._monotonic(), False
        _write(self._path, known)
        self._tell_apart(known)
        if not fell:
            return None
        return self.earliest() - unwatched_ms if watched else BEGINNING

    def watch(self, source: Source) -> int | None:
        """Measure as well where a node is new, or shows a second that contradicts what is known. As `measure`."""
        seen = source.seconds()
        if any(name not in self._known or apart(clock, self._known[name]) > 0 for name, clock in seen.items()):
            return self.measure(source)
        self._shown, _ = _span(seen)
        return None

    def _tell_apart(self, known: dict[str, NodeClock]) -> None:
        offsets = [clock.offset_ms for clock in known.values()]
        spread, was = max(offsets) - min(offsets), self._apart
        self._apart = spread > max(APART_MS, self._skew_ms) + max(clock.error_ms for clock in known.values())
        if self._apart and not was:
            self._stats.note(
                f"the nodes' clocks are {spread / 1000:.1f} s apart: the resolved timestamp follows the slowest"
            )


def apart(one: NodeClock, other: NodeClock) -> int:
    """By how many milliseconds two measurements contradict each other at least; 0 or less: they agree."""
    return abs(one.offset_ms - other.offset_ms) - one.error_ms - other.error_ms


def _span(known: dict[str, NodeClock]) -> tuple[int, int]:
    """The slowest and the fastest that the clocks may be, against ours."""
    low = min((clock.offset_ms - clock.error_ms for clock in known.values()), default=0)
    return low, max((clock.offset_ms + clock.error_ms for clock in known.values()), default=0)


def _read(path: Path) -> dict[str, NodeClock]:
    """The clocks as they were measured last; none where that is not known."""
    try:
        return {name: NodeClock(offset, error) for name, (offset, error) in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, known: dict[str, NodeClock]) -> None:
    text = json.dumps({name: [clock.offset_ms, clock.error_ms] for name, clock in sorted(known.items())})
    new = path.with_suffix(".new")
    try:
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error}") from error
