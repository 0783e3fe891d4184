"""Filters and projections as the server reads them: MessagePack lists that begin with an operation's number.

The numbers are the server's (`as/src/base/exp.c`); a string carries its particle type as its first byte. Everything
here is decided from the in-memory index alone: a record that a filter rejects costs no device read. A conformance
test holds each of these equal to what the official client packs.
"""

import struct
from collections.abc import Sequence

import numpy as np

from cdc.model import I64, U8

_EQ, _NE, _GE, _LE, _AND, _OR, _ADD, _DIV = 1, 2, 4, 6, 16, 17, 20, 23
_LAST_UPDATE, _SINCE_UPDATE, _SET_NAME = 66, 67, 70
_STRING = b"\x03"

NS_PER_MS = 1_000_000


def _int(value: int) -> bytes:
    if value < 0:
        raise ValueError(f"{value} is negative; no moment or operation is")
    if value < 1 << 7:
        return bytes([value])
    if value < 1 << 8:
        return struct.pack(">BB", 0xCC, value)
    if value < 1 << 16:
        return struct.pack(">BH", 0xCD, value)
    if value < 1 << 32:
        return struct.pack(">BI", 0xCE, value)
    return struct.pack(">BQ", 0xCF, value)


def _text(value: str) -> bytes:
    data = _STRING + value.encode()
    if len(data) < 32:
        return bytes([0xA0 | len(data)]) + data
    return struct.pack(">BB", 0xD9, len(data)) + data


def _call(operation: int, *operands: bytes) -> bytes:
    count = 1 + len(operands)
    head = bytes([0x90 | count]) if count < 16 else struct.pack(">BH", 0xDC, count)
    return head + _int(operation) + b"".join(operands)


LUT = _call(_LAST_UPDATE)
"""Projects the last-update-time, in nanoseconds since 1970."""
NODE_NOW = _call(_ADD, _call(_DIV, LUT, _int(NS_PER_MS)), _call(_SINCE_UPDATE))
"""Projects the node's own clock, in milliseconds since 1970, from any record that TELLS_TIME."""
TELLS_TIME = _call(_GE, _call(_SINCE_UPDATE), _int(1))
"""True for records updated before the node's now. For one with a later LUT (its clock was set back, or another node
wrote it) the server says 0 for the time since, and the sum would be that LUT (`eval_meta_since_update` of `exp.c`)."""


def lut_at_least(ms: int) -> bytes:
    """True for records updated at or after a moment (milliseconds since 1970, not negative)."""
    return _call(_GE, LUT, _int(ms * NS_PER_MS))


def lut_before(ms: int) -> bytes:
    """True for records that were updated before a moment (milliseconds since 1970, above 0)."""
    return _call(_LE, LUT, _int((ms - 1) * NS_PER_MS))


def not_after(lut_ms: I64) -> U8:
    """For each of n moments (milliseconds since 1970, not negative) a filter that is true for records updated then or
    before, as the rows of one array, (n, size)."""
    head = np.frombuffer(bytes([0x93, _LE]) + LUT + b"\xcf", np.uint8)
    made = np.empty((len(lut_ms), len(head) + 8), np.uint8)
    made[:, : len(head)] = head
    made[:, len(head) :] = (lut_ms * NS_PER_MS).astype(">u8").view(np.uint8).reshape(-1, 8)
    return made


def in_sets(names: Sequence[str]) -> bytes:
    """True for records of one of these sets; the empty name is the null set. ValueError without a name."""
    if not names:
        raise ValueError("no set is named")
    terms = [_call(_EQ, _call(_SET_NAME), _text(name)) for name in names]
    return terms[0] if len(terms) == 1 else _call(_OR, *terms)


def not_in_sets(names: Sequence[str]) -> bytes:
    """True for records of no such set; the empty name is the null set. ValueError without a name."""
    if not names:
        raise ValueError("no set is named")
    terms = [_call(_NE, _call(_SET_NAME), _text(name)) for name in names]
    return terms[0] if len(terms) == 1 else _call(_AND, *terms)


def both(first: bytes | None, second: bytes | None) -> bytes | None:
    """True where both filters are; None is true everywhere."""
    if first is None or second is None:
        return first if second is None else second
    return _call(_AND, first, second)
