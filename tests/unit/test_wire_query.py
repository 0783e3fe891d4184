"""Queries against a peer that misbehaves in every way a test can think of."""

import struct
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.config import AerospikeSettings
from cdc.errors import (
    NamespaceUnknown,
    PartitionUnavailable,
    ProtocolError,
    ServerRefused,
    SourceError,
)
from cdc.wire import messages as m
from cdc.wire.query import Ask, query, spans
from tests.fixtures.wire import CLOSE, SILENCE, Loopback, OneNode
from tests.unit.test_wire_scan import ANY

Start = Callable[..., tuple[Loopback, OneNode]]
QUICK = AerospikeSettings(timeout_s=0.1)


def asked(payload: bytes) -> list[int]:
    """The partitions of a query's request."""
    data = m.parse_message(payload).field(m.FieldType.PARTITIONS)
    assert data is not None
    return [p for (p,) in struct.iter_unpack("<H", data)]


def record(partition: int) -> bytes:
    digest = struct.pack("<H", partition) + bytes(18)
    return m.message(m.Header(generation=1), [m.field(m.FieldType.DIGEST, digest)])


def done(partition: int, result: int = 0) -> bytes:
    return m.message(m.Header(info3=m.INFO3_PARTITION_DONE, result=result, generation=partition))


def last(result: int = 0) -> bytes:
    return m.message(m.Header(info3=m.INFO3_LAST, result=result))


def framed(*messages: bytes) -> bytes:
    return m.frame(m.TYPE_MESSAGE, b"".join(messages))


def serve(payload: bytes) -> bytes:
    return framed(*map(record, asked(payload))) + framed(last())


def seen(frames: Iterator[np.ndarray]) -> list[int]:
    """Partitions of the records of all frames, in order."""
    found = []
    for frame in frames:
        for message in m.parse_messages(frame.tobytes()):
            digest = message.field(m.FieldType.DIGEST)
            if digest is not None:
                found.append(struct.unpack("<H", digest[:2])[0])
    return found


def test_every_partition_is_asked_once_and_every_record_comes(loopback: Start) -> None:
    peer, cluster = loopback(lambda n, kind, payload: serve(payload))
    assert sorted(seen(query(cluster, "test", range(4096), connections=3))) == list(range(4096))
    assert sorted(p for _, payload in peer.requests for p in asked(payload)) == list(range(4096))
    assert len(peer.requests) == 3


def test_partitions_answered_by_11_are_asked_again(loopback: Start) -> None:
    def answer(n: int, kind: int, payload: bytes) -> bytes:
        if n:
            return serve(payload)
        return framed(*(done(p, 11) if p % 2 else record(p) for p in asked(payload)), last())

    peer, cluster = loopback(answer)
    assert sorted(seen(query(cluster, "test", range(10)))) == list(range(10))
    assert asked(peer.requests[1][1]) == [1, 3, 5, 7, 9]


def test_a_lost_connection_asks_again_what_was_not_finished(loopback: Start) -> None:
    def answer(n: int, kind: int, payload: bytes) -> bytes:
        if n:
            return serve(payload)
        return framed(record(0), done(0), record(1)) + serve(payload)[:30] + CLOSE

    peer, cluster = loopback(answer)
    assert sorted(seen(query(cluster, "test", range(4)))) == [0, 1, 1, 2, 3]
    assert asked(peer.requests[1][1]) == [1, 2, 3]


@pytest.mark.parametrize("result", [22, 9, 15, 18, 1, 83])
def test_a_busy_server_is_asked_again(loopback: Start, result: int) -> None:
    _, cluster = loopback(lambda n, kind, payload: serve(payload) if n else framed(last(result)))
    assert seen(query(cluster, "test", [5])) == [5]
    overload = {22: "FORBIDDEN", 9: "TIMEOUT", 18: "DEVICE_OVERLOAD", 83: "QUOTA_EXCEEDED"}
    assert cluster.busy_answers() == ({overload[result]: 1} if result in overload else {})
    assert not cluster.busy_answers()


def test_partitions_that_nobody_serves_are_named_after_the_last_retry(loopback: Start) -> None:
    def answer(n: int, kind: int, payload: bytes) -> bytes:
        return framed(*(done(p, 11) for p in asked(payload) if p < 3 or p == 8), last())

    peer, cluster = loopback(answer)
    with pytest.raises(PartitionUnavailable, match="0-2, 8"):
        list(query(cluster, "test", range(10), retries=1))
    assert len(peer.requests) == 3


def test_a_silent_server_is_given_up_in_time(loopback: Start) -> None:
    _, cluster = loopback(lambda n, kind, payload: SILENCE, QUICK)
    begin = time.monotonic()
    with pytest.raises(PartitionUnavailable, match="no answer within"):
        list(query(cluster, "test", [1], retries=0))
    assert time.monotonic() - begin < 5


def test_a_frame_that_never_ends_is_given_up_in_time(loopback: Start) -> None:
    slow = m.frame_head(m.TYPE_MESSAGE, 1000) + b"\x16"
    _, cluster = loopback(lambda n, kind, payload: slow if n == 0 else SILENCE, QUICK)
    with pytest.raises(PartitionUnavailable, match="no answer within"):
        list(query(cluster, "test", [1], retries=0))


