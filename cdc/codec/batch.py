"""Rows of a batch, the data of field 41 after its 5-byte head: writes from bodies, and reads of digests.

A row's index is its position in the call's `rows`, so that a batch's answers can be put beside what was asked.
"""

import numpy as np

from cdc.errors import RecordNotEncodable
from cdc.model import DIGEST_SIZE, I32, I64, U8, Bodies

NO_GUARD = -1
"""In `guards`: whatever is there."""

_WRITE, _DELETE, _GENERATION, _CREATE_ONLY = 0x01, 0x02, 0x04, 0x20
_UPDATE_ONLY, _REPLACE = 0x08 << 8, 0x10 << 8
_FLAGS_AT, _HAS_GENERATION, _HAS_TTL, _FILTER = 24, 0x04, 0x08, 43


def batch_rows(
    bodies: Bodies,
    rows: I64,
    namespace: bytes,
    now_ms: int,
    guards: I32 | None = None,
    *,
    create_only: bool = False,
    update: bool = False,
    filters: U8 | None = None,
) -> bytes:
    """Rows that make the server hold what the named bodies say, in place of what is there.

    A write becomes all of its bins, its set, its user key if it was stored, and the seconds from `now_ms` (the node's
    time) to its absolute void time, at least 1; never is never. An ended record becomes a remove.

    `guards[i]` is the generation that the record must have, 0 if it must not be there (the server takes 0 for a record
    that is not), NO_GUARD for neither; result code 3 otherwise. With `create_only` no write replaces a record, guard
    or not: result code 5 if it is there. With `update` a record keeps what is not named, its expiry and its user key
    too; a bin that is null is removed (else it is left out), and a record that is not there is not made, whatever its
    guard: result code 2. `filters`, (n, size), are packed expressions: a record that is there is only
    touched where its row's is true; result code 27 otherwise.

    RecordNotEncodable names the first row that the protocol cannot say, or that is not a well-formed change: a write
    without bins (the server has no such record), a bin name above 255 bytes, a TTL beyond 32 bits.
    """
    from cdc.codec.batch_kernels import UPDATE

    how = _UPDATE_ONLY | UPDATE if update else _CREATE_ONLY if create_only else _REPLACE
    info = _WRITE | how
    out, ends = _rows(bodies, rows, namespace, now_ms, info, guards, keep=True)
    made = out[: int(ends[-1])]
    return (made if filters is None else _filtered(made, ends, len(namespace), filters)).tobytes()


def row_sizes(bodies: Bodies, rows: I64, namespace: bytes, now_ms: int) -> I64:
    """The exact size of each row that `batch_rows` would make (without guards, which take 2 bytes each).

    It costs as much as making them.
    """
    _, ends = _rows(bodies, rows, namespace, now_ms, _WRITE | _REPLACE, None, keep=False)
    return np.diff(ends)


def batch_removes(digests: U8, namespace: bytes, guards: I32 | None = None, filters: U8 | None = None) -> bytes:
    """Rows that remove the records of the digests, (n, 20); `guards` and `filters` as in `batch_rows`.

    The removal of a record that is not there is answered by result code 2.
    """
    expected = _guards(guards, len(digests))
    if filters is not None and len(filters) != len(digests):
        raise ValueError("filters must be one a row")
    counts = b"\x00\x01\x00\x00" if filters is None else b"\x00\x02\x00\x00"
    field = (len(namespace) + 1).to_bytes(4, "big") + b"\x00" + namespace
    if filters is not None:
        filter_head = (filters.shape[1] + 1).to_bytes(4, "big") + bytes([_FILTER])
    plain = bytes([0x02, 0, _WRITE | _DELETE, 0]) + counts + field
    guarded = bytes([0x02 | 0x04, 0, _WRITE | _DELETE | _GENERATION, 0])
    parts: list[bytes] = []
    before = False
    for i, digest in enumerate(np.ascontiguousarray(digests)):
        guard = int(expected[i]) if len(expected) else NO_GUARD
        if guard >= 0:
            rest = guarded + guard.to_bytes(2, "big") + counts + field
        elif before:
            rest = b"\x01"  # a repeat of the row before
        else:
            rest = plain
        if filters is not None:
            rest += filter_head + filters[i].tobytes()
        before = guard < 0 and filters is None
        parts.append(i.to_bytes(4, "big") + digest.tobytes() + rest)
    return b"".join(parts)


