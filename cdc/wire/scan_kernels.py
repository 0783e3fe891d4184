"""Walk a frame's messages without making an object of any: what a query finished, what a batch answered.

Twin: `scan_plain.py`, which says the same message by message.
"""

from typing import Any

import numpy as np

from cdc.jit import I32_OUT, I64_OUT, INT, U8_IN, compiled, inline
from cdc.model import I32, I64, PARTITIONS, U8
from cdc.wire.messages import HEADER_SIZE, INFO3_LAST, INFO3_PARTITION_DONE

UNFINISHED = -1
"""A request's result while no message has ended it."""
DAMAGED = -2
"""A message of the frame is cut or wrong."""


Int = Any
"""np.int64 in compiled code; numpy's own types do not mix with int in annotations."""


@inline
def _u32(b: U8, i: int) -> Int:
    return (np.int64(b[i]) << 24) | (np.int64(b[i + 1]) << 16) | (np.int64(b[i + 2]) << 8) | np.int64(b[i + 3])


@inline
def _u16(b: U8, i: int) -> Int:
    return (np.int64(b[i]) << 8) | np.int64(b[i + 1])


@inline
def _skip(b: U8, i: int, n_fields: int, n_ops: int) -> Int:
    """Where the message ends whose header ends at i; -1 if it is cut or wrong."""
    end = len(b)
    for _ in range(n_fields):
        if i + 5 > end:
            return -1
        n = _u32(b, i)
        i += 4 + n
        if n < 1 or i > end:
            return -1
    for _ in range(n_ops):
        if i + 8 > end:
            return -1
        n = _u32(b, i)
        if n < 4 + np.int64(b[i + 7]) + 8 * np.int64(b[i + 6] & 1):
            return -1  # the flag: a bin's own LUT stands before its value
        i += 4 + n
        if i > end:
            return -1
    return i


@compiled(INT, U8_IN, I32_OUT)
def query_frame(b: U8, done: I32) -> Int:
    """Read a query's frame. done[partition] becomes the result of each partition-done message (entries start at -1).

    Returns the result that ended the query (0: well), UNFINISHED when it goes on, DAMAGED.
    """
    i = 0
    while i < len(b):
        if i + HEADER_SIZE > len(b) or b[i] != HEADER_SIZE:
            return DAMAGED
        info3, result = np.int64(b[i + 3]), np.int64(b[i + 5])
        end = _skip(b, i + HEADER_SIZE, _u16(b, i + 18), _u16(b, i + 20))
        if end < 0:
            return DAMAGED
        if info3 & INFO3_LAST or (result != 0 and not info3 & INFO3_PARTITION_DONE):
            return result if end == len(b) else np.int64(DAMAGED)
        if info3 & INFO3_PARTITION_DONE:
            partition = _u32(b, i + 6)
            if partition >= PARTITIONS:
                return DAMAGED
            done[partition] = result
        i = end
    return UNFINISHED


@compiled(INT, U8_IN, I32_OUT, I32_OUT, I64_OUT, I64_OUT, INT)
def batch_frame(b: U8, result: I32, generation: I32, void_time: I64, value: I64, at: int) -> Int:
    """Read a batch's frame into columns by the rows' indexes: result, generation, void time in seconds since 2010
    and, where the first op of the answer is an integer, its value.

    `at`: one more than the highest index. Returns as `query_frame` does.
    """
    i = 0
    while i < len(b):
        if i + HEADER_SIZE > len(b) or b[i] != HEADER_SIZE:
            return DAMAGED
        n_fields, n_ops = _u16(b, i + 18), _u16(b, i + 20)
        end = _skip(b, i + HEADER_SIZE, n_fields, n_ops)
        if end < 0:
            return DAMAGED
        if b[i + 3] & INFO3_LAST:
            return np.int64(b[i + 5]) if end == len(b) else np.int64(DAMAGED)
        row = _u32(b, i + 14)
        if row >= at:
            return DAMAGED
        result[row] = b[i + 5]
        generation[row] = _u32(b, i + 6)
        void_time[row] = _u32(b, i + 10)
        if n_ops:
            op = _skip(b, i + HEADER_SIZE, n_fields, 0)
            size, start = _u32(b, op), op + 8 + np.int64(b[op + 7]) + 8 * np.int64(b[op + 6] & 1)
            if b[op + 5] == 1 and op + 4 + size - start == 8:
                v = np.int64(0)
                for j in range(8):
                    v = (v << 8) | np.int64(b[start + j])
                value[row] = v
        i = end
    return UNFINISHED
