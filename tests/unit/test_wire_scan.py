"""The kernels that follow a request's progress through a frame, against their plain twins."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.model import PARTITIONS
from cdc.wire import messages as m
from cdc.wire import scan_kernels as compiled
from cdc.wire import scan_plain as plain
from tests.unit.test_wire_messages import damaged, messages

KINDS = st.sampled_from([0, 0, 0, m.INFO3_PARTITION_DONE, m.INFO3_LAST])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Answers as a server gives them, with a few results, partitions and rows that matter."""
    parts = []
    for _ in range(draw(st.integers(0, 5))):
        header = m.Header(
            info3=draw(KINDS),
            result=draw(st.sampled_from([0, 0, 0, 11, 22])),
            generation=draw(st.sampled_from([0, 7, 4095, 4096])),
            record_ttl=draw(st.integers(0, 9)),
            transaction_ttl=draw(st.integers(0, 4)),
        )
        fields = draw(st.lists(st.binary(max_size=5).map(lambda d: m.field(4, d)), max_size=2))
        integer = st.integers(-(2**63), 2**63 - 1).map(lambda v: v.to_bytes(8, "big", signed=True))
        values = st.tuples(st.just(1), integer) | st.tuples(st.integers(0, 4), st.binary(max_size=9))
        ops = [m.Op(1, b"v", *draw(values)).pack() for _ in range(draw(st.integers(0, 2)))]
        parts.append(m.message(header, fields, ops))
    return b"".join(parts)


ANY = st.one_of(frames(), damaged(frames()), damaged(messages()), st.binary(max_size=99))


@settings(deadline=None)
@given(ANY)
def test_a_query_frame_is_read_alike_by_kernel_and_twin(data: bytes) -> None:
    frame = np.frombuffer(data, np.uint8)
    done = [np.full(PARTITIONS, -1, np.int32) for _ in range(2)]
    assert compiled.query_frame(frame, done[0]) == plain.query_frame(frame, done[1])
    assert np.array_equal(*done)


@settings(deadline=None)
@given(ANY)
def test_a_batch_frame_is_read_alike_by_kernel_and_twin(data: bytes) -> None:
    frame = np.frombuffer(data, np.uint8)
    results = []
    for module in (compiled, plain):
        columns = (np.full(4, -1, np.int32), np.zeros(4, np.int32), np.zeros(4, np.int64), np.zeros(4, np.int64))
        results.append((module.batch_frame(frame, *columns, 4), *(c.tolist() for c in columns)))
    assert results[0] == results[1]


def test_a_partition_done_message_names_its_partition_in_the_generation_field() -> None:
    parts = [
        m.message(m.Header(info3=m.INFO3_PARTITION_DONE, result=11, generation=4095)),
        m.message(m.Header(info3=m.INFO3_PARTITION_DONE, result=0, generation=3)),
    ]
    done = np.full(PARTITIONS, -1, np.int32)
    frame = np.frombuffer(b"".join(parts), np.uint8)
    assert compiled.query_frame(frame, done) == compiled.UNFINISHED
    assert done[4095] == 11
    assert done[3] == 0
    assert (done >= 0).sum() == 2


def test_bytes_after_the_last_message_are_damage() -> None:
    last = m.message(m.Header(info3=m.INFO3_LAST))
    done = np.full(PARTITIONS, -1, np.int32)
    assert compiled.query_frame(np.frombuffer(last, np.uint8), done) == 0
    assert compiled.query_frame(np.frombuffer(last + b"x", np.uint8), done) == compiled.DAMAGED
