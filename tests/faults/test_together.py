"""Several that keep one archive up and prune it, in whatever order their requests come: nothing is lost or doubled."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, prune
from cdc.archive.store import Data, Entry
from cdc.compactor.upkeep import Upkeep
from tests.faults.history import HOUR, NAMESPACE, SHARDS, T0, days, sound
from tests.faults.killing import Memory
from tests.faults.rounds import NOW, configured

PATIENCE_S = 60.0


class Order:
    """Who may ask next: the drawn ones, then whoever comes. Each request waits for its turn."""

    def __init__(self, drawn: list[int], everyone: int) -> None:
        self._left = list(reversed(drawn))
        self._there = set(range(everyone))
        self._turned = threading.Condition()

    def wait(self, who: int) -> None:
        """Return when it is somebody's turn, which is over with that."""
        with self._turned:
            assert self._turned.wait_for(lambda: self._next() in (None, who), PATIENCE_S)
            if self._left:
                self._left.pop()
            self._turned.notify_all()

    def leave(self, who: int) -> None:
        """Somebody is done."""
        with self._turned:
            self._there.discard(who)
            self._turned.notify_all()

    def _next(self) -> int | None:
        while self._left and self._left[-1] not in self._there:
            self._left.pop()
        return self._left[-1] if self._left else None


class Shared:
    """A store in memory as one of several sees it. What is written now is new by the clock of the store."""

    def __init__(self, store: Memory, order: Order, who: int, old: frozenset[str]) -> None:
        self._store, self._order, self._who, self._old = store, order, who, old

    def __getattr__(self, name: str) -> Any:
        self._order.wait(self._who)
        return getattr(self._store, name)

    def put(self, name: str, data: Data) -> None:
        self._order.wait(self._who)
        self._store.put(name, data)

    def entries(self, prefix: str) -> list[Entry]:
        self._order.wait(self._who)
        return [e._replace(modified_at=0 if e.name in self._old else 2 * T0) for e in self._store.entries(prefix)]


def beginning() -> tuple[Memory, Any]:
    store = Memory()
    history = days(Archive.create(store, NAMESPACE, SHARDS), 2)
    Upkeep(configured(set_every_s=3600 * 6), Archive.open(store, NAMESPACE), lambda: T0).round()
    store.put(f"{NAMESPACE}/shard-0000/segments/of-somebody-who-died.avro", b"garbage")
    return store, history


BEGINNING, HISTORY = beginning()


def kept_up(store: Any) -> None:
    Upkeep(configured(merge_segments=2, set_every_s=3600), Archive.open(store, NAMESPACE), lambda: T0).round()


def pruned(store: Any) -> None:
    # By this clock all that was there before is older than the grace, and what is written now is not.
    kept = configured(changes_from=T0 + 33 * HOUR, grace_s=1.0)
    prune.prune(Archive.open(store, NAMESPACE), kept, NOW)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_upkeep_and_prunes_at_once_spoil_nothing(seed: int) -> None:
    store = Memory(BEGINNING.objects)
    roles: list[Callable[[Any], None]] = [kept_up, pruned, kept_up, pruned]
    order = Order(np.random.default_rng(seed).integers(0, len(roles), 2000).tolist(), len(roles))

    def work(who: int) -> None:
        try:
            roles[who](Shared(store, order, who, frozenset(BEGINNING.objects)))
        finally:
            order.leave(who)

    with ThreadPoolExecutor(len(roles)) as pool:
        list(pool.map(work, range(len(roles))))
    windows = sound(store, HISTORY)
    kept_up(store)
    pruned(store)
    assert sound(store, HISTORY) == windows
