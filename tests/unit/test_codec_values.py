"""Every particle comes back as it was, in the kernels, in their plain twins and through fastavro."""

import io
from typing import Any

import fastavro
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdc import codec
from cdc.codec import msgpack, records_plain, schemas
from cdc.codec.decode import content_to_python, encode_content
from cdc.codec.records_plain import xxh64
from cdc.codec.values_plain import DEPTH, GeoJSON, HyperLogLog, List, Map, Raw, from_particle, to_avro, to_particle
from cdc.wire import messages as m

DIGEST = bytes(range(20))
HEADER = DIGEST + b"\x00\x02" + b"\x02" * 2 + b"\x00" + b"\x02" * 3 + b"\x00"

keys = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.text(max_size=5), st.binary(max_size=5))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.sampled_from([s * (1 << b) + d for b in (5, 7, 8, 15, 16, 31, 32) for d in (-1, 0, 1) for s in (1, -1)]),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=40),
    st.builds(GeoJSON, st.text(max_size=10)),
    st.builds(HyperLogLog, st.binary(max_size=10)),
    st.builds(Raw, st.sampled_from([0, 1, 5, 7, 21, 24, 255]), st.binary(max_size=10)),
)
flags = st.sampled_from([0, 0, 1, 3, 0x11, 255])


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.lists(inner, max_size=18).map(tuple)
    entries = st.lists(st.tuples(keys, inner), max_size=17).map(tuple)
    return st.builds(List, flags, items) | st.builds(Map, flags, entries)


values = st.recursive(scalars, containers, max_leaves=30)
typed_particles = values.map(to_particle)
damaged = st.builds(
    lambda particle, at, byte: (particle[0], particle[1][: at % 64] + bytes([byte]) + particle[1][at % 64 + 1 :]),
    containers(values).map(to_particle), st.integers(0, 63), st.integers(0, 255),
)  # fmt: skip
any_particles = st.tuples(st.integers(0, 255) | st.sampled_from([1, 2, 3, 17, 18, 19, 20, 23]), st.binary(max_size=30))
particles = st.one_of(typed_particles, damaged, any_particles)


def frame_of(bins: list[tuple[str, tuple[int, bytes]]], set_name: bytes | None = b"s", key: bytes = b"") -> bytes:
    """A query's message with these bins."""
    fields = [m.field(4, DIGEST)]
    fields += [m.field(1, set_name)] if set_name is not None else []
    fields += [m.field(2, key)] if key else []
    return m.message(m.Header(generation=7), fields, [m.Op(1, n.encode(), *p).pack() for n, p in bins])


def written(bodies: Any, *, update: bool = False) -> m.Message:
    """What the batch row of the first body writes, read again by the wire's own parser."""
    from cdc.wire.rows import HEAD, parse_batch

    data = codec.batch_rows(bodies, np.array([0]), b"test", 0, update=update)
    _, (row,) = parse_batch(HEAD.pack(1, 0) + data)
    return m.Message(m.Header(), row.fields, row.ops, 0)


def body_of(content: bytes) -> Any:
    from cdc.model import Bodies

    raw = HEADER + content
    return Bodies(np.frombuffer(raw, np.uint8), np.array([0, len(raw)]))


def without_cells(kind: int, data: bytes) -> bytes:
    """A GeoJSON as it is sent: the cells are the server's to compute."""
    typed = from_particle(kind, data)
    return b"\0\0\0" + typed.json.encode() if isinstance(typed, GeoJSON) else data


