"""A scratch namespace: what a drill writes there is noted before, and removed again, whatever becomes of the drill."""

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from cdc import codec
from cdc.clock import wall_clock
from cdc.errors import ConfigError, RestoreError, ServerRefused, TargetNotEmpty
from cdc.model import DIGEST_SIZE, I32, I64, PARTITIONS, U8
from cdc.replayer.pace import Pace
from cdc.replayer.report import Watch
from cdc.replayer.target import Target
from cdc.source import facts
from cdc.source.expressions import lut_at_least
from cdc.wire import Cluster
from cdc.wire.messages import Result, result_name
from cdc.wire.query import query

REMOVED_AT_ONCE: Final = 20_000
"""So many records are removed before the next notes are read."""
ARRIVES_MS: Final = 30_000
"""A write is there so long after it was encoded, at the latest, by clocks that do not quite agree."""


class Notes:
    """The digests of what was written, end to end in a file, which is locked as long as it is open. What a drill that
    was killed had noted is there for the next one."""

    def __init__(self, file: IO[bytes]) -> None:
        """See `notes`."""
        self._file = file
        self._lock = threading.Lock()

    def add(self, digests: U8) -> None:
        """They are in the file when this returns. RestoreError when the file fails; then none of them is."""
        data = digests.tobytes()
        with self._lock:
            whole = self._file.seek(0, os.SEEK_END)
            try:
                if self._file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._file.truncate(whole)  # what others add must begin where a digest does
                raise RestoreError(f"{self._file.name} cannot be written: {error.strerror}") from error

    def __len__(self) -> int:
        return Path(self._file.name).stat().st_size // DIGEST_SIZE

    def read(self) -> Iterator[U8]:
        """All of them, (n, 20), in portions."""
        with Path(self._file.name).open("rb") as file:
            while data := file.read(REMOVED_AT_ONCE * DIGEST_SIZE):
                whole = len(data) // DIGEST_SIZE * DIGEST_SIZE  # a killed drill may have been at the last one
                yield np.frombuffer(data[:whole], np.uint8).reshape(-1, DIGEST_SIZE)

    def touch(self) -> None:
        """Something that is noted is about to be written. RestoreError when the file fails."""
        try:
            os.utime(self._file.fileno())
        except OSError as error:
            raise RestoreError(f"{self._file.name} cannot be written: {error.strerror}") from error

    @property
    def touched_at(self) -> int:
        """When it last was, in milliseconds by this machine's clock."""
        return os.fstat(self._file.fileno()).st_mtime_ns // 1_000_000

    def forget(self) -> None:
        """Nothing is noted any more. The file stays: who waits for its lock must find this one."""
        self._file.truncate(0)


@contextlib.contextmanager
def notes(directory: Path, place: str) -> Iterator[Notes]:
    """The notes of a scratch namespace, by its place in words. Raises RestoreError while another drill has them, and
    when the file fails."""
    path = directory / f"drill-{hashlib.sha256(place.encode()).hexdigest()[:16]}.digests"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise RestoreError(
            f"{path} cannot be written: {error.strerror}", "A drill notes there what it writes."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RestoreError(f"another drill is at work in {place}", "Wait until it has ended.") from None
        yield Notes(file)


@dataclass(frozen=True, slots=True)
class Scratch(Target):
    """A target that notes every digest before it is written."""

    notes: Notes

    @classmethod
    def on(cls, target: Target, notes: Notes) -> "Scratch":
        """The same place, noting."""
        return cls(target.source, target.settings, target.now, notes)

    def write(self, digests: U8, encode: Callable[[I64], bytes]) -> I32:
        """See Target; RestoreError where it cannot be noted."""
        self.notes.add(digests)

        def encode_now(rows: I64) -> bytes:
            made = encode(rows)
            self.notes.touch()
            return made

        return Target.write(self, digests, encode_now)

    def take_up(self) -> int:
        """Remove what a drill before this one left, and see that nothing else is there; how many records that were.
        Raises TargetNotEmpty, and as `clean`."""
        left = len(self.notes)
        # What was restored or written there since has the same digests, and is somebody's.
        if left and self._written_since(self.notes.touched_at + ARRIVES_MS):
            raise TargetNotEmpty(
                f"records were written into the scratch namespace {self.namespace} after a drill that did not clean "
                "up; nothing was written, and none was removed",
                "A drill wants an empty namespace that nobody else uses: name another, or truncate this one.",
            )
        self.clean()
        if self.holds_records():
            raise TargetNotEmpty(
                f"the scratch namespace {self.namespace} holds records; nothing was written, and none was removed",
                "A drill wants an empty namespace that nobody else uses: name another, or truncate this one.",
            )
        return left

    def clean(self) -> None:
        """Remove what was noted, and nothing else. Raises ServerRefused where the server keeps some of it, and what
        `wire.batch.write` raises: then the notes stay for the next drill."""
        kept, reason = 0, ""
        for digests in self.notes.read():
            refused = self._remove(digests)
            kept += len(refused)
            reason = result_name(int(refused[0])) if len(refused) else reason
        if kept:
            raise ServerRefused(f"{kept:,} records cannot be removed from {self.namespace} again: {reason}")
        self.notes.forget()

    def _written_since(self, ms: int) -> bool:
        """Whether any record was written at a moment of this machine's clock or later."""
        since = lut_at_least(ms + self.now() - wall_clock())
        frames = query(
            self.source.cluster, self.namespace, range(PARTITIONS), filter=since, bins=False, sample_max=1
        )  # fmt: skip
        return len(codec.digests(frames)) > 0

    def _remove(self, digests: U8) -> I32:
        """The result codes of those that could not be removed."""
        name, pace = self.namespace.encode(), Pace(self.settings.records_per_s, Watch())  # which nobody cancels

        def encode(rows: I64) -> bytes:
            pace.take(len(rows))
            return codec.batch_removes(digests[rows], name)

        results = Target.write(self, digests, encode)
        return np.asarray(results[(results != Result.OK) & (results != Result.NOT_FOUND)])


@dataclass(frozen=True, slots=True)
class Member:
    """A node as it names itself: its id, the key of the cluster that it is in, and the addresses that it tells."""

    name: str
    cluster_key: str
    addresses: str

    def same(self, other: "Member") -> bool:
        """Whether they may be one node. Ids may be given by hand, so two clusters may have nodes of one id; then their
        keys and addresses are others. A key alone changes whenever members do."""
        alike = self.cluster_key == other.cluster_key or self.addresses == other.addresses
        return self.name == other.name and alike


def require_other(source: Cluster, namespace: str, scratch: Cluster, into: str) -> None:
    """ConfigError where the scratch namespace is the source itself, by whatever name its hosts were called."""
    if into != namespace:
        return
    ours = _members(source)
    both = next((one for one in _members(scratch) if any(one.same(other) for other in ours)), None)
    if both is not None:
        raise ConfigError(
            f"the scratch namespace {into} is the source itself: node {both.name} is a member of both clusters",
            "A drill never writes to the source. Name another namespace, or another cluster, in drill.into or --into.",
        )


def _members(cluster: Cluster) -> list[Member]:
    """Raises ClusterUnreachable where one does not answer: it might be the one."""
    found = []
    for node in cluster.nodes():
        said = cluster.ask(node, "statistics", "service-clear-std")
        key = facts.pairs(said["statistics"]).get("cluster_key", "")
        found.append(Member(node.name, key, said["service-clear-std"]))
    return found
