"""Changes are put together, taken apart, copied and checked as their plain twins say, and damage never goes unseen."""

import io
import json
import struct
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc import codec
from cdc.codec import schemas
from cdc.codec.decode import encode_content
from cdc.codec.records_plain import xxh64
from cdc.codec.values_plain import GeoJSON, HyperLogLog, List, Map, Raw
from cdc.errors import BodyDamaged
from cdc.model import NEVER, Bodies, Columns, Op, Origin

longs = st.integers(-(1 << 63), (1 << 63) - 1)
BINS = {"i": 5, "l": List(1, (1, "a", Map(3, (("k", b"v"), (None, 1.5))))), "g": GeoJSON("{}"), "r": Raw(7, b"\x00")}


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    op = draw(st.sampled_from(list(Op)))
    bins = draw(st.dictionaries(st.text(max_size=4), st.sampled_from(list(BINS.values())), min_size=1, max_size=3))
    return {
        "digest": draw(st.binary(min_size=20, max_size=20)),
        "op": op.name,
        "origin": draw(st.sampled_from(list(Origin))).name,
        "lut": draw(longs),
        "generation": draw(st.integers(-(1 << 31), (1 << 31) - 1)),
        "void_time": draw(st.none() | longs.filter(lambda v: v != NEVER)),
        "effective_at": draw(longs),
        "unobserved_since": draw(longs),
        "observed_at": draw(longs),
        "consecutive": draw(st.booleans()),
        "set": draw(st.none() | st.text(max_size=5)),
        "user_key": draw(st.sampled_from([None, 1, 2.5, "k", b"k", Raw(9, b"")])) if op is Op.WRITE else None,
        "bins": bins if op is Op.WRITE else {},
    }


def bodies_of(parts: list[bytes]) -> Bodies:
    return Bodies(np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)], dtype=np.int64))


def columns_of(made: list[dict[str, Any]]) -> Columns:
    def column(name: str, dtype: Any) -> Any:
        return np.array([c[name] for c in made], dtype)

    return Columns(
        digest=np.frombuffer(b"".join(c["digest"] for c in made), np.uint8).reshape(-1, 20),
        op=np.array([Op[c["op"]] for c in made], np.uint8),
        origin=np.array([Origin[c["origin"]] for c in made], np.uint8),
        lut=column("lut", np.int64), generation=column("generation", np.int32),
        void_time=np.array([c["void_time"] or NEVER for c in made], np.int64),
        effective_at=column("effective_at", np.int64), unobserved_since=column("unobserved_since", np.int64),
        observed_at=column("observed_at", np.int64), consecutive=column("consecutive", np.bool_),
        set_hash=np.array([0 if c["set"] is None else xxh64(c["set"].encode()) for c in made], np.uint64),
        checksum=np.array([xxh64(encode_content(c["set"], c["user_key"], c["bins"])) for c in made], np.uint64),
    )  # fmt: skip


def same(left: Columns, right: Columns) -> bool:
    return all(np.array_equal(getattr(left, n), getattr(right, n)) for n in Columns.__dataclass_fields__)


@given(st.lists(changes(), max_size=6))
@settings(max_examples=100, deadline=None)
def test_bodies_are_what_the_plain_twin_and_fastavro_write_and_the_columns_come_back(
    made: list[dict[str, Any]],
) -> None:
    expected = [codec.encode_python(c) for c in made]
    columns = columns_of(made)
    writes = [encode_content(c["set"], c["user_key"], c["bins"]) for c in made if c["op"] == "WRITE"]
    sets = [None if c["set"] is None else c["set"].encode() for c in made if c["op"] != "WRITE"] or [None]
    numbers = np.cumsum(columns.op == Op.WRITE) - 1
    ends = -np.cumsum(columns.op != Op.WRITE)

    bodies = codec.changes(columns, bodies_of(writes), np.where(columns.op == Op.WRITE, numbers, ends), sets)

    assert [bodies[i] for i in range(len(bodies))] == expected
    assert same(codec.columns(bodies), columns)
    assert [codec.to_python(b) for b in expected] == made
    codec.check(bodies)
    for body in expected:
        out = io.BytesIO()
        read = fastavro.schemaless_reader(io.BytesIO(body), _without_times(), None, return_record_name=True)
        fastavro.schemaless_writer(out, _without_times(), read)
        assert out.getvalue() == body


