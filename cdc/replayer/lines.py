"""A file that names records, a JSON line each."""

import errno
import fcntl
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from cdc.errors import RestoreError, UsageError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a file system without locks says, as of some mounts over a network."""


class Lines:
    """The file. It is made anew with the first write; any thread may write. It is locked while it is open: who finds
    it in use, and has a name of its own (`apart`), writes beside it; `path` is where."""

    def __init__(self, path: Path, apart: str = "") -> None:
        """UsageError when the file could not be written."""
        self.path = path
        self._beside = path.with_name(f"{path.stem}.{apart}{path.suffix}") if apart else path
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
            raise UsageError(f"{path} cannot be written", "Name a file in a directory that is there and yours.")

    @property
    def begun(self) -> bool:
        """Whether the file was made, or is gone on with."""
        return self._file is not None

    def keep(self, restore: str, wanted: Callable[[bytes], bool]) -> Iterator[bytes]:
        """Go on with a restore's file as it is, less what it says of digests that are not wanted, and what another
        restore wrote over it; the digests of the lines that stay. To be taken to its end before the first write.
        RestoreError when the file fails."""
        with self._telling():
            if self._beside.is_file():  # an earlier run found the other in use
                self.path = self._beside
            if not self.path.is_file():  # a device keeps nothing
                return
            with self._taken():
                draft = self.path.with_name(f".{self.path.name}")
                with self.path.open("rb") as old, draft.open("wb") as new:
                    for line in old:
                        digest = _digest(line, restore)
                        if digest is not None and wanted(digest):
                            new.write(line)
                            yield digest
                self._file = draft.open("ab", buffering=0)
                _lock(self._file, fcntl.LOCK_EX)  # before anybody can find it
                draft.replace(self.path)

    def write(self, lines: Iterable[str]) -> None:
        """They are in the file when this returns. RestoreError when the file fails, or is in use."""
        data = "".join(line + "\n" for line in lines).encode()
        with self._lock, self._telling():
            if self._file is None:
                self._file = self._taken()
                if _regular(self._file):
                    self._file.truncate(0)
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()

    def _taken(self) -> FileIO:
        """The file, or the one beside it, open at its end and locked."""
        for path in dict.fromkeys((self.path, self._beside)):
            file = _locked(path)
            if file is not None:
                self.path = path
                return file
        raise RestoreError(f"{self.path}, which names records, is in use by another command", "Name another file.")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RestoreError(
                f"{self.path}, which names records, failed: {error.strerror}",
                "What was restored so far stays. Free some space, and run it again.",
            ) from error


def _locked(path: Path) -> FileIO | None:
    """The file, open at its end; None while somebody else has it."""
    while True:
        file = path.open("ab", buffering=0)
        try:
            if not _regular(file):  # a device is anybody's
                return file
            _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        file.close()  # another stands in its place since


def _lock(file: FileIO, how: int) -> None:
    """Lock it where that can be. Elsewhere two commands may write over each other's names, which is no reason to end a
    restore at the first record that is to be named."""
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _regular(file: FileIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def _digest(line: bytes, restore: str) -> bytes | None:
    """Whom a restore's line names; None for one that was cut off, or of another restore."""
    try:
        said = json.loads(line)
        return bytes.fromhex(said["digest"]) if said["restore"] == restore else None
    except (ValueError, KeyError, TypeError):
        return None
