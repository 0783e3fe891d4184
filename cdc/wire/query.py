"""Primary-index queries in bulk: every record of the asked partitions, from their masters, in parallel.

A round asks each owner for its partitions over a few connections; what a round leaves unfinished is asked again at
the owners of that moment, with a back-off that grows while nothing gets done.
"""

import itertools
import struct
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from cdc.errors import (
    ClusterUnreachable,
    NamespaceUnknown,
    PartitionUnavailable,
    ProtocolError,
    ServerRefused,
    SourceError,
)
from cdc.model import I64, PARTITIONS, U8
from cdc.wire import messages as m
from cdc.wire.cluster import Cluster, Node
from cdc.wire.connection import ConnectionLost
from cdc.wire.flow import Flow
from cdc.wire.scan_kernels import DAMAGED, UNFINISHED, query_frame

RETRIES = 8
"""Rounds in a row that may finish no partition."""
BACK_OFF_S = 0.1
BACK_OFF_LIMIT_S = 5.0
PATIENCE = 3.0
"""Silence that a query may keep at first, in time-outs: a filter that rejects much says nothing meanwhile."""
BUFFER_BYTES = 32 << 20
"""Frames that have arrived and that the consumer has not taken yet."""
SMALLEST_PIECE = 64
"""Partitions below which a node's share is not divided over several connections."""
RECORDS_A_FRAME = 20_000
"""A server sends once it has gathered a megabyte: so many small records, which take a throttled query a while."""
SERVER_WAITS_MS = 120_000
"""How long a server may be unable to send because the consumer does not take."""

BUSY = frozenset(
    {
        m.Result.FORBIDDEN,  # query-threads-limit is reached (the server's query_manager.c)
        m.Result.TIMEOUT,
        m.Result.UNAVAILABLE,
        m.Result.QUERY_ABORT,
        m.Result.DEVICE_OVERLOAD,
        m.Result.UNKNOWN,  # the job was abandoned
        m.Result.QUOTA_EXCEEDED,
    }
)
OVERLOADED = frozenset(
    {m.Result.FORBIDDEN, m.Result.TIMEOUT, m.Result.DEVICE_OVERLOAD, m.Result.QUOTA_EXCEEDED}
)  # fmt: skip
"""Of these the answers that say: ask less."""
SESSION_OVER = frozenset({m.Result.EXPIRED_SESSION, m.Result.NOT_AUTHENTICATED})

Frame = U8
_query_ids = itertools.count(time.time_ns())


@dataclass(frozen=True, slots=True)
class Ask:
    """What a query asks of every partition; see `query`."""

    namespace: str
    filter: bytes | None = None
    project: bytes | None = None
    bins: bool = True
    set_name: str | None = None
    records_per_second: int = 0
    sample_max: int = 0

    def frame(self, partitions: Iterable[int], records_per_second: int = 0) -> bytes:
        """The request's bytes for some partitions."""
        fields = [m.field(m.FieldType.NAMESPACE, self.namespace.encode())]
        if self.set_name:
            fields.append(m.field(m.FieldType.SET, self.set_name.encode()))
        fields.append(m.field(m.FieldType.TRANSACTION_ID, struct.pack(">Q", next(_query_ids) & 0x7FFF_FFFF_FFFF_FFFF)))
        fields.append(m.field(m.FieldType.SOCKET_TIMEOUT, struct.pack(">I", SERVER_WAITS_MS)))
        fields.append(m.field(m.FieldType.PARTITIONS, b"".join(struct.pack("<H", p) for p in partitions)))
        if records_per_second:
            fields.append(m.field(m.FieldType.RECORDS_PER_SECOND, struct.pack(">I", records_per_second)))
        if self.sample_max:
            fields.append(m.field(m.FieldType.SAMPLE_MAX, struct.pack(">Q", self.sample_max)))
        if self.filter is not None:
            fields.append(m.field(m.FieldType.FILTER, self.filter))
        ops = [] if self.project is None else [expression_read(self.project).pack()]
        info1 = m.INFO1_READ | (0 if self.bins or self.project is not None else m.INFO1_NO_BINS)
        header = m.Header(info1=info1, info3=m.INFO3_PARTITION_DONE)
        return m.frame(m.TYPE_MESSAGE, m.message(header, fields, ops))


def expression_read(expression: bytes, name: bytes = b"v") -> m.Op:
    """An op that evaluates a packed expression: its value is the msgpack pair [expression, 0] (flags: none)."""
    return m.Op(m.OpType.EXPRESSION_READ, name, m.Particle.BLOB, b"\x92" + expression + b"\x00")


