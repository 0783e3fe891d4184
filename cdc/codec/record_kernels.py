"""From a query's frame to the contents of records and their columns, in one pass, without a Python object a value."""

# numba infers its own types; to it numpy's integers and Python's are one.
# mypy: disable-error-code="arg-type, return-value, assignment"

import numpy as np

from cdc.clock import CITRUSLEAF_EPOCH_S
from cdc.codec.bytes_kernels import copy, is_utf8, put_long, u16, u32, xxh64
from cdc.codec.bytes_kernels import i64 as get_i64
from cdc.codec.particle_kernels import get_size
from cdc.codec.value_kernels import encode_value, put_blob, put_raw
from cdc.jit import (
    I32_OUT,
    I64_IN,
    I64_OUT,
    I64_ROWS_OUT,
    INT,
    U8_IN,
    U8_OUT,
    U8_ROWS_IN,
    U8_ROWS_OUT,
    U64_OUT,
    borrow,
    compiled,
    kernel,
)
from cdc.model import I32, I64, U8, U64

# What `state` holds between the frames of one call.
STATE_OUT, STATE_ROWS, STATE_REJECTED, STATE_ERROR_AT = range(4)
STATE_SIZE = 4

# What a frame's kernel returns.
OK, HEADER_WRONG, FIELD_CUT, OP_CUT, DIGEST_MISSING, INDEX_WRONG = range(6)

# Columns of a row of `rejected`, and the reasons in it (a server's result code n is -n).
REJECTED_REASON, REJECTED_START, REJECTED_END, REJECTED_DIGEST, REJECTED_ROW = range(5)
REJECTED_COLUMNS = 5
BIN_NAME, SET_NAME, TOO_BIG, NO_BINS, OP_FLAGS, NO_VALUE, NAME_TWICE = range(1, 8)

TYPED_MOST = 8 << 20
"""A content that is larger has its lists and maps as Raw: typed, one of small integers takes three times its particle,
which Kafka would not take of the largest records. No setting, so that every reading of a record says the same."""

_FEW = 8
"""Names of so many bins are compared one with another, where they may be the same."""
_DIGEST, _SET, _KEY = 4, 1, 2
_LAST, _PARTITION_DONE = 1, 4


@kernel
def _void_ms(seconds: int) -> int:
    return (seconds + CITRUSLEAF_EPOCH_S) * 1000 if seconds else 0


@kernel
def _put_key(out: U8, o: int, b: U8, i: int, n: int) -> int:
    """The user key of n bytes at i, the first of which is the particle type; n is at least 1."""
    kind = b[i]
    i += 1
    n -= 1
    if kind == 1 and n == 8:
        out[o] = 2
        return put_long(out, o + 1, get_i64(b, i))
    if kind == 2 and n == 8:
        out[o] = 4
        for j in range(8):
            out[o + 1 + j] = b[i + 7 - j]
        return o + 9
    if kind == 3 and is_utf8(b, i, i + n):
        return put_blob(out, o, 6, b, i, n)
    if kind == 4:
        return put_blob(out, o, 8, b, i, n)
    out[o] = 10
    return put_raw(out, o + 1, np.int64(kind), b, i, n)


@kernel
def _mark(b: U8, i: int, n: int) -> int:
    """A bit for the bin name of n bytes at i: two names with different bits differ. All bits for no name."""
    if n == 0:
        return ~np.uint64(0)
    key = np.uint64(n) | np.uint64(b[i]) << np.uint64(8) | np.uint64(b[i + n - 1]) << np.uint64(16)
    return np.uint64(1) << (key * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(58))


@kernel
def _same_name(b: U8, i: int, j: int) -> bool:
    """Whether the ops at i and j have the same bin name."""
    n = np.int64(b[i + 7])
    same = 8
    while b[j + 7] == n and same < n + 8 and b[i + same] == b[j + same]:
        same += 1
    return b[j + 7] == n and same == n + 8


@kernel
def _named_before(b: U8, first: int, i: int) -> bool:
    """Whether any op from `first` on, before the one at i, has the bin name of that one."""
    while first < i:
        if _same_name(b, first, i):
            return True
        first += 4 + u32(b, first)
    return False


@kernel
def _name_twice(b: U8, i: int, n_ops: int) -> bool:
    """Whether two of the ops at i, which are whole, have the same bin name: for many ops."""
    size = 4
    while size < 2 * n_ops:
        size *= 2
    table = np.full(size, -1, np.int64)
    for _ in range(n_ops):
        slot = np.int64(xxh64(b, i + 8, i + 8 + np.int64(b[i + 7])) & np.uint64(size - 1))
        while table[slot] >= 0:
            if _same_name(b, table[slot], i):
                return True
            slot = (slot + 1) & (size - 1)
        table[slot] = i
        i += 4 + u32(b, i)
    return False


