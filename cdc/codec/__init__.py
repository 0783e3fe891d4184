"""Bytes to bytes: frames to columns and encoded contents, contents to changes, changes to batch writes.

A *content* is the tail of an encoded `Change` (set, user_key, bins); a *body* is a whole one. Bulk work is done by
compiled kernels (`*_kernels.py`), imported when first needed; each has a plain twin (`*_plain.py`) that says the same
in Python and is held equal to it by properties. `framing`, `schemas` and `decode` speak of single changes; `bins` of
some bins of many.
"""

from cdc.codec.batch import NO_GUARD, batch_removes, batch_rows, read_rows, row_sizes
from cdc.codec.changes import (
    changes,
    check,
    columns,
    concat,
    copy_out,
    find_versions,
    gather,
    heads,
    split_versions,
    version_rows,
)
from cdc.codec.decode import encode_python, to_json, to_python
from cdc.codec.frames import Projections, Records, Rejected, digests, projections, records

__all__ = [
    "NO_GUARD",
    "Projections",
    "Records",
    "Rejected",
    "batch_removes",
    "batch_rows",
    "changes",
    "check",
    "columns",
    "concat",
    "copy_out",
    "digests",
    "encode_python",
    "find_versions",
    "gather",
    "heads",
    "projections",
    "read_rows",
    "records",
    "row_sizes",
    "split_versions",
    "to_json",
    "to_python",
    "version_rows",
]
