"""The drill's role: restores are rehearsed by a schedule, from whichever machine is there when one is due."""

import threading
from collections.abc import Callable
from typing import Final

from cdc import metrics
from cdc.archive import Archive, drills, open_store
from cdc.archive.drills import Drilled
from cdc.clock import Clock, wall_clock
from cdc.config import Settings
from cdc.errors import CdcError, ObjectMissing
from cdc.replayer import turns
from cdc.replayer.report import Cancelled, Watch
from cdc.replayer.sample import choose
from cdc.schedule import interval, next_after

LOOK_S: Final = 600.0
"""The archive is asked at least this often for drills of others."""
RETRY_S: Final = 60.0
"""A drill that could not be begun is tried again after so long, or sooner where they come more often."""

_TURN: Final = threading.Lock()
"""Of the drills of this process one is at work at a time: they may share the scratch namespace, and take the machine's
cores from the capture."""


class Driller:
    """Drills one namespace's archive at one destination again and again."""

    def __init__(self, settings: Settings, *, clock: Clock = wall_clock) -> None:
        """Nothing is looked at yet."""
        self._settings, self._clock = settings, clock
        self._since = clock()
        self._last = 0  # when this one drilled last, remembered or not

    def run(
        self,
        stop: threading.Event,
        success: Callable[[], None] = lambda: None,
        failure: Callable[[CdcError], None] = lambda error: None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Drill whenever it is due until `stop` is set; what was missed is caught up once.

        A drill that found something wrong has done its work: `tell` says so, and metrics and the archive keep it.
        `failure` is called with what keeps one from being begun, which is tried again.
        """
        while not stop.is_set():
            try:
                rest_s = self.round(stop, tell)
                success()
            except CdcError as error:
                failure(error)
                rest_s = self._retry_s
            stop.wait(rest_s)

    def round(self, stop: threading.Event, tell: Callable[[str], None] = lambda text: None) -> float:
        """Drill if it is due; after how many seconds to look again. Raises as `replayer.drill.drill` where
        nothing was begun, and as the store does."""
        try:
            archive = Archive.open(open_store(self._settings.archive), self._settings.aerospike.namespace)
        except ObjectMissing:
            return self._retry_s  # the compactor makes it
        left_s = self._left_s(archive)
        if left_s > 0:
            return min(left_s, LOOK_S)
        by = turns.here(self._settings.replayer.journal)
        with _TURN, turns.turn(archive.store, archive.namespace, "drill", by, tell, self._clock) as other:
            if other:
                return self._retry_s  # it drills this archive: none may be due then
            if stop.is_set() or self._left_s(archive) > 0:
                return 0.0
            if not archive.windows():
                return self._retry_s  # a base snapshot is under way
            self._drill(archive, stop, tell)
        return min(max(self._left_s(archive), 0.0), LOOK_S)

    @property
    def _retry_s(self) -> float:
        return min(RETRY_S, self._interval_s)

    @property
    def _interval_s(self) -> float:
        asked = self._settings.drill
        return interval(asked.schedule, round(asked.every_s * 1000), self._clock()) / 1000

    def _left_s(self, archive: Archive) -> float:
        """Seconds until the next drill is due."""
        asked, found = self._settings.drill, _told(archive)
        noted(found, archive.namespace, self._settings.archive.destination, self._since, self._interval_s)
        last = max([self._last, *(one.began_at for one in found)])
        due = next_after(asked.schedule, round(asked.every_s * 1000) if last else 0, last or self._since)
        return (due - self._clock()) / 1000

    def _drill(self, archive: Archive, stop: threading.Event, tell: Callable[[str], None]) -> None:
        # The kernels' compiler takes a second to import; who waits for a drill need not wait for it.
        from cdc.replayer.drill import drill

        began_at = self._clock()
        chosen = choose(archive, self._settings.drill, began_at)
        try:
            done = drill(archive, self._settings, chosen, clock=self._clock, watch=Watch(cancel=stop))
        except Cancelled:
            return
        except CdcError as error:
            if not isinstance(error.report, Drilled):
                raise
            self._last = began_at
            if error.message not in error.report.wrong:  # it could not be remembered: only this tells of it
                raise
            tell(f"the drill FAILED: {error.report.wrong}")
            return
        self._last = began_at
        tell(f"the drill passed: {done.written:,} records in {done.recovery_s:.1f} s")


def _told(archive: Archive) -> list[Drilled]:
    """The last drills, the newest last, from the last one that passed on."""
    found: list[Drilled] = []
    for one in drills.newest(archive.store, archive.namespace):
        found.insert(0, one)
        if one.passed:
            break
    return found


def noted(found: list[Drilled], namespace: str, destination: str, since: int, interval_s: float) -> None:
    """Set a destination's metrics to what its drills were, the newest last. `since` (milliseconds) stands in for the
    last one that passed where none has."""
    place = namespace, destination
    passed = [one.began_at for one in found if one.passed]
    metrics.DRILL_PASSED_AT.labels(*place).set(max(passed, default=since) / 1000)
    metrics.DRILL_INTERVAL.labels(*place).set(interval_s)
    if not found:
        return
    last = found[-1]
    metrics.DRILLED.labels(*place).set(last.began_at / 1000)
    metrics.DRILL_PASSED.labels(*place).set(last.passed)
    metrics.DRILL_RECOVERY.labels(*place, "sample").set(last.recovery_s)
    metrics.DRILL_RECOVERY.labels(*place, "all").set(last.projected_s)
    metrics.DRILL_RATE.labels(*place).set(last.records_per_s)
    metrics.DRILL_DIFFERENCES.labels(*place, "archive").set(last.missing + last.different + last.extra)
    metrics.DRILL_DIFFERENCES.labels(*place, "source").set(last.live_different + last.live_missing)
