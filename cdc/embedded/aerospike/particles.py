"""Bin values: what the server accepts and how it keeps it, and the operations on them that are not lists' or maps'.

The rules are those of the server's `particle_….c`. Two things differ: GeoJSON is kept without the cells that the
server computes for its index (what is read back has none), and of HyperLogLog there are only `init` and `describe`.
"""

import json
import struct
from collections.abc import Callable

from cdc.codec import msgpack
from cdc.embedded.aerospike import cdt
from cdc.embedded.aerospike.record import Particle as Bin
from cdc.embedded.aerospike.record import Refused
from cdc.errors import CodecError
from cdc.wire.messages import Particle, Result

_MASK = (1 << 64) - 1
_GEO_INVALID = 160
_HLL_HEAD = 11
_HLL_INIT, _HLL_DESCRIBE = 0, 55
_HLL_CREATE_ONLY, _HLL_UPDATE_ONLY, _HLL_NO_FAIL = 1, 2, 4
_UNSET = 0xFF
_TEXTS = frozenset({3, 4, 7, 8, 9, 10, 11, 12})
"""Strings and the blobs of all languages: bytes that are kept as they come."""


def stored(particle: Bin) -> Bin:
    """A particle as the server keeps it when a client writes it. Raises Refused.

    Integers become 8 bytes, lists and maps take the form of `cdt.stored`, incoming GeoJSON cells are dropped.
    """
    kind, data = particle
    if kind in _TEXTS:
        return particle
    keep = _KEEP.get(kind)
    if keep is None:
        raise Refused(Result.PARAMETER)
    return kind, keep(data)


def check(particle: Bin) -> None:
    """Raises Refused if the server would not take this particle."""
    stored(particle)


def _integer(data: bytes) -> bytes:
    if len(data) not in (1, 2, 4, 8):
        raise Refused(Result.PARAMETER)
    return data.rjust(8, b"\0")


def _float(data: bytes) -> bytes:
    if len(data) != 8:
        raise Refused(Result.PARAMETER)
    return data


def _bool(data: bytes) -> bytes:
    if data not in (b"\0", b"\1"):
        raise Refused(Result.PARAMETER)
    return data


def _container(is_kind: Callable[[bytes], bool]) -> Callable[[bytes], bytes]:
    def keep(data: bytes) -> bytes:
        if not is_kind(data):
            raise Refused(Result.UNKNOWN)
        try:
            return cdt.stored(data)
        except Refused as refused:
            raise Refused(Result.UNKNOWN) from refused  # a bin's size is worked out first, and that fails so

    return keep


def _hll_size(index_bits: int, minhash_bits: int) -> int:
    return _HLL_HEAD + (((6 + minhash_bits) << index_bits) + 7) // 8


def _hll_valid(index_bits: int, minhash_bits: int) -> bool:
    return 4 <= index_bits <= 16 and (minhash_bits == 0 or 4 <= minhash_bits <= 51) and index_bits + minhash_bits <= 64


def _hll(data: bytes) -> bytes:
    if len(data) < _HLL_HEAD or data[0] or not _hll_valid(data[1], data[2]) or len(data) != _hll_size(data[1], data[2]):
        raise Refused(Result.PARAMETER)
    return data


def _geojson(data: bytes) -> bytes:
    cells = int.from_bytes(data[1:3], "big")
    text = data[3 + 8 * cells :]
    if len(data) < 3 + 8 * cells or not is_geojson(text):
        raise Refused(_GEO_INVALID)
    return b"\0\0\0" + text


