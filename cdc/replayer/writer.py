"""Slices into a target: batch writes and removes, throttled, and what became of each record."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import cdc.codec.batch_kernels  # noqa: F401  compiled before a TTL is reckoned from now, not between
from cdc import codec
from cdc.codec.decode import encode_content, to_python
from cdc.model import I32, I64, Bodies, Bool
from cdc.replayer.pace import Pace
from cdc.replayer.report import Refusal, Tally
from cdc.replayer.slices import Slice
from cdc.replayer.target import Target, same_expiry
from cdc.replayer.versions import ABSENT, Action
from cdc.wire.messages import Result, result_name

CHANGED_AGAIN = "it changed again since it was captured last"


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes slices and tallies the result codes.

    `guarded`: a record is written or removed only as long as its generation is the one captured last; otherwise it
    counts as a conflict, or as left if it is as it was to be written. `create_only`: a record that is there stays, and
    counts as left.
    """

    target: Target
    pace: Pace
    tally: Tally
    guarded: bool = False
    create_only: bool = False

    def apply(self, part: Slice) -> None:
        """Do what the slice's decisions say. Raises what `wire.batch.write` raises, and Cancelled."""
        counts = part.counts()
        self.tally.add(
            left=counts.leave, expired=counts.expired,
            exact=counts.exact, presumed=counts.presumed, fuzzy=counts.fuzzy,
        )  # fmt: skip
        self._write(part, np.flatnonzero(part.decisions.action == Action.WRITE))
        self._remove(part, np.flatnonzero(part.decisions.action == Action.REMOVE))

    def _write(self, part: Slice, which: I64) -> None:
        if not len(which):
            return
        bodies, rows = part.versions.bodies, part.states.held[which]
        guards, space = part.decisions.guard[which], self.target.namespace.encode()

        def encode(batch: I64) -> bytes:
            self.pace.take(len(batch))
            chosen = guards[batch] if self.guarded else None
            return codec.batch_rows(bodies, rows[batch], space, self.target.now(), chosen, create_only=self.create_only)

        results = self.target.write(part.states.digest[which], encode)
        done = results == Result.OK
        changed = (results == Result.GENERATION) & self.guarded
        there = (results == Result.RECORD_EXISTS) & self.create_only
        already = np.zeros(len(which), np.bool_)
        already[changed] = self._as_wanted(part, which[changed])
        changed &= ~already
        there |= already
        sizes = bodies.offsets[rows + 1] - bodies.offsets[rows]
        self.tally.add(written=_count(done), left=_count(there), bytes=int(sizes[done].sum()))
        self._tell(part, which, results, changed, ~(done | changed | there))

    def _remove(self, part: Slice, which: I64) -> None:
        if not len(which):
            return
        digests, guards = part.states.digest[which], part.decisions.guard[which]
        space = self.target.namespace.encode()

        def encode(batch: I64) -> bytes:
            self.pace.take(len(batch))
            return codec.batch_removes(digests[batch], space, guards[batch] if self.guarded else None)

        results = self.target.write(digests, encode)
        done, gone = results == Result.OK, results == Result.NOT_FOUND
        changed = (results == Result.GENERATION) & self.guarded
        self.tally.add(removed=_count(done), left=_count(gone))
        self._tell(part, which, results, changed, ~(done | gone | changed))

    def _as_wanted(self, part: Slice, which: I64) -> Bool:
        """Which of some records are there as they are to be written: whose answer was lost, or whom a restore that was
        interrupted had written before."""
        if not len(which):
            return np.zeros(0, np.bool_)
        columns, rows = part.versions.columns, part.states.held[which]
        heads = _joined([_head(part.versions.bodies[row]) for row in rows.tolist()])
        there, checksum, void_time = self.target.read(part.states.digest[which], heads)
        same = (checksum == columns.checksum[rows]) & same_expiry(void_time, columns.void_time[rows])
        return np.asarray(there & same)

    def _tell(self, part: Slice, which: I64, results: I32, changed: Bool, refused: Bool) -> None:
        self.tally.name("conflicts", _named(part, which[changed], results[changed], CHANGED_AGAIN))
        self.tally.name("refused", _named(part, which[refused], results[refused]))


def _head(body: bytes) -> bytes:
    """The encoded set and user key of a body."""
    said = to_python(body)
    return encode_content(said["set"], said["user_key"], {})[:-1]


def _joined(parts: list[bytes]) -> Bodies:
    ends = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    return Bodies(np.frombuffer(b"".join(parts), np.uint8), ends)


def _count(mask: Bool) -> int:
    return int(np.count_nonzero(mask))


def _named(part: Slice, which: I64, results: I32, reason: str = "") -> Iterator[Refusal]:
    for i, code in zip(which.tolist(), results.tolist(), strict=True):
        held, last = int(part.states.held[i]), int(part.states.last[i])
        said = to_python(part.versions.bodies[held if held != ABSENT else last])
        yield Refusal(
            digest=part.states.digest[i].tobytes(),
            set_name=said["set"],
            key=_printable(said["user_key"]),
            code=code,
            reason=reason or f"the server answered {result_name(code)}",
        )


def _printable(key: Any) -> str | int | float | None:
    if isinstance(key, bytes | bytearray):
        return bytes(key).hex()
    return key if isinstance(key, str | int | float) or key is None else str(key)
