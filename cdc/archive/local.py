"""A directory as an object store."""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from cdc.archive.store import Data, Entry
from cdc.errors import ArchiveError, ObjectDamaged, ObjectMissing, StoreForbidden, StoreUnreachable

FORBIDDING = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR, errno.EISDIR,
}  # fmt: skip
"""What a person must repair: no permission, read-only, full, or a file stands where a directory should."""


class LocalStore:
    """A directory. Files are 0600, directories 0700.

    Sizes and lists go through obstore. Writing does not, because only here can a file be private from its first byte
    and on stable storage before its name appears; nor does reading, which it copies, and asks for the size first.
    """

    def __init__(self, path: Path, *, create: bool = False, lasting: bool = True) -> None:
        """`create` makes the directory. Unless `lasting`, what is written survives the process, but perhaps not the
        machine: it is not waited for until it is on stable storage. Raises ObjectMissing if there is no directory,
        StoreForbidden if it cannot be made."""
        self._path = path.absolute()
        self._lasting = lasting
        with _told(str(self._path)):
            if create:
                _make_directories(self._path, lasting)
            elif not self._path.exists():
                raise ObjectMissing(f"there is no archive at {path}", "Check archive.path; `compact` creates it.")
            elif not self._path.is_dir():
                raise StoreForbidden(f"{path} is not a directory")
        self._store = obstore.store.LocalStore(self._path)

    def __repr__(self) -> str:
        return f"LocalStore({str(self._path)!r})"

    def put(self, name: str, data: Data) -> None:
        """See Store."""
        if not self.put_if_absent(name, data):
            raise StoreForbidden(f"{name} was there before it was written")

    def put_if_absent(self, name: str, data: Data) -> bool:
        """See Store. A crash leaves, at worst, a file with `#` in its name, which nothing lists."""
        target = self._path / name
        # obstore takes a name that ends in `#` and digits for a file that is still being written, and hides it. Numbers
        # of processes are no names: in containers every process is number 1, and meets what the one before it left.
        draft = target.with_name(f"{target.name}#{secrets.randbits(63)}")
        with self._told(name):
            _make_directories(target.parent, self._lasting, below=self._path)
            if target.exists():
                return False
            try:
                _write(draft, data, self._lasting)
                try:
                    os.link(draft, target)
                except FileExistsError:
                    return False
            finally:
                with contextlib.suppress(FileNotFoundError):
                    draft.unlink()
            if self._lasting:
                _sync_directory(target.parent)
        return True

    def get(self, name: str) -> bytes:
        """See Store."""
        with self._told(name):
            return (self._path / name).read_bytes()

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """See Store."""
        with self._told(name), (self._path / name).open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, start)
            size = os.fstat(file.fileno()).st_size
        if len(data) < length:
            raise ObjectDamaged(f"{name} has {size} bytes where {start + length} are needed")
        return data

    def size(self, name: str) -> int:
        """See Store."""
        with self._told(name):
            return int(self._store.head(name)["size"])

    def exists(self, name: str) -> bool:
        """See Store."""
        try:
            self.size(name)
        except ObjectMissing:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        """See Store."""
        with self._told(prefix):
            return sorted(meta["path"] for chunk in self._store.list(prefix) for meta in chunk)

    def entries(self, prefix: str) -> Sequence[Entry]:
        """See Store. Drafts that a crash left are among them."""
        found = []
        with self._told(prefix):
            for directory, _, names in os.walk(self._path / prefix):
                for path in (Path(directory, name) for name in names):
                    with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                        state = path.stat()
                        name = path.relative_to(self._path).as_posix()
                        found.append(Entry(name, state.st_size, state.st_mtime_ns // 1_000_000))
        return sorted(found)

    def delete(self, name: str) -> None:
        """See Store."""
        with self._told(name):
            try:
                (self._path / name).unlink()
            except FileNotFoundError:
                return
            _sync_directory((self._path / name).parent)

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Whatever the store raises, as one clear line of ours.

        Where the directory went, no object is missing; and to make it again would begin an empty archive below the
        place of a disk that was unmounted.
        """
        self._require(name)
        try:
            with _told(name):
                yield
        except ArchiveError:
            self._require(name)
            raise

    def _require(self, name: str) -> None:
        if not self._path.exists():
            raise StoreUnreachable(f"{name}: the directory {self._path} is gone")


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


def _make_directories(path: Path, lasting: bool, below: Path | None = None) -> None:
    """Make what is missing of the path. What `below` names must be there: FileNotFoundError if it goes meanwhile."""
    within = (p for p in (path, *path.parents) if below is None or below in p.parents)
    missing = [p for p in within if not p.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
        if lasting:
            _sync_directory(directory.parent)
    if not stat.S_ISDIR(path.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _write(path: Path, data: Data, lasting: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]
        if lasting:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
