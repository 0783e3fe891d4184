"""The way back: a union value checked, passed over, and turned into the particle that it was made of.

`value_kernels` says which form the particles have.
"""

# numba infers its own types; to it numpy's integers and Python's are one.
# mypy: disable-error-code="arg-type, return-value, assignment"
# ruff: noqa: SIM109

import numpy as np

from cdc.codec.bytes_kernels import copy, get_long, is_utf8, put_i64, put_u16, put_u32, reverse8
from cdc.codec.value_kernels import BOOLEAN, BYTES, DOUBLE, GEO, HLL, LIST, LONG, MAP, NULL, RAW, STRING
from cdc.jit import hot, kernel
from cdc.model import I64, U8


@hot
def get_size(b: U8, i: int, end: int) -> tuple[int, int]:
    """A length and the position after it, such that so many bytes stand there; -1 for the position otherwise."""
    n, i = get_long(b, i, end)
    if i < 0 or n < 0 or n > end - i:
        return 0, -1
    return n, i


@kernel
def get_raw(b: U8, i: int, end: int) -> tuple[int, int, int]:
    """Particle type, length and start of the data of a Raw at i; -1 for the start when it is malformed."""
    kind, i = get_long(b, i, end)
    if i < 0 or kind < 0 or kind > 255:
        return 0, 0, -1
    n, i = get_size(b, i, end)
    return kind, n, i


@kernel
def get_container(b: U8, i: int, end: int) -> tuple[int, int, int]:
    """Flags, count and position after them of the List or Map at i; -1 for the position when malformed.

    The array is one block with a count, as our kernels and fastavro write it; an empty one has no block. When the
    count is zero the array's end has been passed.
    """
    flags, i = get_long(b, i, end)
    if i < 0 or flags < 0 or flags > 255:
        return 0, 0, -1
    count, i = get_size(b, i, end)
    return flags, count, i


@hot
def skip_value(b: U8, i: int, end: int, left: I64) -> int:
    """The position after the union value at i, every part of it checked; -1 when malformed."""
    depth = 0
    left[0] = 1
    while True:
        while left[depth] == 0:
            if depth == 0:
                return i
            if i >= end or b[i] != 0:
                return -1
            i += 1
            depth -= 1
        left[depth] -= 1
        if i >= end:
            return -1
        branch = b[i]
        i += 1
        if branch == LONG:
            _, i = get_long(b, i, end)
        elif branch == STRING or branch == GEO:
            n, i = get_size(b, i, end)
            if i < 0 or not is_utf8(b, i, i + n):
                return -1
            i += n
        elif branch == BYTES or branch == HLL:
            n, i = get_size(b, i, end)
            if i < 0:
                return -1
            i += n
        elif branch == DOUBLE:
            i += 8
            if i > end:
                return -1
        elif branch == BOOLEAN:
            if i >= end or b[i] > 1:
                return -1
            i += 1
        elif branch == LIST or branch == MAP:
            _, count, i = get_container(b, i, end)
            if i < 0 or depth + 1 >= len(left):
                return -1
            if count > 0:
                depth += 1
                left[depth] = count * (1 if branch == LIST else 2)
        elif branch == RAW:
            _, n, i = get_raw(b, i, end)
            if i < 0:
                return -1
            i += n
        elif branch != NULL:
            return -1
        if i < 0:
            return -1


@kernel
def _put_blob_header(out: U8, o: int, n: int) -> int:
    if n < 32:
        out[o] = np.uint8(0xA0 | n)
        return o + 1
    if n < 256:
        out[o] = 0xD9
        out[o + 1] = np.uint8(n)
        return o + 2
    if n < 65536:
        out[o] = 0xDA
        return put_u16(out, o + 1, n)
    out[o] = 0xDB
    return put_u32(out, o + 1, n)


