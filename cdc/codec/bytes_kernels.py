"""Pieces of every kernel: Avro's longs and strings, big-endian numbers, UTF-8, and XXH64.

numba checks no bounds. Whoever reads passes `end` and looks at the answer; whoever writes has made room: see the
bounds stated where the output is allocated. Positions are int64; a next position of -1 says malformed.
"""

# numba infers its own types; to it numpy's integers and Python's are one.
# mypy: disable-error-code="arg-type, return-value, assignment"

import numpy as np

from cdc.jit import hot, kernel
from cdc.model import U8

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)


@kernel
def put_long(out: U8, o: int, v: int) -> int:
    """Avro's long: zigzag, then seven bits a byte, lowest first."""
    u = np.uint64((v << 1) ^ (v >> 63))
    while u >= np.uint64(0x80):
        out[o] = np.uint8((u & np.uint64(0x7F)) | np.uint64(0x80))
        o += 1
        u >>= np.uint64(7)
    out[o] = np.uint8(u)
    return o + 1


@hot
def get_long(b: U8, i: int, end: int) -> tuple[int, int]:
    """The long at i and the position after it; -1 for it when it is cut, too long or not in its shortest form."""
    u = np.uint64(0)
    shift = np.uint64(0)
    while i < end:
        byte = b[np.uint64(i)]
        i += 1
        if shift == np.uint64(63) and byte > 1:
            return 0, -1
        u |= np.uint64(byte & np.uint8(0x7F)) << shift
        if byte < 0x80:
            if byte == 0 and shift > np.uint64(0):
                return 0, -1
            return np.int64(u >> np.uint64(1)) ^ -np.int64(u & np.uint64(1)), i
        shift += np.uint64(7)
    return 0, -1


@kernel
def copy(out: U8, o: int, b: U8, i: int, n: int) -> int:
    """n bytes from b[i] to out[o]; the position after them."""
    for j in range(n):
        out[np.uint64(o + j)] = b[np.uint64(i + j)]
    return o + n


@kernel
def u16(b: U8, i: int) -> int:
    """Two bytes, big-endian."""
    return (np.int64(b[np.uint64(i)]) << 8) | np.int64(b[np.uint64(i + 1)])


@kernel
def u32(b: U8, i: int) -> int:
    """Four bytes, big-endian."""
    return (
        (np.int64(b[np.uint64(i)]) << 24)
        | (np.int64(b[np.uint64(i + 1)]) << 16)
        | (np.int64(b[np.uint64(i + 2)]) << 8)
        | np.int64(b[np.uint64(i + 3)])
    )


@kernel
def i64(b: U8, i: int) -> int:
    """Eight bytes, big-endian, two's complement."""
    return (u32(b, i) << 32) | u32(b, i + 4)


@kernel
def put_u16(out: U8, o: int, v: int) -> int:
    """Two bytes, big-endian."""
    out[o] = np.uint8((v >> 8) & 0xFF)
    out[o + 1] = np.uint8(v & 0xFF)
    return o + 2


@kernel
def put_u32(out: U8, o: int, v: int) -> int:
    """Four bytes, big-endian."""
    out[o] = np.uint8((v >> 24) & 0xFF)
    out[o + 1] = np.uint8((v >> 16) & 0xFF)
    out[o + 2] = np.uint8((v >> 8) & 0xFF)
    out[o + 3] = np.uint8(v & 0xFF)
    return o + 4


@kernel
def put_i64(out: U8, o: int, v: int) -> int:
    """Eight bytes, big-endian."""
    o = put_u32(out, o, v >> 32)
    return put_u32(out, o, v)


@kernel
def reverse8(out: U8, o: int, b: U8, i: int) -> int:
    """Eight bytes in the other order: a double between the wire (big-endian) and Avro (little-endian)."""
    for j in range(8):
        out[np.uint64(o + j)] = b[np.uint64(i + 7 - j)]
    return o + 8