def is_geojson(text: bytes) -> bool:
    """Whether this is JSON that looks like a GeoJSON object. Coordinates are not looked at."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and isinstance(value.get("type"), str)


_KEEP: dict[int, Callable[[bytes], bytes]] = {
    Particle.INTEGER: _integer,
    Particle.FLOAT: _float,
    Particle.BOOL: _bool,
    Particle.HLL: _hll,
    Particle.MAP: _container(msgpack.is_map),
    Particle.LIST: _container(msgpack.is_list),
    Particle.GEOJSON: _geojson,
}


def increment(old: Bin | None, argument: Bin) -> Bin:
    """The sum of an integer and an integer, or a float and a float; the argument itself where there is no bin."""
    if old is None:
        return stored(argument)
    if old[0] not in (Particle.INTEGER, Particle.FLOAT) or argument[0] != old[0]:
        raise Refused(Result.INCOMPATIBLE_TYPE)
    by = stored(argument)[1]
    if old[0] == Particle.FLOAT:
        total = struct.unpack(">d", old[1])[0] + struct.unpack(">d", by)[0]
        return Particle.FLOAT, struct.pack(">d", total)
    return Particle.INTEGER, (int.from_bytes(old[1], "big") + int.from_bytes(by, "big") & _MASK).to_bytes(8, "big")


def _joinable(old: Bin | None, argument: Bin) -> Bin | None:
    if old is None:
        return stored(argument)
    if old[0] == Particle.GEOJSON:
        raise Refused(Result.UNKNOWN)
    if old[0] not in _TEXTS or argument[0] != old[0]:
        raise Refused(Result.INCOMPATIBLE_TYPE)
    return None


def append(old: Bin | None, argument: Bin) -> Bin:
    """A string or blob with another of its type at its end; the argument itself where there is no bin."""
    created = _joinable(old, argument)
    if created is not None or old is None:
        return created or argument
    return old[0], old[1] + argument[1]


def prepend(old: Bin | None, argument: Bin) -> Bin:
    """A string or blob with another of its type at its front; the argument itself where there is no bin."""
    created = _joinable(old, argument)
    if created is not None or old is None:
        return created or argument
    return old[0], argument[1] + old[1]


def hll(op: bytes, old: Bin | None) -> tuple[Bin | None, Bin | None]:
    """One HyperLogLog operation: the bin afterwards and the result. Only `init` and `describe` are implemented.

    Raises Refused: UNSUPPORTED_FEATURE for the others.
    """
    try:
        parts = msgpack.unpack(op)
    except CodecError as error:
        raise Refused(Result.PARAMETER) from error
    if not isinstance(parts, list) or not parts or not all(isinstance(part, int) for part in parts):
        raise Refused(Result.UNSUPPORTED_FEATURE if isinstance(parts, list) and parts else Result.PARAMETER)
    if old is not None and old[0] != Particle.HLL:
        raise Refused(Result.INCOMPATIBLE_TYPE)
    if parts[0] == _HLL_DESCRIBE and old is not None:
        return old, (Particle.LIST, msgpack.list_of([msgpack.integer(old[1][1]), msgpack.integer(old[1][2])]))
    if parts[0] == _HLL_INIT:
        return _hll_init([int(part) for part in parts[1:]], old), None
    raise Refused(Result.UNSUPPORTED_FEATURE)


def _hll_init(arguments: list[int], old: Bin | None) -> Bin | None:
    """Arguments: index bits, then minhash bits, then flags; bits that are 255 or left out are as they were."""
    index, minhash, flags = (*arguments, *(_UNSET, _UNSET, 0)[len(arguments) :])[:3]
    forbidden = flags & (_HLL_CREATE_ONLY if old is not None else _HLL_UPDATE_ONLY)
    if forbidden:
        if flags & _HLL_NO_FAIL:
            return old
        raise Refused(Result.BIN_EXISTS if old is not None else Result.BIN_NOT_FOUND)
    if old is None and index == _UNSET:
        raise Refused(Result.OP_NOT_APPLICABLE)
    index = old[1][1] if old is not None and index == _UNSET else index
    minhash = (old[1][2] if old is not None else 0) if minhash == _UNSET else minhash
    if not _hll_valid(index, minhash):
        raise Refused(Result.PARAMETER if old is None else Result.OP_NOT_APPLICABLE)
    return Particle.HLL, bytes((0, index, minhash)).ljust(_hll_size(index, minhash), b"\0")


def of_value(value: object) -> Bin | None:
    """What an expression evaluated to, as a particle: None, bool, int, float, or a particle already.

    None (nil) has no particle. Raises Refused (OP_NOT_APPLICABLE) when it evaluated to unknown.
    """
    match value:
        case None:
            return None
        case bool():
            return Particle.BOOL, bytes((value,))
        case int():
            return Particle.INTEGER, (value & _MASK).to_bytes(8, "big")
        case float():
            return Particle.FLOAT, struct.pack(">d", value)
        case (int(kind), bytes(data)):
            return kind, data
    raise Refused(Result.OP_NOT_APPLICABLE)
