"""One op on one bin: the dispatch to particles, lists and maps, and expressions."""

from functools import lru_cache

from cdc.codec import msgpack
from cdc.embedded.aerospike import cdt, expressions, particles
from cdc.embedded.aerospike.record import Bins, Particle, RecordView, Refused
from cdc.embedded.aerospike.requests import Op
from cdc.errors import CodecError
from cdc.wire.messages import INFO1_GET_ALL, OpType, Result
from cdc.wire.messages import Particle as Kind

READS = frozenset(
    {
        int(OpType.READ), int(OpType.CDT_READ), int(OpType.EXPRESSION_READ), int(OpType.BITS_READ),
        int(OpType.HLL_READ),
    }
)  # fmt: skip

_READ = int(OpType.READ)
_KEPT_AS_THEY_COME = frozenset({int(Kind.STRING), int(Kind.BLOB)})
_CREATE_ONLY, _UPDATE_ONLY, _ALLOW_DELETE, _POLICY_NO_FAIL, _EVAL_NO_FAIL = 1, 2, 4, 8, 16
_MODIFY_FLAGS = 31


def has_read_all(op: Op, info1: int) -> bool:
    """Whether an op of a write reads all bins."""
    return op[0] == _READ and not op[2] and bool(info1 & INFO1_GET_ALL)


def swap_out(bins: Bins, name: bytes) -> None:
    """Take a bin away; the last bin takes its place in the order, as in the server's `as_bin_remove`."""
    if name not in bins:
        return
    last = next(reversed(bins))
    if last != name:
        moved = {last if n == name else n: bins[last] if n == name else p for n, p in bins.items() if n != last}
        bins.clear()
        bins.update(moved)
    else:
        del bins[name]


def apply_write(bins: Bins, kind: int, name: bytes, value: bytes) -> None:
    """Write a bin as the client sent it. Raises Refused."""
    bins[name] = (kind, value) if kind in _KEPT_AS_THEY_COME else particles.stored((kind, value))


def apply(view: RecordView, op: Op) -> Particle | None:
    """Do any op but a plain write, touch or delete-all; changes `view.record.bins`, returns the op's result, if any."""
    code, kind, name, value = op
    bins = view.record.bins
    old = bins.get(name)
    if code == _READ:
        return old
    if code == OpType.EXPRESSION_READ:
        return _expression_read(view, value)
    if code == OpType.EXPRESSION_MODIFY:
        _expression_modify(view, name, value)
        return None
    if code in READS and old is None:
        return None
    if code in (OpType.CDT_READ, OpType.CDT_MODIFY):
        new, result = cdt.apply(value, old)
    elif code == OpType.INCREMENT:
        new, result = particles.increment(old, (kind, value)), None
    elif code == OpType.APPEND:
        new, result = particles.append(old, (kind, value)), None
    elif code == OpType.PREPEND:
        new, result = particles.prepend(old, (kind, value)), None
    elif code in (OpType.HLL_READ, OpType.HLL_MODIFY):
        new, result = particles.hll(value, old)
    else:
        raise Refused(Result.PARAMETER)
    if code not in READS and new is not None:
        bins[name] = new
    return result


@lru_cache(maxsize=256)
def _expression_of(value: bytes, allowed: int) -> tuple[bytes, int]:
    """The packed expression and the flags of an expression op's value: a packed list of one or both."""
    try:
        parts = msgpack.container(value)
        flags = msgpack.unpack(parts.items[1]) if len(parts.items) == 2 else 0
    except CodecError as error:
        raise Refused(Result.PARAMETER) from error
    if parts.is_map or not 1 <= len(parts.items) <= 2 or not isinstance(flags, int) or flags & ~allowed:
        raise Refused(Result.PARAMETER)
    return parts.items[0], flags


def _evaluated(expression: bytes, view: RecordView, flags: int) -> tuple[bool, Particle | None]:
    """Whether an expression has a result, and the result (None: nil). Refused where it has none and that may not be."""
    value = expressions.evaluate(expression, view)
    if value is expressions.UNKNOWN and flags & _EVAL_NO_FAIL:
        return False, None
    return True, particles.of_value(value)


def _expression_read(view: RecordView, value: bytes) -> Particle | None:
    expression, flags = _expression_of(value, _EVAL_NO_FAIL)
    return _evaluated(expression, view, flags)[1]


def _expression_modify(view: RecordView, name: bytes, value: bytes) -> None:
    """Write what an expression evaluates to; nil removes the bin where the flags allow it (`expop.c`)."""
    expression, flags = _expression_of(value, _MODIFY_FLAGS)
    bins = view.record.bins
    forbidden = flags & (_CREATE_ONLY if name in bins else _UPDATE_ONLY)
    if forbidden:
        if flags & _POLICY_NO_FAIL:
            return
        raise Refused(Result.BIN_EXISTS if name in bins else Result.BIN_NOT_FOUND)
    done, particle = _evaluated(expression, view, flags)
    if particle is not None:
        bins[name] = particle
    elif done and name in bins:
        if flags & _ALLOW_DELETE:
            swap_out(bins, name)
        elif not flags:  # the server means only "no fail" here, but lets every flag do
            raise Refused(Result.OP_NOT_APPLICABLE)
