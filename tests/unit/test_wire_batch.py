"""Batches against a peer that refuses, forgets and hangs up."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.errors import ProtocolError, SourceError
from cdc.wire import messages as m
from cdc.wire import rows as r
from cdc.wire.batch import read, values, write
from tests.fixtures.wire import CLOSE, Loopback, OneNode
from tests.unit.test_wire_scan import ANY

Start = Callable[..., tuple[Loopback, OneNode]]
DIGESTS = np.random.default_rng(7).integers(0, 256, (20, 20), dtype=np.uint8)


def encode(rows: np.ndarray) -> bytes:
    ops = (m.Op(m.OpType.WRITE, b"n", m.Particle.INTEGER, bytes(8)),)
    return r.pack_rows(
        r.Row(i, DIGESTS[row].tobytes(), 0, m.INFO2_WRITE, fields=((0, b"test"),), ops=ops)
        for i, row in enumerate(rows.tolist())
    )


def asked(payload: bytes) -> tuple[r.Row, ...]:
    data = m.parse_message(payload).field(m.FieldType.BATCH)
    assert data is not None
    return r.parse_batch(data)[1]


def answered(row: r.Row, result: int = 0, ops: tuple[m.Op, ...] = ()) -> bytes:
    header = m.Header(result=result, generation=3, record_ttl=9, transaction_ttl=row.index)
    return m.message(header, ops=[op.pack() for op in ops])


def last(result: int = 0) -> bytes:
    return m.message(m.Header(info3=m.INFO3_LAST, result=result))


def framed(*messages: bytes) -> bytes:
    return m.frame(m.TYPE_MESSAGE, b"".join(messages))


def serve(payload: bytes) -> bytes:
    return framed(*map(answered, reversed(asked(payload))), last())


def written(peer: Loopback) -> list[bytes]:
    return [row.digest for _, payload in peer.requests for row in asked(payload)]


def test_every_row_is_sent_once_and_gets_its_own_result(loopback: Start) -> None:
    refused = {DIGESTS[3].tobytes(): 13, DIGESTS[7].tobytes(): 22, DIGESTS[11].tobytes(): 2}

    def answer(n: int, kind: int, payload: bytes) -> bytes:
        return framed(*(answered(row, refused.get(row.digest, 0)) for row in asked(payload)), last())

    peer, cluster = loopback(answer)
    result = write(cluster, "test", DIGESTS, encode, batch_records=3)
    assert result.tolist() == [{3: 13, 7: 22, 11: 2}.get(i, 0) for i in range(20)]
    assert sorted(written(peer)) == sorted(d.tobytes() for d in DIGESTS)


@pytest.mark.parametrize("result", [9, 11, 14, 18, 83])
def test_rows_that_may_be_retried_are_sent_again_alone(loopback: Start, result: int) -> None:
    def answer(n: int, kind: int, payload: bytes) -> bytes:
        if n:
            return serve(payload)
        return framed(*(answered(row, result if row.index % 2 else 0) for row in asked(payload)), last())

    peer, cluster = loopback(answer)
    assert not write(cluster, "test", DIGESTS, encode).any()
    assert written(peer)[20:] == [d.tobytes() for d in DIGESTS[1::2]]


def test_rows_without_an_answer_on_a_lost_connection_are_sent_again(loopback: Start) -> None:
    def answer(n: int, kind: int, payload: bytes) -> bytes:
        return serve(payload) if n else framed(*map(answered, asked(payload)[:5])) + b"\x02\x03" + CLOSE

    peer, cluster = loopback(answer)
    assert not write(cluster, "test", DIGESTS, encode).any()
    assert written(peer)[20:] == [d.tobytes() for d in DIGESTS[5:]]


def test_rows_that_a_whole_batch_left_out_get_its_result(loopback: Start) -> None:
    _, cluster = loopback(lambda n, kind, payload: framed(last(150)))
    assert write(cluster, "test", DIGESTS, encode).tolist() == [150] * 20


def test_rows_that_nobody_takes_keep_their_last_result(loopback: Start) -> None:
    peer, cluster = loopback(lambda n, kind, payload: framed(*(answered(x, 18) for x in asked(payload)), last()))
    assert write(cluster, "test", DIGESTS, encode, retries=1).tolist() == [18] * 20
    assert len(peer.requests) == 2


def test_a_batch_above_the_byte_limit_is_halved_until_it_fits(loopback: Start) -> None:
    peer, cluster = loopback(lambda n, kind, payload: serve(payload))
    limit = len(encode(np.arange(4)))
    assert not write(cluster, "test", DIGESTS, encode, connections=1, batch_bytes=limit).any()
    assert max(len(asked(payload)) for _, payload in peer.requests) <= 4
    assert written(peer) == [d.tobytes() for d in DIGESTS]


def test_an_index_that_was_not_asked_for_is_a_protocol_error(loopback: Start) -> None:
    def answer(n: int, kind: int, payload: bytes) -> bytes:
        return framed(m.message(m.Header(transaction_ttl=20)), last())

    _, cluster = loopback(answer)
    with pytest.raises(ProtocolError):
        write(cluster, "test", DIGESTS, encode)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(ANY.map(framed), st.binary(max_size=60)))
def test_whatever_a_server_says_is_results_or_a_source_error(loopback: Start, data: bytes) -> None:
    _, cluster = loopback(lambda n, kind, payload: data + CLOSE)
    try:
        result = write(cluster, "test", DIGESTS, encode, retries=0)
    except SourceError:
        return
    assert result.shape == (20,)
    assert (result >= 0).all()


def test_an_error_of_the_encoder_is_raised_to_the_caller(loopback: Start) -> None:
    def broken(rows: np.ndarray) -> bytes:
        raise ZeroDivisionError

    _, cluster = loopback(lambda n, kind, payload: serve(payload))
    with pytest.raises(ZeroDivisionError):
        write(cluster, "test", DIGESTS, broken)


def test_an_expressions_values_stand_at_their_rows(loopback: Start) -> None:
    def answer(n: int, kind: int, payload: bytes) -> bytes:
        parts = []
        for row in asked(payload):
            assert row.ops == (m.Op(m.OpType.EXPRESSION_READ, b"v", m.Particle.BLOB, b"\x92\x91B\x00"),)
            value = struct.pack(">q", int.from_bytes(row.digest[:4], "big") - 2**31)
            gone = row.digest == DIGESTS[4].tobytes()
            parts.append(answered(row, 2) if gone else answered(row, ops=(m.Op(1, b"v", 1, value),)))
        return framed(*parts[10:]) + framed(*parts[:10], last())

    _, cluster = loopback(answer)
    found = values(cluster, "test", DIGESTS, b"\x91B", batch_records=15)
    there = np.arange(20) != 4
    assert (found.result == 0).tolist() == there.tolist()
    assert found.value[there].tolist() == [int.from_bytes(d[:4], "big") - 2**31 for d in DIGESTS[there]]
    assert set(found.generation[there].tolist()) == {3}
    assert set(found.void_time[there].tolist()) == {9}


def test_a_read_says_which_rows_a_frame_answers(loopback: Start) -> None:
    _, cluster = loopback(lambda n, kind, payload: serve(payload))
    found = set()
    for rows, frame in read(cluster, "test", DIGESTS, batch_records=6):
        for message in m.parse_messages(frame.tobytes()):
            if not message.header.info3 & m.INFO3_LAST:
                found.add(int(rows[message.header.transaction_ttl]))
    assert found == set(range(20))


def test_nothing_to_write_asks_nobody(loopback: Start) -> None:
    peer, cluster = loopback(lambda n, kind, payload: None)
    assert len(write(cluster, "test", DIGESTS[:0], encode)) == 0
    assert peer.requests == []
