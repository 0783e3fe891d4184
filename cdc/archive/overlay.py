"""A store laid over another: what is read may be in either, what is written goes into the upper one alone.

So somebody who must not write an archive can go on with it for itself, from the manifests that it met.
"""

import threading
from collections.abc import Sequence

from cdc.archive.store import Data, Entry, Store
from cdc.errors import StoreForbidden


class OverlayStore:
    """`over` laid over `base`; what has the same name in both is what `over` has. Thread-safe, and the only one that
    writes to `over`.

    What `base` lists is read once, so that whoever goes on from its last manifest is not shown one that came later:
    that is of another way on, and does not follow.
    """

    def __init__(self, base: Store, over: Store) -> None:
        """What `over` has from before stands."""
        self._base, self._over = base, over
        self._mine = set(over.list(""))
        self._listed: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"OverlayStore({self._base!r}, {self._over!r})"

    def put(self, name: str, data: Data) -> None:
        """See Store."""
        self._over.put(name, data)
        self._mine.add(name)

    def put_if_absent(self, name: str, data: Data) -> bool:
        """See Store. A name that was taken in `base` since its place was listed is free."""
        if name in self._below(name.rpartition("/")[0]) or not self._over.put_if_absent(name, data):
            return False
        self._mine.add(name)
        return True

    def get(self, name: str) -> bytes:
        """See Store."""
        return self._of(name).get(name)

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """See Store."""
        return self._of(name).get_range(name, start, length)

    def size(self, name: str) -> int:
        """See Store."""
        return self._of(name).size(name)

    def exists(self, name: str) -> bool:
        """See Store."""
        return self._of(name).exists(name)

    def list(self, prefix: str) -> "list[str]":
        """See Store."""
        return sorted({*self._below(prefix), *self._over.list(prefix)})

    def entries(self, prefix: str) -> Sequence[Entry]:
        """See Store. Those of `base` as it is now."""
        mine = self._over.entries(prefix)
        taken = {entry.name for entry in mine}
        return sorted([*mine, *(entry for entry in self._base.entries(prefix) if entry.name not in taken)])

    def delete(self, name: str) -> None:
        """See Store. Raises StoreForbidden for what `base` has."""
        if self._of(name) is self._over:
            self._over.delete(name)
            self._mine.discard(name)
        elif self._base.exists(name):
            raise StoreForbidden(f"{name} is below an overlay, which removes nothing of it")

    def _of(self, name: str) -> Store:
        return self._over if name in self._mine else self._base

    def _below(self, prefix: str) -> Sequence[str]:
        with self._lock:
            if prefix not in self._listed:
                self._listed[prefix] = self._base.list(prefix)
            return self._listed[prefix]
