"""Single-record transactions: read, write, remove, each answered as the server does (`read.c`, `write.c`, `delete.c`).

Batch rows go through here too. The caller holds the emulator's lock.
"""

from cdc.embedded.aerospike import expressions
from cdc.embedded.aerospike.operations import READS, apply, apply_write, has_read_all, swap_out
from cdc.embedded.aerospike.record import Bins, Record, RecordView, Refused
from cdc.embedded.aerospike.requests import Op, Reply, Request, pack_bins, pack_op
from cdc.embedded.aerospike.store import (
    TTL_DEFAULT,
    TTL_KEEP,
    TTL_MAX,
    TTL_NEVER,
    NamespaceStore,
    seconds_2010,
)
from cdc.wire.messages import (
    INFO1_GET_ALL,
    INFO1_NO_BINS,
    INFO1_READ,
    INFO2_CREATE_ONLY,
    INFO2_DELETE,
    INFO2_DURABLE_DELETE,
    INFO2_GENERATION,
    INFO2_GENERATION_GT,
    INFO2_RESPOND_ALL_OPS,
    INFO2_WRITE,
    INFO3_CREATE_OR_REPLACE,
    INFO3_REPLACE_ONLY,
    INFO3_UPDATE_ONLY,
    FieldType,
    OpType,
    Particle,
    Result,
)

SET_NAME_MAX = 63
BIN_NAME_MAX = 15
_REPLACE = INFO3_CREATE_OR_REPLACE | INFO3_REPLACE_ONLY
_MUST_EXIST = INFO3_UPDATE_ONLY | INFO3_REPLACE_ONLY
_FIELD_SET, _FIELD_KEY, _FIELD_FILTER = int(FieldType.SET), int(FieldType.KEY), int(FieldType.FILTER)
_WRITE, _READ, _TOUCH, _DELETE_ALL = int(OpType.WRITE), int(OpType.READ), int(OpType.TOUCH), int(OpType.DELETE_ALL)
_MODIFIES = frozenset(
    {
        OpType.INCREMENT, OpType.APPEND, OpType.PREPEND, OpType.BITS_MODIFY, OpType.HLL_MODIFY, OpType.CDT_MODIFY,
        OpType.DELETE_ALL, OpType.TOUCH,
    }
)  # fmt: skip
_GENERATES = frozenset(READS | {OpType.HLL_MODIFY, OpType.CDT_MODIFY})


class _Failed(Refused):
    """A refusal that tells the record's generation and void time."""

    def __init__(self, code: int, record: Record | None) -> None:
        super().__init__(code)
        self.record = record


def execute(store: NamespaceStore, request: Request, digest: bytes, now_ms: int, origin: str) -> Reply:
    """Do what a request asks of one record. `origin` is the counters' prefix: client, batch_sub, from_proxy …"""
    if request.info2 & INFO2_WRITE:
        kind, perform = ("delete", _remove) if request.info2 & INFO2_DELETE else ("write", _write)
    elif request.info1 & INFO1_READ:
        kind, perform = "read", _read
    else:
        store.counters[f"{origin}_tsvc_error"] += 1
        return (Result.PARAMETER, 0, 0, 0, b"")
    try:
        reply = perform(store, request, digest, now_ms)
    except _Failed as failure:
        record = failure.record
        meta = (record.generation, record.void_time_s) if record else (0, 0)
        reply = (failure.code, *meta, 0, b"")
    except Refused as failure:
        reply = (failure.code, 0, 0, 0, b"")
    store.counters[f"{origin}_{kind}_{_outcome(reply[0], kind)}"] += 1
    if reply[0] == Result.GENERATION:
        store.counters["fail_generation"] += 1
    elif reply[0] == Result.RECORD_TOO_BIG:
        store.counters["fail_record_too_big"] += 1
    return reply


def _outcome(result: int, kind: str) -> str:
    if result == Result.OK:
        return "success"
    if result == Result.FILTERED_OUT:
        return "filtered_out"
    if result == Result.TIMEOUT:
        return "timeout"
    if result == Result.NOT_FOUND and kind != "write":
        return "not_found"
    return "error"


