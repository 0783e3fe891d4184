"""MessagePack as Aerospike speaks it, one value at a time. Pure Python; nothing for bulk.

The dialect (the server's `msgpack_in.c`, the client's `as_msgpack.h`): strings, blobs and GeoJSON are all packed in
the string (or binary) formats, and their first byte is a particle type that tells them apart. A list or map may begin
with an extension item without data, whose extension type holds its order flags; in a map that item is a key, and nil
is its value. Here such an item is never an element: it is the container's `flags`.

Elements are handled as raw slices wherever possible, so that what goes in comes out, byte for byte.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cdc.errors import CodecError

STRING, BLOB, HLL, GEOJSON = 3, 4, 18, 23
"""Particle types that begin a packed string."""
ORDERED = 1
"""Flag of an ordered list, and of a key-ordered map."""
KEY_VALUE_ORDERED = 3
PERSIST_INDEX = 0x10
_FLAGS = frozenset({0xC7, 0xC8, 0xC9})
"""What an item of flags begins with; an extension of a fixed size is an element (seen on the server)."""
NIL = b"\xc0"

Order = tuple[Any, ...]
"""A value that compares as the server orders the element that it was made of."""

NIL_RANK, FALSE_RANK, TRUE_RANK, INTEGER_RANK, STRING_RANK, LIST_RANK, MAP_RANK = 1, 2, 3, 4, 6, 7, 8
BYTES_RANK, DOUBLE_RANK, GEO_RANK, EXT_RANK, WILDCARD_RANK, INFINITY_RANK = 9, 10, 11, 12, 13, 14
"""The server's order of types (`msgpack_type`); integers of either sign compare by value."""
INFINITY: Order = (INFINITY_RANK,)


@dataclass(frozen=True, slots=True)
class Ext:
    """An extension item that stands where an element may: the wildcard, infinity, or something foreign."""

    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Container:
    """A list or map taken apart: its order flags (None: no flags item) and its elements as raw slices.

    A map's `items` are key, value, key, value.
    """

    is_map: bool
    flags: int | None
    items: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.items) // 2 if self.is_map else len(self.items)

    @property
    def pairs(self) -> list[tuple[bytes, bytes]]:
        """A map's keys and values."""
        return list(zip(self.items[::2], self.items[1::2], strict=True))


class _Head:
    """What the first bytes of an element say: kind, where its data begins, how long it is or what it counts."""

    __slots__ = ("at", "count", "kind", "size")

    def __init__(self, kind: str, at: int, size: int, count: int = 0) -> None:
        self.kind, self.at, self.size, self.count = kind, at, size, count


_FIXED: dict[int, tuple[str, int]] = {
    0xC0: ("nil", 0), 0xC2: ("false", 0), 0xC3: ("true", 0), 0xCA: ("f", 4), 0xCB: ("d", 8),
    0xCC: ("u", 1), 0xCD: ("u", 2), 0xCE: ("u", 4), 0xCF: ("u", 8),
    0xD0: ("i", 1), 0xD1: ("i", 2), 0xD2: ("i", 4), 0xD3: ("i", 8),
    0xD4: ("ext", 1), 0xD5: ("ext", 2), 0xD6: ("ext", 4), 0xD7: ("ext", 8), 0xD8: ("ext", 16),
}  # fmt: skip
_SIZED: dict[int, tuple[str, int]] = {
    0xC4: ("str", 1), 0xC5: ("str", 2), 0xC6: ("str", 4), 0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4),
    0xC7: ("ext", 1), 0xC8: ("ext", 2), 0xC9: ("ext", 4),
    0xDC: ("list", 2), 0xDD: ("list", 4), 0xDE: ("map", 2), 0xDF: ("map", 4),
}  # fmt: skip


def _head(data: bytes, at: int) -> _Head:
    if at >= len(data):
        raise CodecError("MessagePack ends too early")
    lead = data[at]
    at += 1
    if lead < 0x80 or lead >= 0xE0:
        return _Head("fix", at - 1, 1)
    if lead < 0x90:
        return _Head("map", at, 0, lead & 0x0F)
    if lead < 0xA0:
        return _Head("list", at, 0, lead & 0x0F)
    if lead < 0xC0:
        head = _Head("str", at, lead & 0x1F)
    elif lead in _FIXED:
        kind, size = _FIXED[lead]
        head = _Head(kind, at, size)
        if kind == "ext":
            head.count = data[at] if at < len(data) else 0
            head.at += 1
    elif lead in _SIZED:
        kind, width = _SIZED[lead]
        size = int.from_bytes(data[at : at + width], "big")
        at += width
        if kind in ("list", "map"):
            head = _Head(kind, at, 0, size)
        elif kind == "ext":
            head = _Head(kind, at + 1, size, data[at] if at < len(data) else 0)
        else:
            head = _Head(kind, at, size)
    else:
        raise CodecError(f"MessagePack has no item that begins with {lead:#04x}")
    if head.at + head.size > len(data):
        raise CodecError("MessagePack ends too early")
    return head


