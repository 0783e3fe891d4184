"""Frames of a query or a batch read, as columns and encoded contents."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cdc.errors import CodecError
from cdc.model import DIGEST_SIZE, I32, I64, U8, U64, Bodies

CONTENT_LIMIT = 64 << 20
"""Largest content that `records` accepts unless told otherwise; far above what a server stores."""

_REASONS = {
    1: "a bin's name is not UTF-8",
    2: "the set's name is not UTF-8",
    3: "the content is larger than the limit",
    4: "the record has no bins",
    5: "a bin carries flags that this version does not know",
    6: "the answer has no integer",
    7: "two bins have the same name",
}
_FAULTS = {
    1: "a message's header is cut or is not 22 bytes long",
    2: "a field is cut or has a wrong size",
    3: "a bin is cut or has a wrong size",
    4: "a record has no digest",
    5: "an answer names a row that was not asked for",
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be taken: which, why, and its whole message as it came."""

    digest: bytes  # empty when the message has none
    reason: str
    message: bytes
    code: int = 0  # the server's result code; 0: the record came, but cannot be said
    row: int = -1  # of a batch: the row asked for


@dataclass(frozen=True, slots=True)
class Records:
    """Records as they came, one entry each in every column.

    `contents` holds the tail of a `Change` (set, user_key, bins), `checksum` is its XXH64, `set_hash` the XXH64 of the
    set's name (0: the null set); `void_time` is in milliseconds, NEVER (0) if the record does not expire.
    `row` is the row asked for, of a batch read; -1 otherwise.
    """

    digest: U8
    generation: I32
    void_time: I64
    set_hash: U64
    checksum: U64
    contents: Bodies
    rejected: tuple[Rejected, ...]
    row: I64

    def __len__(self) -> int:
        return len(self.digest)


@dataclass(frozen=True, slots=True)
class Projections:
    """What a query without bins says: `value` is the projected integer (0 if none was asked for)."""

    digest: U8
    generation: I32
    void_time: I64
    value: I64
    rejected: tuple[Rejected, ...]
    row: I64

    def __len__(self) -> int:
        return len(self.digest)


