"""Operations that change a map, and the map from operation numbers to what they do."""

from collections.abc import Callable, Sequence

from cdc.codec import msgpack
from cdc.embedded.aerospike.cdt.pick import Way, number
from cdc.embedded.aerospike.cdt.values import Opened, as_bin, increased, integer_bin, is_key, stored
from cdc.embedded.aerospike.record import Particle as Bin
from cdc.embedded.aerospike.record import Refused
from cdc.wire.messages import Result

SET_TYPE, CLEAR, SIZE, REPLACE_ITEMS = 64, 75, 96, 70
NO_OVERWRITE, NO_CREATE, NO_FAIL, PARTIAL = 1, 2, 4, 8
"""How a map is to be modified."""

Outcome = tuple[Opened, Bin | None]
Change = Callable[[Opened, Sequence[bytes]], Outcome]

READS: dict[int, Way] = {
    97: Way.KEY, 98: Way.INDEX, 99: Way.VALUE, 100: Way.RANK, 102: Way.ALL_BY_VALUE, 103: Way.KEY_INTERVAL,
    104: Way.INDEX_RANGE, 105: Way.VALUE_INTERVAL, 106: Way.RANK_RANGE, 107: Way.KEY_LIST, 108: Way.VALUE_LIST,
    109: Way.KEY_RELATIVE_INDEX, 110: Way.VALUE_RELATIVE_RANK,
}  # fmt: skip
REMOVES: dict[int, Way] = {
    76: Way.KEY, 77: Way.INDEX, 78: Way.VALUE, 79: Way.RANK, 81: Way.KEY_LIST, 82: Way.ALL_BY_VALUE,
    83: Way.VALUE_LIST, 84: Way.KEY_INTERVAL, 85: Way.INDEX_RANGE, 86: Way.VALUE_INTERVAL, 87: Way.RANK_RANGE,
    88: Way.KEY_RELATIVE_INDEX, 89: Way.VALUE_RELATIVE_RANK,
}  # fmt: skip


def created_flags(operation: int, arguments: Sequence[bytes]) -> int:
    """The order flags of a map that this operation creates; an unknown flag means none."""
    at = {65: 2, 66: 1, 67: 2, 68: 1, 73: 2, 74: 2}.get(operation)
    flags = number(arguments[at]) if at is not None and len(arguments) > at else 0
    known = msgpack.KEY_VALUE_ORDERED | msgpack.PERSIST_INDEX
    return flags & msgpack.KEY_VALUE_ORDERED if not flags & ~known else 0


def _put(held: Opened, pairs: list[tuple[bytes, bytes]], flags: int, many: bool) -> Outcome:
    """Pairs put into a map. Refused (ELEMENT_EXISTS, ELEMENT_NOT_FOUND) as the flags forbid."""
    if many and not held.keys and pairs and flags & NO_CREATE:
        if not flags & NO_FAIL:
            raise Refused(Result.ELEMENT_NOT_FOUND)
        if flags & PARTIAL:
            flags = 0  # the server does not look at single pairs when the map is empty
    new = {msgpack.order(key): (key, value) for key, value in zip(held.keys, held.values, strict=True)}
    for key, value in pairs:
        order = msgpack.order(key)
        forbidden = flags & NO_OVERWRITE if order in new else flags & NO_CREATE
        if not forbidden:
            new[order] = key, value
        elif not flags & NO_FAIL:
            raise Refused(Result.ELEMENT_EXISTS if order in new else Result.ELEMENT_NOT_FOUND)
        elif not flags & PARTIAL:
            return held, integer_bin(len(held))
    grown = held.with_pairs(list(new.values()))
    return grown, integer_bin(len(grown))


def _pair(arguments: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    key, value = stored(arguments[0]), stored(arguments[1])
    if not is_key(key):
        raise Refused(Result.PARAMETER)
    return [(key, value)]


def _pairs(argument: bytes) -> list[tuple[bytes, bytes]]:
    if not msgpack.is_map(argument):
        raise Refused(Result.PARAMETER)
    return msgpack.container(stored(argument)).pairs


def _flags(arguments: Sequence[bytes], at: int) -> int:
    return number(arguments[at]) if len(arguments) > at else 0


def _put_one(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _put(held, _pair(arguments), _flags(arguments, 3), many=False)


def _put_items(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _put(held, _pairs(arguments[0]), _flags(arguments, 2), many=True)


def _add(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _put(held, _pair(arguments), NO_OVERWRITE, many=False)


def _add_items(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _put(held, _pairs(arguments[0]), NO_OVERWRITE, many=True)


def _replace(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _put(held, _pair(arguments), NO_CREATE, many=False)


def _replace_items(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _put(held, _pairs(arguments[0]), NO_CREATE, many=True)


def _counted(held: Opened, arguments: Sequence[bytes], sign: int) -> Outcome:
    key = stored(arguments[0])
    if not is_key(key):
        raise Refused(Result.PARAMETER)
    wanted = msgpack.order(key)
    old = next((v for k, v in zip(held.keys, held.values, strict=True) if msgpack.order(k) == wanted), None)
    new = increased(old, arguments[1] if len(arguments) > 1 else None, sign)
    return _put(held, [(key, new)], 0, many=False)[0], as_bin(new)


def _increment(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _counted(held, arguments, 1)


def _decrement(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _counted(held, arguments, -1)


def _set_type(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    flags = number(arguments[0])
    if flags & ~(msgpack.KEY_VALUE_ORDERED | msgpack.PERSIST_INDEX):
        raise Refused(Result.OP_NOT_APPLICABLE)
    return held.with_flags(flags & msgpack.KEY_VALUE_ORDERED), None


CHANGES: dict[int, tuple[Change, int, int]] = {
    SET_TYPE: (_set_type, 1, 1), 65: (_add, 2, 3), 66: (_add_items, 1, 2), 67: (_put_one, 2, 4),
    68: (_put_items, 1, 3), 69: (_replace, 2, 2), REPLACE_ITEMS: (_replace_items, 1, 1), 73: (_increment, 1, 3),
    74: (_decrement, 1, 3),
}  # fmt: skip
"""What changes a map other than by removing: the function, its least and its most arguments."""
