"""What a restore did, how it tells while it works, and what was refused. No I/O but the file that names the refused."""

import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cdc.clock import rfc3339
from cdc.model import DIGEST_SIZE
from cdc.replayer.lines import Lines
from cdc.replayer.metadata_plan import MetadataReport
from cdc.replayer.verified import Verification

Digests = bytes
"""Digests end to end."""
NAMED = 1_000_000
"""The digests of so many records that were refused or not touched are remembered."""

Progress = Callable[[int, int, str], None]
"""Called by any thread: records done, records in all, phase (`verify`, `read`, `count`, `write`, `compare`); of phase
`metadata` items, and not records."""


class Cancelled(BaseException):
    """Ends work whose `cancel` event is set. A clone and a rewind catch it: there `Report.complete` says it."""


class GaveUp(Cancelled):
    """Ends a restore whose target takes nothing any more."""


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


class Course:
    """How far somebody is through the rows of one shard, for a meter: what is no part of the work is passed all the
    same."""

    def __init__(self, meter: Meter, rows: int) -> None:
        self._meter, self._rows, self._passed = meter, rows, 0

    def reach(self, share: float) -> None:
        """This share of them is passed, or as many as before. Raises Cancelled when no more is wanted."""
        passed = max(self._passed, round(share * self._rows))
        self._meter.add(passed - self._passed)
        self._passed = passed


