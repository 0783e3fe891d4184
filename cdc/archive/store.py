"""Where objects are kept: one small protocol, and the local directory behind it.

Names are relative, with `/` between the parts. An object is written whole, once, and never changed.
"""

import contextlib
import errno
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from cdc.errors import ArchiveError, ObjectDamaged, ObjectMissing, StoreForbidden, StoreUnreachable

FORBIDDING = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR, errno.EISDIR,
}  # fmt: skip
"""What a person must repair: no permission, read-only, full, or a file stands where a directory should."""


Data = bytes | bytearray | memoryview


class Store(Protocol):
    """An object store. Every method raises StoreUnreachable or StoreForbidden when the store fails."""

    def put_if_absent(self, name: str, data: Data) -> bool:
        """Write a whole object that is on stable storage when this returns; False if the name was taken (nothing is
        written then). No reader ever sees a part of it."""
        ...

    def get(self, name: str) -> bytes:
        """A whole object. Raises ObjectMissing."""
        ...

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`. Raises ObjectMissing, or ObjectDamaged if the object ends before."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        ...

    def list(self, prefix: str) -> list[str]:
        """The names of all objects below a prefix (a whole path part, without a slash at its end), sorted."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object. Raises ObjectMissing."""
        ...


class LocalStore:
    """A directory. Files are 0600, directories 0700.

    Reading goes through obstore; writing does not, because only here can a file be private from its first byte and on
    stable storage before its name appears.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """`create` makes the directory. Raises ObjectMissing if there is none, StoreForbidden if it cannot be made."""
        self._path = path.absolute()
        with _told(str(self._path)):
            if create:
                _make_directories(self._path)
            elif not self._path.exists():
                raise ObjectMissing(f"there is no archive at {path}", "Check archive.path; `compact` creates it.")
            elif not self._path.is_dir():
                raise StoreForbidden(f"{path} is not a directory")
        self._store = obstore.store.LocalStore(self._path)
        self._attempts = itertools.count()

    def __repr__(self) -> str:
        return f"LocalStore({str(self._path)!r})"

    def put_if_absent(self, name: str, data: Data) -> bool:
        """See Store. A crash leaves, at worst, a file with `#` in its name, which nothing lists."""
        target = self._path / name
        # obstore takes a name that ends in `#` and digits for a file that is still being written, and hides it.
        draft = target.with_name(f"{target.name}#{os.getpid()}{next(self._attempts):06d}")
        with _told(name):
            _make_directories(target.parent)
            if target.exists():
                return False
            try:
                _write(draft, data)
                try:
                    os.link(draft, target)
                except FileExistsError:
                    return False
            finally:
                with contextlib.suppress(FileNotFoundError):
                    draft.unlink()
            _sync_directory(target.parent)
        return True

    def get(self, name: str) -> bytes:
        """See Store."""
        with _told(name):
            return bytes(self._store.get(name).bytes())

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """See Store."""
        with _told(name):
            size = self._store.head(name)["size"]
            if start + length > size:
                raise ObjectDamaged(f"{name} has {size} bytes where {start + length} are needed")
            return bytes(self._store.get_range(name, start=start, length=length)) if length else b""

    def exists(self, name: str) -> bool:
        """See Store."""
        with _told(name):
            try:
                self._store.head(name)
            except FileNotFoundError:
                return False
            return True

    def list(self, prefix: str) -> list[str]:
        """See Store."""
        with _told(prefix):
            return sorted(meta["path"] for chunk in self._store.list(prefix) for meta in chunk)

    def delete(self, name: str) -> None:
        """See Store."""
        with _told(name):
            (self._path / name).unlink()
            _sync_directory((self._path / name).parent)


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Whatever the store raises, as one clear line of ours."""
    try:
        yield
    except ArchiveError:
        raise
    except FileNotFoundError as error:
        raise ObjectMissing(f"{name} is not in the archive") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreForbidden(f"{name}: {_first_line(error)}") from error
    except OSError as error:
        kind = StoreForbidden if error.errno in FORBIDDING else StoreUnreachable
        raise kind(f"{name}: {error.strerror or _first_line(error)}") from error
    except BaseError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # the operating system's, which has no type of its own
        kind = StoreForbidden if number and int(number[1]) in FORBIDDING else StoreUnreachable
        raise kind(f"{name}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _make_directories(path: Path) -> None:
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
        _sync_directory(directory.parent)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _write(path: Path, data: Data) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