def _without_times() -> Any:
    text = schemas.text("change").replace(', "logicalType": "timestamp-millis"', "")
    return fastavro.parse_schema(json.loads(text))


@given(st.lists(changes(), min_size=1, max_size=5), st.data())
@settings(max_examples=100, deadline=None)
def test_versions_are_written_in_any_order_and_split_again(made: list[dict[str, Any]], data: st.DataObject) -> None:
    bodies = bodies_of([codec.encode_python(c) for c in made])
    offsets = np.array(data.draw(st.lists(longs, min_size=len(made), max_size=len(made))), np.int64)
    order = np.array(data.draw(st.lists(st.integers(0, len(made) - 1), max_size=6)), np.int64)

    rows = codec.version_rows(offsets, bodies, order)
    back, again = codec.split_versions(rows.buffer, len(order))

    assert back.tolist() == offsets[order].tolist()
    assert [again[i] for i in range(len(again))] == [bodies[i] for i in order]
    gathered = codec.gather(bodies, order)
    assert [gathered[i] for i in range(len(gathered))] == [bodies[i] for i in order]


@given(st.lists(changes(), min_size=1, max_size=5), st.data())
@settings(max_examples=100, deadline=None)
def test_versions_are_found_where_they_stand_and_say_what_their_copies_say(
    made: list[dict[str, Any]], data: st.DataObject
) -> None:
    bodies = bodies_of([codec.encode_python(c) for c in made])
    offsets = np.array(data.draw(st.lists(longs, min_size=len(made), max_size=len(made))), np.int64)
    block = codec.version_rows(offsets, bodies, np.arange(len(made))).buffer
    found, expected = codec.find_versions(block, len(made)), columns_of(made)

    assert found.offsets.tolist() == offsets.tolist()
    assert [block[s:e].tobytes() for s, e in zip(found.bodies, found.starts[1:], strict=True)] == list(bodies)
    for name in ("digest", "op", "void_time", "effective_at", "unobserved_since", "observed_at"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    rows = np.array(data.draw(st.lists(st.integers(0, len(made) - 1), max_size=6)), np.int64)
    addresses = (found.bodies + block.ctypes.data).astype(np.uint64)
    copied = codec.copy_out(addresses[rows], (found.starts[1:] - found.bodies)[rows])
    assert list(copied) == [bodies[i] for i in rows]


@given(st.lists(changes(), min_size=1, max_size=3), st.data())
@settings(max_examples=300, deadline=None)
def test_versions_are_found_exactly_where_they_can_be_split(made: list[dict[str, Any]], data: st.DataObject) -> None:
    bodies = bodies_of([codec.encode_python(c) for c in made])
    block = codec.version_rows(np.arange(len(made)), bodies, np.arange(len(made))).buffer.copy()
    block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    block = block[: data.draw(st.sampled_from([len(block), len(block) - 1]))]
    count = len(made) + data.draw(st.sampled_from([0, 0, 0, 1, -1]))
    try:
        offsets, split = codec.split_versions(block, count)
    except BodyDamaged as error:
        with pytest.raises(BodyDamaged, match=error.message):
            codec.find_versions(block, count)
    else:
        found = codec.find_versions(block, count)
        assert found.offsets.tolist() == offsets.tolist()
        assert np.array_equal(np.diff(split.offsets), found.starts[1:] - found.bodies)


@given(changes(), st.data())
@settings(max_examples=300, deadline=None)
def test_check_and_the_plain_reader_refuse_the_same_damage(made: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(codec.encode_python(made))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.sampled_from([len(body), at]))])
    try:
        plain = codec.encode_python(codec.to_python(cut))
    except BodyDamaged:
        with pytest.raises(BodyDamaged, match="row 0 of 1"):
            codec.check(bodies_of([cut]))
    else:
        codec.check(bodies_of([cut]))
        assert plain == cut or _repeats_a_bin(cut)


def _repeats_a_bin(body: bytes) -> bool:
    """The one thing that a reader of values cannot give back: the same bin name twice."""
    from cdc.codec.decode import content_to_python

    change = codec.to_python(body)
    size = (
        len(codec.encode_python({**change, "bins": {}}))
        - 1
        - len(encode_content(change["set"], change["user_key"], {}))
    )
    bins = content_to_python(body[size + 1 :])[2]
    return len({name for name, _ in bins}) < len(bins)