@compiled(
    INT, U8_IN, INT, U8_OUT, I64_OUT, U8_ROWS_OUT, I32_OUT, I64_OUT, U64_OUT, U64_OUT, I64_ROWS_OUT, I64_OUT, I64_OUT,
    U8_ROWS_IN, U8_IN, I64_IN, I64_OUT,
)  # fmt: skip
def encode_frame(
    b: U8,
    limit: int,
    out: U8,
    offsets: I64,
    digests: U8,
    generation: I32,
    void_time: I64,
    set_hash: U64,
    checksum: U64,
    rejected: I64,
    state: I64,
    left: I64,
    asked: U8,
    heads: U8,
    head_offsets: I64,
    index: I64,
) -> int:
    """Appends the records of one frame's payload; `state` says where, and afterwards how far.

    Room: `out` four times the frame and 64 bytes (and a head for 22 bytes of
    frame), columns an entry for 22 bytes. When `asked` has rows
    this is a batch's answer: a message has no digest, but its row number stands in `transaction_ttl`, and set and
    user key come from `heads`, the encoded `set` and `user_key` of each row asked for.
    """
    b = borrow(b)
    out = borrow(out)
    left = borrow(left)
    heads = borrow(heads)
    o, r, x = state[0], state[1], state[2]
    i = 0
    size = len(b)
    batch = len(asked) > 0
    while i < size:
        start = i
        state[3] = start
        if size - i < 22 or b[i] != 22:
            return HEADER_WRONG
        info3 = b[i + 3]
        code = np.int64(b[i + 5])
        seen_generation, seen_void, row = u32(b, i + 6), u32(b, i + 10), u32(b, i + 14)
        n_fields, n_ops = u16(b, i + 18), u16(b, i + 20)
        i += 22
        digest, set_at, set_n, key_at, key_n = -1, -1, 0, -1, 0
        for _ in range(n_fields):
            if size - i < 5:
                return FIELD_CUT
            n = u32(b, i)
            if n < 1 or n > size - i - 4:
                return FIELD_CUT
            kind = b[i + 4]
            if kind == _DIGEST:
                if n != 21:
                    return FIELD_CUT
                digest = i + 5
            elif kind == _SET:
                set_at, set_n = i + 5, n - 1
            elif kind == _KEY:
                if n < 2:
                    return FIELD_CUT
                key_at, key_n = i + 5, n - 1
            i += 4 + n
        silent = (info3 & (_LAST | _PARTITION_DONE)) != 0
        reason = -code
        if not silent:
            if batch:
                if row >= len(asked):
                    return INDEX_WRONG
            elif digest < 0 and code == 0:
                return DIGEST_MISSING
        begin = o
        use = not silent and reason == 0
        if use:
            if n_ops == 0:
                reason = NO_BINS
            if batch:
                head, head_end = head_offsets[row], head_offsets[row + 1]
                o = copy(out, o, heads, head, head_end - head)
                set_hash[r] = 0
                if head_end > head and heads[head] == 2:
                    n, head = get_size(heads, head + 1, head_end)
                    if head > 0:
                        set_hash[r] = xxh64(heads, head, head + n)
            else:
                if set_at < 0:
                    out[o] = 0
                    o += 1
                    set_hash[r] = 0
                elif is_utf8(b, set_at, set_at + set_n):
                    o = put_blob(out, o, 2, b, set_at, set_n)
                    set_hash[r] = xxh64(b, set_at, set_at + set_n)
                else:
                    reason = SET_NAME
                if key_at < 0:
                    out[o] = 0
                    o += 1
                else:
                    o = _put_key(out, o, b, key_at, key_n)
            o = put_long(out, o, n_ops)
        ops_at, bins_at, stack, names = i, o, left, np.uint64(0)
        while True:
            i = ops_at
            for _ in range(n_ops):
                if size - i < 8:
                    return OP_CUT
                n = u32(b, i)
                if n < 4 or n > size - i - 4:
                    return OP_CUT
                name_n = np.int64(b[i + 7])
                if n - 4 < name_n:
                    return OP_CUT
                if use and reason == 0:
                    if b[i + 6] != 0:
                        reason = OP_FLAGS
                    elif not is_utf8(b, i + 8, i + 8 + name_n):
                        reason = BIN_NAME
                    else:
                        if n_ops <= _FEW and len(stack) > 1:
                            mark = _mark(b, i + 8, name_n)
                            if (names & mark) != 0 and _named_before(b, ops_at, i):
                                reason = NAME_TWICE
                            names |= mark
                        o = put_long(out, o, name_n)
                        o = copy(out, o, b, i + 8, name_n)
                        o = encode_value(np.int64(b[i + 5]), b, i + 8 + name_n, n - 4 - name_n, out, o, stack)
                i += 4 + n
            if not use or reason != 0:
                break
            out[o] = 0
            o += 1
            if o - begin <= TYPED_MOST or len(stack) == 1:
                break
            o, stack = bins_at, left[:1]
        if silent:
            continue
        if use and reason == 0 and o - begin > limit:
            reason = TOO_BIG
        if use and reason == 0 and n_ops > _FEW and _name_twice(b, ops_at, n_ops):
            reason = NAME_TWICE
        if reason != 0:
            o = begin
            rejected[x, 0] = reason
            rejected[x, 1] = start
            rejected[x, 2] = i
            rejected[x, 3] = digest
            rejected[x, 4] = row if batch else -1
            x += 1
            continue
        if batch:
            for j in range(20):
                digests[r, j] = asked[row, j]
            index[r] = row
        else:
            for j in range(20):
                digests[r, j] = b[digest + j]
        generation[r] = seen_generation
        void_time[r] = _void_ms(seen_void)
        checksum[r] = xxh64(out, begin, o)
        r += 1
        offsets[r] = o
    state[0], state[1], state[2] = o, r, x
    return OK


