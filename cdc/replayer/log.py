"""A restore of the journal while it runs: how far it is, on the disk."""

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from cdc.archive import Archive
from cdc.clock import Clock
from cdc.errors import CdcError, ObjectMissing, RestoreError, UsageError
from cdc.replayer import plan as plans
from cdc.replayer import standing as lines
from cdc.replayer.entry import Asked
from cdc.replayer.plan import Plan

EVERY_S: Final = 1.0
"""A restore that is killed does again at most what it did in so many seconds."""
NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """What a disk says, as one clear line of ours."""
    try:
        yield
    except OSError as error:
        raise RestoreError(
            f"the journal of restores at {path} failed: {error.strerror}",
            "See to its disk and permissions, or set replayer.journal to another directory.",
        ) from error


class Log:
    """A restore of the journal while it runs: nobody else runs it meanwhile. A context manager; to leave it without
    `end` leaves the restore interrupted. `standing` is how far it was when this run began. `done` is for one thread at
    a time."""

    def __init__(self, directory: Path, asked: Asked, file: IO[bytes], clock: Clock, held: IO[bytes] | None) -> None:
        """For `Journal`: `file` is the locked progress, `held` the locked place."""
        self.asked = asked
        self._path, self._file, self._held, self._clock = directory, file, held, clock
        self._began = self._said = time.monotonic()
        self._through: dict[int, bytes] = {}
        self._ended = False
        self._failed: RestoreError | None = None
        with told(directory):
            file.seek(0)
            self.standing, whole = lines.read(file.read(), str(directory / "progress"))
        self._size, self._sound = whole, False
        self._counts = Counter(self.standing.counts)
        self._touched = self.standing.touched
        self.begun = self.standing.writing
        self._write({"event": "run"})

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        try:
            if isinstance(error, CdcError) and not self._ended:
                self._fail(error)
        finally:
            self.close()

    @property
    def id(self) -> str:
        """Of the restore."""
        return self.asked.id

    @property
    def command(self) -> str:
        """What goes on with it."""
        return f"aerospike-cdc restore --resume {self.id}"

    @property
    def resumed(self) -> bool:
        """Whether another run was before this one."""
        return self.standing.runs > 0

    @property
    def seconds(self) -> float:
        """That all runs took so far."""
        return self.standing.seconds + time.monotonic() - self._began

    def plan(self, archive: Archive) -> Plan:
        """The plan, made again by the manifests that it was made by, so that it decides the same. Raises as `plan`;
        ObjectMissing and ObjectDamaged where they are not there any more."""
        asked = self.asked
        if archive.namespace != asked.namespace:
            raise UsageError(f"{self.id} restores {asked.namespace}, and this archive is of {archive.namespace}")
        found = archive.as_of(asked.manifests)
        made = plans.plan(
            archive, asked.at, asked.kind, now=asked.planned_at, into=asked.into, wanted=asked.wanted, count=False,
            manifests=found, records_per_s=asked.records_per_s,
        )  # fmt: skip
        shards = (replace(shard, counts=asked.counts.get(shard.view.shard)) for shard in made.shards)
        return replace(made, shards=tuple(shards))

    def hint(self, error: CdcError) -> CdcError:
        """The error that ends a run, with what can be done then."""
        if self.begun:
            error.hint = f"To go on: `{self.command}`. {error.hint}".strip()
        if self.resumed and isinstance(error, ObjectMissing):
            anew = f"If it was pruned since {self.id} began, begin anew: `{self.asked.anew}`."
            error.hint = f"{error.hint} {anew}".strip()
        return error

    def writing(self, total: int) -> None:
        """From now on something may be written: `total` records in all. Raises RestoreError where that cannot be said;
        so do the others."""
        self._write({"event": "write", "total": total})
        self.begun = True

    def done(self, shard: int, through: bytes, counts: Mapping[str, int] = NOTHING, touched: int = 0) -> None:
        """Every record of a shard is done up to the digest `through`. `counts` say what became of those since the last
        call for it, `touched` how many of them were to be written or removed. It is on the disk within EVERY_S of
        work."""
        if self._failed is not None:  # several work at a time, and the first error tells why
            raise self._failed
        self._through[shard] = through
        self._counts.update(counts)
        self._touched += touched
        if time.monotonic() >= self._said + EVERY_S:
            try:
                self._say_done()
            except RestoreError as error:
                self._failed = error
                raise

    def end(self, *, complete: bool, error: CdcError | None = None) -> None:
        """How this run ended."""
        self._ended = True
        if self._through:
            self._say_done()
        state = "failed" if error is not None else "complete" if complete else "interrupted"
        said = "" if error is None else f"{type(error).__name__}: {error.message}"
        code = 0 if error is None else error.exit_code
        self._write({"event": "end", "state": state, "error": said, "exit_code": code, "seconds": self.seconds})
        if state == "complete" and self.asked.tail is not None:
            shutil.rmtree(self.asked.tail, ignore_errors=True)

    def _fail(self, error: CdcError) -> None:
        """What ended it before the work."""
        self.hint(error)
        with contextlib.suppress(RestoreError):  # that error tells more; without its end the restore is interrupted
            self.end(complete=False, error=error)

    def close(self) -> None:
        """Let others run it."""
        self._file.close()
        if self._held is not None:
            self._held.close()

    def _say_done(self) -> None:
        through = {str(shard): digest.hex() for shard, digest in self._through.items()}
        said = {"counts": dict(self._counts), "touched": self._touched, "seconds": self.seconds}
        self._write({"event": "done", "through": through, **said})
        self._through.clear()
        self._said = time.monotonic()

    def _write(self, event: dict[str, Any]) -> None:
        line = lines.line(event | {"at": self._clock()})
        with told(self._path):
            if not self._sound:  # behind a part of a line nothing could be read
                self._file.truncate(self._size)
                self._file.seek(self._size)
            self._sound = False
            data = memoryview(line)
            while data:
                data = data[os.write(self._file.fileno(), data) :]
            os.fsync(self._file.fileno())
        self._size, self._sound = self._size + len(line), True
