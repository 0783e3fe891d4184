"""Stores that end whoever uses them at any step.

What a process leaves when it is killed is what its last request that changed something left: so a kill after each of
these, and within its body, stands for a kill at any moment at all.
"""

import itertools
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from cdc.archive import LocalStore
from cdc.archive.store import Data, Entry
from cdc.errors import ObjectDamaged, ObjectMissing

R = TypeVar("R")


class Killed(BaseException):
    """What no code gets to handle."""


class Memory:
    """A store in memory, as strict as a real one."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Memory()"

    def copied(self, to: Path) -> "Memory":
        """The same objects in another store."""
        return Memory(self.objects)

    def put(self, name: str, data: Data) -> None:
        assert self.put_if_absent(name, data), f"{name} was written twice"

    def put_if_absent(self, name: str, data: Data) -> bool:
        with self._lock:
            if name in self.objects:
                return False
            self.objects[name] = bytes(data)
            return True

    def get(self, name: str) -> bytes:
        try:
            return self.objects[name]
        except KeyError:
            raise ObjectMissing(f"{name} is not in the archive") from None

    def get_range(self, name: str, start: int, length: int) -> bytes:
        data = self.get(name)
        if start + length > len(data):
            raise ObjectDamaged(f"{name} has {len(data)} bytes where {start + length} are needed")
        return data[start : start + length]

    def size(self, name: str) -> int:
        return len(self.get(name))

    def exists(self, name: str) -> bool:
        return name in self.objects

    def list(self, prefix: str) -> "list[str]":
        with self._lock:
            return sorted(n for n in self.objects if not prefix or n.startswith(prefix + "/"))

    def entries(self, prefix: str) -> "list[Entry]":
        return [Entry(name, len(self.objects[name]), 0) for name in self.list(prefix)]

    def delete(self, name: str) -> None:
        with self._lock:
            self.objects.pop(name, None)


class Directory(LocalStore):
    """A directory that can be copied."""

    def copied(self, to: Path) -> "Directory":
        """The same files in another directory, what was half written among them."""
        shutil.copytree(self._path, to)
        return Directory(to)

    def leave_half(self, name: str, data: Data) -> None:
        """What a process leaves that dies while it writes a file."""
        (self._path / name).parent.mkdir(parents=True, exist_ok=True)
        (self._path / f"{name}#{uuid.uuid4().int >> 65}").write_bytes(bytes(data)[: memoryview(data).nbytes // 2])

    def halves(self) -> "list[Path]":
        """The files that are half written."""
        return [p for p in self._path.rglob("*") if p.is_file() and "#" in p.name]


class Steps:
    """A store whose user dies at its `last`-th request that changes something: when it took effect and before the
    answer came, or within a put's body (`half`). Whatever is asked then is not done any more."""

    def __init__(self, store: "Memory | Directory", last: int, *, half: bool) -> None:
        self._store, self._last, self._half = store, last, half
        self._lock = threading.Lock()
        self._dead = False
        self.changes = 0

    def __getattr__(self, name: str) -> Any:
        if self._dead:
            raise Killed
        return getattr(self._store, name)

    def put(self, name: str, data: Data) -> None:
        self._change(lambda: self._store.put(name, data), name, data)

    def put_if_absent(self, name: str, data: Data) -> bool:
        return self._change(lambda: self._store.put_if_absent(name, data), name, data)

    def delete(self, name: str) -> None:
        self._change(lambda: self._store.delete(name), name)

    def _change(self, change: Callable[[], R], name: str, data: Data | None = None) -> R:
        with self._lock:
            if self._dead:
                raise Killed
            if data is not None or not self._half:
                self.changes += 1
                self._dead = self.changes == self._last
            if self._dead and self._half and data is not None:
                if isinstance(self._store, Directory):
                    self._store.leave_half(name, data)
                raise Killed
            done = change()
            if self._dead:
                raise Killed
            return done


def killed_at_every_step(begin: Memory | Directory, folder: Path) -> Iterator[tuple[Memory | Directory, Any]]:
    """Stores as `begin` is, and the same as somebody sees them who dies at the first step, at the second, and so on; in
    a directory, where that leaves something of its own, within each file that is written.

    Whoever takes them stops when a run got to its end.
    """
    for step in itertools.count(1):
        store = begin.copied(folder / str(step))
        yield store, Steps(store, step, half=isinstance(store, Directory))
