"""One value, both ways: a particle as the wire has it, and the eleven-branch union of `change.avsc`.

Lists and maps are msgpack on the wire. They become typed only in the one form that the official client packs and the
server keeps (smallest integers and headers; `str` headers with a particle type byte inside for strings, blobs and
GeoJSON; order flags as an empty ext item in front), so that the way back needs no hint and gives the same bytes.
Anything else is a Raw of the whole particle. The source of that form: `as_msgpack.c` of the C client's common library.
"""

# numba infers its own types; to it numpy's integers and Python's are one.
# mypy: disable-error-code="arg-type, return-value, assignment"

import numpy as np

from cdc.codec.bytes_kernels import copy, is_utf8, put_long, reverse8, u16, u32
from cdc.codec.bytes_kernels import i64 as get_i64
from cdc.jit import hot, kernel
from cdc.model import I64, U8

DEPTH = 64
"""Containers in containers up to here are typed; deeper ones are Raw."""

# Branches of the union, as the zigzag byte that stands in front of the value.
NULL, BOOLEAN, LONG, DOUBLE, STRING, BYTES, LIST, MAP, GEO, HLL, RAW = range(0, 22, 2)


@kernel
def put_raw(out: U8, o: int, kind: int, b: U8, i: int, n: int) -> int:
    """A Raw without its branch: particle type and bytes."""
    o = put_long(out, o, np.int64(kind))
    o = put_long(out, o, n)
    return copy(out, o, b, i, n)


@hot
def put_blob(out: U8, o: int, branch: int, b: U8, i: int, n: int) -> int:
    """A branch that holds nothing but n bytes or characters."""
    out[o] = np.uint8(branch)
    o = put_long(out, o + 1, n)
    return copy(out, o, b, i, n)


@kernel
def _blob_header(b: U8, i: int, end: int) -> tuple[int, int]:
    """Length and start of what a canonical `str` header at i announces; -1 for the start when there is none."""
    c = b[i]
    if 0xA1 <= c <= 0xBF:
        return np.int64(c) & 0x1F, i + 1
    if c == 0xD9 and end - i >= 2 and b[i + 1] >= 32:
        return np.int64(b[i + 1]), i + 2
    if c == 0xDA and end - i >= 3 and u16(b, i + 1) >= 256:
        return u16(b, i + 1), i + 3
    if c == 0xDB and end - i >= 5 and u32(b, i + 1) >= 65536:
        return u32(b, i + 1), i + 5
    return 0, -1


@hot
def _integer(b: U8, i: int, end: int) -> tuple[int, int]:
    """The integer at i in its smallest form and the position after it; -1 for that when it is none."""
    c = np.int64(b[i])
    left = end - i
    if c < 0x80:
        return c, i + 1
    if c >= 0xE0:
        return c - 256, i + 1
    if c == 0xCC and left >= 2 and b[i + 1] >= 0x80:
        return np.int64(b[i + 1]), i + 2
    if c == 0xCD and left >= 3 and u16(b, i + 1) >= 0x100:
        return u16(b, i + 1), i + 3
    if c == 0xCE and left >= 5 and u32(b, i + 1) >= 0x10000:
        return u32(b, i + 1), i + 5
    if c == 0xCF and left >= 9 and get_i64(b, i + 1) >= 0x100000000:
        return get_i64(b, i + 1), i + 9
    if c == 0xD0 and left >= 2 and 0x80 <= b[i + 1] < 0xE0:
        return np.int64(b[i + 1]) - 0x100, i + 2
    if c == 0xD1 and left >= 3 and 0x8000 <= u16(b, i + 1) < 0xFF80:
        return u16(b, i + 1) - 0x10000, i + 3
    if c == 0xD2 and left >= 5 and 0x80000000 <= u32(b, i + 1) < 0xFFFF8000:
        return u32(b, i + 1) - 0x100000000, i + 5
    if c == 0xD3 and left >= 9 and get_i64(b, i + 1) < -0x80000000:
        return get_i64(b, i + 1), i + 9
    return 0, -1


@kernel
def _container_header(b: U8, i: int, end: int) -> tuple[int, int, int]:
    """Whether 1: list or 2: map, its count and the position after it; 0 when there is no canonical header at i."""
    c = np.int64(b[i])
    if 0x90 <= c <= 0x9F:
        return 1, c & 0x0F, i + 1
    if 0x80 <= c <= 0x8F:
        return 2, c & 0x0F, i + 1
    if (c == 0xDC or c == 0xDE) and end - i >= 3 and u16(b, i + 1) >= 16:
        return 1 if c == 0xDC else 2, u16(b, i + 1), i + 3
    if (c == 0xDD or c == 0xDF) and end - i >= 5 and u32(b, i + 1) >= 65536:
        return 1 if c == 0xDD else 2, u32(b, i + 1), i + 5
    return 0, 0, i


