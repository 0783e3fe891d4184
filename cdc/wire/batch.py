"""Batches in bulk: many records' reads or writes by digest, each at its partition's master, in parallel.

A round sends every row once; rows whose answer is worth a retry, or that got none because a connection was lost, go
into the next round, to the owners of that moment, with a back-off that grows while nothing gets done.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from cdc.errors import ClusterUnreachable, ProtocolError
from cdc.model import DIGEST_SIZE, I32, I64, U8, partition_of
from cdc.wire import messages as m
from cdc.wire import rows as row_bytes
from cdc.wire.cluster import Cluster, Node
from cdc.wire.connection import ConnectionLost
from cdc.wire.flow import Flow
from cdc.wire.query import BUFFER_BYTES, RETRIES, SESSION_OVER, Frame, back_off_s, expression_read
from cdc.wire.scan_kernels import DAMAGED, UNFINISHED, batch_frame

RETRIED = frozenset(
    {
        m.Result.UNAVAILABLE,
        m.Result.TIMEOUT,
        m.Result.DEVICE_OVERLOAD,
        m.Result.KEY_BUSY,
        m.Result.QUOTA_EXCEEDED,
        m.Result.BATCH_QUEUES_FULL,
        *SESSION_OVER,
    }
)
FLAGS = m.BATCH_INLINE_MEMORY | m.BATCH_REPORT_ALL_ERRORS

Encode = Callable[[I64], "bytes | bytearray | memoryview"]


@dataclass(frozen=True, slots=True)
class Answers:
    """Of n rows, by their number: result code, generation, void time (seconds since 2010, 0: never), and the first
    bin's value where it is an integer."""

    result: I32
    generation: I32
    void_time: I64
    value: I64

    @classmethod
    def none(cls, count: int) -> "Answers":
        """No row has been answered."""
        return cls(
            np.full(count, m.Result.UNAVAILABLE, np.int32),
            np.zeros(count, np.int32),
            np.zeros(count, np.int64),
            np.zeros(count, np.int64),
        )


def write(
    cluster: Cluster,
    namespace: str,
    digests: U8,
    encode: Encode,
    *,
    connections: int = 3,
    batch_records: int = 500,
    batch_bytes: int = 1 << 20,
    retries: int = RETRIES,
    took: Callable[[float], None] = lambda seconds: None,
) -> I32:
    """Send every row's write to its master; the final result code of each row.

    `digests` is (n, 20), each at most once: the order between batches is not said. `encode(rows)` gives the packed
    rows of one batch (field 41 after its 5-byte head), where a row's index is its place in `rows`, from 0; it is called
    in several threads at once. What can be retried is (RETRIED, lost connections), so a write may be applied twice: it
    has to be one that may, and a remove that was answered late ends as NOT_FOUND. A batch above `batch_bytes` is
    halved. `took` is told, in those threads, the seconds from each batch's encoding to the last of its answers. Raises
    NamespaceUnknown, ClusterUnreachable, LoginRefused, ProtocolError.
    """
    work = _Work(cluster, namespace, digests, encode, connections, batch_records, batch_bytes, retries, took)
    for _ in _rounds(work, frames=False):
        raise AssertionError("a write yields nothing")
    return work.answers.result


def read(
    cluster: Cluster,
    namespace: str,
    digests: U8,
    *,
    project: bytes | None = None,
    connections: int = 2,
    batch_records: int = 1000,
    retries: int = RETRIES,
) -> Iterator[tuple[I64, Frame]]:
    """Read records by digest: all bins, or with `project` the value of a packed expression under the bin name `v`.

    Yields rows and a frame's payload: a message of the frame with index i (in `transaction_ttl`) is the answer for
    `digests[rows[i]]`. A row may be answered twice, the later answer counts; rows whose last result is not OK are
    told by that result. A batch's answers carry neither digest, set nor user key (the server's `as_batch_add_result`).
    Raises as `write`.
    """
    work = _reading(cluster, namespace, digests, project, connections, batch_records, retries)
    yield from _rounds(work, frames=True)


def values(
    cluster: Cluster,
    namespace: str,
    digests: U8,
    project: bytes,
    *,
    connections: int = 2,
    batch_records: int = 1000,
    retries: int = RETRIES,
) -> Answers:
    """An integer expression's value for each digest, with result, generation and void time. Raises as `write`."""
    work = _reading(cluster, namespace, digests, project, connections, batch_records, retries)
    for _ in _rounds(work, frames=False):
        raise AssertionError("values are columns")
    return work.answers