@pytest.mark.parametrize(
    ("result", "error"), [(20, NamespaceUnknown), (81, ServerRefused), (4, ServerRefused), (16, ServerRefused)]
)
def test_a_refusal_that_retrying_does_not_help_is_raised_at_once(
    loopback: Start, result: int, error: type[SourceError]
) -> None:
    peer, cluster = loopback(lambda n, kind, payload: framed(last(result)))
    with pytest.raises(error, match=r"A1|test"):
        list(query(cluster, "test", [1]))
    assert len(peer.requests) == 1


def test_a_compressed_frame_is_read_like_another(loopback: Start) -> None:
    _, cluster = loopback(lambda n, kind, payload: m.compress(framed(record(9), last())))
    assert seen(query(cluster, "test", [9])) == [9]


@pytest.mark.parametrize(
    "answer",
    [
        m.frame(m.TYPE_INFO, b"x"),
        m.frame(m.TYPE_COMPRESSED, b"x" * 20),
        m.compress(m.compress(framed(last()))),
        b"\xff" * 8,
        m.frame_head(m.TYPE_MESSAGE, m.FRAME_LIMIT + 1),
        framed(last() + b"x"),
        framed(b"\x16"),
        framed(done(4096), last()),
    ],
    ids=["info", "no zlib", "twice compressed", "no head", "too large", "after last", "cut", "no such partition"],
)
def test_nonsense_is_a_protocol_error_and_its_connection_is_closed(loopback: Start, answer: bytes) -> None:
    peer, cluster = loopback(lambda n, kind, payload: answer)
    with pytest.raises(ProtocolError):
        list(query(cluster, "test", [1]))
    until(lambda: peer.open == 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(ANY.map(framed), st.binary(max_size=60), ANY.map(lambda b: m.compress(framed(b)))))
def test_whatever_a_server_says_is_frames_or_a_source_error(loopback: Start, data: bytes) -> None:
    _, cluster = loopback(lambda n, kind, payload: data + CLOSE)
    try:
        frames = list(query(cluster, "test", [0, 7], retries=0))
    except SourceError:
        return
    assert all(list(m.parse_messages(frame.tobytes())) for frame in frames)


def test_a_consumer_that_stops_early_leaves_no_thread_and_no_connection(loopback: Start) -> None:
    block = framed(*(record(p) for p in range(1000)))
    peer, cluster = loopback(lambda n, kind, payload: block * 200)
    before = threading.active_count()
    frames = query(cluster, "test", range(4096), connections=4)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    until(lambda: peer.open == 0)
    assert not [t for t in threading.enumerate() if t.name.startswith("wire")]
    until(lambda: threading.active_count() <= before + 1)


def test_a_consumer_that_fails_ends_a_query_that_is_waiting_for_the_server(loopback: Start) -> None:
    peer, cluster = loopback(lambda n, kind, payload: framed(record(1)) if n == 0 else SILENCE)
    frames = query(cluster, "test", range(4096), connections=2)
    next(frames)
    until(lambda: len(peer.requests) == 2)
    begin = time.monotonic()
    frames.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begin < 2
    until(lambda: peer.open == 1)  # the peer itself keeps the one on which it is silent


def test_connections_are_used_again_and_dropped_when_the_server_closed_them(loopback: Start) -> None:
    peer, cluster = loopback(lambda n, kind, payload: serve(payload) + (CLOSE if n == 1 else b""))
    for _ in range(4):
        assert seen(query(cluster, "test", [1], retries=1)) == [1]
    assert len(peer.requests) == 4
    assert peer.open == 1


def test_a_throttled_query_shares_its_rate_among_the_connections(loopback: Start) -> None:
    peer, cluster = loopback(lambda n, kind, payload: serve(payload))
    list(query(cluster, "test", range(4096), records_per_second=100, connections=2))
    rates = [m.parse_message(payload).field(m.FieldType.RECORDS_PER_SECOND) for _, payload in peer.requests]
    assert rates == [struct.pack(">I", 50)] * 2


def test_what_a_query_asks_stands_in_its_request() -> None:
    ask = Ask("test", filter=b"\x91B", project=b"\x91C", set_name="s", sample_max=3)
    message = m.parse_message(ask.frame([1, 258])[8:])
    assert message.header.info1 == m.INFO1_READ
    assert message.header.info3 == m.INFO3_PARTITION_DONE
    assert message.field(m.FieldType.NAMESPACE) == b"test"
    assert message.field(m.FieldType.SET) == b"s"
    assert message.field(m.FieldType.FILTER) == b"\x91B"
    assert message.field(m.FieldType.PARTITIONS) == b"\x01\x00\x02\x01"
    assert message.field(m.FieldType.SAMPLE_MAX) == struct.pack(">Q", 3)
    assert message.ops == (m.Op(m.OpType.EXPRESSION_READ, b"v", m.Particle.BLOB, b"\x92\x91C\x00"),)
    digests = m.parse_message(Ask("test", bins=False).frame([1])[8:])
    assert digests.header.info1 == m.INFO1_READ | m.INFO1_NO_BINS


@pytest.mark.parametrize("partitions", [[-1], [4096]])
def test_a_partition_that_does_not_exist_is_not_asked(loopback: Start, partitions: list[int]) -> None:
    _, cluster = loopback(lambda n, kind, payload: None)
    with pytest.raises(ValueError, match="0 to 4095"):
        list(query(cluster, "test", partitions))


def test_spans_name_partitions_in_few_words() -> None:
    assert spans(np.array([0, 1, 2, 7, 9, 10])) == "0-2, 7, 9-10"
    assert spans(np.array([], np.int64)) == ""


def until(true: Callable[[], bool], within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