@kernel
def is_utf8(b: U8, i: int, end: int) -> bool:
    """Whether b[i:end] is what Python's strict UTF-8 decoder takes: shortest forms, no surrogates, up to U+10FFFF."""
    seen = np.uint8(0)
    for j in range(end - i):
        seen |= b[np.uint64(i + j)]
    if seen < 0x80:
        return True
    while i < end:
        c = b[np.uint64(i)]
        i += 1
        if c < 0x80:
            continue
        low, high = np.uint8(0x80), np.uint8(0xBF)
        if 0xC2 <= c <= 0xDF:
            more = 1
        elif 0xE0 <= c <= 0xEF:
            more = 2
            if c == 0xE0:
                low = np.uint8(0xA0)
            elif c == 0xED:
                high = np.uint8(0x9F)
        elif 0xF0 <= c <= 0xF4:
            more = 3
            if c == 0xF0:
                low = np.uint8(0x90)
            elif c == 0xF4:
                high = np.uint8(0x8F)
        else:
            return False
        if end - i < more:
            return False
        for _ in range(more):
            d = b[np.uint64(i)]
            i += 1
            if d < low or d > high:
                return False
            low, high = np.uint8(0x80), np.uint8(0xBF)
    return True


@kernel
def _word(b: U8, i: int) -> np.uint64:
    return (
        np.uint64(b[np.uint64(i)])
        | (np.uint64(b[np.uint64(i + 1)]) << np.uint64(8))
        | (np.uint64(b[np.uint64(i + 2)]) << np.uint64(16))
        | (np.uint64(b[np.uint64(i + 3)]) << np.uint64(24))
        | (np.uint64(b[np.uint64(i + 4)]) << np.uint64(32))
        | (np.uint64(b[np.uint64(i + 5)]) << np.uint64(40))
        | (np.uint64(b[np.uint64(i + 6)]) << np.uint64(48))
        | (np.uint64(b[np.uint64(i + 7)]) << np.uint64(56))
    )


@kernel
def _rotate(v: np.uint64, n: int) -> np.uint64:
    return (v << np.uint64(n)) | (v >> np.uint64(64 - n))


@kernel
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _rotate(lane + word * _P2, 31) * _P1


@kernel
def xxh64(b: U8, i: int, end: int) -> np.uint64:
    """XXH64 of b[i:end], seed 0, by its public specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md)."""
    n = end - i
    if n >= 32:
        v1, v2, v3, v4 = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while end - i >= 32:
            v1 = _round(v1, _word(b, i))
            v2 = _round(v2, _word(b, i + 8))
            v3 = _round(v3, _word(b, i + 16))
            v4 = _round(v4, _word(b, i + 24))
            i += 32
        h = _rotate(v1, 1) + _rotate(v2, 7) + _rotate(v3, 12) + _rotate(v4, 18)
        h = (h ^ _round(np.uint64(0), v1)) * _P1 + _P4
        h = (h ^ _round(np.uint64(0), v2)) * _P1 + _P4
        h = (h ^ _round(np.uint64(0), v3)) * _P1 + _P4
        h = (h ^ _round(np.uint64(0), v4)) * _P1 + _P4
    else:
        h = _P5
    h += np.uint64(n)
    while end - i >= 8:
        h = _rotate(h ^ _round(np.uint64(0), _word(b, i)), 27) * _P1 + _P4
        i += 8
    if end - i >= 4:
        four = (
            np.uint64(b[np.uint64(i)])
            | (np.uint64(b[np.uint64(i + 1)]) << np.uint64(8))
            | (np.uint64(b[np.uint64(i + 2)]) << np.uint64(16))
            | (np.uint64(b[np.uint64(i + 3)]) << np.uint64(24))
        )
        h = _rotate(h ^ (four * _P1), 23) * _P2 + _P3
        i += 4
    while i < end:
        h = _rotate(h ^ (np.uint64(b[np.uint64(i)]) * _P5), 11) * _P1
        i += 1
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))