class _Work:
    """One call's rows, and what is known of them."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        digests: U8,
        encode: Encode,
        connections: int,
        batch_records: int,
        batch_bytes: int,
        retries: int,
        took: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        if digests.ndim != 2 or digests.shape[1] != DIGEST_SIZE:
            raise ValueError(f"digests of shape {digests.shape}, not (n, {DIGEST_SIZE})")
        self.cluster, self.namespace, self.encode = cluster, namespace, encode
        self.connections, self.batch_records, self.batch_bytes = connections, batch_records, batch_bytes
        self.retries, self.took = retries, took
        self.partitions = partition_of(digests)
        self.answers = Answers.none(len(digests))
        self.lock = threading.Lock()


def _rounds(work: _Work, *, frames: bool) -> Iterator[tuple[I64, Frame]]:
    pending = np.arange(len(work.partitions))
    fruitless = 0
    while len(pending):
        try:
            owners = work.cluster.owners(work.namespace)
        except ClusterUnreachable:
            if fruitless >= work.retries:
                raise
            owners = {}
        yield from _round(work, owners, pending, frames)
        left = pending[np.isin(work.answers.result[pending], list(RETRIED))]
        fruitless = fruitless + 1 if len(left) == len(pending) else 0
        if fruitless > work.retries or not len(left):
            return
        pending = left
        time.sleep(back_off_s(fruitless))


def _round(
    work: _Work, owners: Mapping[int, Node], pending: I64, frames: bool
) -> Generator[tuple[I64, Frame], None, list[None]]:
    nodes = sorted(set(owners.values()), key=lambda node: node.name)
    number = {node: i for i, node in enumerate(nodes)}
    table = np.full(int(work.partitions.max()) + 1, -1, np.int64)
    for partition, node in owners.items():
        if partition < len(table):
            table[partition] = number[node]
    owner = table[work.partitions[pending]]
    flow: Flow[tuple[I64, Frame]] = Flow(BUFFER_BYTES)
    workers = []
    for node in nodes:
        rows = pending[owner == number[node]]
        if not len(rows):
            continue
        chunks = deque(np.split(rows, range(work.batch_records, len(rows), work.batch_records)))
        for _ in range(min(work.connections, len(chunks))):
            workers.append(partial(_serve, work, flow, node, chunks, frames))
    return (yield from flow.run(workers))


def _serve(work: _Work, flow: Flow[tuple[I64, Frame]], node: Node, chunks: deque[I64], frames: bool) -> None:
    """A worker: batches to one node over one connection, until there is none left or the connection is lost."""
    try:
        with work.cluster.connection(node) as connection, flow.holding(connection):
            while not flow.closed:
                try:
                    rows = chunks.popleft()
                except IndexError:
                    return
                began = time.monotonic()
                data = work.encode(rows)
                if len(data) > work.batch_bytes and len(rows) > 1:
                    half = len(rows) // 2
                    chunks.extendleft((rows[half:], rows[:half]))
                    continue
                timeout_ms = round(work.cluster.settings.timeout_s * 1000)
                connection.send(row_bytes.batch(len(rows), data, FLAGS, timeout_ms, m.INFO1_READ))
                got = Answers.none(len(rows))
                got.result.fill(UNFINISHED)
                result = UNFINISHED
                try:
                    while result == UNFINISHED:
                        frame = connection.receive(2 * work.cluster.settings.timeout_s)
                        result = batch_frame(frame, got.result, got.generation, got.void_time, got.value, len(rows))
                        if result == DAMAGED:
                            raise ProtocolError(f"node {node.name} answered a batch with a damaged message")
                        if frames:
                            flow.give((rows, frame), len(frame))
                finally:
                    _note(work, rows, got, result)
                    work.took(time.monotonic() - began)
                if result in SESSION_OVER:
                    work.cluster.session_expired(node)
                    raise ConnectionLost("the session has expired")
    except ConnectionLost:
        return


def _note(work: _Work, rows: I64, got: Answers, result: int) -> None:
    """Enter a batch's answers; rows without one get the batch's own result, or are tried again."""
    missing = result if result > m.Result.OK else m.Result.UNAVAILABLE
    got.result[got.result == UNFINISHED] = missing
    with work.lock:
        work.answers.result[rows] = got.result
        work.answers.generation[rows] = got.generation
        work.answers.void_time[rows] = got.void_time
        work.answers.value[rows] = got.value


_REPEAT = np.dtype([("index", ">u4"), ("digest", "u1", DIGEST_SIZE), ("flags", "u1")])


def _reading(
    cluster: Cluster,
    namespace: str,
    digests: U8,
    project: bytes | None,
    connections: int,
    batch_records: int,
    retries: int,
) -> _Work:
    info1 = m.INFO1_READ | (m.INFO1_GET_ALL if project is None else 0)
    ops = () if project is None else (expression_read(project),)
    fields = ((int(m.FieldType.NAMESPACE), namespace.encode()),)

    def encode(rows: I64) -> bytes:
        first = row_bytes.Row(0, digests[rows[0]].tobytes(), info1, fields=fields, ops=ops).pack()
        others = np.zeros(len(rows) - 1, _REPEAT)
        others["index"] = np.arange(1, len(rows))
        others["digest"] = digests[rows[1:]]
        others["flags"] = m.ROW_REPEAT
        return first + others.tobytes()

    return _Work(cluster, namespace, digests, encode, connections, batch_records, m.FRAME_LIMIT, retries)
