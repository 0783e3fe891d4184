"""Changes as bodies: put together from columns and contents, taken apart again, and copied without decoding."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cdc.errors import BodyDamaged
from cdc.model import DIGEST_SIZE, I64, U8, U64, Bodies, Columns, Op

LEAST_ROW = 32
"""A version takes at least so many bytes in a block."""


def changes(columns: Columns, contents: Bodies, rows: I64, sets: Sequence[bytes | None] = (None,)) -> Bodies:
    """One body for each row of the columns.

    `rows[i]` says what change i carries: 0 and up, that row of `contents`; below 0, nothing, since the record has
    ended, but its set is `sets[-1 - rows[i]]` (so -1 is the first of them; None is the null set). Writes must carry a
    content, all other ops must not: ValueError otherwise, as for a row out of range. `checksum` and `set_hash` of the
    columns are not looked at; those of the bodies follow from their contents.
    """
    from cdc.codec import change_kernels as k

    n = len(columns)
    rows = _i64(rows)
    if len(rows) != n:
        raise ValueError(f"{n} changes, but {len(rows)} rows")
    if n and (rows.max() >= len(contents) or rows.min() < -len(sets)):
        raise ValueError("a row lies outside the contents or the sets")
    if not np.array_equal(rows >= 0, columns.op == Op.WRITE):
        raise ValueError("a write without content, or a content without a write")
    ended = _joined([_ended(name) for name in sets])
    live = rows[rows >= 0]
    most = _sizes_of(contents, live) + int(np.diff(ended.offsets).max(initial=0)) * (n - len(live)) + n * k.HEADER_MOST
    out = np.empty(most, np.uint8)
    offsets = np.empty(n + 1, np.int64)
    c = np.ascontiguousarray
    used = k.assemble(
        c(columns.digest), c(columns.op), c(columns.origin), c(columns.lut), c(columns.generation),
        c(columns.void_time), c(columns.effective_at), c(columns.unobserved_since), c(columns.observed_at),
        c(columns.consecutive), rows, contents.buffer, contents.offsets, ended.buffer, ended.offsets, out, offsets,
    )  # fmt: skip
    return Bodies(out[:used], offsets)


def columns(bodies: Bodies) -> Columns:
    """The columns of bodies, with checksum and set hash computed from their contents.

    Headers, sets and keys are checked on the way, the bins are not: see `check`. BodyDamaged names the row.
    """
    from cdc.codec import change_kernels as k

    n = len(bodies)
    _within(bodies)
    made = Columns(
        digest=np.empty((n, DIGEST_SIZE), np.uint8), op=np.empty(n, np.uint8), origin=np.empty(n, np.uint8),
        lut=np.empty(n, np.int64), generation=np.empty(n, np.int32), void_time=np.empty(n, np.int64),
        effective_at=np.empty(n, np.int64), unobserved_since=np.empty(n, np.int64), observed_at=np.empty(n, np.int64),
        consecutive=np.empty(n, np.bool_), set_hash=np.empty(n, np.uint64), checksum=np.empty(n, np.uint64),
    )  # fmt: skip
    damaged = k.header_columns(
        bodies.buffer, bodies.offsets, made.digest, made.op, made.origin, made.lut, made.generation, made.void_time,
        made.effective_at, made.unobserved_since, made.observed_at, made.consecutive, made.set_hash, made.checksum,
    )  # fmt: skip
    if damaged >= 0:
        raise BodyDamaged(f"row {damaged} of {n} is not an encoded change")
    return made


def check(bodies: Bodies) -> None:
    """Walks every byte of every body: each is exactly one change in our canonical form, or BodyDamaged names the row.

    Canonical: shortest varints, arrays and maps in one block with a count, valid UTF-8, bins for a write and none for
    an ended record, containers not nested deeper than 64. All our bodies are, and so are fastavro's.
    """
    from cdc.codec import change_kernels as k

    _within(bodies)
    damaged = k.check_bodies(bodies.buffer, bodies.offsets, _stack())
    if damaged >= 0:
        raise BodyDamaged(f"row {damaged} of {len(bodies)} is not an encoded change")


def heads(contents: Bodies, rows: I64) -> Bodies:
    """The encoded set and user key of the named contents: what a batch read does not answer (see `records`)."""
    from cdc.codec import change_kernels as k

    chosen = gather(contents, rows)
    keys, bins = np.empty(len(chosen), np.int64), np.empty(len(chosen), np.int64)
    damaged = k.content_parts(chosen.buffer, chosen.offsets, keys, bins)
    if damaged >= 0:
        raise BodyDamaged(f"content {int(rows[damaged])} is malformed")
    sizes = bins - chosen.offsets[:-1]
    offsets = np.zeros(len(chosen) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    within = np.arange(int(offsets[-1])) + np.repeat(chosen.offsets[:-1] - offsets[:-1], sizes)
    return Bodies(chosen.buffer[within], offsets)


def gather(bodies: Bodies, rows: I64) -> Bodies:
    """Copies of the named bodies, in that order. IndexError if a row is out of range."""
    from cdc.codec import change_kernels as k

    rows = _i64(rows)
    size = _sizes_of(bodies, rows)
    out, offsets = np.empty(size, np.uint8), np.empty(len(rows) + 1, np.int64)
    k.gather_bodies(bodies.buffer, bodies.offsets, rows, out, offsets)
    return Bodies(out, offsets)


def concat(parts: Sequence[Bodies]) -> Bodies:
    """All bodies of all parts, in order."""
    buffers = [p.buffer[p.offsets[0] : p.offsets[-1]] for p in parts]
    offsets = np.zeros(sum(len(p) for p in parts) + 1, np.int64)
    np.cumsum(np.concatenate([np.empty(0, np.int64), *(np.diff(p.offsets) for p in parts)]), out=offsets[1:])
    return Bodies(np.concatenate([np.empty(0, np.uint8), *buffers]), offsets)


def version_rows(offsets: I64, bodies: Bodies, order: I64) -> Bodies:
    """Rows of a segment: `Version {offset, change}` of the bodies named by `order`, in that order.

    `offsets[i]` is the Kafka offset of body i. The answer's buffer is a block of an Avro container file, whole or cut
    at any of its own offsets. IndexError if a row is out of range.
    """
    from cdc.codec import change_kernels as k

    order = _i64(order)
    if len(offsets) != len(bodies):
        raise ValueError(f"{len(bodies)} bodies, but {len(offsets)} offsets")
    out = np.empty(_sizes_of(bodies, order) + 10 * len(order), np.uint8)
    ends = np.empty(len(order) + 1, np.int64)
    used = k.put_versions(bodies.buffer, bodies.offsets, _i64(offsets), order, out, ends)
    return Bodies(out[:used], ends)


def split_versions(block: U8 | bytes | memoryview, count: int) -> tuple[I64, Bodies]:
    """The inverse: Kafka offsets and bodies of a block's `count` rows, every byte checked as `check` does.

    BodyDamaged if the block is not exactly so many versions.
    """
    from cdc.codec import change_kernels as k

    b = np.frombuffer(block, np.uint8)
    if not 0 <= count <= len(b) // LEAST_ROW:
        raise BodyDamaged(f"{count} versions cannot stand in a block of {len(b)} bytes")
    offsets, out, ends = np.empty(count, np.int64), np.empty(len(b), np.uint8), np.empty(count + 1, np.int64)
    damaged = k.take_versions(b, offsets, out, ends, _stack())
    if damaged >= 0:
        what = f"version {damaged} of a block of {count} is malformed"
        raise BodyDamaged(what if damaged < count else f"bytes are left after a block's {count} versions")
    return offsets, Bodies(out[: int(ends[-1])], ends)


class Found(NamedTuple):
    """The rows of a segment's block where they stand: row i is `block[starts[i]:starts[i + 1]]`, and its body begins
    at `bodies[i]`. The other columns are those of `model.Columns` by the same names."""

    starts: I64
    bodies: I64
    offsets: I64
    digest: U8
    op: U8
    void_time: I64
    effective_at: I64
    unobserved_since: I64
    observed_at: I64


def find_versions(block: U8, count: int) -> Found:
    """What a block's `count` rows say, every byte checked as `check` does, and nothing copied.

    BodyDamaged if the block is not exactly so many versions.
    """
    from cdc.codec import version_kernels as k

    if not 0 <= count <= len(block) // LEAST_ROW:
        raise BodyDamaged(f"{count} versions cannot stand in a block of {len(block)} bytes")
    starts = np.empty(count + 1, np.int64)
    longs = np.empty((6, count), np.int64)
    digest, op = np.empty((count, DIGEST_SIZE), np.uint8), np.empty(count, np.uint8)
    found = Found(starts, longs[0], longs[1], digest, op, longs[2], longs[3], longs[4], longs[5])
    damaged = k.find_versions(
        block, found.offsets, found.starts, found.bodies, found.digest, found.op, found.void_time, found.effective_at,
        found.unobserved_since, found.observed_at, _stack(),
    )  # fmt: skip
    if damaged >= 0:
        what = f"version {damaged} of a block of {count} is malformed"
        raise BodyDamaged(what if damaged < count else f"bytes are left after a block's {count} versions")
    return found


def copy_out(addresses: U64, sizes: I64) -> Bodies:
    """Copies of so many bytes of memory at each address. Nothing checks the addresses: they must be `find_versions`'
    of arrays that are still there."""
    from cdc.codec import version_kernels as k

    out, ends = np.empty(int(sizes.sum()), np.uint8), np.empty(len(sizes) + 1, np.int64)
    k.copy_out(np.ascontiguousarray(addresses), np.ascontiguousarray(sizes), out, ends)
    return Bodies(out, ends)


def _ended(name: bytes | None) -> bytes:
    from cdc.codec.avro import long

    return b"\x00\x00\x00" if name is None else b"\x02" + long(len(name)) + name + b"\x00\x00"


def _joined(parts: Sequence[bytes]) -> Bodies:
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(p) for p in parts], out=offsets[1:])
    return Bodies(np.frombuffer(b"".join(parts), np.uint8), offsets)


def checked_sizes(bodies: Bodies, rows: I64) -> I64:
    """The sizes of the named bodies; IndexError for a row, BodyDamaged for an offset out of range.

    Kernels follow rows and offsets blindly: this stands in front of each.
    """
    if not len(rows):
        return np.empty(0, np.int64)
    if rows.min() < 0 or rows.max() >= len(bodies):
        raise IndexError(f"a row lies outside the {len(bodies)} bodies")
    starts, ends = bodies.offsets[rows], bodies.offsets[rows + 1]
    if starts.min() < 0 or ends.max() > len(bodies.buffer) or (ends < starts).any():
        raise BodyDamaged("the offsets of the bodies do not lie within their bytes")
    return np.asarray(ends - starts)


def _sizes_of(bodies: Bodies, rows: I64) -> int:
    return int(checked_sizes(bodies, rows).sum())


def _within(bodies: Bodies) -> None:
    # A kernel follows the offsets blindly, so they must be sound before one runs.
    o = bodies.offsets
    if len(o) == 0 or o[0] < 0 or o[-1] > len(bodies.buffer) or (np.diff(o) < 0).any():
        raise BodyDamaged("the offsets of the bodies do not lie within their bytes")


def _i64(rows: I64) -> I64:
    return np.ascontiguousarray(rows, np.int64)


def _stack() -> I64:
    return np.empty(65, np.int64)
