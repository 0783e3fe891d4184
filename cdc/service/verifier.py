"""The verifier's role: what is new in the archive is read again and compared with what was written."""

import threading
from collections.abc import Callable

from cdc import metrics
from cdc.archive import Store, open_store, verified
from cdc.archive.verify import Verification, verify
from cdc.clock import Clock, wall_clock
from cdc.config import Settings
from cdc.errors import CdcError, ObjectMissing, StoreForbidden

TIER = "hashes"


class Verifier:
    """Verifies one namespace's archive again and again, each object once."""

    def __init__(self, settings: Settings, *, store: Store | None = None, clock: Clock = wall_clock) -> None:
        """`store` replaces the one that the settings name."""
        self._settings, self._store, self._clock = settings, store, clock

    def run(
        self,
        stop: threading.Event,
        success: Callable[[], None] = lambda: None,
        failure: Callable[[CdcError], None] = lambda error: None,
    ) -> None:
        """Verify every `archive.verify_every_s` until `stop` is set. `success` is called after every round that found
        nothing damaged, `failure` with what is, and with every other error: all are looked at again."""
        while not stop.is_set():
            try:
                self.round(stop)
                success()
            except CdcError as error:
                failure(error)
            stop.wait(self._settings.archive.verify_every_s)

    def round(self, stop: threading.Event | None = None) -> Verification | None:
        """One of them; None while there is no archive yet. Raises ObjectDamaged and ObjectMissing for damage, and what
        `archive.verify.verify` raises."""
        namespace = self._settings.aerospike.namespace
        store = self._store
        if store is None:
            try:
                store = open_store(self._settings.archive)
            except ObjectMissing:
                return None  # the compactor makes it
        if not store.list(namespace):
            return None
        found = verify(store, namespace, TIER, only_new=True, clock=self._clock, stop=stop)
        noted(found, self._settings.archive.destination)
        error = found.error()
        if error is not None:
            raise error
        if found.forgotten:  # each round would read everything again
            raise StoreForbidden(found.forgotten)
        for record in verified.load(store, namespace).values():  # whoever verified it, on whatever machine
            moment = record.at / 1000
            metrics.VERIFIED.labels(namespace, self._settings.archive.destination, record.tier).set(moment)
        return found


def noted(found: Verification, destination: str) -> None:
    """Set a destination's metric to how much damage a verification found."""
    metrics.DAMAGED.labels(found.namespace, destination, found.tier).set(len(found.damage))