@dataclass(frozen=True, slots=True)
class Counts:
    """Records by what becomes of them, and by how sure their state is.

    `write`, `remove`: to be written or removed; `leave` (of a rewind): changed since, but as they were. `spare`: came
    into a filtered scope since, and are removed only when others' changes are overwritten too. `expired`: held
    at the moment, but their time has passed since, so they are not written (and removed where they are). `exact`,
    `presumed` and `fuzzy` count the records that held at the moment, and of those that did not the ones that are not
    sure of it. `bytes` are the encoded contents to write.
    """

    write: int = 0
    remove: int = 0
    leave: int = 0
    spare: int = 0
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

    `written`, `removed`, `left`: as meant; `conflicts`: not touched, because they changed again since the last capture
    or may have been there before, out of scope; `refused`: not accepted by the target, by result code in `refusals`
    and by what that means in `reasons`. `named_file` names these two, and is None where there are none; `named` are
    their digests end to end, of the first NAMED. Writes went out from `began_at` to `ended_at`, in the target's time;
    0: none did. The certainty counts are as in `Counts`. `id` names the restore in its journal, "" where it has none;
    what it did before it was interrupted counts as well. `verification` is None where nobody compared what it left,
    `metadata` where no index and no module was to be made. `bins`, of a rewind: these alone were brought back, and what
    counts as removed lost these alone.
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
    id: str = ""
    reasons: dict[str, int] = field(default_factory=dict)
    began_at: int = 0
    ended_at: int = 0
    named: Digests = field(default=b"", repr=False)
    verification: Verification | None = None
    metadata: MetadataReport | None = None
    bins: tuple[str, ...] = ()

    @property
    def begun(self) -> bool:
        """Whether it came to any record."""
        return bool(self.written or self.removed or self.left or self.conflicts or self.refused)

    @property
    def whole(self) -> bool:
        """Whether nothing is known that was not done as it was meant: no record was refused, left untouched or found to
        have changed before, and no index or module was in the way."""
        unseen = self.verification.unseen if self.verification is not None else 0
        described = self.metadata is None or self.metadata.whole
        return self.complete and described and not (self.conflicts or self.refused or unseen)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        said = {name: value for name, value in asdict(self).items() if name != "named"}
        return said | {
            "at": rfc3339(self.at),
            "began_at": rfc3339(self.began_at) if self.began_at else None,
            "ended_at": rfc3339(self.ended_at) if self.ended_at else None,
            "seconds": round(self.seconds, 3),
            "refusals": {str(code): n for code, n in sorted(self.refusals.items())},
            "named_file": str(self.named_file) if self.named_file else None,
            "verification": self.verification.to_dict() if self.verification else None,
            "metadata": self.metadata.to_dict() if self.metadata else None,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that the target did not take, or that is not overwritten because it changed again."""

    digest: bytes
    set_name: str | None
    key: str | int | float | None  # the stored user key; bytes as hex
    code: int
    reason: str  # in words that many records share

    def to_json(self, restore: str = "") -> str:
        """One line, which says whose it is: of the restore of this id."""
        return json.dumps(
            {
                "restore": restore,
                "digest": self.digest.hex(),
                "set": self.set_name,
                "key": self.key,
                "code": self.code,
                "reason": self.reason,
            },
            ensure_ascii=False,
        )


def printable(key: Any) -> str | int | float | None:
    """A stored user key as JSON has it; bytes as hex."""
    if isinstance(key, bytes | bytearray):
        return bytes(key).hex()
    if isinstance(key, float) and not math.isfinite(key):
        return repr(key)  # JSON has no number for it
    return key if isinstance(key, str | int | float) or key is None else str(key)


class Tally:
    """Adds up what the threads of a restore did; the file that names records is made when the first one comes.

    What becomes of a slice is added up `apart`, and taken in when all of it is done: what a restore that goes on does
    again is then counted, and named, once.
    """

    def __init__(
        self, named_file: Path | None = None, keep: Callable[[bytes], bool] | None = None, id: str = ""
    ) -> None:
        """With `keep`, what the file says of digests that it keeps stays there, as far as the restore of this `id` said
        it. UsageError when it could not be written."""
        self._id = id
        self._lock = threading.Lock()
        self._lines = Lines(named_file, id) if named_file is not None else None
        self._apart: list[Apart] = []
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        self.named = bytearray()
        self.writing = False
        """Whether anything may have been written."""
        self.began_at = self.ended_at = 0
        self.metadata: MetadataReport | None = None
        if self._lines is not None and keep is not None:
            for digest in self._lines.keep(id, keep):
                self._name(digest)

    def wrote(self, began_at: int, ended_at: int) -> None:
        """Something was written between two moments of the target's time."""
        with self._lock:
            self._wrote(began_at, ended_at)

    def _wrote(self, began_at: int, ended_at: int) -> None:
        self.began_at = min(self.began_at or began_at, began_at)
        self.ended_at = max(self.ended_at, ended_at)

    def _name(self, digests: bytes | bytearray) -> None:
        self.named += digests[: NAMED * DIGEST_SIZE - len(self.named)]

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
                    self.reasons[record.reason] += 1
                self._name(record.digest)
                lines.append(record.to_json(self._id))
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        if lines and self._lines is not None:
            self._lines.write(lines)

    def apart(self) -> "Apart":
        """A tally of one slice, to be taken in."""
        made = Apart(self._id)
        with self._lock:
            self._apart.append(made)
        return made

    def take(self, part: "Apart") -> None:
        """Add what was added up apart; its names are in the file when this returns. RestoreError when the file
        fails."""
        with self._lock:
            self._apart.remove(part)
            self.counts.update(part.counts)
            self.refusals.update(part.refusals)
            self.reasons.update(part.reasons)
            self._name(part.named)
            if part.ended_at:
                self._wrote(part.began_at, part.ended_at)
        self._write(part.lines)

    def settle(self) -> None:
        """Take in the slices that were not done whole. RestoreError when the file fails."""
        for part in list(self._apart):
            self.take(part)

    def close(self) -> None:
        """Closes the file."""
        if self._lines is not None:
            self._lines.close()

    def report(self, kind: str, namespace: str, at: int, *, complete: bool, seconds: float, id: str = "") -> Report:
        """The sums."""
        named = self._lines.path if self._lines is not None and self._lines.begun else None
        with self._lock:
            return Report(
                kind, namespace, at, complete, seconds=seconds, refusals=dict(self.refusals), named_file=named, id=id,
                reasons=dict(self.reasons), began_at=self.began_at, ended_at=self.ended_at, named=bytes(self.named),
                verification=None, metadata=self.metadata, bins=(), **self.counts,
            )  # fmt: skip


class Apart(Tally):
    """A tally that keeps what is to be named."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.lines: list[str] = []

    def _write(self, lines: list[str]) -> None:
        self.lines += lines


def _values(counts: Counts) -> tuple[int, ...]:
    return tuple(asdict(counts).values())
