"""Rows of a batch: many single-record requests in one message's field 41, each with its own flags, fields and ops.

The layout is the server's `as/src/base/batch.c`: a 5-byte head (count, flags), then for each row its index, digest and
row flags, and unless it repeats the row before: info bytes, optional generation and TTL, counts, fields and ops. The
first field is always the namespace. An answer is one message a row, with the row's index in `transaction_ttl`,
in any order, and a LAST message.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cdc.errors import ProtocolError
from cdc.wire import messages as m

HEAD = struct.Struct(">IB")
_START = struct.Struct(">I20sB")


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a batch. `ttl`: 0 the namespace's default, 0xFFFFFFFF never, 0xFFFFFFFE keep, None: not said."""

    index: int
    digest: bytes
    info1: int
    info2: int = 0
    info3: int = 0
    info4: int = 0
    generation: int | None = None
    ttl: int | None = None
    fields: tuple[tuple[int, bytes], ...] = ()
    ops: tuple[m.Op, ...] = ()

    def pack(self) -> bytes:
        """The row's bytes."""
        flags = m.ROW_EXTRA_INFO
        info = bytes([self.info1, self.info2, self.info3])
        if self.info4:
            flags |= m.ROW_INFO4
            info += bytes([self.info4])
        if self.generation is not None:
            flags |= m.ROW_GENERATION
            info += struct.pack(">H", self.generation)
        if self.ttl is not None:
            flags |= m.ROW_TTL
            info += struct.pack(">I", self.ttl)
        return b"".join(
            [
                _START.pack(self.index, self.digest, flags),
                info,
                struct.pack(">HH", len(self.fields), len(self.ops)),
                *(m.field(kind, data) for kind, data in self.fields),
                *(op.pack() for op in self.ops),
            ]
        )

    def field(self, kind: int) -> bytes | None:
        """The data of the first field of a type; None if there is none."""
        return next((data for k, data in self.fields if k == kind), None)


def batch(count: int, rows: bytes | bytearray | memoryview, flags: int, timeout_ms: int, info1: int) -> bytes:
    """A whole frame that carries `count` packed rows. `info1`: INFO1_READ if any row reads."""
    size = HEAD.size + len(rows)
    header = m.Header(info1=m.INFO1_BATCH | info1, transaction_ttl=timeout_ms, n_fields=1)
    return b"".join(
        [
            m.frame_head(m.TYPE_MESSAGE, m.HEADER_SIZE + 5 + size),
            header.pack(),
            struct.pack(">IB", size + 1, m.FieldType.BATCH),
            HEAD.pack(count, flags),
            rows,
        ]
    )


def pack_rows(rows: Iterable[Row]) -> bytes:
    """Rows end to end; a row that differs from the one before in index and digest alone repeats it."""
    parts: list[bytes] = []
    before: Row | None = None
    for row in rows:
        if before is not None and replace(row, index=before.index, digest=before.digest) == before:
            parts.append(_START.pack(row.index, row.digest, m.ROW_REPEAT))
        else:
            parts.append(row.pack())
        before = row
    return b"".join(parts)


def parse_batch(data: bytes | memoryview) -> tuple[int, tuple[Row, ...]]:
    """Flags and rows of a field 41's data. ProtocolError if it is cut or wrong."""
    if len(data) < HEAD.size:
        raise ProtocolError("a batch is cut in its head")
    count, flags = HEAD.unpack_from(data)
    if count > len(data) // _START.size:
        raise ProtocolError(f"a batch announces {count} rows in {len(data)} bytes")
    rows: list[Row] = []
    at = HEAD.size
    for _ in range(count):
        row, at = _parse_row(data, at, rows[-1] if rows else None)
        rows.append(row)
    return flags, tuple(rows)


def _parse_row(data: bytes | memoryview, at: int, before: Row | None) -> tuple[Row, int]:
    if at + _START.size > len(data):
        raise ProtocolError(f"a batch's row is cut at byte {at} of {len(data)}")
    index, digest, flags = _START.unpack_from(data, at)
    at += _START.size
    if flags & m.ROW_REPEAT:
        if before is None:
            raise ProtocolError("a batch's first row repeats the one before")
        return replace(before, index=index, digest=digest), at
    layout = ">B" + ("BB" if flags & m.ROW_EXTRA_INFO else "") + ("B" if flags & m.ROW_INFO4 else "")
    layout += ("H" if flags & m.ROW_GENERATION else "") + ("I" if flags & m.ROW_TTL else "") + "HH"
    size = struct.calcsize(layout)
    if at + size > len(data):
        raise ProtocolError(f"a batch's row is cut at byte {at} of {len(data)}")
    values = iter(struct.unpack_from(layout, data, at))
    info1 = next(values)
    info2, info3 = (next(values), next(values)) if flags & m.ROW_EXTRA_INFO else (0, 0)
    info4 = next(values) if flags & m.ROW_INFO4 else 0
    generation = next(values) if flags & m.ROW_GENERATION else None
    ttl = next(values) if flags & m.ROW_TTL else None
    n_fields, n_ops = next(values), next(values)
    fields, at = m.parse_fields(data, at + size, max(n_fields, 1))  # old clients say 0 and send the namespace
    ops, at = m.parse_ops(data, at, n_ops)
    return Row(index, digest, info1, info2, info3, info4, generation, ttl, fields, ops), at
