"""Rows of two sets of digests brought together, by a hash table over the digests' own bytes. Twin: `join_plain.py`."""

import numpy as np

from cdc.jit import I64_OUT, U8_ROWS_IN, compiled
from cdc.model import DIGEST_SIZE, I64, U8


@compiled(I64_OUT, U8_ROWS_IN, U8_ROWS_IN)
def last_rows(wanted: U8, among: U8) -> I64:
    """For each row of `wanted` the last row of `among` with the same digest; -1 if there is none. Both are (n, 20)."""
    found = np.full(len(wanted), -1, np.int64)
    size = 16
    while size < 2 * len(among):
        size *= 2
    mask = np.uint64(size - 1)
    table = np.full(size, -1, np.int64)
    for turn in range(2):
        rows = among if turn == 0 else wanted
        for row in range(len(rows)):
            slot = np.uint64(0)
            for j in range(8, 16):  # bytes that the partition does not fix
                slot = (slot << np.uint64(8)) | np.uint64(rows[row, j])
            slot = slot & mask
            while table[slot] >= 0:
                other = table[slot]
                same = True
                for j in range(DIGEST_SIZE):
                    if among[other, j] != rows[row, j]:
                        same = False
                        break
                if same:
                    break
                slot = (slot + np.uint64(1)) & mask
            if turn == 0:
                table[slot] = row
            else:
                found[row] = table[slot]
    return found
