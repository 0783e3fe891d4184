"""Where objects are kept: one small protocol, which a local directory and the clouds' stores speak.

Names are relative, with `/` between the parts. An object is written whole, once, and never changed.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Data = bytes | bytearray | memoryview


class Entry(NamedTuple):
    """An object as a store lists it: how many bytes it takes there (sealed, where it is), and when it was written, by
    the store's own clock, in milliseconds."""

    name: str
    size: int
    modified_at: int


class Store(Protocol):
    """An object store. Every method raises StoreUnreachable or StoreForbidden when the store fails."""

    def put(self, name: str, data: Data) -> None:
        """Write a whole object under a name that nobody else uses; it is on stable storage when this returns. No reader
        ever sees a part of it."""
        ...

    def put_if_absent(self, name: str, data: Data) -> bool:
        """The same under a name that others may use as well: False if it was taken, and then nothing is written."""
        ...

    def get(self, name: str) -> bytes:
        """A whole object. Raises ObjectMissing."""
        ...

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`. Raises ObjectMissing, or ObjectDamaged if the object ends before."""
        ...

    def size(self, name: str) -> int:
        """How many bytes an object has. Raises ObjectMissing."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        ...

    def list(self, prefix: str) -> list[str]:
        """The names of all objects below a prefix (a whole path part, without a slash at its end), sorted."""
        ...

    def entries(self, prefix: str) -> Sequence[Entry]:
        """The same with sizes and times; also what a killed writer left half-written, where the store shows it."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""
        ...


class Around:
    """Another store, unless a subclass says otherwise."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, name: str, data: Data) -> None:
        """See Store."""
        self._store.put(name, data)

    def put_if_absent(self, name: str, data: Data) -> bool:
        """See Store."""
        return self._store.put_if_absent(name, data)

    def get(self, name: str) -> bytes:
        """See Store."""
        return self._store.get(name)

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """See Store."""
        return self._store.get_range(name, start, length)

    def size(self, name: str) -> int:
        """See Store."""
        return self._store.size(name)

    def exists(self, name: str) -> bool:
        """See Store."""
        return self._store.exists(name)

    def list(self, prefix: str) -> "list[str]":
        """See Store."""
        return self._store.list(prefix)

    def entries(self, prefix: str) -> Sequence[Entry]:
        """See Store."""
        return self._store.entries(prefix)

    def delete(self, name: str) -> None:
        """See Store."""
        self._store.delete(name)
