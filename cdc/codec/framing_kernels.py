"""Putting heads before bodies and taking them off, in one pass. The plain words for it are in `framing`."""

from numba import types

from cdc.jit import I64_IN, INT, U8_IN, U8_OUT, compiled
from cdc.model import I64, U8


@compiled(types.void, U8_IN, I64_IN, U8_IN, U8_OUT, I64_IN)
def insert_heads(source: U8, offsets: I64, head: U8, out: U8, out_offsets: I64) -> None:
    """Copy each body to its place in `out`, behind a copy of `head`."""
    size = len(head)
    for i in range(len(offsets) - 1):
        at = out_offsets[i]
        for k in range(size):
            out[at + k] = head[k]
        at += size - offsets[i]
        for k in range(offsets[i], offsets[i + 1]):
            out[at + k] = source[k]


@compiled(INT, U8_IN, I64_IN, U8_IN, U8_OUT)
def remove_heads(source: U8, offsets: I64, head: U8, out: U8) -> int:
    """Copy each body without its head to `out`; the first row whose head differs, or -1 and all is copied."""
    size = len(head)
    at = 0
    for i in range(len(offsets) - 1):
        start = offsets[i]
        if offsets[i + 1] - start < size:
            return i
        for k in range(size):
            if source[start + k] != head[k]:
                return i
        for k in range(start + size, offsets[i + 1]):
            out[at] = source[k]
            at += 1
    return -1