@given(particles)
@settings(max_examples=400, deadline=None)
@example((20, b"\x91\xc7\x00\x01"))
@example((19, b"\x81\xc7\x00\x01\xc0"))
@example((20, b"\x91" * DEPTH + b"\x90"))
@example((20, b"\x91" * (DEPTH - 1) + b"\x90"))
@example((20, b"\x91" * 200_000 + b"\x90"))
@example((19, b"\x81\x01" * 200_000 + b"\x80"))
@example((20, b"\x91" * 200_000))
@example((2, b"\x7f\xf0\0\0\0\0\0\1"))
@example((2, b"\xff\xf8\0\0\0\0\0\1"))
@example((20, b"\x91\xcb\x7f\xf0\0\0\0\0\0\1"))
@example((17, b"\x02"))
@example((20, msgpack.list_of([b"\xd9\x21" + b"\x03" + b"x" * 32, b"\x01"])))
@example((23, b"\x00\x00\x01" + bytes(8) + b'{"type":"Point"}'))
@example((23, b"\x00\x00\x02" + bytes(16) + b"{}"))
@example((3, b"\xed\xa0\x80"))
@example((1, b"\x00"))
@example((0, b""))
def test_any_particle_goes_to_avro_and_back_as_it_was(particle: tuple[int, bytes]) -> None:
    kind, data = particle
    got = codec.records([frame_of([("b", particle)])])
    content = got.contents[0]

    assert content == b"\x02\x02s\x00\x02\x02b" + to_avro(from_particle(kind, data)) + b"\x00"
    assert int(got.checksum[0]) == xxh64(content)
    # To a server a null is a bin to take off, which only an update can say.
    (op,) = written(body_of(content), update=kind == 0).ops
    assert (op.particle, op.value) == (kind, without_cells(kind, data))
    assert to_particle(content_to_python(content)[2][0][1]) == (kind, without_cells(kind, data))


@given(st.lists(st.tuples(st.text(max_size=6), particles), min_size=1, max_size=4, unique_by=lambda b: b[0]))
@settings(max_examples=300, deadline=None)
def test_fastavro_reads_a_body_and_writes_it_again_byte_for_byte(bins: list[tuple[str, tuple[int, bytes]]]) -> None:
    schema = schemas.schema("change")
    body = HEADER + codec.records([frame_of(bins)]).contents[0]
    stream = io.BytesIO(body)
    read = fastavro.schemaless_reader(stream, schema, None, return_record_name=True)
    out = io.BytesIO()

    fastavro.schemaless_writer(out, schema, read)

    assert stream.tell() == len(body)
    assert out.getvalue() == body


@given(values)
@settings(max_examples=100, deadline=None)
def test_a_typed_value_never_falls_back_to_raw(value: Any) -> None:
    assert from_particle(*to_particle(value)) == value or isinstance(value, Raw)


any_keys = st.builds(lambda kind, data: bytes([kind]) + data, st.integers(0, 255) | st.integers(0, 4), st.binary())


@given(
    st.none() | st.text(max_size=20),
    st.none() | any_keys | keys.map(lambda k: bytes([to_particle(k)[0]]) + to_particle(k)[1]),
)
@settings(max_examples=300, deadline=None)
@example(None, b"\x02" + b"\x7f\xf0\0\0\0\0\0\1")
@example("", b"\x03\xff")
@example("s", b"\x00")
def test_any_set_and_user_key_go_to_avro_and_back_as_they_were(set_name: str | None, key: bytes | None) -> None:
    name = None if set_name is None else set_name.encode()
    content = codec.records([frame_of([("b", (1, bytes(8)))], name, key or b"")]).contents[0]

    assert content == next(records_plain.records(frame_of([("b", (1, bytes(8)))], name, key or b"")))[5]
    said = content_to_python(content)
    assert said[0] == set_name
    assert encode_content(said[0], said[1], {"b": 0}) == content
    row = written(body_of(content))
    assert (row.field(1), row.field(2)) == (name, key)
    assert (plain_row := records_plain.row(HEADER + content, 0, b"test", 0))
    assert plain_row == codec.batch_rows(body_of(content), np.array([0]), b"test", 0)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
@example(b"")
def test_kernel_and_plain_hash_agree(data: bytes) -> None:
    from cdc.codec import bytes_kernels

    assert int(bytes_kernels.xxh64(np.frombuffer(data, np.uint8), 0, len(data))) == xxh64(data)


def test_the_hash_is_xxh64() -> None:
    known = {b"": 0xEF46DB3751D8E999, b"a": 0xD24EC4F1A98C6E5B, b"abc": 0x44BC2CF5AD770999}
    assert {data: xxh64(data) for data in known} == known


@given(st.binary(max_size=8) | st.text(max_size=4).map(str.encode))
@settings(max_examples=300, deadline=None)
@example(b"\xf4\x90\x80\x80")
@example(b"\xe0\x80\x80")
@example(b"\xc3")
def test_the_kernel_takes_for_utf8_what_python_does(data: bytes) -> None:
    from cdc.codec import bytes_kernels

    try:
        data.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False
    assert bytes_kernels.is_utf8(np.frombuffer(data, np.uint8), 0, len(data)) == valid