def _read(store: NamespaceStore, request: Request, digest: bytes, now_ms: int) -> Reply:
    record = store.find(digest)
    if record is None:
        raise Refused(Result.NOT_FOUND)
    _check_set_if_given(request, record)
    if store.hidden(record, seconds_2010(now_ms)):
        raise _Failed(Result.NOT_FOUND, record)
    _check_filter(request, record, now_ms)
    _check_key(request, record)
    if request.info1 & INFO1_NO_BINS:
        return (Result.OK, record.generation, record.void_time_s, 0, b"")
    if request.info1 & INFO1_GET_ALL:
        return (Result.OK, record.generation, record.void_time_s, len(record.bins), pack_bins(record.bins))
    if not request.ops:
        raise _Failed(Result.PARAMETER, record)
    view = RecordView(record, now_ms)
    try:
        packed = read_ops(view, request.ops, bool(request.info2 & INFO2_RESPOND_ALL_OPS))
    except Refused as failure:
        raise _Failed(failure.code, record) from failure
    return (Result.OK, record.generation, record.void_time_s, len(packed), b"".join(packed))


def read_ops(view: RecordView, ops: list[Op], respond_all: bool) -> list[bytes]:
    """The answers to read ops, packed; what finds nothing is left out unless all must respond. Raises Refused."""
    packed = []
    for op in ops:
        code, _, name, _ = op
        _check_bin_name(name)
        if code not in READS:
            raise Refused(Result.PARAMETER)
        result = apply(view, op)
        if result is not None or respond_all:
            packed.append(pack_op(code, name, result))
    return packed


def _remove(store: NamespaceStore, request: Request, digest: bytes, now_ms: int) -> Reply:
    if request.info2 & INFO2_DURABLE_DELETE:
        raise Refused(Result.ENTERPRISE_ONLY)
    record = store.find(digest)
    if record is None:
        raise Refused(Result.NOT_FOUND)
    _check_set_if_given(request, record)
    _check_generation(request, record)
    _check_filter(request, record, now_ms)
    _check_key(request, record)
    store.drop(digest)
    return (Result.OK, 0, 0, 0, b"")


def _write(store: NamespaceStore, request: Request, digest: bytes, now_ms: int) -> Reply:
    if store.settings.stop_writes:
        raise Refused(Result.OUT_OF_SPACE)
    must_exist, replace = _policies(request)
    old = store.find(digest)
    if old is not None and store.hidden(old, seconds_2010(now_ms)):
        if must_exist:
            raise _Failed(Result.NOT_FOUND, old)
        store.drop(digest)
        old = None
    fields = request.fields
    set_name = fields.get(_FIELD_SET, b"")
    if old is None:
        if must_exist:
            raise Refused(Result.NOT_FOUND)
        _check_generation(request, None)
        if len(set_name) > SET_NAME_MAX or b"\0" in set_name:
            raise Refused(Result.PARAMETER)
        if store.truncated_now(set_name, now_ms):
            raise Refused(Result.FORBIDDEN)
    else:
        if request.info2 & INFO2_CREATE_ONLY:
            raise _Failed(Result.RECORD_EXISTS, old)
        _check_generation(request, old)
        if set_name != old.set_name:
            raise _Failed(Result.PARAMETER, old)
        _check_filter(request, old, now_ms)
        _check_key(request, old)
    key = fields.get(_FIELD_KEY)
    if key is not None and (not key or (key[0] == Particle.INTEGER and len(key) != 9)):
        raise _Failed(Result.UNSUPPORTED_FEATURE, old)
    ttl = request.ttl
    if ttl > TTL_MAX and ttl not in (TTL_NEVER, TTL_KEEP):
        raise _Failed(Result.PARAMETER, old)
    if store.settings.forbids(ttl, store.default_ttl):
        raise _Failed(Result.FORBIDDEN, old)
    _count_ttl_reduction(store, old, ttl, now_ms)
    bins: Bins = {} if old is None or replace else dict(old.bins)
    record = store.successor(old, digest, set_name, ttl, now_ms, bins)
    try:
        packed = _apply_ops(request, record, now_ms)
        _check_size(request, record, store.settings.max_record_size)
    except Refused as failure:
        raise _Failed(failure.code, old) from failure
    if record.key is None:  # only now: the ops' expressions do not see a key that this very write brings
        record.key = key
    if not bins:
        if old is None or replace or not old.bins:
            raise _Failed(Result.NOT_FOUND, old)
        if request.info2 & INFO2_DURABLE_DELETE:
            raise _Failed(Result.ENTERPRISE_ONLY, old)
        store.drop(digest)
        store.counters["deleted_last_bin"] += 1
        return (Result.OK, 0, 0, len(packed), b"".join(packed))
    store.put(record)
    return (Result.OK, record.generation, record.void_time_s, len(packed), b"".join(packed))