@compiled(INT, U8_IN, INT, U8_ROWS_OUT, I32_OUT, I64_OUT, I64_OUT, I64_ROWS_OUT, I64_OUT, U8_ROWS_IN, I64_OUT)
def project_frame(
    b: U8,
    with_value: int,
    digests: U8,
    generation: I32,
    void_time: I64,
    value: I64,
    rejected: I64,
    state: I64,
    asked: U8,
    index: I64,
) -> int:
    """The same for a query without bins: columns alone, and the one integer bin of each message if `with_value`."""
    b = borrow(b)
    r, x = state[1], state[2]
    i = 0
    size = len(b)
    batch = len(asked) > 0
    while i < size:
        start = i
        state[3] = start
        if size - i < 22 or b[i] != 22:
            return HEADER_WRONG
        info3 = b[i + 3]
        code = np.int64(b[i + 5])
        seen_generation, seen_void, row = u32(b, i + 6), u32(b, i + 10), u32(b, i + 14)
        n_fields, n_ops = u16(b, i + 18), u16(b, i + 20)
        i += 22
        digest = -1
        for _ in range(n_fields):
            if size - i < 5:
                return FIELD_CUT
            n = u32(b, i)
            if n < 1 or n > size - i - 4:
                return FIELD_CUT
            if b[i + 4] == _DIGEST:
                if n != 21:
                    return FIELD_CUT
                digest = i + 5
            i += 4 + n
        found = False
        seen_value = 0
        for _ in range(n_ops):
            if size - i < 8:
                return OP_CUT
            n = u32(b, i)
            if n < 4 or n > size - i - 4:
                return OP_CUT
            name_n = np.int64(b[i + 7])
            if n - 4 < name_n:
                return OP_CUT
            if b[i + 5] == 1 and n - 4 - name_n == 8:
                found = True
                seen_value = get_i64(b, i + 8 + name_n)
            i += 4 + n
        if (info3 & (_LAST | _PARTITION_DONE)) != 0:
            continue
        reason = -code
        if batch:
            if row >= len(asked):
                return INDEX_WRONG
        elif digest < 0 and code == 0:
            return DIGEST_MISSING
        if reason == 0 and with_value and not found:
            reason = NO_VALUE
        if reason != 0:
            rejected[x, 0] = reason
            rejected[x, 1] = start
            rejected[x, 2] = i
            rejected[x, 3] = digest
            rejected[x, 4] = row if batch else -1
            x += 1
            continue
        if batch:
            for j in range(20):
                digests[r, j] = asked[row, j]
            index[r] = row
        else:
            for j in range(20):
                digests[r, j] = b[digest + j]
        generation[r] = seen_generation
        void_time[r] = _void_ms(seen_void)
        value[r] = seen_value
        r += 1
    state[1], state[2] = r, x
    return OK
