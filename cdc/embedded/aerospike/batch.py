"""Batches: many single-record requests in one (field 41), answered row by row (the server's `batch.c`)."""

import struct
from collections.abc import Callable, Iterator

from cdc.embedded.aerospike import expressions
from cdc.embedded.aerospike.record import Refused
from cdc.embedded.aerospike.requests import Reply, Request, pack_last, pack_reply, parse_fields, parse_ops
from cdc.errors import ProtocolError
from cdc.wire.messages import (
    BATCH_REPORT_ALL_ERRORS,
    ROW_EXTRA_INFO,
    ROW_GENERATION,
    ROW_INFO4,
    ROW_REPEAT,
    ROW_TTL,
    FieldType,
    Result,
)

Execute = Callable[[Request, bytes], Reply]
"""Does one row's request on one digest. Raises Refused with NAMESPACE when there is no such namespace."""

_ROW = struct.Struct(">I20sB")
_COUNTS = struct.Struct(">HH")
_CHUNK = 128 << 10
_HARMLESS = frozenset({Result.OK, Result.NOT_FOUND, Result.FILTERED_OUT})


def answers(request: Request, execute: Execute) -> Iterator[bytes]:
    """Do a batch; payloads of the answer's frames, the last of which holds the LAST message. Raises Refused."""
    data = request.fields.get(FieldType.BATCH) or request.fields.get(FieldType.BATCH_WITH_SET)
    if data is None or len(data) < 5:
        raise Refused(Result.PARAMETER)
    count, flags = struct.unpack_from(">IB", data)
    if not count:
        raise Refused(Result.PARAMETER)
    report_all = flags & BATCH_REPORT_ALL_ERRORS
    common_filter = request.fields.get(FieldType.FILTER)
    if common_filter is not None:
        expressions.check_filter(common_filter)
    parts: list[bytes] = []
    size = failure = 0
    try:
        for index, digest, row in _rows(data, count, common_filter):
            reply = execute(row, digest)
            if not report_all and reply[0] not in _HARMLESS:
                failure = reply[0]
            part = pack_reply(reply, index)
            parts.append(part)
            size += len(part)
            if size > _CHUNK and not failure:
                yield b"".join(parts)
                parts, size = [], 0
    except (ProtocolError, struct.error, IndexError):
        failure = Result.PARAMETER
    except Refused as refused:
        if refused.code != Result.NAMESPACE:
            raise
        failure = Result.PARAMETER
    if parts and not failure:
        yield b"".join(parts)
    yield pack_last(failure)


def _rows(data: bytes, count: int, common_filter: bytes | None) -> Iterator[tuple[int, bytes, Request]]:
    """Index, digest and request of each row. ProtocolError, struct.error or IndexError where the bytes are wrong."""
    at = 5
    row: Request | None = None
    filter_type = int(FieldType.FILTER)
    unpack = _ROW.unpack_from
    for _ in range(count):
        index, digest, flags = unpack(data, at)
        at += 25
        if flags & ROW_REPEAT:
            if row is None or FieldType.KEY in row.fields:
                raise ProtocolError("a batch row repeats what cannot be repeated")
            yield index, digest, row
            continue
        start = at
        info1 = data[at]
        info2 = info3 = generation = ttl = 0
        at += 1
        if flags & ROW_EXTRA_INFO:
            info2, info3 = data[at], data[at + 1]
            at += 2
        if flags & ROW_INFO4:
            at += 1
        if flags & ROW_GENERATION:
            generation = data[at] << 8 | data[at + 1]
            at += 2
        if flags & ROW_TTL:
            ttl = int.from_bytes(data[at : at + 4], "big")
            at += 4
        n_fields, n_ops = _COUNTS.unpack_from(data, at)
        fields, at = parse_fields(data, at + 4, n_fields or 1)
        ops, at = parse_ops(data, at, n_ops)
        if common_filter is not None:
            fields.setdefault(filter_type, common_filter)
        row = Request(info1, info2, info3, generation, ttl, fields, ops, at - start)
        yield index, digest, row
