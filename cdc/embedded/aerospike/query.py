"""Primary-index queries: partitions in, frames of records out (the server's `query.c`)."""

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from cdc.embedded.aerospike import expressions
from cdc.embedded.aerospike.commands import BIN_NAME_MAX, SET_NAME_MAX, read_ops
from cdc.embedded.aerospike.operations import READS
from cdc.embedded.aerospike.record import Record, RecordView, Refused
from cdc.embedded.aerospike.requests import (
    Op,
    Request,
    pack_full_row,
    pack_last,
    pack_partition_done,
    pack_row,
)
from cdc.embedded.aerospike.store import NamespaceStore, partition_id, seconds_2010
from cdc.model import DIGEST_SIZE, PARTITIONS
from cdc.wire.messages import (
    INFO1_NO_BINS,
    INFO2_RESPOND_ALL_OPS,
    INFO2_WRITE,
    INFO3_PARTITION_DONE,
    FieldType,
    Result,
)

_digest = attrgetter("digest")

CHUNK = 1 << 20
"""A frame is sent once it is larger than this (the server's QUERY_CHUNK_LIMIT)."""

Snapshot = Callable[[int], list[Record] | None]
"""The index entries of a partition, in no order; None if this node does not own it (any more)."""


@dataclass(slots=True)
class Query:
    """A checked query."""

    partitions: dict[int, bytes | None]
    """Partition to the digest to go on after, in descending order."""
    set_name: bytes
    filter: bytes | None
    ops: list[Op]
    respond_all: bool
    no_bins: bool
    sample_max: int
    records_per_second: int


def check(request: Request) -> Query:
    """The query that a request asks for. Raises Refused."""
    fields = request.fields
    if request.info2 & INFO2_WRITE or FieldType.UDF_OP in fields:
        raise Refused(Result.PARAMETER)  # background queries and aggregations are not emulated
    if not request.info3 & INFO3_PARTITION_DONE:
        raise Refused(Result.UNSUPPORTED_FEATURE)
    set_name = fields.get(FieldType.SET, b"")
    if len(set_name) > SET_NAME_MAX:
        raise Refused(Result.PARAMETER)
    partitions = _partitions(fields.get(FieldType.PARTITIONS), fields.get(FieldType.DIGESTS))
    if FieldType.INDEX_RANGE in fields:
        raise Refused(Result.INDEX_NOT_FOUND)  # no secondary index holds entries here
    if FieldType.FILTER in fields:
        expressions.check_filter(fields[FieldType.FILTER])
    _number(fields.get(FieldType.SOCKET_TIMEOUT), 4)
    packed_filter = fields.get(FieldType.FILTER)
    if packed_filter is not None:
        expressions.check_filter(packed_filter)
    no_bins = bool(request.info1 & INFO1_NO_BINS)
    ops = [] if no_bins else request.ops
    for code, _, name, _ in ops:
        if code not in READS or len(name) > BIN_NAME_MAX or b"\0" in name:
            raise Refused(Result.PARAMETER)
    return Query(
        partitions=partitions,
        set_name=set_name,
        filter=packed_filter,
        ops=ops,
        respond_all=bool(request.info2 & INFO2_RESPOND_ALL_OPS),
        no_bins=no_bins,
        sample_max=_number(fields.get(FieldType.SAMPLE_MAX), 8),
        records_per_second=_number(fields.get(FieldType.RECORDS_PER_SECOND), 4),
    )


def _number(data: bytes | None, size: int) -> int:
    if data is None:
        return 0
    if len(data) != size:
        raise Refused(Result.PARAMETER)
    return int.from_bytes(data, "big")


def _partitions(ids: bytes | None, digests: bytes | None) -> dict[int, bytes | None]:
    if ids is None and digests is None:
        raise Refused(Result.UNSUPPORTED_FEATURE)
    found: dict[int, bytes | None] = {}
    asked: list[tuple[int, bytes | None]] = []
    if ids is not None:
        n = len(ids) // 2
        if not 0 < n <= PARTITIONS:
            raise Refused(Result.PARAMETER)
        asked += [(p, None) for p in struct.unpack_from(f"<{n}H", ids)]
    if digests is not None:
        n = len(digests) // DIGEST_SIZE
        if not 0 < n <= PARTITIONS:
            raise Refused(Result.PARAMETER)
        after = [digests[i * DIGEST_SIZE : (i + 1) * DIGEST_SIZE] for i in range(n)]
        asked += [(partition_id(digest), digest) for digest in after]
    for partition, digest in asked:
        if partition >= PARTITIONS or partition in found:
            raise Refused(Result.PARAMETER)
        found[partition] = digest
    return found


def answers(store: NamespaceStore, query: Query, snapshot: Snapshot, now: Callable[[], int]) -> Iterator[bytes]:
    """Payloads of the answer's frames, the last of which holds the LAST message. Raises Refused (a bad filter)."""
    parts: list[bytes] = []
    size = sent = 0
    started = time.monotonic()
    for partition, after in query.partitions.items():
        if query.sample_max and sent >= query.sample_max:
            break
        records = snapshot(partition)
        if records is None:
            parts.append(pack_partition_done(partition, Result.UNAVAILABLE))
            continue
        rows = _rows(store, query, records, after, now())
        if query.sample_max:
            rows = rows[: query.sample_max - sent]
        if query.records_per_second:
            for row in rows:
                ahead = (sent + 1) / query.records_per_second - (time.monotonic() - started)
                if ahead > 0:
                    if parts:
                        yield b"".join(parts)
                        parts, size = [], 0
                    time.sleep(ahead)
                parts.append(row)
                size += len(row)
                sent += 1
        else:
            parts += rows
            size += sum(map(len, rows))
            sent += len(rows)
        if size > CHUNK:
            yield from _cut(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
    yield pack_last(Result.OK)


def _cut(parts: list[bytes]) -> Iterator[bytes]:
    """Frames of a little more than a chunk each."""
    start = size = 0
    for i, part in enumerate(parts):
        size += len(part)
        if size > CHUNK:
            yield b"".join(parts[start : i + 1])
            start, size = i + 1, 0
    if start < len(parts):
        yield b"".join(parts[start:])


def _rows(
    store: NamespaceStore, query: Query, records: list[Record], after: bytes | None, now_ms: int
) -> list[bytes]:  # fmt: skip
    """The packed records of a partition that the query wants, in descending digest order."""
    now_s = seconds_2010(now_ms)
    name = store.raw_name
    wanted = [r for r in records if not store.hidden(r, now_s)] if store.may_hide(now_s) else records
    if query.set_name:
        wanted = [r for r in wanted if r.set_name == query.set_name]
    if after is not None:
        wanted = [r for r in wanted if r.digest < after]
    if query.filter is not None:
        passes = expressions.prepared(query.filter).run
        wanted = [r for r in wanted if passes(RecordView(r, now_ms), []) is True]
    wanted.sort(key=_digest, reverse=True)
    if query.no_bins:
        return [pack_row(name, r, b"", 0, no_bins=True) for r in wanted]
    if not query.ops:
        return [pack_full_row(name, r) for r in wanted]
    rows = []
    for record in wanted:
        try:
            ops = read_ops(RecordView(record, now_ms), query.ops, query.respond_all)
        except Refused:
            continue  # the server logs such a record, counts it as failed and leaves it out
        if ops:
            rows.append(pack_row(name, record, b"".join(ops), len(ops)))
    return rows
