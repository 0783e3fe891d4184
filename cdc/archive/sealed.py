"""A store whose objects are encrypted: another store behind it holds what `sealing` makes of them."""

import threading
from collections import OrderedDict
from typing import Final

from cdc.archive.keyring import Keyring
from cdc.archive.sealing import CHUNK, HEAD_SIZE, Opened, seal
from cdc.archive.store import Around, Data, Store
from cdc.errors import ObjectDamaged

HEADS: Final = 1024
"""So many objects' heads are remembered, so that reading a range of one costs one request."""


class SealedStore(Around):
    """Seals what it is given and opens what it is asked for; names stay as they are. Thread-safe."""

    def __init__(self, store: Store, keyring: Keyring) -> None:
        super().__init__(store)
        self._keyring = keyring
        self._heads: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"SealedStore({self._store!r})"

    def put(self, name: str, data: Data) -> None:
        """See Store."""
        self._store.put(name, seal(name, data, self._keyring.current))

    def put_if_absent(self, name: str, data: Data) -> bool:
        """See Store."""
        return self._store.put_if_absent(name, seal(name, data, self._keyring.current))

    def get(self, name: str) -> bytes:
        """See Store. Raises KeyRefused, and ObjectDamaged if it is not as it was sealed under this name."""
        sealed = self._store.get(name)
        return Opened.of(name, sealed[:HEAD_SIZE], len(sealed), self._keyring.of).open(0, sealed[HEAD_SIZE:])

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """See Store. Raises KeyRefused and ObjectDamaged; every byte is authenticated."""
        opened = self._opened(name)
        if start + length > opened.size:
            raise ObjectDamaged(f"{name} has {opened.size} bytes where {start + length} are needed")
        if not length:
            return b""
        first, begin, end = opened.span(start, length)
        content = opened.open(first, self._store.get_range(name, begin, end - begin))
        skipped = start - first * CHUNK
        return content[skipped : skipped + length]

    def size(self, name: str) -> int:
        """See Store."""
        return self._opened(name).size

    def delete(self, name: str) -> None:
        """See Store."""
        with self._lock:
            self._heads.pop(name, None)
        self._store.delete(name)

    def _opened(self, name: str) -> Opened:
        with self._lock:
            known = self._heads.get(name)
            if known is not None:
                self._heads.move_to_end(name)
                return known
        size = self._store.size(name)
        if size < HEAD_SIZE:
            raise ObjectDamaged(f"{name} is cut off")
        opened = Opened.of(name, self._store.get_range(name, 0, HEAD_SIZE), size, self._keyring.of)
        with self._lock:
            self._heads[name] = opened
            if len(self._heads) > HEADS:
                self._heads.popitem(last=False)
        return opened
