"""Bytes of the protocol: what is built can be parsed, and what cannot is a ProtocolError, never worse."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.errors import ProtocolError
from cdc.wire import messages as m
from cdc.wire import rows as r
from cdc.wire.login import Admin, credential

U8 = st.integers(0, 255)
U16 = st.integers(0, 65535)
U32 = st.integers(0, 2**32 - 1)
FIELDS = st.lists(st.tuples(U8, st.binary(max_size=30)), max_size=4)
OPS = st.lists(st.builds(m.Op, U8, st.binary(max_size=15), U8, st.binary(max_size=30)), max_size=4)
HEADERS = st.builds(m.Header, U8, U8, U8, U8, U8, U32, U32, U32)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    fields, ops = draw(FIELDS), draw(OPS)
    return m.message(draw(HEADERS), [m.field(k, d) for k, d in fields], [op.pack() for op in ops])


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that began as something right: cut, with bytes changed, or both."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(U8)
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(HEADERS, FIELDS, OPS)
def test_a_built_message_is_parsed_to_what_it_was_built_from(header: m.Header, fields: list, ops: list) -> None:
    data = m.message(header, [m.field(k, d) for k, d in fields], [op.pack() for op in ops])
    parsed = m.parse_message(b"xx" + data, 2)
    assert parsed.fields == tuple(fields)
    assert parsed.ops == tuple(ops)
    assert parsed.end == len(data) + 2
    assert parsed.header.pack()[:18] == header.pack()[:18]
    assert (parsed.header.n_fields, parsed.header.n_ops) == (len(fields), len(ops))


@given(st.one_of(st.binary(max_size=200), damaged(messages())))
def test_any_bytes_are_messages_or_a_protocol_error(data: bytes) -> None:
    try:
        parsed = list(m.parse_messages(data))
    except ProtocolError:
        return
    assert (parsed[-1].end if parsed else 0) == len(data)


def test_a_bins_own_lut_is_not_part_of_its_value() -> None:
    value = struct.pack(">Q", 5) + b"value"
    op = struct.pack(">IBBBB", 4 + 1 + len(value), 1, 3, 1, 1) + b"n" + value
    assert m.parse_ops(op, 0, 1)[0] == (m.Op(1, b"n", 3, b"value"),)


@pytest.mark.parametrize(
    "head",
    [
        struct.pack(">Q", 3 << 56 | 3 << 48 | 5),
        struct.pack(">Q", 2 << 56 | 9 << 48 | 5),
        struct.pack(">Q", 2 << 56 | 3 << 48 | (m.FRAME_LIMIT + 1)),
        b"short",
    ],
    ids=["version", "type", "size", "length"],
)
def test_a_wrong_frame_head_is_a_protocol_error(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        m.parse_frame_head(head)


@given(st.binary(max_size=300))
def test_a_compressed_frame_is_decompressed_to_the_whole_frame(payload: bytes) -> None:
    whole = m.frame(m.TYPE_MESSAGE, payload)
    packed = m.compress(whole)
    kind, size = m.parse_frame_head(packed[:8])
    assert (kind, size) == (m.TYPE_COMPRESSED, len(packed) - 8)
    assert m.decompress(packed[8:]) == whole


@given(damaged(st.binary(min_size=8, max_size=100).map(lambda b: m.compress(m.frame(3, b))[8:])))
def test_a_damaged_compressed_frame_is_a_protocol_error_or_well(payload: bytes) -> None:
    try:
        inner = m.decompress(payload)
    except ProtocolError:
        return
    assert len(inner) == struct.unpack_from(">Q", payload)[0]


def test_a_compressed_frame_takes_no_more_memory_than_it_announces() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    with pytest.raises(ProtocolError):
        m.decompress(struct.pack(">Q", 1000) + bomb)


ROWS = st.builds(
    r.Row,
    index=U32,
    digest=st.binary(min_size=20, max_size=20),
    info1=U8,
    info2=U8,
    info3=U8,
    info4=U8,
    generation=st.none() | U16,
    ttl=st.none() | U32,
    fields=st.lists(st.tuples(U8, st.binary(max_size=9)), min_size=1, max_size=3).map(tuple),
    ops=OPS.map(tuple),
)


@given(st.lists(ROWS, max_size=5), st.integers(1, 4))
def test_a_batchs_rows_are_parsed_to_what_they_were_built_from(rows: list[r.Row], times: int) -> None:
    rows = [row for row in rows for _ in range(times)]
    data = r.HEAD.pack(len(rows), 5) + r.pack_rows(rows)
    assert r.parse_batch(data) == (5, tuple(rows))


@given(
    st.one_of(
        st.binary(max_size=200),
        damaged(st.lists(ROWS, max_size=3).map(lambda x: r.HEAD.pack(len(x), 0) + r.pack_rows(x))),
    )
)
def test_any_bytes_are_a_batch_or_a_protocol_error(data: bytes) -> None:
    try:
        _, rows = r.parse_batch(data)
    except ProtocolError:
        return
    assert all(len(row.digest) == 20 for row in rows)


def test_a_batch_that_announces_more_rows_than_it_has_bytes_is_refused_at_once() -> None:
    with pytest.raises(ProtocolError, match="4294967295 rows"):
        r.parse_batch(r.HEAD.pack(2**32 - 1, 0) + bytes(100))


@given(st.builds(Admin, U8, U8, FIELDS.map(tuple)))
def test_an_admin_message_is_parsed_to_what_it_was_built_from(message: Admin) -> None:
    assert Admin.parse(message.pack()[8:]) == message


@given(
    st.one_of(st.binary(max_size=100), damaged(st.builds(Admin, U8, U8, FIELDS.map(tuple)).map(lambda a: a.pack()[8:])))
)
def test_any_bytes_are_an_admin_message_or_a_protocol_error(data: bytes) -> None:
    try:
        parsed = Admin.parse(data)
    except ProtocolError:
        return
    assert parsed.result == data[1]


@settings(max_examples=3, deadline=None)
@given(st.text(min_size=1, max_size=90))
def test_a_password_goes_over_the_wire_as_its_hash_with_the_fixed_salt(password: str) -> None:
    hashed = credential(password)
    assert hashed.startswith(b"$2a$10$7EqJtq98hPqEX7fNZaFWoO")
    assert len(hashed) == 60