def _policies(request: Request) -> tuple[bool, bool]:
    """Whether the record must exist, and whether it is replaced. Refuses combinations as `write_master_policies`."""
    ops = request.ops
    if not ops or len(ops) > 0x7FFF:
        raise Refused(Result.PARAMETER)
    must_exist = bool(request.info3 & _MUST_EXIST)
    replace = bool(request.info3 & _REPLACE)
    for code, kind, name, _ in ops:
        if code != _WRITE or not kind:
            break
        if len(name) > BIN_NAME_MAX or b"\0" in name:
            raise Refused(Result.BIN_NAME)
    else:  # only plain writes: what follows is about other ops
        if request.info1 & INFO1_GET_ALL:
            raise Refused(Result.PARAMETER)
        return must_exist, replace
    reads_all, reads, generates = 0, False, False
    respond_all = bool(request.info2 & INFO2_RESPOND_ALL_OPS)
    for op in ops:
        code, kind, name, _ = op
        if code == _TOUCH:
            must_exist = True
        else:
            _check_bin_name(name)
        if replace and (code in _MODIFIES or (code == _WRITE and kind == Particle.NULL)):
            raise Refused(Result.PARAMETER)
        if has_read_all(op, request.info1):
            reads_all += 1
            reads = True
        else:
            reads = reads or code in READS
            generates = generates or code in _GENERATES
    if reads_all > 1 or (reads_all and (respond_all or generates)):
        raise Refused(Result.PARAMETER)
    if reads and not request.info1 & INFO1_READ:
        raise Refused(Result.PARAMETER)
    if request.info1 & INFO1_GET_ALL and not reads_all:
        raise Refused(Result.PARAMETER)
    return must_exist, replace


def _apply_ops(request: Request, record: Record, now_ms: int) -> list[bytes]:
    """Apply the ops to `record.bins`, in order; the packed answers."""
    bins = record.bins
    respond_all = bool(request.info2 & INFO2_RESPOND_ALL_OPS)
    packed: list[bytes] = []
    view = RecordView(record, now_ms)
    for op in request.ops:
        code, kind, name, value = op
        if code == _WRITE and kind and not respond_all:
            apply_write(bins, kind, name, value)
            continue
        if code == _TOUCH:
            continue
        result = None
        if code == _WRITE:
            if kind:
                apply_write(bins, kind, name, value)
            else:
                swap_out(bins, name)
        elif code == _DELETE_ALL:
            bins.clear()
        elif has_read_all(op, request.info1):
            packed += [pack_op(_READ, bin_name, particle) for bin_name, particle in bins.items()]
            continue
        else:
            result = apply(view, op)
        if respond_all or result is not None or (code in READS and code != _READ and name in bins):
            packed.append(pack_op(code, name, result))
    return packed


def _count_ttl_reduction(store: NamespaceStore, old: Record | None, ttl: int, now_ms: int) -> None:
    if old is None or (ttl == TTL_DEFAULT and not store.default_ttl and not old.void_time_s):
        return
    void = store.void_time(old, ttl, now_ms)
    if (old.void_time_s == 0 and void != 0) or void < old.void_time_s:
        store.counters["ttl_reductions_applied"] += 1


def _check_size(request: Request, record: Record, most: int) -> None:
    if request.size > most // 16 or any(op[0] != _WRITE for op in request.ops):
        size = sum(len(data) for _, data in record.bins.values())
        if size > most // 2 and RecordView(record, 0).device_size > most:
            raise Refused(Result.RECORD_TOO_BIG)


def _check_bin_name(name: bytes) -> None:
    if len(name) > BIN_NAME_MAX or b"\0" in name:
        raise Refused(Result.BIN_NAME)


def _check_set_if_given(request: Request, record: Record) -> None:
    given = request.fields.get(_FIELD_SET)
    if given and given != record.set_name:
        raise _Failed(Result.PARAMETER, record)


def _check_generation(request: Request, record: Record | None) -> None:
    stored = record.generation if record else 0
    equal = request.info2 & INFO2_GENERATION and request.generation != stored
    greater = not request.info2 & INFO2_GENERATION and request.info2 & INFO2_GENERATION_GT
    if equal or (greater and request.generation <= stored):
        raise _Failed(Result.GENERATION, record)


def _check_filter(request: Request, record: Record, now_ms: int) -> None:
    packed = request.fields.get(_FIELD_FILTER)
    if packed is not None and not expressions.passes(packed, RecordView(record, now_ms)):
        raise _Failed(Result.FILTERED_OUT, record)


def _check_key(request: Request, record: Record) -> None:
    given = request.fields.get(_FIELD_KEY)
    if given is not None and record.key is not None and given != record.key:
        raise _Failed(Result.KEY_MISMATCH, record)