@kernel
def unpack(b: U8, i: int, end: int, out: U8, o: int, left: I64) -> int:
    """The msgpack item b[i:end] as a union value at out[o]; the position after it, -1 when it cannot be said.

    Needs room for four bytes per byte read. `left` is the stack: how many items each open container still has;
    its size is the depth that is allowed, plus one.
    """
    depth = 0
    left[0] = 1
    while True:
        while left[depth] == 0:
            if depth == 0:
                return o if i == end else -1
            out[o] = 0  # the end of an Avro array
            o += 1
            depth -= 1
        left[depth] -= 1
        if i >= end:
            return -1
        c = b[i]
        if c < 0x80 or c >= 0xE0 or 0xCC <= c <= 0xD3:
            v, i = _integer(b, i, end)
            if i < 0:
                return -1
            out[o] = LONG
            o = put_long(out, o + 1, v)
        elif 0xA0 <= c <= 0xBF or 0xD9 <= c <= 0xDB:
            n, i = _blob_header(b, i, end)
            if i < 0 or n > end - i:
                return -1
            kind = b[i]
            if kind == 3 and is_utf8(b, i + 1, i + n):
                o = put_blob(out, o, STRING, b, i + 1, n - 1)
            elif kind == 4:
                o = put_blob(out, o, BYTES, b, i + 1, n - 1)
            elif kind == 23 and is_utf8(b, i + 1, i + n):
                o = put_blob(out, o, GEO, b, i + 1, n - 1)
            elif kind == 18:
                o = put_blob(out, o, HLL, b, i + 1, n - 1)
            else:
                out[o] = RAW
                o = put_raw(out, o + 1, np.int64(kind), b, i + 1, n - 1)
            i += n
        elif c == 0xCB:
            if end - i < 9:
                return -1
            out[o] = DOUBLE
            o = reverse8(out, o + 1, b, i + 1)
            i += 9
        elif c == 0xC2 or c == 0xC3:
            out[o] = BOOLEAN
            out[o + 1] = c - 0xC2
            o += 2
            i += 1
        elif c == 0xC0:
            out[o] = NULL
            o += 1
            i += 1
        else:
            kind_of, count, i = _container_header(b, i, end)
            if kind_of == 0 or depth + 1 >= len(left):
                return -1
            flags = 0
            if count > 0 and end - i >= 3 and b[i] == 0xC7 and b[i + 1] == 0:
                flags = np.int64(b[i + 2])
                i += 3
                count -= 1
                if flags == 0:
                    return -1
                if kind_of == 2:
                    if i >= end or b[i] != 0xC0:
                        return -1
                    i += 1
            if count * kind_of > end - i:
                return -1
            out[o] = LIST if kind_of == 1 else MAP
            o = put_long(out, o + 1, flags)
            if count > 0:
                o = put_long(out, o, count)
            depth += 1
            left[depth] = count * kind_of


@hot
def encode_value(kind: int, b: U8, i: int, n: int, out: U8, o: int, left: I64) -> int:
    """The particle b[i:i+n] of a bin as a union value at out[o]; the position after it.

    Always succeeds, and `decode_value` gives the same bytes again, but for the cells of a GeoJSON.
    Needs room for four bytes per byte read, and 16 more.
    """
    if kind == 1 and n == 8:
        out[o] = LONG
        return put_long(out, o + 1, get_i64(b, i))
    if kind == 2 and n == 8:
        out[o] = DOUBLE
        return reverse8(out, o + 1, b, i)
    if kind == 3 and is_utf8(b, i, i + n):
        return put_blob(out, o, STRING, b, i, n)
    if kind == 4:
        return put_blob(out, o, BYTES, b, i, n)
    if kind == 20 or kind == 19:
        if n > 0:
            c = b[i]
            a_list = 0x90 <= c <= 0x9F or c == 0xDC or c == 0xDD
            a_map = 0x80 <= c <= 0x8F or c == 0xDE or c == 0xDF
            if (kind == 20 and a_list) or (kind == 19 and a_map):
                done = unpack(b, i, i + n, out, o, left)
                if done >= 0:
                    return done
    elif kind == 17:
        if n == 1 and b[i] <= 1:
            out[o] = BOOLEAN
            out[o + 1] = b[i]
            return o + 2
    elif kind == 18:
        return put_blob(out, o, HLL, b, i, n)
    elif kind == 23:
        # Between head and text stand the S2 cells that the server computed when the value was written. It computes
        # them again from the text at every write and ignores those it is sent (`particle_geojson.c`).
        if n >= 3 and (b[i] == 1 or (b[i] == 0 and u16(b, i + 1) <= 1)):
            text = i + 3 + 8 * u16(b, i + 1)
            if text <= i + n and is_utf8(b, text, i + n):
                return put_blob(out, o, GEO, b, text, i + n - text)
    elif kind == 0 and n == 0:
        out[o] = NULL
        return o + 1
    out[o] = RAW
    return put_raw(out, o + 1, kind, b, i, n)
