"""One op on one bin: the dispatch to particles, lists and maps, and expressions."""

from cdc.embedded.aerospike import cdt, expressions, particles
from cdc.embedded.aerospike.record import Bins, Particle, RecordView, Refused
from cdc.embedded.aerospike.requests import Op
from cdc.wire.messages import INFO1_GET_ALL, OpType, Result

READS = frozenset(
    {
        int(OpType.READ), int(OpType.CDT_READ), int(OpType.EXPRESSION_READ), int(OpType.BITS_READ),
        int(OpType.HLL_READ),
    }
)  # fmt: skip

_READ = int(OpType.READ)
_NO_VALUE = 0x90
_EXPRESSION_CREATE_ONLY = 1
_EXPRESSION_UPDATE_ONLY = 2
_EXPRESSION_ALLOW_DELETE = 4
_EXPRESSION_POLICY_NO_FAIL = 8
_EXPRESSION_EVAL_NO_FAIL = 16


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
    bins[name] = particles.stored((kind, value))


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


def _pair(value: bytes) -> tuple[bytes, int]:
    """The packed expression and the flags of an expression op: a msgpack pair whose flags are one byte."""
    if len(value) < 3 or value[0] != _NO_VALUE | 2 or value[-1] > 0x7F:
        raise Refused(Result.PARAMETER)
    return value[1:-1], value[-1]


def _expression_read(view: RecordView, value: bytes) -> Particle | None:
    expression, flags = _pair(value)
    try:
        return particles.of_value(expressions.evaluate(expression, view))
    except Refused:
        if flags & _EXPRESSION_EVAL_NO_FAIL:
            return None
        raise


def _expression_modify(view: RecordView, name: bytes, value: bytes) -> None:
    expression, flags = _pair(value)
    bins = view.record.bins
    no_fail = flags & _EXPRESSION_POLICY_NO_FAIL
    if flags & _EXPRESSION_CREATE_ONLY and name in bins:
        if not no_fail:
            raise Refused(Result.BIN_EXISTS)
        return
    if flags & _EXPRESSION_UPDATE_ONLY and name not in bins:
        if not no_fail:
            raise Refused(Result.BIN_NOT_FOUND)
        return
    try:
        particle = particles.of_value(expressions.evaluate(expression, view))
    except Refused:
        if flags & _EXPRESSION_EVAL_NO_FAIL:
            return
        raise
    if particle is not None:
        bins[name] = particle
    elif flags & _EXPRESSION_ALLOW_DELETE:
        swap_out(bins, name)
    elif not no_fail:
        raise Refused(Result.OP_NOT_APPLICABLE)