@hot
def _put_integer(out: U8, o: int, v: int) -> int:
    if -32 <= v < 128:
        out[o] = np.uint8(v & 0xFF)
        return o + 1
    if -128 <= v < 256:
        out[o] = 0xCC if v > 0 else 0xD0
        out[o + 1] = np.uint8(v & 0xFF)
        return o + 2
    if -0x8000 <= v < 0x10000:
        out[o] = 0xCD if v > 0 else 0xD1
        return put_u16(out, o + 1, v)
    if -0x80000000 <= v < 0x100000000:
        out[o] = 0xCE if v > 0 else 0xD2
        return put_u32(out, o + 1, v)
    out[o] = 0xCF if v > 0 else 0xD3
    return put_i64(out, o + 1, v)


@kernel
def _put_container(out: U8, o: int, is_list: bool, flags: int, count: int) -> int:
    if flags:
        count += 1
    if count < 16:
        out[o] = np.uint8((0x90 if is_list else 0x80) | count)
        o += 1
    elif count < 65536:
        out[o] = 0xDC if is_list else 0xDE
        o = put_u16(out, o + 1, count)
    else:
        out[o] = 0xDD if is_list else 0xDF
        o = put_u32(out, o + 1, count)
    if flags:
        out[o] = 0xC7
        out[o + 1] = 0
        out[o + 2] = np.uint8(flags)
        o += 3
        if not is_list:
            out[o] = 0xC0
            o += 1
    return o


@kernel
def pack(b: U8, i: int, end: int, out: U8, o: int, left: I64) -> tuple[int, int]:
    """The inverse of `unpack`: positions after the value in b and in out. The value has passed `skip_value`."""
    depth = 0
    left[0] = 1
    while True:
        while left[depth] == 0:
            if depth == 0:
                return i, o
            i += 1
            depth -= 1
        left[depth] -= 1
        branch = b[i]
        i += 1
        if branch == LONG:
            v, i = get_long(b, i, end)
            o = _put_integer(out, o, v)
        elif branch == STRING or branch == BYTES or branch == GEO or branch == HLL:
            n, i = get_size(b, i, end)
            o = _put_blob_header(out, o, n + 1)
            if branch == STRING:
                out[o] = 3
            elif branch == BYTES:
                out[o] = 4
            else:
                out[o] = 23 if branch == GEO else 18
            o = copy(out, o + 1, b, i, n)
            i += n
        elif branch == RAW:
            kind, n, i = get_raw(b, i, end)
            o = _put_blob_header(out, o, n + 1)
            out[o] = np.uint8(kind)
            o = copy(out, o + 1, b, i, n)
            i += n
        elif branch == DOUBLE:
            out[o] = 0xCB
            o = reverse8(out, o + 1, b, i)
            i += 8
        elif branch == BOOLEAN:
            out[o] = 0xC2 + b[i]
            o += 1
            i += 1
        elif branch == NULL:
            out[o] = 0xC0
            o += 1
        else:
            flags, count, i = get_container(b, i, end)
            o = _put_container(out, o, branch == LIST, flags, count)
            if count > 0:
                depth += 1
                left[depth] = count * (1 if branch == LIST else 2)


@hot
def decode_value(b: U8, i: int, end: int, out: U8, o: int, left: I64) -> tuple[int, int, int]:
    """The inverse of `encode_value`: particle type and the positions after the value in b and in out.

    The value has passed `skip_value`. Writes at most twice the value's size and 16 bytes more.
    """
    branch = b[i]
    if branch == LONG:
        v, i = get_long(b, i + 1, end)
        return 1, i, put_i64(out, o, v)
    if branch == DOUBLE:
        return 2, i + 9, reverse8(out, o, b, i + 1)
    if branch == LIST or branch == MAP:
        i, o = pack(b, i, end, out, o, left)
        return 20 if branch == LIST else 19, i, o
    if branch == NULL:
        return 0, i + 1, o
    if branch == BOOLEAN:
        out[o] = b[i + 1]
        return 17, i + 2, o + 1
    if branch == RAW:
        kind, n, i = get_raw(b, i + 1, end)
        return kind, i + n, copy(out, o, b, i, n)
    n, i = get_size(b, i + 1, end)
    kind = 4
    if branch == STRING:
        kind = 3
    elif branch == HLL:
        kind = 18
    elif branch == GEO:
        kind = 23
        for _ in range(3):
            out[o] = 0
            o += 1
    return kind, i + n, copy(out, o, b, i, n)
