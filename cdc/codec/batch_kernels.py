"""From bodies to the rows of a batch write: the data of field 41 after its head, by the server's `batch.c`."""

# numba infers its own types; to it numpy's integers and Python's are one.
# mypy: disable-error-code="arg-type, return-value, assignment"

import numpy as np

from cdc.codec.bytes_kernels import copy, get_long, put_i64, put_u16, put_u32
from cdc.codec.change_kernels import skip_change, skip_header, skip_key, skip_set
from cdc.codec.particle_kernels import decode_value, get_raw, get_size
from cdc.jit import I64_IN, I64_OUT, INT, U8_IN, U8_OUT, borrow, compiled, hot, kernel
from cdc.model import I64, U8

ROW_MOST = 20 + 4 + 1 + 3 + 2 + 4 + 4 + 5 * 3 + 1 + 8
"""What a row takes beside namespace, set, key and bins."""

_EXTRA_INFO, _GENERATION, _TTL = 2, 4, 8
_WRITE, _DELETE, _EXPECT, _CREATE_ONLY = 1, 2, 4, 32
_REPLACE = 16
_NEVER, _KEEP = 0xFFFFFFFF, 0xFFFFFFFE
UPDATE = 1 << 16
"""In `info`: what the row does not name stays: bins, expiry and user key. A bin that is null is removed."""
_NAMESPACE, _SET, _KEY = 0, 1, 2
_OP_WRITE = 2


@kernel
def _put_field_head(out: U8, o: int, kind: int, n: int) -> int:
    o = put_u32(out, o, n + 1)
    out[o] = np.uint8(kind)
    return o + 1


@kernel
def _put_key(b: U8, i: int, end: int, out: U8, o: int) -> int:
    """The field of the user key at i, which is not null."""
    at = o
    o += 6
    branch = b[i]
    kind = 1
    if branch == 2:
        v, i = get_long(b, i + 1, end)
        o = put_i64(out, o, v)
    elif branch == 4:
        kind = 2
        for j in range(8):
            out[o + j] = b[i + 8 - j]
        o += 8
    elif branch == 10:
        kind, n, i = get_raw(b, i + 1, end)
        o = copy(out, o, b, i, n)
    else:
        kind = 3 if branch == 6 else 4
        n, i = get_size(b, i + 1, end)
        o = copy(out, o, b, i, n)
    _put_field_head(out, at, _KEY, o - at - 5)
    out[at + 5] = np.uint8(kind)
    return o


@hot
def _put_bins(b: U8, i: int, end: int, out: U8, o: int, left: I64, nulls: bool) -> tuple[int, int]:
    """The write ops of the bins at i, and how many; 65536, which no row can have, if a name is too long.

    A bin that is null is removed by an op that says so, or left out.
    """
    count, i = get_size(b, i, end)
    made = 0
    for _ in range(count):
        n, i = get_size(b, i, end)
        if n > 255:
            return 65536, o
        if b[i + n] == 0 and not nulls:
            i += n + 1
            continue
        made += 1
        at = o
        out[at + 4] = _OP_WRITE
        out[at + 6] = 0
        out[at + 7] = np.uint8(n)
        o = copy(out, at + 8, b, i, n)
        kind, i, o = decode_value(b, i + n, end, out, o, left)
        put_u32(out, at, o - at - 4)
        out[at + 5] = np.uint8(kind)
    return made, o


@kernel
def put_row(
    b: U8,
    i: int,
    end: int,
    index: int,
    namespace: U8,
    now_s: int,
    generation: int,
    info: int,
    out: U8,
    o: int,
    left: I64,
) -> int:
    """The row of the body b[i:end] at out[o], and the position after it; -1 if it is malformed.

    `info` is info2 and info3 of a write, as info2 | info3 << 8, and UPDATE; `generation` is the guard, -1: none.
    Room: ROW_MOST, the namespace, and ten times the body.
    """
    if skip_change(b, i, end, left) != end:
        return -1
    content = skip_header(b, i, end)
    remove = b[i + 20] != 0
    void_at = i + 22
    _, void_at = get_long(b, void_at, end)
    _, void_at = get_long(b, void_at, end)
    update = info & UPDATE != 0
    ttl = _KEEP if update else _NEVER
    if b[void_at] == 2 and not update:
        v, _ = get_long(b, void_at + 1, end)
        ttl = max(v // 1000 - now_s, 1)  # 0 would mean the namespace's default
        if ttl > 0xFFFFFFFD:
            return -1
    key = skip_set(b, content, end)
    bins = skip_key(b, key, end)
    o = put_u32(out, o, index)
    o = copy(out, o, b, i, 20)
    row_flags = _EXTRA_INFO
    info2, info3 = info & 0xFF, (info >> 8) & 0xFF
    if remove:
        info2, info3 = _WRITE | _DELETE, 0
    else:
        row_flags |= _TTL
    if generation >= 0:
        row_flags |= _GENERATION
        info2 |= _EXPECT
    out[o] = np.uint8(row_flags)
    out[o + 1] = 0
    out[o + 2] = np.uint8(info2)
    out[o + 3] = np.uint8(info3)
    o += 4
    if generation >= 0:
        o = put_u16(out, o, generation)
    if not remove:
        o = put_u32(out, o, ttl)
    n_fields = 1
    counts = o
    o += 4
    o = _put_field_head(out, o, _NAMESPACE, len(namespace))
    o = copy(out, o, namespace, 0, len(namespace))
    if b[content] == 2:
        n, at = get_size(b, content + 1, end)
        o = _put_field_head(out, o, _SET, n)
        o = copy(out, o, b, at, n)
        n_fields += 1
    n_ops = 0
    if not remove:
        if b[key] != 0 and not update:
            o = _put_key(b, key, end, out, o)
            n_fields += 1
        n_ops, o = _put_bins(b, bins, end, out, o, left, update)
        if n_ops == 0 or n_ops > 65535:
            return -1
    put_u16(out, counts, n_fields)
    put_u16(out, counts + 2, n_ops)
    return o


@compiled(INT, U8_IN, I64_IN, I64_IN, U8_IN, INT, I64_IN, INT, U8_OUT, I64_OUT, I64_OUT, INT)
def put_rows(
    b: U8,
    offsets: I64,
    rows: I64,
    namespace: U8,
    now_s: int,
    generations: I64,
    info: int,
    out: U8,
    ends: I64,
    left: I64,
    keep: int,
) -> int:
    """The rows of all named bodies end to end; -1, or the number of the first that cannot be said.

    `generations` is empty or has an entry a row. With keep = 0 every row is written over the one before: only `ends`,
    the sizes added up, are of use, and out needs room for the largest row alone.
    """
    b = borrow(b)
    namespace = borrow(namespace)
    out = borrow(out)
    left = borrow(left)
    o = total = 0
    ends[0] = 0
    for k in range(len(rows)):
        expected = generations[k] if len(generations) else -1
        start = o if keep else 0
        o = put_row(b, offsets[rows[k]], offsets[rows[k] + 1], k, namespace, now_s, expected, info, out, start, left)
        if o < 0:
            return k
        total += o - start
        ends[k + 1] = total
    return -1