def skip(data: bytes, at: int = 0) -> int:
    """The offset after the element at `at`. CodecError if it is cut or malformed."""
    remaining = 1
    while remaining:
        head = _head(data, at)
        at = head.at + head.size
        remaining -= 1
        if head.kind == "list":
            remaining += head.count
        elif head.kind == "map":
            remaining += 2 * head.count
        if remaining > len(data):
            raise CodecError("MessagePack counts more items than it has bytes")
    return at


def is_list(data: bytes) -> bool:
    """Whether this element is a list."""
    return bool(data) and (data[0] & 0xF0 == 0x90 or data[0] in (0xDC, 0xDD))


def is_map(data: bytes) -> bool:
    """Whether this element is a map."""
    return bool(data) and (data[0] & 0xF0 == 0x80 or data[0] in (0xDE, 0xDF))


def container(data: bytes) -> Container:
    """Take a list or map apart. CodecError if `data` is neither, or is not exactly one element."""
    head = _head(data, 0)
    if head.kind not in ("list", "map"):
        raise CodecError("neither a list nor a map")
    mapping = head.kind == "map"
    count = head.count * 2 if mapping else head.count
    if count > len(data):
        raise CodecError("MessagePack counts more items than it has bytes")
    at, flags = head.at, None
    if count and (first := _head(data, at)).kind == "ext" and data[at] in _FLAGS and first.count != 0xFF:
        flags, at = first.count, first.at + first.size
        count -= 1
        if mapping:
            at = skip(data, at)
            count -= 1
    items = []
    for _ in range(count):
        end = skip(data, at)
        items.append(data[at:end])
        at = end
    if at != len(data):
        raise CodecError("bytes follow the end of a list or map")
    return Container(mapping, flags, tuple(items))


def _count(count: int, small: int, large: int) -> bytes:
    if count < 16:
        return bytes((small | count,))
    return struct.pack(">BH", large, count) if count < 1 << 16 else struct.pack(">BI", large + 1, count)


def list_of(items: Sequence[bytes], flags: int | None = None) -> bytes:
    """A list of raw elements; with `flags`, a flags item comes first."""
    if flags is None:
        return _count(len(items), 0x90, 0xDC) + b"".join(items)
    return _count(len(items) + 1, 0x90, 0xDC) + bytes((0xC7, 0, flags)) + b"".join(items)