@given(st.lists(changes(), min_size=2, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_header_is_named_by_its_row(made: list[dict[str, Any]], data: st.DataObject) -> None:
    parts = [codec.encode_python(c) for c in made]
    row = data.draw(st.integers(0, len(parts) - 1))
    parts[row] = parts[row][: data.draw(st.integers(0, 25))]

    with pytest.raises(BodyDamaged, match=f"row {row} of {len(parts)}"):
        codec.columns(bodies_of(parts))


@given(changes(), st.binary(min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_a_block_with_more_or_fewer_versions_than_it_says_is_refused(made: dict[str, Any], more: bytes) -> None:
    bodies = bodies_of([codec.encode_python(made)] * 3)
    block = codec.version_rows(np.arange(3), bodies, np.arange(3)).buffer.tobytes()

    for damaged, count in ((block + more, 3), (block[:-1], 3), (block, 2), (block, 4), (block, -1), (block, 1 << 40)):
        with pytest.raises(BodyDamaged):
            codec.split_versions(damaged, count)


def test_a_write_without_content_and_an_end_with_one_are_refused() -> None:
    made = {"op": "WRITE", "origin": "BASE", "digest": bytes(20), "lut": 1, "generation": 1, "void_time": None,
            "effective_at": 1, "unobserved_since": 0, "observed_at": 2, "consecutive": False, "set": None,
            "user_key": None, "bins": {"b": 1}}  # fmt: skip
    contents = bodies_of([encode_content(None, None, {"b": 1})])

    for op, row in (("WRITE", -1), ("DELETE", 0), ("WRITE", 1), ("DELETE", -2)):
        with pytest.raises(ValueError, match=r"row|write"):
            codec.changes(columns_of([{**made, "op": op}]), contents, np.array([row]))


def test_json_says_every_kind_of_value_in_one_way() -> None:
    values = {
        "bytes": (b"\x00\xff", {"$bytes": "AP8="}),
        "list": (List(0, (1, None, True)), [1, None, True]),
        "ordered": (List(1, ("a",)), {"$list": ["a"], "$flags": 1}),
        "map": (Map(0, (("a", 1.5),)), {"a": 1.5}),
        "keys": (Map(0, ((1, 2),)), {"$map": [[1, 2]], "$flags": 0}),
        "dollar": (Map(0, (("$bytes", "x"),)), {"$map": [["$bytes", "x"]], "$flags": 0}),
        "sorted": (Map(1, (("a", 1),)), {"$map": [["a", 1]], "$flags": 1}),
        "geo": (GeoJSON("{}"), {"$geojson": "{}"}),
        "hll": (HyperLogLog(b"h"), {"$hll": "aA=="}),
        "raw": (Raw(7, b"j"), {"$raw": "ag==", "$type": 7}),
        "nan": (float("nan"), {"$double": "nan"}),
        "odd nan": (struct.unpack(">d", b"\xff\xf8" + bytes(6))[0], {"$double": "nan", "$bits": "fff8000000000000"}),
    }
    change = {
        "digest": bytes(20), "op": "WRITE", "origin": "SWEEP", "lut": 1_700_000_000_123, "generation": 3,
        "void_time": None, "effective_at": 1, "unobserved_since": 0, "observed_at": 2, "consecutive": True,
        "set": "s", "user_key": b"k", "bins": {name: value for name, (value, _) in values.items()},
    }  # fmt: skip

    said = json.loads(codec.to_json(codec.encode_python(change)))

    assert said["bins"] == {name: expected for name, (_, expected) in values.items()}
    assert said["lut"] == "2023-11-14T22:13:20.123Z"
    assert (said["digest"], said["user_key"], said["void_time"]) == ("00" * 20, {"$bytes": "aw=="}, None)


def test_heads_are_the_set_and_the_key_of_each_content() -> None:
    contents = bodies_of([encode_content("s", "key", {"b": 1}), encode_content(None, None, {"c": b"x"})])

    heads = codec.heads(contents, np.array([1, 0, 1]))

    assert [heads[i] for i in range(3)] == [b"\0\0", encode_content("s", "key", {})[:-1], b"\0\0"]
