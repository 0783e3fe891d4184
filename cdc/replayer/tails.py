"""Directories for what is taken from Kafka, each there for as long as it is wanted."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from cdc.errors import StoreForbidden

PREFIX: Final = "aerospike-cdc-tail-"
"""Nobody else's: an import, a demonstration and a broker have directories of theirs there, and lock none."""
STALE_S: Final = 3600.0
"""Whoever made a directory has locked it long before this time."""


class Directories:
    """Below the system's directory for temporary files (TMPDIR). What killed processes left there is removed: one that
    is in use is locked."""

    def __init__(self) -> None:
        self._locks: dict[Path, int] = {}

    def make(self) -> Path:
        """A new one, private and empty. Raises StoreForbidden."""
        try:
            parent = Path(tempfile.gettempdir())
            _tidy(parent)
            made = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = os.open(made, os.O_RDONLY)
        except OSError as error:
            raise no_room(error) from error
        fcntl.flock(lock, fcntl.LOCK_SH)
        self._locks[made] = lock
        return made

    def remove(self, directory: Path) -> None:
        """It is not wanted any more."""
        shutil.rmtree(directory, ignore_errors=True)
        os.close(self._locks.pop(directory))

    def close(self) -> None:
        """None of them is."""
        for directory in list(self._locks):
            self.remove(directory)


def no_room(error: OSError) -> StoreForbidden:
    """What to tell of what keeps a directory from being made or filled."""
    return StoreForbidden(
        f"there is no place for what Kafka has beyond the archive: {error}",
        "Set TMPDIR to a directory that can be written and has room; --tail never does without.",
    )


def _tidy(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, in use, or gone by now
            if path.is_symlink() or time.time() - path.stat().st_mtime < STALE_S:
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # a pipe would be waited for
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(lock)
