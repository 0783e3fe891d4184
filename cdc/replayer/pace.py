"""A throttle that several threads share."""

import threading
import time
from collections.abc import Callable

from cdc.replayer.report import Watch

BURST_S = 0.1
"""How much unused allowance is kept."""

CHECK_S = 0.1
"""How often a waiting thread looks whether it is still wanted."""


class Pace:
    """Lets so many records a second pass; 0: all of them at once."""

    def __init__(self, per_s: int, watch: Watch, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._watch = watch
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def take(self, records: int) -> None:
        """Returns when so many more records may pass. Raises Cancelled as soon as the caller wants no more."""
        self._watch.step()
        if not self._per_s:
            return
        with self._lock:
            now = self._clock()
            wait = max(self._free_at, now - BURST_S) - now
            self._free_at = now + wait + records / self._per_s
        self.rest(wait)

    def rest(self, seconds: float) -> None:
        """Returns after so long. Raises Cancelled as soon as the caller wants no more."""
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            self._watch.cancel.wait(min(left, CHECK_S))
            self._watch.step()