def query(
    cluster: Cluster,
    namespace: str,
    partitions: Iterable[int],
    *,
    filter: bytes | None = None,
    project: bytes | None = None,
    bins: bool = True,
    set_name: str | None = None,
    records_per_second: int = 0,
    connections: int = 2,
    sample_max: int = 0,
    retries: int = RETRIES,
) -> Iterator[Frame]:
    """Payloads of frames with every record of the partitions, in no order; each a numpy array of bytes.

    Exactly the asked partitions are finished when the iterator ends. A record comes twice when its partition was
    retried; the later one is as new or newer. `filter` and `project` are packed expressions; `project` gives its
    value under the bin name `v` (server 8.1.2 and newer). `bins=False` without `project` gives digests alone.
    `records_per_second` is for all nodes together; records that the filter rejects from the index do not count.
    `connections` are a node's. `sample_max` ends every connection's query after so many records: a sample, no look.
    Closing the generator ends the queries and their threads.

    Raises PartitionUnavailable after `retries` rounds in a row that finished no partition, NamespaceUnknown,
    ClusterUnreachable, LoginRefused, ServerRefused, ProtocolError.
    """
    ask = Ask(namespace, filter, project, bins, set_name, records_per_second, sample_max)
    pending = np.unique(np.fromiter(partitions, np.int64))
    if len(pending) and (pending[0] < 0 or pending[-1] >= PARTITIONS):
        raise ValueError(f"partitions are 0 to {PARTITIONS - 1}")
    fruitless = 0
    while len(pending):
        left, why = yield from _round(cluster, ask, pending, connections, PATIENCE * 2**fruitless)
        if not len(left):
            return
        fruitless = fruitless + 1 if len(left) == len(pending) else 0
        if fruitless > retries:
            if isinstance(why, SourceError):
                raise why
            raise PartitionUnavailable(f"{namespace}: partitions {spans(left)} cannot be read: {why}")
        pending = left
        time.sleep(back_off_s(fruitless))


def back_off_s(fruitless: int) -> float:
    """How long to wait after so many rounds in a row without progress."""
    return float(min(BACK_OFF_S * 2**fruitless, BACK_OFF_LIMIT_S))


def spans(partitions: I64) -> str:
    """Sorted partitions for people: 0-15, 18, 20-21."""
    cuts = np.flatnonzero(np.diff(partitions) != 1) + 1
    runs = [(int(run[0]), int(run[-1])) for run in np.split(partitions, cuts) if len(run)]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _round(
    cluster: Cluster, ask: Ask, pending: I64, connections: int, patience: float
) -> Generator[Frame, None, tuple[I64, SourceError | str]]:
    """Ask every partition once. Its value: the unfinished partitions, sorted, and why the last of them is."""
    try:
        owners = cluster.owners(ask.namespace)
    except ClusterUnreachable as error:
        return pending, error
    pieces = divide(owners, pending, connections)
    flow: Flow[Frame] = Flow(BUFFER_BYTES)
    share = -(-ask.records_per_second // max(len(pieces), 1))
    workers = [partial(_read, cluster, flow, ask, node, part, share, patience) for node, part in pieces]
    outcomes = yield from flow.run(workers)
    orphans = np.array([p for p in pending.tolist() if p not in owners], np.int64)
    left = [orphans, *(part for part, _ in outcomes)]
    why = [reason for part, reason in outcomes if len(part)]
    return np.sort(np.concatenate(left)), why[-1] if why else "no node owns them"


def divide(owners: Mapping[int, Node], pending: I64, connections: int) -> list[tuple[Node, I64]]:
    """Each owner's share of the partitions, in as many equal pieces as it gets connections."""
    shares: dict[str, list[int]] = {}
    nodes = {node.name: node for node in owners.values()}
    for partition in pending.tolist():
        if partition in owners:
            shares.setdefault(owners[partition].name, []).append(partition)
    pieces = []
    for name, share in shares.items():
        node = nodes[name]
        count = max(1, min(connections, len(share) // SMALLEST_PIECE))
        pieces += [(node, piece) for piece in np.array_split(np.array(share, np.int64), count)]
    return pieces


def _read(
    cluster: Cluster, flow: Flow[Frame], ask: Ask, node: Node, part: I64, records_per_second: int, patience: float
) -> tuple[I64, str]:
    """A worker: one query to one node. Returns the unfinished partitions, and why they are."""
    patience_s = patience * cluster.settings.timeout_s
    if records_per_second:
        patience_s += RECORDS_A_FRAME / records_per_second
    done = np.full(PARTITIONS, UNFINISHED, np.int32)
    try:
        with cluster.connection(node) as connection, flow.holding(connection):
            connection.send(ask.frame(part.tolist(), records_per_second))
            result = UNFINISHED
            while result == UNFINISHED:
                frame = connection.receive(patience_s)
                result = query_frame(frame, done)
                if result == DAMAGED:
                    raise ProtocolError(f"node {node.name} answered a query with a damaged message")
                if len(frame) > m.HEADER_SIZE:
                    flow.give(frame, len(frame))
    except ConnectionLost as error:
        return part[done[part] != m.Result.OK], f"node {node.name}: {error}"
    if result in SESSION_OVER:
        cluster.session_expired(node)
    elif result == m.Result.OK or (result == m.Result.NOT_FOUND and ask.set_name):
        return part[done[part] > m.Result.OK], f"node {node.name} does not serve them now"
    elif result == m.Result.NAMESPACE:
        raise NamespaceUnknown(f"node {node.name} has no namespace {ask.namespace!r}")
    elif result not in BUSY:
        raise ServerRefused(f"node {node.name} refused a query: result {m.result_name(result)}")
    elif result in OVERLOADED:
        cluster.was_busy(m.Result(result).name)
    return part[done[part] != m.Result.OK], f"node {node.name}: result {m.result_name(result)}"
