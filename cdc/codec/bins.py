"""Some bins of encoded changes, without decoding the others: to bring these alone back, and to look at their values."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from cdc.codec.changes import checked_sizes
from cdc.codec.values_plain import from_avro
from cdc.errors import BodyDamaged
from cdc.model import I64, U8, U64, Bodies

Absent = Literal["found", "nulls", "blank"]
"""What stands for a named bin that is not there. `found`: nothing, as long as any of them is; `nulls`: a null, which
`batch_rows` makes the removal of the bin; `blank`: a null for each of them, there or not, also of a record's end."""


class Chosen(NamedTuple):
    """n changes with some bins alone: how many of these each had, and a checksum of these alone. Changes that had none
    have a null for each; ends have no bins."""

    bodies: Bodies
    found: I64
    checksum: U64


def choose(bodies: Bodies, names: Sequence[str], absent: Absent, *, contents: bool = False) -> Chosen:
    """The same changes (or contents) with the named bins alone, in that order, byte for byte as they were.

    Where `absent` is not `found`, equal checksums mean that these bins are equal: the same are there, with equal
    values. BodyDamaged names a malformed row.
    """
    from cdc.codec import bins_kernels as k

    named, ends = _names(names)
    n = len(bodies)
    rows = np.arange(n, dtype=np.int64)
    most = int(checked_sizes(bodies, rows).sum()) + n * (12 + len(named) + 4 * len(names))
    out, offsets = np.empty(most, np.uint8), np.empty(n + 1, np.int64)
    found, checksum = np.empty(n, np.int64), np.empty(n, np.uint64)
    modes = {"found": k.FOUND, "nulls": k.NULLS, "blank": k.BLANK}
    damaged = k.choose_bins(
        bodies.buffer, bodies.offsets, named, ends, modes[absent], contents, out, offsets, found, checksum,
        np.empty(2 * len(names), np.int64), np.empty(65, np.int64),
    )  # fmt: skip
    if damaged >= 0:
        raise BodyDamaged(f"row {damaged} of {n} is not an encoded {'content' if contents else 'change'}")
    return Chosen(Bodies(out[: int(offsets[-1])], offsets), found, checksum)


def find(bodies: Bodies, names: Sequence[str]) -> I64:
    """Where the values of the named bins of n changes stand in the buffer, (n, names, 2); -1: the bin is not there.

    BodyDamaged names a malformed row.
    """
    from cdc.codec import bins_kernels as k

    named, ends = _names(names)
    n = len(bodies)
    checked_sizes(bodies, np.arange(n, dtype=np.int64))
    spans = np.empty(n * len(names) * 2, np.int64)
    damaged = k.find_bins(bodies.buffer, bodies.offsets, named, ends, spans, np.empty(65, np.int64))
    if damaged >= 0:
        raise BodyDamaged(f"row {damaged} of {n} is not an encoded change")
    return spans.reshape(n, len(names), 2)


def value(bodies: Bodies, start: int, end: int) -> Any:
    """The value at a span, as `codec.values_plain` has it."""
    return from_avro(bodies.buffer[start:end].tobytes(), 0)[0]


def _names(names: Sequence[str]) -> tuple[U8, I64]:
    encoded = [name.encode() for name in names]
    if len(set(encoded)) < len(encoded):
        raise ValueError("a bin is named twice")
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)]).astype(np.int64)
