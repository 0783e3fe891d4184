"""Some bins of encoded changes and contents: found, and copied without the others."""

# numba infers its own types; to it numpy's integers and Python's are one.
# mypy: disable-error-code="arg-type, return-value, assignment"

from cdc.codec.bytes_kernels import copy, put_long, xxh64
from cdc.codec.change_kernels import skip_header, skip_key, skip_set
from cdc.codec.particle_kernels import get_size, skip_value
from cdc.jit import I64_IN, I64_OUT, INT, U8_IN, U8_OUT, U64_OUT, borrow, compiled, kernel
from cdc.model import I64, U8, U64

FOUND, NULLS, BLANK = 0, 1, 2
"""What stands for a named bin that is not there: nothing, unless none of them is; a null; or a null for all of them,
there or not."""


@kernel
def _bins_at(b: U8, start: int, end: int, contents: int) -> int:
    """Where the bins of the change (or content) at start begin; -1 when it is malformed."""
    i = start
    if not contents:
        i = skip_header(b, start, end)
        if i < 0:
            return -1
    i = skip_set(b, i, end)
    if i < 0:
        return -1
    return skip_key(b, i, end)


@kernel
def _find(b: U8, i: int, end: int, names: U8, name_ends: I64, at: I64, left: I64) -> int:
    """Where the values of the named bins stand, among the bins at i: at[2k] to at[2k + 1], or -1. How many there are,
    or -1 when the bins are malformed."""
    named = len(name_ends) - 1
    for k in range(named):
        at[2 * k] = -1
        at[2 * k + 1] = -1
    found = 0
    count, i = get_size(b, i, end)
    if i < 0:
        return -1
    for _ in range(count):
        n, i = get_size(b, i, end)
        if i < 0:
            return -1
        value = i + n
        after = skip_value(b, value, end, left)
        if after < 0:
            return -1
        for k in range(named):
            start = name_ends[k]
            same = name_ends[k + 1] - start == n
            j = 0
            while same and j < n:
                same = names[start + j] == b[i + j]
                j += 1
            if same:
                at[2 * k] = value
                at[2 * k + 1] = after
                found += 1
        i = after
    return found


@compiled(INT, U8_IN, I64_IN, U8_IN, I64_IN, I64_OUT, I64_OUT)
def find_bins(b: U8, offsets: I64, names: U8, name_ends: I64, spans: I64, left: I64) -> int:
    """Where the values of the named bins of each change stand, two positions a bin, -1 for one that is not there; the
    first malformed change, or -1. The names differ."""
    b = borrow(b)
    left = borrow(left)
    names = borrow(names)
    named = 2 * (len(name_ends) - 1)
    for k in range(len(offsets) - 1):
        bins = _bins_at(b, offsets[k], offsets[k + 1], 0)
        if bins < 0 or _find(b, bins, offsets[k + 1], names, name_ends, spans[k * named : (k + 1) * named], left) < 0:
            return k
    return -1


@compiled(
    INT, U8_IN, I64_IN, U8_IN, I64_IN, INT, INT, U8_OUT, I64_OUT, I64_OUT, U64_OUT, I64_OUT, I64_OUT
)  # fmt: skip
def choose_bins(
    b: U8,
    offsets: I64,
    names: U8,
    name_ends: I64,
    absent: int,
    contents: int,
    out: U8,
    out_offsets: I64,
    found: I64,
    hashes: U64,
    at: I64,
    left: I64,
) -> int:
    """Each change (content, if `contents`) with the named bins alone, in that order; the first malformed one, or -1.

    `absent` is FOUND, NULLS or BLANK, which also makes writes of ends. `found` gets the number of these bins, `hashes`
    XXH64 of their encoding. An end has none. Room: that of the input, and for each 12 bytes, the names, and 4 a name.
    """
    b = borrow(b)
    left = borrow(left)
    names = borrow(names)
    out = borrow(out)
    at = borrow(at)
    named = len(name_ends) - 1
    o = 0
    out_offsets[0] = 0
    for k in range(len(offsets) - 1):
        start, end = offsets[k], offsets[k + 1]
        bins = _bins_at(b, start, end, contents)
        if bins < 0:
            return k
        count = _find(b, bins, end, names, name_ends, at, left)
        if count < 0:
            return k
        begun = o
        o = copy(out, o, b, start, bins - start)
        ended = not contents and b[start + 20] != 0
        if absent == BLANK:
            count = 0
            if not contents:
                out[begun + 20] = 0
                ended = False
        found[k] = count
        begun = o
        if not ended:
            nulls = absent != FOUND or count == 0
            o = put_long(out, o, named if nulls else count)
            for j in range(named):
                there = at[2 * j] >= 0 and absent != BLANK
                if there or nulls:
                    size = name_ends[j + 1] - name_ends[j]
                    o = put_long(out, o, size)
                    o = copy(out, o, names, name_ends[j], size)
                    if there:
                        o = copy(out, o, b, at[2 * j], at[2 * j + 1] - at[2 * j])
                    else:
                        out[o] = 0
                        o += 1
        out[o] = 0
        o += 1
        hashes[k] = xxh64(out, begun, o)
        out_offsets[k + 1] = o
    return -1
