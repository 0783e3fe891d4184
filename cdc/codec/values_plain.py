"""One value as Python holds it, and the plain twin of `value_kernels`: particle, Python value, Avro, and back.

null, boolean, long, double, string and bytes are None, bool, int, float, str and bytes; the other branches of the
schema's union are the classes below, which have the names and fields of the schema's records.
"""

import struct
from dataclasses import dataclass
from typing import Any

from cdc.codec import msgpack
from cdc.codec.avro import long, read_long
from cdc.errors import BodyDamaged, CodecError

DEPTH = 64
"""Containers in containers up to here are typed; deeper ones are Raw."""

_DOUBLE = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class List:
    """A list with its order flags."""

    flags: int
    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Map:
    """A map with its order flags: (key, value) pairs in stored order."""

    flags: int
    entries: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True, slots=True)
class GeoJSON:
    """A GeoJSON text."""

    json: str


@dataclass(frozen=True, slots=True)
class HyperLogLog:
    """A HyperLogLog sketch, as the server holds it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Raw:
    """A particle that no other branch can say."""

    particle_type: int
    data: bytes


class _Foreign(Exception):
    """A list or map that is not in the form we can give back byte for byte."""


def from_particle(kind: int, data: bytes) -> Any:
    """The value of a bin's particle. Whatever has no typed form that gives the same bytes back is a Raw."""
    if kind == 0 and not data:
        return None
    if kind == 1 and len(data) == 8:
        return int.from_bytes(data, "big", signed=True)
    if kind == 2 and len(data) == 8:
        return _DOUBLE.unpack(data[::-1])[0]
    if kind == 4:
        return data
    if kind == 17 and data in (b"\x00", b"\x01"):
        return data == b"\x01"
    if kind == 18:
        return HyperLogLog(data)
    if kind == 23 and len(data) >= 3 and (data[0] == 1 or (data[0] == 0 and data[1:3] in (b"\0\0", b"\0\1"))):
        text = 3 + 8 * int.from_bytes(data[1:3], "big")
        if text <= len(data):
            return _text(data[text:], GeoJSON, Raw(kind, data))
    if kind == 3:
        return _text(data, str, Raw(kind, data))
    if kind in (19, 20) and data and (msgpack.is_list(data) if kind == 20 else msgpack.is_map(data)):
        try:
            value, at = _unpack(data, 0, DEPTH)
        except _Foreign:
            return Raw(kind, data)
        if at == len(data):
            return value
    return Raw(kind, data)


def to_particle(value: Any) -> tuple[int, bytes]:
    """Particle type and bytes of a bin. CodecError for what is no value."""
    match value:
        case None:
            return 0, b""
        case bool():
            return 17, bytes([value])
        case int():
            return 1, value.to_bytes(8, "big", signed=True)
        case float():
            return 2, _DOUBLE.pack(value)[::-1]
        case str():
            return 3, value.encode()
        case bytes():
            return 4, value
        case HyperLogLog(data):
            return 18, data
        case GeoJSON(json):
            return 23, b"\0\0\0" + json.encode()
        case List():
            return 20, _pack(value)
        case Map():
            return 19, _pack(value)
        case Raw(kind, data):
            return kind, data
    raise CodecError(f"{type(value).__name__} is not a value of a bin")


def _text(data: bytes, make: Any, otherwise: Any) -> Any:
    try:
        return make(data.decode())
    except UnicodeDecodeError:
        return otherwise


def _header(data: bytes, at: int, form: str) -> tuple[Any, int]:
    size = struct.calcsize(form)
    if at + size > len(data):
        raise _Foreign
    return struct.unpack_from(form, data, at)[0], at + size


