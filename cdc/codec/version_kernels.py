"""Rows of a segment's blocks: found without being copied, and copied from wherever they stand."""

# numba infers its own types; to it numpy's integers and Python's are one.
# mypy: disable-error-code="arg-type, return-value, assignment"

import numpy as np
from numba import types

from cdc.codec.bytes_kernels import get_long
from cdc.codec.change_kernels import get_header, skip_content, skip_key, skip_set
from cdc.jit import I64_IN, I64_OUT, INT, U8_IN, U8_OUT, U8_ROWS_OUT, borrow, compiled, copy_from
from cdc.model import I64, U8, U64

U64_IN = types.Array(types.uint64, 1, "C", readonly=True)


@compiled(
    INT, U8_IN, I64_OUT, I64_OUT, I64_OUT, U8_ROWS_OUT, U8_OUT, I64_OUT, I64_OUT, I64_OUT, I64_OUT, I64_OUT
)  # fmt: skip
def find_versions(
    b: U8,
    kafka: I64,
    starts: I64,
    bodies: I64,
    digest: U8,
    op: U8,
    void_time: I64,
    effective_at: I64,
    unobserved_since: I64,
    observed_at: I64,
    left: I64,
) -> int:
    """Where the `len(kafka)` versions that fill b start, where the body of each does, and what it says; every byte is
    checked. The first malformed one, or -1."""
    b = borrow(b)
    left = borrow(left)
    i, end = 0, len(b)
    starts[0] = 0
    for k in range(len(kafka)):
        kafka[k], i = get_long(b, i, end)
        if i < 0:
            return k
        bodies[k] = i
        _, _, void_time[k], effective_at[k], unobserved_since[k], observed_at[k], content = get_header(b, i, end)
        if content < 0:
            return k
        for j in range(20):
            digest[k, j] = b[np.uint64(i + j)]
        op[k] = b[i + 20] >> 1
        i = skip_content(b, content, end, left)
        if i < 0:
            return k
        bins = skip_key(b, skip_set(b, content, end), end)
        if (b[bins] == 0) != (op[k] != 0):
            return k
        starts[k + 1] = i
    return -1 if i == end else len(kafka)


@compiled(INT, U64_IN, I64_IN, U8_OUT, I64_OUT)
def copy_out(addresses: U64, sizes: I64, out: U8, ends: I64) -> int:
    """So many bytes from each address, one after the other. The caller keeps alive what stands there, and has made
    room."""
    out = borrow(out)
    o = 0
    ends[0] = 0
    for k in range(len(sizes)):
        o = copy_from(out, o, addresses[k], sizes[k])
        ends[k + 1] = o
    return o
