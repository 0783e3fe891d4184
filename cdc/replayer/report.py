"""What a restore did, how it tells while it works, and what was refused. No I/O but the file that names the refused."""

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from cdc.clock import rfc3339
from cdc.errors import RestoreError, UsageError

Progress = Callable[[int, int, str], None]
"""Called by any thread: records done, records in all, phase (`verify`, `read`, `count`, `write`, `compare`)."""


class Cancelled(BaseException):
    """Ends work whose `cancel` event is set. A clone and a rewind catch it: there `Report.complete` says it."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a caller follows a restore, and ends it early by setting `cancel`. `stop` is set from within, by an error."""

    progress: Progress = field(default=lambda done, total, phase: None)
    cancel: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    def step(self) -> None:
        """Raises Cancelled when no more is wanted."""
        if self.cancel.is_set() or self.stop.is_set():
            raise Cancelled


class Meter:
    """Adds up what threads have done of a phase, and tells the watch."""

    def __init__(self, total: int, phase: str, watch: Watch) -> None:
        self._done, self._total, self._phase, self._watch = 0, total, phase, watch
        self._lock = threading.Lock()
        watch.progress(0, total, phase)

    def add(self, records: int) -> None:
        """So many more are done. Raises Cancelled when no more is wanted."""
        self._watch.step()
        with self._lock:
            self._done += records
            done = self._done
        self._watch.progress(min(done, self._total), self._total, self._phase)

    def finish(self) -> None:
        """All of it is."""
        self._watch.progress(self._total, self._total, self._phase)


@dataclass(frozen=True, slots=True)
class Counts:
    """Records by what becomes of them, and by how sure their state is.

    `write`, `remove`: to be written or removed; `leave` (of a rewind): changed since, but as they were. `expired`: held
    at the moment, but their time has passed since, so they are not written (and removed where they are). `exact`,
    `presumed` and `fuzzy` count the records that held at the moment, and of those that did not the ones that are not
    sure of it. `bytes` are the encoded contents to write.
    """

    write: int = 0
    remove: int = 0
    leave: int = 0
    expired: int = 0
    exact: int = 0
    presumed: int = 0
    fuzzy: int = 0
    bytes: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    @property
    def touched(self) -> int:
        """Records that the target is asked to change."""
        return self.write + self.remove

    def to_dict(self) -> dict[str, int]:
        """Name to number."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Report:
    """What a restore did. `at` in milliseconds; `complete` is False when it was cancelled under way.

    `written`, `removed`, `left`: as meant; `conflicts`: changed again since the last capture and therefore not
    touched; `refused`: not accepted by the target, by result code in `refusals`. `named_file` names these two, and is
    None where there are none. The certainty counts are as in `Counts`.
    """

    kind: str
    namespace: str
    at: int
    complete: bool = True
    written: int = 0
    removed: int = 0
    left: int = 0
    conflicts: int = 0
    refused: int = 0
    expired: int = 0
    exact: int = 0
    presumed: int = 0
    fuzzy: int = 0
    bytes: int = 0
    seconds: float = 0.0
    refusals: dict[int, int] = field(default_factory=dict)
    named_file: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {
            "at": rfc3339(self.at),
            "seconds": round(self.seconds, 3),
            "refusals": {str(code): n for code, n in sorted(self.refusals.items())},
            "named_file": str(self.named_file) if self.named_file else None,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that the target did not take, or that is not overwritten because it changed again."""

    digest: bytes
    set_name: str | None
    key: str | int | float | None  # the stored user key; bytes as hex
    code: int
    reason: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(
            {
                "digest": self.digest.hex(),
                "set": self.set_name,
                "key": self.key,
                "code": self.code,
                "reason": self.reason,
            },
            ensure_ascii=False,
        )


class Tally:
    """Adds up what the threads of a restore did; the file that names records is made when the first one comes."""

    def __init__(self, named_file: Path | None = None) -> None:
        """UsageError when the file could not be written."""
        self._lock = threading.Lock()
        self._path = named_file
        self._file: FileIO | None = None
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[int] = Counter()
        if named_file is not None and (named_file.is_dir() or not os.access(named_file.absolute().parent, os.W_OK)):
            raise UsageError(f"{named_file} cannot be written", "Name a file in a directory that is there and yours.")

    def add(self, **counts: int) -> None:
        """Adds to fields of Report by name."""
        with self._lock:
            self.counts.update(counts)

    def name(self, outcome: str, records: Iterable[Refusal]) -> None:
        """Counts records as `conflicts` or `refused` and names them; they are in the file when this returns.

        RestoreError when the file fails.
        """
        with self._lock:
            lines = []
            for record in records:
                self.counts[outcome] += 1
                if outcome == "refused":
                    self.refusals[record.code] += 1
                lines.append(record.to_json() + "\n")
            if lines and self._path is not None:
                self._write(self._path, "".join(lines).encode())

    def _write(self, path: Path, data: bytes) -> None:
        try:
            self._file = self._file or path.open("wb", buffering=0)
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise RestoreError(
                f"{path}, which names what was not written, failed: {error.strerror}",
                "What was restored so far stays. Free some space, and run the restore again.",
            ) from error

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()

    def report(self, kind: str, namespace: str, at: int, *, complete: bool, seconds: float) -> Report:
        """The sums."""
        with self._lock:
            return Report(
                kind, namespace, at, complete, seconds=seconds, refusals=dict(self.refusals),
                named_file=self._path if self._file is not None else None, **self.counts,
            )  # fmt: skip


def _values(counts: Counts) -> tuple[int, ...]:
    return tuple(asdict(counts).values())