def records(
    frames: Iterable[U8 | bytes | bytearray | memoryview],
    *,
    limit: int = CONTENT_LIMIT,
    asked: U8 | None = None,
    heads: Bodies | None = None,
) -> Records:
    """The records of a query with bins, from its frames' payloads, in the order they came.

    Partition-done messages and the last message are passed over. A record with a result code, with a bin or set name
    that is not UTF-8, with two bins of one name, without bins, or with more than `limit` bytes of content is
    `rejected`, and the rest goes on. A content that would be larger than 8 MiB has its lists and maps as Raw.

    For a batch read hand in what was asked: the answers carry neither digest nor set nor user key, but the row's
    number. `asked` is (n, 20) and `heads` the n encoded sets and user keys (`codec.heads`); `row` then names the row.
    Raises CodecError for a frame that is cut or malformed, with the place.
    """
    from cdc.codec import record_kernels as k

    nothing = np.empty((0, DIGEST_SIZE), np.uint8)
    asked = nothing if asked is None else np.ascontiguousarray(asked)
    if heads is None:
        heads = Bodies(np.zeros(2 * len(asked), np.uint8), np.arange(len(asked) + 1, dtype=np.int64) * 2)
    if len(heads) != len(asked):
        raise ValueError(f"{len(asked)} digests asked for, but {len(heads)} heads")
    head_size = int(np.diff(heads.offsets).max(initial=0))
    grower = _Grower("set_hash", "checksum", batch=len(asked) > 0)
    out = np.empty(0, np.uint8)
    left = np.empty(65, np.int64)
    for number, frame in enumerate(frames):
        b = np.frombuffer(frame, np.uint8)
        grower.room(len(b))
        state = grower.state
        need = int(state[k.STATE_OUT]) + 4 * len(b) + 64 + (len(b) // 22 + 1) * head_size
        if len(out) < need:
            out = _grown(out, int(state[k.STATE_OUT]), need)
        fault = k.encode_frame(
            b, limit, out, grower.offsets, grower.digest, grower.generation, grower.void_time, grower.set_hash,
            grower.checksum, grower.marks, state, left, asked, heads.buffer, heads.offsets, grower.row,
        )  # fmt: skip
        grower.after(fault, number, b)
    n = int(grower.state[k.STATE_ROWS])
    return Records(
        grower.digest[:n], grower.generation[:n], grower.void_time[:n], grower.set_hash[:n], grower.checksum[:n],
        Bodies(out[: int(grower.state[k.STATE_OUT])], grower.offsets[: n + 1]), tuple(grower.rejected), grower.rows(),
    )  # fmt: skip


def projections(frames: Iterable[U8 | bytes | bytearray | memoryview], *, asked: U8 | None = None) -> Projections:
    """The one integer that each record's message carries, whatever its bin is called. Otherwise like `records`."""
    return _project(frames, True, asked)


def digests(frames: Iterable[U8 | bytes | bytearray | memoryview], *, asked: U8 | None = None) -> Projections:
    """Digest, generation and void time of each record of a query without bins. Otherwise like `records`."""
    return _project(frames, False, asked)


def _project(frames: Iterable[U8 | bytes | bytearray | memoryview], with_value: bool, asked: U8 | None) -> Projections:
    from cdc.codec import record_kernels as k

    asked = np.empty((0, DIGEST_SIZE), np.uint8) if asked is None else np.ascontiguousarray(asked)
    grower = _Grower("value", batch=len(asked) > 0)
    for number, frame in enumerate(frames):
        b = np.frombuffer(frame, np.uint8)
        grower.room(len(b))
        fault = k.project_frame(
            b, with_value, grower.digest, grower.generation, grower.void_time, grower.value, grower.marks,
            grower.state, asked, grower.row,
        )  # fmt: skip
        grower.after(fault, number, b)
    n = int(grower.state[k.STATE_ROWS])
    return Projections(
        grower.digest[:n], grower.generation[:n], grower.void_time[:n], grower.value[:n], tuple(grower.rejected),
        grower.rows(),
    )  # fmt: skip


def _grown(array: np.ndarray, used: int, need: int) -> np.ndarray:
    # A large array takes no memory before it is written to, so four times is no more than twice, and copied less.
    larger = np.empty((max(need, 4 * len(array)), *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger


class _Grower:
    """The named columns of a call as they grow, and what was rejected."""

    def __init__(self, *columns: str, batch: bool) -> None:
        self.columns = ("digest", "generation", "void_time", *columns, *(["row"] if batch else []))
        self.state = np.zeros(4, np.int64)
        self.digest = np.empty((0, DIGEST_SIZE), np.uint8)
        self.generation = np.empty(0, np.int32)
        self.void_time = np.empty(0, np.int64)
        self.value = np.empty(0, np.int64)
        self.set_hash = np.empty(0, np.uint64)
        self.checksum = np.empty(0, np.uint64)
        self.row = np.empty(0, np.int64)
        self.offsets = np.zeros(1, np.int64)
        self.marks = np.empty((0, 5), np.int64)
        self.rejected: list[Rejected] = []

    def room(self, size: int) -> None:
        """Room for every message that a frame of this size can hold."""
        most = size // 22 + 1
        used = int(self.state[1])
        self.state[2] = 0
        if len(self.marks) < most:
            self.marks = np.empty((most, 5), np.int64)
        if len(self.generation) < used + most:
            capacity = max(used + most, 4 * len(self.generation))
            for name in self.columns:
                setattr(self, name, _grown(getattr(self, name), used, capacity))
            self.offsets = _grown(self.offsets, used + 1, capacity + 1)

    def rows(self) -> I64:
        """The rows asked for; -1 where none were."""
        n = int(self.state[1])
        return self.row[:n] if "row" in self.columns else np.full(n, -1, np.int64)

    def after(self, fault: int, number: int, frame: U8) -> None:
        """Notes what the kernel rejected; raises CodecError if it found the frame malformed."""
        if fault:
            raise CodecError(
                f"frame {number} is malformed at byte {int(self.state[3])} of {len(frame)}: {_FAULTS[fault]}"
            )
        for reason, start, end, digest, row in self.marks[: int(self.state[2])].tolist():
            self.rejected.append(
                Rejected(
                    digest=frame[digest : digest + DIGEST_SIZE].tobytes() if digest >= 0 else b"",
                    reason=_REASONS[reason] if reason > 0 else f"the server answered with result code {-reason}",
                    message=frame[start:end].tobytes(),
                    code=max(-reason, 0),
                    row=row,
                )
            )