def _unpack(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    code, start = _header(data, at, ">B")
    if code < 0x80 or code >= 0xE0 or 0xCC <= code <= 0xD3:
        form = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
        number, end = (code if code < 0x80 else code - 256, start)
        if code in form:
            number, end = _header(data, start, form[code])
        if number >= 1 << 63 or msgpack.integer(number) != data[at:end]:
            raise _Foreign
        return number, end
    if 0xA0 <= code <= 0xBF or 0xD9 <= code <= 0xDB:
        form = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
        size, start = (code & 0x1F, start) if code < 0xC0 else _header(data, start, form[code])
        end = start + size
        if size == 0 or end > len(data) or msgpack.typed(data[start], data[start + 1 : end]) != data[at:end]:
            raise _Foreign
        return _blob(data[start], data[start + 1 : end]), end
    if code == 0xCB:
        bits, end = _header(data, start, ">Q")
        return _DOUBLE.unpack(bits.to_bytes(8, "little"))[0], end
    if code in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[code], start
    return _container(data, at, depth)


def _blob(kind: int, content: bytes) -> Any:
    if kind == 3:
        return _text(content, str, Raw(kind, content))
    if kind == 23:
        return _text(content, GeoJSON, Raw(kind, content))
    if kind == 4:
        return content
    return HyperLogLog(content) if kind == 18 else Raw(kind, content)


def _container(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    code, start = _header(data, at, ">B")
    a_map = 0x80 <= code <= 0x8F or code in (0xDE, 0xDF)
    if depth == 0 or not (a_map or 0x90 <= code <= 0x9F or code in (0xDC, 0xDD)):
        raise _Foreign
    count = code & 0x0F
    if code >= 0xDC:
        count, start = _header(data, start, ">H" if code in (0xDC, 0xDE) else ">I")
        if count < (16 if code in (0xDC, 0xDE) else 1 << 16):
            raise _Foreign
    flags = 0
    if count and data[start : start + 2] == b"\xc7\x00" and start + 3 <= len(data):
        flags = data[start + 2]
        start += 3
        count -= 1
        if flags == 0 or (a_map and data[start : start + 1] != b"\xc0"):
            raise _Foreign
        start += a_map
    if count * (1 + a_map) > len(data) - start:
        raise _Foreign
    items = []
    for _ in range(count * (1 + a_map)):
        item, start = _unpack(data, start, depth - 1)
        items.append(item)
    if a_map:
        return Map(flags, tuple(zip(items[::2], items[1::2], strict=True))), start
    return List(flags, tuple(items)), start


def _pack(value: Any) -> bytes:
    match value:
        case List(flags, items):
            return msgpack.list_of([_pack(item) for item in items], flags or None)
        case Map(flags, entries):
            return msgpack.map_of([_pack(part) for entry in entries for part in entry], flags or None)
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return msgpack.integer(value)
        case float():
            return b"\xcb" + _DOUBLE.pack(value)[::-1]
        case str():
            return msgpack.typed(3, value.encode())
        case bytes():
            return msgpack.typed(4, value)
        case GeoJSON(json):
            return msgpack.typed(23, json.encode())
        case HyperLogLog(data):
            return msgpack.typed(18, data)
        case Raw(kind, data):
            return msgpack.typed(kind, data)
    raise CodecError(f"{type(value).__name__} is not a value of a list or map")


def sized(data: bytes) -> bytes:
    """Avro's bytes: the length, then the bytes."""
    return long(len(data)) + data


def to_avro(value: Any) -> bytes:
    """The value as the eleven-branch union. CodecError for what is no value."""
    match value:
        case None:
            return b"\x00"
        case bool():
            return bytes([2, value])
        case int():
            return b"\x04" + long(value)
        case float():
            return b"\x06" + _DOUBLE.pack(value)
        case str():
            return b"\x08" + sized(value.encode())
        case bytes():
            return b"\x0a" + sized(value)
        case List(flags, items):
            return b"\x0c" + long(flags) + _block([to_avro(item) for item in items])
        case Map(flags, entries):
            return b"\x0e" + long(flags) + _block([to_avro(key) + to_avro(item) for key, item in entries])
        case GeoJSON(json):
            return b"\x10" + sized(json.encode())
        case HyperLogLog(data):
            return b"\x12" + sized(data)
        case Raw(kind, data):
            return b"\x14" + long(kind) + sized(data)
    raise CodecError(f"{type(value).__name__} is not a value")


def _block(items: list[bytes]) -> bytes:
    return (long(len(items)) + b"".join(items) if items else b"") + b"\x00"


def read_sized(data: bytes, at: int) -> tuple[bytes, int]:
    """Avro's bytes at a place, and the place after them. BodyDamaged if they are cut."""
    size, at = read_long(data, at)
    if not 0 <= size <= len(data) - at:
        raise BodyDamaged("an encoded change is cut in a string or in bytes")
    return data[at : at + size], at + size


def read_text(data: bytes, at: int) -> tuple[str, int]:
    """Avro's string at a place, and the place after it. BodyDamaged if it is cut or not UTF-8."""
    found, at = read_sized(data, at)
    try:
        return found.decode(), at
    except UnicodeDecodeError:
        raise BodyDamaged("an encoded change holds a string that is not UTF-8") from None


def read_fixed(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    """So many bytes, and the place after them. BodyDamaged if there are fewer."""
    if at + size > len(data):
        raise BodyDamaged("an encoded change is cut")
    return data[at : at + size], at + size


def read_raw(data: bytes, at: int) -> tuple[Raw, int]:
    """A Raw without its branch, and the place after it. BodyDamaged if it is malformed."""
    kind, at = read_long(data, at)
    if not 0 <= kind <= 255:
        raise BodyDamaged(f"an encoded change names the particle type {kind}")
    content, at = read_sized(data, at)
    return Raw(kind, content), at


def from_avro(data: bytes, at: int, depth: int = DEPTH) -> tuple[Any, int]:
    """The union at a place as a value, and the place after it. BodyDamaged if it is malformed."""
    (branch,), at = read_fixed(data, at, 1)
    if branch == 0:
        return None, at
    if branch == 2:
        (flag,), at = read_fixed(data, at, 1)
        if flag > 1:
            raise BodyDamaged("an encoded change holds a boolean that is neither true nor false")
        return flag == 1, at
    if branch == 4:
        return read_long(data, at)
    if branch == 6:
        content, at = read_fixed(data, at, 8)
        return _DOUBLE.unpack(content)[0], at
    if branch == 8:
        return read_text(data, at)
    if branch == 10:
        return read_sized(data, at)
    if branch == 16:
        text, at = read_text(data, at)
        return GeoJSON(text), at
    if branch == 18:
        content, at = read_sized(data, at)
        return HyperLogLog(content), at
    if branch == 20:
        return read_raw(data, at)
    if branch not in (12, 14) or depth == 0:
        raise BodyDamaged("an encoded change holds a value of an unknown kind, or nested too deeply")
    flags, at = read_long(data, at)
    count, at = read_long(data, at)
    if not 0 <= flags <= 255 or not 0 <= count <= len(data) - at:
        raise BodyDamaged("an encoded change holds a list or map with impossible flags or size")
    items = []
    for _ in range(count if branch == 12 else 2 * count):
        item, at = from_avro(data, at, depth - 1)
        items.append(item)
    if count:
        (end,), at = read_fixed(data, at, 1)
        if end:
            raise BodyDamaged("an encoded change holds a list or map in more than one block")
    if branch == 12:
        return List(flags, tuple(items)), at
    return Map(flags, tuple(zip(items[::2], items[1::2], strict=True))), at
