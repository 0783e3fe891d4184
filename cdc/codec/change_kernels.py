"""Whole changes: a header in front of a content, the header's columns back, and bodies copied without decoding."""

# numba infers its own types; to it numpy's integers and Python's are one.
# mypy: disable-error-code="arg-type, return-value, assignment"

import numpy as np
from numba import types

from cdc.codec.bytes_kernels import copy, get_long, is_utf8, put_long, xxh64
from cdc.codec.particle_kernels import get_raw, get_size, skip_value
from cdc.jit import (
    BOOL_OUT,
    I32_IN,
    I32_OUT,
    I64_IN,
    I64_OUT,
    INT,
    U8_IN,
    U8_OUT,
    U8_ROWS_IN,
    U8_ROWS_OUT,
    U64_OUT,
    borrow,
    compiled,
    kernel,
)  # fmt: skip
from cdc.model import I32, I64, U8, U64, Bool

HEADER_MOST = 20 + 1 + 1 + 10 + 5 + 11 + 10 + 10 + 10 + 1
"""A change's header takes at most so many bytes."""

BOOL_IN = types.Array(types.boolean, 1, "C", readonly=True)


@compiled(
    INT, U8_ROWS_IN, U8_IN, U8_IN, I64_IN, I32_IN, I64_IN, I64_IN, I64_IN, I64_IN, BOOL_IN, I64_IN,
    U8_IN, I64_IN, U8_IN, I64_IN, U8_OUT, I64_OUT,
)  # fmt: skip
def assemble(
    digest: U8,
    op: U8,
    origin: U8,
    lut: I64,
    generation: I32,
    void_time: I64,
    effective_at: I64,
    unobserved_since: I64,
    observed_at: I64,
    consecutive: Bool,
    rows: I64,
    contents: U8,
    content_offsets: I64,
    ended: U8,
    ended_offsets: I64,
    out: U8,
    offsets: I64,
) -> int:
    """Bodies into out; the caller has checked rows, and made room of HEADER_MOST and the content for each."""
    contents = borrow(contents)
    ended = borrow(ended)
    out = borrow(out)
    o = 0
    offsets[0] = 0
    for k in range(len(rows)):
        for j in range(20):
            out[np.uint64(o + j)] = digest[k, j]
        o += 20
        o = put_long(out, o, np.int64(op[k]))
        o = put_long(out, o, np.int64(origin[k]))
        o = put_long(out, o, lut[k])
        o = put_long(out, o, np.int64(generation[k]))
        if void_time[k] == 0:
            out[o] = 0
            o += 1
        else:
            out[o] = 2
            o = put_long(out, o + 1, void_time[k])
        o = put_long(out, o, effective_at[k])
        o = put_long(out, o, unobserved_since[k])
        o = put_long(out, o, observed_at[k])
        out[o] = 1 if consecutive[k] else 0
        o += 1
        row = rows[k]
        if row >= 0:
            start = content_offsets[row]
            o = copy(out, o, contents, start, content_offsets[row + 1] - start)
        else:
            start = ended_offsets[-1 - row]
            o = copy(out, o, ended, start, ended_offsets[-row] - start)
        offsets[k + 1] = o
    return o


@kernel
def get_header(b: U8, i: int, end: int) -> tuple[int, int, int, int, int, int, int]:
    """LUT, generation, void time, effective_at, unobserved_since and observed_at of the change at i, and the position
    of its content; -1 for it when the header is malformed."""
    lut = generation = void_time = effective_at = unobserved_since = observed_at = 0
    bad = (0, 0, 0, 0, 0, 0, -1)
    if end - i < 26 or b[i + 20] > 10 or b[i + 20] & 1 or b[i + 21] > 6 or b[i + 21] & 1:
        return bad
    lut, i = get_long(b, i + 22, end)
    if i < 0:
        return bad
    generation, i = get_long(b, i, end)
    if i < 0 or i >= end or generation < -0x80000000 or generation > 0x7FFFFFFF:
        return bad
    branch = b[i]
    i += 1
    if branch == 2:
        void_time, i = get_long(b, i, end)
        if i < 0:
            return bad
    elif branch != 0:
        return bad
    effective_at, i = get_long(b, i, end)
    if i < 0:
        return bad
    unobserved_since, i = get_long(b, i, end)
    if i < 0:
        return bad
    observed_at, i = get_long(b, i, end)
    if i < 0 or i >= end or b[i] > 1:
        return bad
    return lut, generation, void_time, effective_at, unobserved_since, observed_at, i + 1


