"""Aerospike's MessagePack, one value at a time: nothing is lost, and elements sort as the server sorts them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.codec import msgpack
from cdc.errors import CodecError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=80).map(lambda data: b"\x04" + data)
    | st.text(max_size=40).map(lambda text: b"\x03" + text.encode())
)
KEYS = st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8).map(lambda text: b"\x03" + text.encode())
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=12
)


@given(VALUES)
@settings(max_examples=40)
def test_what_is_packed_is_unpacked_the_same(value: Any) -> None:
    packed = msgpack.pack(value)
    assert msgpack.unpack(packed) == value
    assert msgpack.skip(packed) == len(packed)


@given(VALUES)
@settings(max_examples=25)
def test_no_cut_value_passes(value: Any) -> None:
    packed = msgpack.pack(value)
    for end in range(0, len(packed), max(1, len(packed) // 20)):
        with pytest.raises(CodecError):
            msgpack.unpack(packed[:end])
        with pytest.raises(CodecError):
            msgpack.skip(packed[:end])


@given(st.binary(max_size=60))
@settings(max_examples=60)
def test_any_bytes_give_a_value_or_a_codec_error(data: bytes) -> None:
    for function in (msgpack.unpack, msgpack.skip, msgpack.container, msgpack.order):
        try:
            function(data)  # type: ignore[operator]
        except CodecError:
            continue


@given(st.lists(VALUES, max_size=12), st.sampled_from([None, 0, 1]))
@settings(max_examples=25)
def test_a_list_is_taken_apart_and_put_together(values: list[Any], flags: int | None) -> None:
    packed = msgpack.list_of([msgpack.pack(value) for value in values], flags)
    parts = msgpack.container(packed)
    assert (parts.is_map, parts.flags, len(parts)) == (False, flags, len(values))
    assert msgpack.list_of(parts.items, parts.flags) == packed


@given(st.dictionaries(KEYS, VALUES, max_size=12), st.sampled_from([None, 1, 3]))
@settings(max_examples=25)
def test_a_map_is_taken_apart_and_put_together(pairs: dict[Any, Any], flags: int | None) -> None:
    packed = msgpack.map_of([msgpack.pack(part) for pair in pairs.items() for part in pair], flags)
    parts = msgpack.container(packed)
    assert (parts.is_map, parts.flags, len(parts)) == (True, flags, len(pairs))
    assert [msgpack.unpack(key) for key, _ in parts.pairs] == list(pairs)
    assert msgpack.map_of(parts.items, parts.flags) == packed


@pytest.mark.parametrize("count", [0, 15, 16, 65_535, 65_536])
def test_containers_of_every_size(count: int) -> None:
    packed = msgpack.list_of([b"\x01"] * count)
    assert len(msgpack.container(packed)) == count


def test_types_stand_in_the_servers_order() -> None:
    ascending = [
        msgpack.NIL, b"\xc2", b"\xc3", msgpack.integer(-5), msgpack.integer(7), msgpack.typed(msgpack.STRING, b"a"),
        msgpack.list_of([]), msgpack.map_of([]), msgpack.typed(msgpack.BLOB, b"a"), msgpack.double(-1.0),
        msgpack.typed(msgpack.GEOJSON, b"{}"), msgpack.pack(msgpack.Ext(0xFF, b"\x01")),
    ]  # fmt: skip
    assert sorted(ascending[1:] + ascending[:1], key=msgpack.order) == ascending


def test_lists_are_ordered_by_elements_and_maps_by_size_first() -> None:
    lists: list[Any] = [[1, 2], [1, 3], [2]]
    assert sorted(lists[1:] + lists[:1], key=lambda value: msgpack.order(msgpack.pack(value))) == lists
    maps: list[Any] = [{5: 9}, {1: 1, 2: 2}]
    assert sorted(maps[1:] + maps[:1], key=lambda value: msgpack.order(msgpack.pack(value))) == maps


def test_order_flags_do_not_count_in_comparisons() -> None:
    plain = msgpack.list_of([b"\x01", b"\x02"])
    assert msgpack.order(plain) == msgpack.order(msgpack.list_of([b"\x01", b"\x02"], msgpack.ORDERED))


@pytest.mark.parametrize(
    ("element", "expected"),
    [("cc05", "05"), ("cd0100", "cd0100"), ("d0fb", "fb"), ("d9020361", "a20361"), ("c4020461", "a20461")],
)
def test_scalars_are_shortened(element: str, expected: str) -> None:
    assert msgpack.compact(bytes.fromhex(element)).hex() == expected
