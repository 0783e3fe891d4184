"""A throttle that several threads share."""

import threading
import time
from collections.abc import Callable

from cdc.replayer.report import Watch

BURST_S = 0.1
"""How much unused allowance is kept."""


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
        if wait > 0 and self._watch.cancel.wait(wait):
            self._watch.step()
