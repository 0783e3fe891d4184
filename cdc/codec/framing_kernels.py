"""Putting heads before bodies and taking them off, in one pass. The plain words for it are in `framing`."""

from numba import types

from cdc.codec.bytes_kernels import copy
from cdc.jit import I64_IN, INT, U8_IN, U8_OUT, borrow, compiled
from cdc.model import I64, U8


@compiled(types.void, U8_IN, I64_IN, U8_IN, U8_OUT, I64_IN)
def insert_heads(source: U8, offsets: I64, head: U8, out: U8, out_offsets: I64) -> None:
    """Copy each body to its place in `out`, behind a copy of `head`."""
    source = borrow(source)
    out = borrow(out)
    size = len(head)
    for i in range(len(offsets) - 1):
        at = copy(out, out_offsets[i], head, 0, size)
        copy(out, at, source, offsets[i], offsets[i + 1] - offsets[i])


@compiled(INT, U8_IN, I64_IN, U8_IN, U8_OUT)
def remove_heads(source: U8, offsets: I64, head: U8, out: U8) -> int:
    """Copy each body without its head to `out`; the first row whose head differs, or -1 and all is copied."""
    source = borrow(source)
    out = borrow(out)
    size = len(head)
    at = 0
    for i in range(len(offsets) - 1):
        start = offsets[i]
        if offsets[i + 1] - start < size:
            return i
        for k in range(size):
            if source[start + k] != head[k]:
                return i
        at = copy(out, at, source, start + size, offsets[i + 1] - start - size)
    return -1
