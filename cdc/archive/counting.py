"""A store that counts how many bytes it was asked for."""

import threading

from cdc.archive.store import Around, Store


class CountingStore(Around):
    """Another store, and the bytes of objects that were read through this one. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """Nothing was read yet."""
        super().__init__(store)
        self._lock = threading.Lock()
        self.read_bytes = 0

    def get(self, name: str) -> bytes:
        """See Store."""
        return self._counted(super().get(name))

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """See Store."""
        return self._counted(super().get_range(name, start, length))

    def _counted(self, data: bytes) -> bytes:
        with self._lock:
            self.read_bytes += len(data)
        return data