def read_rows(digests: U8, rows: I64, namespace: bytes, expression: bytes | None = None) -> bytes:
    """Rows that read the named digests, (n, 20): all bins, or the value of a packed expression as the bin `v`.

    The answers carry neither digest nor set nor user key (`batch.c`): see `asked` and `heads` of `codec.records`.
    """
    n = len(rows)
    if not n:
        return b""
    made = np.zeros((n, 4 + DIGEST_SIZE + 1), np.uint8)
    made[:, :4] = np.arange(n, dtype=">u4").view(np.uint8).reshape(n, 4)
    made[:, 4 : 4 + DIGEST_SIZE] = digests[rows]
    made[1:, -1] = 0x01  # repeats namespace, flags and ops of the row before
    made[0, -1] = 0x02
    field = (len(namespace) + 1).to_bytes(4, "big") + b"\x00" + namespace
    if expression is None:
        what = b"\x03\x00\x00" + b"\x00\x01\x00\x00" + field
    else:
        value = b"\x92" + expression + b"\x00"
        op = (5 + len(value)).to_bytes(4, "big") + b"\x07\x00\x00\x01v" + value
        what = b"\x01\x00\x00" + b"\x00\x01\x00\x01" + field + op
    flat = made.reshape(-1)
    return flat[: made.shape[1]].tobytes() + what + flat[made.shape[1] :].tobytes()


def _filtered(made: U8, ends: I64, namespace_size: int, filters: U8) -> U8:
    """The rows with a filter each, as the field after the namespace; the second byte of a row's counts is raised."""
    count, size = filters.shape
    if count != len(ends) - 1:
        raise ValueError("filters must be one a row")
    flags = made[ends[:-1] + _FLAGS_AT]
    counts = ends[:-1] + _FLAGS_AT + 4 + 2 * ((flags & _HAS_GENERATION) > 0) + 4 * ((flags & _HAS_TTL) > 0)
    made = made.copy()
    made[counts + 1] += 1  # a row has three fields otherwise, at most
    fields = np.empty((count, 5 + size), np.uint8)
    fields[:, :5] = np.frombuffer((size + 1).to_bytes(4, "big") + bytes([_FILTER]), np.uint8)
    fields[:, 5:] = filters
    return np.insert(made, np.repeat(counts + 4 + 5 + namespace_size, 5 + size), fields.reshape(-1))


def _guards(guards: I32 | None, count: int) -> I64:
    made = np.empty(0, np.int64) if guards is None else np.ascontiguousarray(guards, np.int64)
    if guards is not None and (len(made) != count or made.max(initial=0) > 0xFFFF):
        raise ValueError("guards must be one a row, and at most 65535")
    return made


def _rows(
    bodies: Bodies, rows: I64, namespace: bytes, now_ms: int, info: int, guards: I32 | None, keep: bool
) -> tuple[U8, I64]:
    from cdc.codec import batch_kernels as k
    from cdc.codec.changes import checked_sizes

    rows = np.ascontiguousarray(rows, np.int64)
    expected = _guards(guards, len(rows))
    each = 10 * checked_sizes(bodies, rows) + len(namespace) + k.ROW_MOST
    out = np.empty(int(each.sum() if keep else each.max(initial=0)), np.uint8)
    ends = np.empty(len(rows) + 1, np.int64)
    space = np.frombuffer(namespace, np.uint8)
    left = np.empty(65, np.int64)
    wrong = k.put_rows(
        bodies.buffer, bodies.offsets, rows, space, now_ms // 1000, expected, info, out, ends, left, keep
    )
    if wrong >= 0:
        raise RecordNotEncodable(f"row {wrong} (body {int(rows[wrong])}) cannot be written: damaged or not sayable")
    return out, ends
