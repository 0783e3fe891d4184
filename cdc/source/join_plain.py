"""The plain twin of `join_kernels.py`."""

import numpy as np

from cdc.model import I64, U8


def last_rows(wanted: U8, among: U8) -> I64:
    """See `join_kernels.last_rows`."""
    rows = {digest.tobytes(): row for row, digest in enumerate(among)}
    return np.array([rows.get(digest.tobytes(), -1) for digest in wanted], np.int64)