@kernel
def skip_header(b: U8, i: int, end: int) -> int:
    """The position of the content of the change at i; -1 when the header is malformed."""
    _, _, _, _, _, _, i = get_header(b, i, end)
    return i


@kernel
def skip_set(b: U8, i: int, end: int) -> int:
    """The position after the set at i; -1 when malformed."""
    if i >= end:
        return -1
    if b[i] == 0:
        return i + 1
    if b[i] != 2:
        return -1
    n, i = get_size(b, i + 1, end)
    if i < 0 or not is_utf8(b, i, i + n):
        return -1
    return i + n


@kernel
def skip_key(b: U8, i: int, end: int) -> int:
    """The position after the user key at i; -1 when malformed."""
    if i >= end:
        return -1
    branch = b[i]
    i += 1
    if branch == 0:
        return i
    if branch == 2:
        _, i = get_long(b, i, end)
        return i
    if branch == 4:
        return i + 8 if end - i >= 8 else -1
    if branch == 6 or branch == 8:
        n, i = get_size(b, i, end)
        if i < 0 or (branch == 6 and not is_utf8(b, i, i + n)):
            return -1
        return i + n
    if branch != 10:
        return -1
    _, n, i = get_raw(b, i, end)
    return -1 if i < 0 else i + n


@kernel
def skip_content(b: U8, i: int, end: int, left: I64) -> int:
    """The position after the content at i, every part of it checked; -1 when malformed.

    The bins are one block with a count; none are no block.
    """
    i = skip_set(b, i, end)
    if i < 0:
        return -1
    i = skip_key(b, i, end)
    if i < 0:
        return -1
    count, i = get_size(b, i, end)
    if i < 0:
        return -1
    if count == 0:
        return i
    for _ in range(count):
        n, i = get_size(b, i, end)
        if i < 0 or not is_utf8(b, i, i + n):
            return -1
        i = skip_value(b, i + n, end, left)
        if i < 0:
            return -1
    if i >= end or b[i] != 0:
        return -1
    return i + 1


@kernel
def skip_change(b: U8, i: int, end: int, left: I64) -> int:
    """The position after the change at i; -1 when malformed, or when its bins do not go with its op."""
    if end - i < 21:
        return -1
    ended = b[i + 20] != 0
    i = skip_header(b, i, end)
    if i < 0:
        return -1
    last = skip_content(b, i, end, left)
    if last < 0:
        return -1
    i = skip_key(b, skip_set(b, i, end), end)
    return last if (b[i] == 0) == ended else -1


@compiled(INT, U8_IN, I64_IN, I64_OUT)
def check_bodies(b: U8, offsets: I64, left: I64) -> int:
    """The first body that is not exactly one well-formed change; -1 if all are. The offsets lie within b."""
    b = borrow(b)
    left = borrow(left)
    for k in range(len(offsets) - 1):
        if skip_change(b, offsets[k], offsets[k + 1], left) != offsets[k + 1]:
            return k
    return -1


