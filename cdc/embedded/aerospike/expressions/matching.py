"""Comparisons of two values, membership in a list, and regular expressions over strings."""

import re
from collections.abc import Callable
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from cdc.codec import msgpack
from cdc.embedded.aerospike.cdt.values import compare
from cdc.embedded.aerospike.expressions.types import UNKNOWN, Value
from cdc.embedded.aerospike.record import Refused
from cdc.wire.messages import Particle, Result

COMPARISONS: dict[int, Callable[[Any, Any], bool]] = {1: eq, 2: ne, 3: gt, 4: ge, 5: lt, 6: le}
_EXTENDED, _IGNORE_CASE, _NEWLINE = 1, 2, 4


def compared(operation: int, left: Value, right: Value) -> Value:
    """Two values of one type. A list or map with an unordered map in it compares to unknown."""
    relation = COMPARISONS[operation]
    if left is None:
        return relation(0, 0)
    if not isinstance(left, tuple):
        return relation(left, right)
    if left[0] in (Particle.LIST, Particle.MAP):
        if has_unordered_map(left[1]) or has_unordered_map(right[1]):
            return UNKNOWN
        return relation(compare(msgpack.order(left[1]), msgpack.order(right[1])), 0)
    return relation(left[1], right[1])


def has_unordered_map(element: bytes) -> bool:
    """Whether a map without the flag of order, other than an empty one, is in an element."""
    if not msgpack.is_list(element) and not msgpack.is_map(element):
        return False
    parts = msgpack.container(element)
    if parts.is_map and len(parts) and not (parts.flags or 0) & msgpack.ORDERED:
        return True
    return any(has_unordered_map(item) for item in parts.items)


def as_element(value: Value) -> bytes:
    """A value as a MessagePack element."""
    match value:
        case None:
            return msgpack.NIL
        case bool():
            return msgpack.boolean(value)
        case int():
            return msgpack.integer(value)
        case float():
            return msgpack.double(value)
        case (Particle.LIST | Particle.MAP, bytes(data)):
            return data
        case (Particle.GEOJSON, bytes(data)):
            return msgpack.typed(Particle.GEOJSON, data[3:])
        case (int(kind), bytes(data)):
            return msgpack.typed(kind, data)
    raise Refused(Result.OP_NOT_APPLICABLE)


def contains(items: bytes, value: Value) -> bool:
    """Whether a packed list has an element that equals a value."""
    wanted = msgpack.order(as_element(value))
    return any(compare(wanted, msgpack.order(item)) == 0 for item in msgpack.container(items).items)


def pattern(text: bytes, options: int) -> re.Pattern[bytes]:
    """A POSIX regular expression (basic, unless the option extended is set) as Python's. Refused (PARAMETER) if none.

    Python takes the first alternative that matches where POSIX takes the longest; whether there is a match is the same.
    """
    text = text.removesuffix(b"\0")
    flags = re.IGNORECASE if options & _IGNORE_CASE else 0
    flags |= re.MULTILINE if options & _NEWLINE else re.DOTALL
    try:
        return re.compile(_translated(text, bool(options & _EXTENDED)), flags)
    except re.error as error:
        raise Refused(Result.PARAMETER) from error


_CLASSES = {
    b"[:alpha:]": b"A-Za-z", b"[:digit:]": b"0-9", b"[:alnum:]": b"A-Za-z0-9", b"[:upper:]": b"A-Z",
    b"[:lower:]": b"a-z", b"[:space:]": rb"\s", b"[:blank:]": rb" \t", b"[:xdigit:]": b"0-9A-Fa-f",
    b"[:punct:]": rb"!-/:-@\[-`{-~", b"[:print:]": b" -~", b"[:graph:]": b"!-~", b"[:cntrl:]": rb"\x00-\x1f\x7f",
}  # fmt: skip


def _translated(text: bytes, extended: bool) -> bytes:
    out, at = b"", 0
    while at < len(text):
        char = text[at : at + 1]
        if char == b"[":
            bracket, at = _bracket(text, at)
            out += bracket
            continue
        at += 1
        if char == b"\\" and at < len(text):
            escaped = text[at : at + 1]
            at += 1
            special = not extended and escaped in b"(){}|+?"
            out += (
                escaped
                if special
                else b"\\" + escaped
                if not escaped.isalnum() or escaped in b"wWsSbB123456789"
                else escaped
            )
        elif char == b"$" and at == len(text):
            out += rb"\Z"
        elif not extended and (char in b"(){}|+?" or (char == b"*" and out in (b"", b"^"))):
            out += b"\\" + char
        else:
            out += char
    return out


def _bracket(text: bytes, at: int) -> tuple[bytes, int]:
    """A bracket expression in Python's words, and where it ends."""
    out, at = b"[", at + 1
    if text[at : at + 1] == b"^":
        out, at = b"[^", at + 1
    first = at
    while at < len(text) and (text[at : at + 1] != b"]" or at == first):
        name = next((name for name in _CLASSES if text.startswith(name, at)), None)
        if name is not None:
            out, at = out + _CLASSES[name], at + len(name)
            continue
        char = text[at : at + 1]
        out, at = out + (b"\\" + char if char in b"\\[]&~|" else char), at + 1
    if at >= len(text):
        raise Refused(Result.PARAMETER)
    return out + b"]", at + 1
