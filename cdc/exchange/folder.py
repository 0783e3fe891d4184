"""A directory that is filled whole or not at all, and files in it that are written once."""

import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cdc.errors import StoreForbidden, UsageError
from cdc.exchange import outline
from cdc.exchange.outline import File, Part

if TYPE_CHECKING:
    from typing_extensions import Buffer

DRAFT = ".partial-"
"""How the directory begins in which everything stands until it is whole."""


class Folder:
    """A new or empty directory. Its files stand in a directory of their own within it until `finish`; whoever leaves
    the block before that leaves nothing. After a crash that directory is left, and `outline.NAME` is not there."""

    def __init__(self, path: Path) -> None:
        """UsageError if there is something in it, StoreForbidden if it cannot be made."""
        self.path = path
        with told(path):
            self._made = not path.exists()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UsageError(f"{path} is not empty", "Name a directory that is new or empty.")
            self.draft = path / f"{DRAFT}{secrets.token_hex(4)}"
            self.draft.mkdir(mode=0o700)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.draft, ignore_errors=True)
        if self._made and not any(self.path.iterdir()):
            self.path.rmdir()

    def finish(self, data: bytes) -> None:
        """Everything gets its final name; last of all the outline, whose bytes are given."""
        with told(self.path):
            for entry in sorted(self.draft.iterdir()):
                entry.rename(self.path / entry.name)
            draft = self.draft / outline.NAME
            with draft.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self.path / outline.NAME)
            _sync(self.path)


class Written(io.RawIOBase):
    """A file of a folder as a stream of bytes that can only be appended to; 0600. Raises StoreForbidden."""

    def __init__(self, folder: Folder, name: str, part: Part) -> None:
        self._name, self._part = name, part
        self._hash, self._size = hashlib.sha256(), 0
        self._path, draft = folder.path / name, folder.draft / name
        with told(self._path):
            draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = io.FileIO(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._directory = draft.parent

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: "Buffer") -> int:
        """All of it."""
        left = memoryview(data).cast("B")
        size = len(left)
        self._hash.update(left)
        self._size += size
        with told(self._path):
            while left:
                left = left[self._file.write(left) :]
        return size

    def finish(self, rows: int) -> File:
        """It is on stable storage when this returns."""
        with told(self._path):
            os.fsync(self._file.fileno())
            self.close()
            _sync(self._directory)
        return File(self._name, self._part, rows, self._size, self._hash.hexdigest())

    def close(self) -> None:
        """Without finishing it."""
        self._file.close()
        super().close()


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Errors of the file system as one clear line."""
    try:
        yield
    except OSError as error:
        raise StoreForbidden(f"{path}: {error.strerror or error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