@compiled(
    INT, U8_IN, I64_IN, U8_ROWS_OUT, U8_OUT, U8_OUT, I64_OUT, I32_OUT, I64_OUT, I64_OUT, I64_OUT, I64_OUT, BOOL_OUT,
    U64_OUT, U64_OUT,
)  # fmt: skip
def header_columns(
    b: U8,
    offsets: I64,
    digest: U8,
    op: U8,
    origin: U8,
    lut: I64,
    generation: I32,
    void_time: I64,
    effective_at: I64,
    unobserved_since: I64,
    observed_at: I64,
    consecutive: Bool,
    set_hash: U64,
    checksum: U64,
) -> int:
    """The columns of all bodies; the first body whose header, set or key is malformed, or -1."""
    b = borrow(b)
    for k in range(len(offsets) - 1):
        i, end = offsets[k], offsets[k + 1]
        lut[k], generation[k], void_time[k], effective_at[k], unobserved_since[k], observed_at[k], content = get_header(
            b, i, end
        )
        if content < 0:
            return k
        last = skip_set(b, content, end)
        if last < 0:
            return k
        key_end = skip_key(b, last, end)
        if key_end < 0 or key_end >= end:
            return k
        for j in range(20):
            digest[k, j] = b[np.uint64(i + j)]
        op[k] = b[i + 20] >> 1
        origin[k] = b[i + 21] >> 1
        consecutive[k] = b[content - 1] == 1
        set_hash[k] = 0
        if b[content] == 2:
            n, i = get_size(b, content + 1, end)
            set_hash[k] = xxh64(b, i, i + n)
        checksum[k] = xxh64(b, content, end)
    return -1


@compiled(INT, U8_IN, I64_IN, I64_OUT, I64_OUT)
def content_parts(b: U8, offsets: I64, keys: I64, bins: I64) -> int:
    """Where the user key and where the bins of each content start; the first malformed one, or -1."""
    b = borrow(b)
    for k in range(len(offsets) - 1):
        keys[k] = skip_set(b, offsets[k], offsets[k + 1])
        if keys[k] < 0:
            return k
        bins[k] = skip_key(b, keys[k], offsets[k + 1])
        if bins[k] < 0 or bins[k] >= offsets[k + 1]:
            return k
    return -1


@compiled(INT, U8_IN, I64_IN, I64_IN, U8_OUT, I64_OUT)
def gather_bodies(b: U8, offsets: I64, rows: I64, out: U8, out_offsets: I64) -> int:
    """The named bodies, copied in their order."""
    b = borrow(b)
    out = borrow(out)
    o = 0
    out_offsets[0] = 0
    for k in range(len(rows)):
        start = offsets[rows[k]]
        o = copy(out, o, b, start, offsets[rows[k] + 1] - start)
        out_offsets[k + 1] = o
    return o


@compiled(INT, U8_IN, I64_IN, I64_IN, I64_IN, U8_OUT, I64_OUT)
def put_versions(b: U8, offsets: I64, kafka: I64, rows: I64, out: U8, out_offsets: I64) -> int:
    """The named bodies, each with its Kafka offset in front."""
    b = borrow(b)
    out = borrow(out)
    o = 0
    out_offsets[0] = 0
    for k in range(len(rows)):
        o = put_long(out, o, kafka[rows[k]])
        start = offsets[rows[k]]
        o = copy(out, o, b, start, offsets[rows[k] + 1] - start)
        out_offsets[k + 1] = o
    return o


@compiled(INT, U8_IN, I64_OUT, U8_OUT, I64_OUT, I64_OUT)
def take_versions(b: U8, kafka: I64, out: U8, out_offsets: I64, left: I64) -> int:
    """The inverse for `len(kafka)` versions that fill b; the first malformed one, or -1."""
    b = borrow(b)
    out = borrow(out)
    left = borrow(left)
    i = o = 0
    out_offsets[0] = 0
    for k in range(len(kafka)):
        kafka[k], i = get_long(b, i, len(b))
        if i < 0:
            return k
        end = skip_change(b, i, len(b), left)
        if end < 0:
            return k
        o = copy(out, o, b, i, end - i)
        i = end
        out_offsets[k + 1] = o
    return -1 if i == len(b) else len(kafka)