def map_of(items: Sequence[bytes], flags: int | None = None) -> bytes:
    """A map of raw elements (key, value, key, value); with `flags`, a flags item comes first."""
    if flags is None:
        return _count(len(items) // 2, 0x80, 0xDE) + b"".join(items)
    return _count(len(items) // 2 + 1, 0x80, 0xDE) + bytes((0xC7, 0, flags)) + NIL + b"".join(items)


def _scalar(head: _Head, data: bytes) -> Any:
    raw = data[head.at : head.at + head.size]
    match head.kind:
        case "fix":
            return raw[0] if raw[0] < 0x80 else raw[0] - 256
        case "str":
            return raw
        case "nil":
            return None
        case "true" | "false":
            return head.kind == "true"
        case "u":
            return int.from_bytes(raw, "big")
        case "i":
            return int.from_bytes(raw, "big", signed=True)
        case "f":
            return struct.unpack(">f", raw)[0]
        case "d":
            return struct.unpack(">d", raw)[0]
    return Ext(head.count, raw)


def _build(data: bytes, at: int) -> tuple[Any, int]:
    head = _head(data, at)
    at = head.at + head.size
    if head.kind not in ("list", "map"):
        return _scalar(head, data), at
    items = []
    for _ in range(head.count * (2 if head.kind == "map" else 1)):
        item, at = _build(data, at)
        items.append(item)
    return (items if head.kind == "list" else dict(zip(items[::2], items[1::2], strict=True))), at


def unpack(data: bytes) -> Any:
    """A whole element as Python values: strings of any kind as bytes with their particle type, extensions as Ext.

    For small things (arguments, expressions). CodecError if `data` is not exactly one element, or nests too deep.
    """
    try:
        value, end = _build(data, 0)
    except (RecursionError, TypeError) as error:
        raise CodecError(f"MessagePack that Python cannot hold: {error}") from error
    if end != len(data):
        raise CodecError("bytes follow the end of an element")
    return value


def integer(value: int) -> bytes:
    """An integer in its shortest form, as the server packs what it computed."""
    if value >= 0:
        if value < 0x80:
            return bytes((value,))
        for lead, width in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
            if value < 1 << 8 * width:
                return bytes((lead,)) + value.to_bytes(width, "big")
    elif value >= -32:
        return bytes((value + 256,))
    else:
        for lead, width in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
            if value >= -(1 << 8 * width - 1):
                return bytes((lead,)) + value.to_bytes(width, "big", signed=True)
    raise CodecError("an integer beyond 64 bits")


def double(value: float) -> bytes:
    """A 64-bit float."""
    return struct.pack(">Bd", 0xCB, value)


def boolean(value: bool) -> bytes:
    """True or false."""
    return b"\xc3" if value else b"\xc2"


def raw_string(data: bytes) -> bytes:
    """Bytes in the string formats, as they are."""
    size = len(data)
    if size < 32:
        return bytes((0xA0 | size,)) + data
    if size < 1 << 8:
        return struct.pack(">BB", 0xD9, size) + data
    return (struct.pack(">BH", 0xDA, size) if size < 1 << 16 else struct.pack(">BI", 0xDB, size)) + data


def typed(particle_type: int, data: bytes) -> bytes:
    """A string, blob, HyperLogLog or GeoJSON with its particle type."""
    return raw_string(bytes((particle_type,)) + data)


def compact(element: bytes) -> bytes:
    """A scalar in its shortest form (integers, and strings in any format); others as they are."""
    head = _head(element, 0)
    if head.kind in ("u", "i"):
        return integer(_scalar(head, element))
    return raw_string(element[head.at :]) if head.kind == "str" and element[0] >= 0xC0 else element


def pack(value: Any) -> bytes:
    """The inverse of `unpack` for None, bool, int, float, bytes, lists, dicts; text becomes a typed string."""
    match value:
        case None:
            return NIL
        case bool():
            return boolean(value)
        case int():
            return integer(value)
        case float():
            return double(value)
        case str():
            return typed(STRING, value.encode())
        case bytes():
            return raw_string(value)
        case list() | tuple():
            return list_of([pack(item) for item in value])
        case dict():
            return map_of([pack(part) for pair in value.items() for part in pair])
        case Ext(kind=kind, data=data):
            return struct.pack(">BBB", 0xC7, len(data), kind) + data
    raise CodecError(f"no MessagePack for {type(value).__name__}")


def _order_at(data: bytes, at: int) -> tuple[Order, int]:
    head = _head(data, at)
    end = head.at + head.size
    if head.kind in ("fix", "u", "i"):
        return (INTEGER_RANK, _scalar(head, data)), end
    if head.kind == "str":
        text = data[head.at : end]
        return (_STRINGS.get(text[0] if text else BLOB, BYTES_RANK), text), end
    if head.kind == "ext":
        if head.count == 0xFF:
            return (INFINITY if data[head.at : end] == b"\x01" else (WILDCARD_RANK,)), end
        return (EXT_RANK, data[head.at : end]), end
    if head.kind not in ("list", "map"):
        return _PLAIN[head.kind](_scalar(head, data)), end
    mapping = head.kind == "map"
    count = head.count * (2 if mapping else 1)
    if count and (first := _head(data, end)).kind == "ext" and first.count != 0xFF:
        end = first.at + first.size
        count -= 1
        if mapping:
            end = skip(data, end)
            count -= 1
    parts: list[Order] = []
    for _ in range(count):
        part, end = _order_at(data, end)
        parts.append(part)
    return ((MAP_RANK, (count, *parts)) if mapping else (LIST_RANK, tuple(parts))), end


_STRINGS = {STRING: STRING_RANK, GEOJSON: GEO_RANK}
_PLAIN: dict[str, Callable[[Any], Order]] = {
    "nil": lambda _: (NIL_RANK,),
    "false": lambda _: (FALSE_RANK,),
    "true": lambda _: (TRUE_RANK,),
    "f": lambda value: (DOUBLE_RANK, value),
    "d": lambda value: (DOUBLE_RANK, value),
}


def order(element: bytes) -> Order:
    """What to sort an element by, so that it stands where the server puts it (`msgpack_cmp`).

    Types in the order of the ranks above; lists element by element, then by length; maps by length, then by keys and
    values in their stored order; strings by their bytes. Wildcards equal everything to the server, but not here.
    """
    try:
        return _order_at(element, 0)[0]
    except RecursionError as error:
        raise CodecError("MessagePack nests too deep") from error
