"""Requests parsed and answers packed, with as little per record as Python allows: batches bring thousands of rows.

Constants and everything that is not in the way of many records is `cdc.wire.messages`.
"""

import struct
from dataclasses import dataclass

from cdc.embedded.aerospike.record import Bins, Particle, Record
from cdc.errors import ProtocolError
from cdc.wire.messages import HEADER_SIZE, INFO1_NO_BINS, INFO3_LAST, INFO3_PARTITION_DONE, FieldType, OpType

Op = tuple[int, int, bytes, bytes]
"""Op code, particle type, bin name, value."""
Fields = dict[int, bytes]
Reply = tuple[int, int, int, int, bytes]
"""Result code, generation, void time, number of ops, packed ops."""

_HEADER = struct.Struct(">BBBBBBIIIHH")
_FIELD = struct.Struct(">IB")
_OP = struct.Struct(">IBBBB")


@dataclass(slots=True)
class Request:
    """One message from a client, or one row of a batch."""

    info1: int
    info2: int
    info3: int
    generation: int
    ttl: int
    fields: Fields
    ops: list[Op]
    size: int
    """Bytes that it took on the wire."""


def parse(payload: bytes) -> Request:
    """The one message of a request's payload. ProtocolError if it is cut, wrong or followed by something."""
    if len(payload) < HEADER_SIZE:
        raise ProtocolError(f"a request of {len(payload)} bytes")
    _, info1, info2, info3, _, _, generation, ttl, _, n_fields, n_ops = _HEADER.unpack_from(payload)
    fields, at = parse_fields(payload, HEADER_SIZE, n_fields)
    ops, at = parse_ops(payload, at, n_ops)
    if at != len(payload):
        raise ProtocolError("bytes follow a request's ops")
    return Request(info1, info2, info3, generation, ttl, fields, ops, len(payload))


def parse_fields(payload: bytes, at: int, count: int) -> tuple[Fields, int]:
    """`count` fields from `at` on (of several of a type the first counts), and where they end."""
    fields: Fields = {}
    limit = len(payload)
    for _ in range(count):
        if at + 5 > limit:
            raise ProtocolError("a field is cut")
        size, kind = _FIELD.unpack_from(payload, at)
        end = at + 4 + size
        if size < 1 or end > limit:
            raise ProtocolError("a field is cut")
        fields.setdefault(kind, payload[at + 5 : end])
        at = end
    return fields, at


def parse_ops(payload: bytes, at: int, count: int) -> tuple[list[Op], int]:
    """`count` ops from `at` on, and where they end."""
    ops: list[Op] = []
    limit = len(payload)
    unpack = _OP.unpack_from
    for _ in range(count):
        if at + 8 > limit:
            raise ProtocolError("an op is cut")
        size, code, particle, flags, name_size = unpack(payload, at)
        end = at + 4 + size
        value = at + 8 + name_size
        if flags & 1:
            value += 8  # a bin's own LUT, which only XDR sends
        if value > end or end > limit:
            raise ProtocolError("an op is cut")
        ops.append((code, particle, payload[at + 8 : at + 8 + name_size], payload[value:end]))
        at = end
    return ops, at


def pack_op(code: int, name: bytes, particle: Particle | None) -> bytes:
    """An answer's op; None gives the null particle."""
    kind, data = particle or (0, b"")
    return _OP.pack(4 + len(name) + len(data), code, kind, 0, len(name)) + name + data


def pack_bins(bins: Bins) -> bytes:
    """All bins as an answer's ops."""
    pack = _OP.pack
    read = int(OpType.READ)
    return b"".join(
        [pack(4 + len(name) + len(data), read, kind, 0, len(name)) + name + data for name, (kind, data) in bins.items()]
    )


def pack_reply(reply: Reply, index: int = 0) -> bytes:
    """An answer's message, without a frame; `index` is the row of a batch."""
    result, generation, void_time, n_ops, ops = reply
    return _HEADER.pack(HEADER_SIZE, 0, 0, 0, 0, result, generation, void_time, index, 0, n_ops) + ops


def pack_last(result: int) -> bytes:
    """The message that ends a query's or batch's answer."""
    return _HEADER.pack(HEADER_SIZE, 0, 0, INFO3_LAST, 0, result, 0, 0, 0, 0, 0)


def pack_partition_done(partition: int, result: int) -> bytes:
    """The message that says that a query gives up a partition."""
    return _HEADER.pack(HEADER_SIZE, 0, 0, INFO3_PARTITION_DONE, 0, result, partition, 0, 0, 0, 0)


def pack_row(namespace: bytes, record: Record, ops: bytes, n_ops: int, *, no_bins: bool = False) -> bytes:
    """A record in a query's answer."""
    fields = [_FIELD.pack(len(namespace) + 1, FieldType.NAMESPACE), namespace, b"\0\0\0\x15\x04", record.digest]
    n_fields = 2
    if record.set_name:
        fields += _FIELD.pack(len(record.set_name) + 1, FieldType.SET), record.set_name
        n_fields += 1
    if record.key is not None:
        fields += _FIELD.pack(len(record.key) + 1, FieldType.KEY), record.key
        n_fields += 1
    info1 = INFO1_NO_BINS if no_bins else 0
    head = _HEADER.pack(
        HEADER_SIZE, info1, 0, 0, 0, 0, record.generation, record.void_time_s, 0, n_fields, n_ops
    )  # fmt: skip
    return b"".join((head, *fields, ops))


def pack_full_row(namespace: bytes, record: Record) -> bytes:
    """A record with all its bins in a query's answer, kept with the record once it was made."""
    row = record.row
    if row is None:
        row = record.row = pack_row(namespace, record, pack_bins(record.bins), len(record.bins))
    return row
