"""Operations that change a list, and the map from operation numbers to what they do."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from cdc.codec import msgpack
from cdc.embedded.aerospike.cdt.pick import Way, number
from cdc.embedded.aerospike.cdt.select import INVERTED, Return
from cdc.embedded.aerospike.cdt.values import Opened, as_bin, increased, integer_bin, stored
from cdc.embedded.aerospike.record import Particle as Bin
from cdc.embedded.aerospike.record import Refused
from cdc.wire.messages import Result

SET_TYPE, TRIM, CLEAR, SORT, SIZE = 0, 10, 11, 13, 16
UNIQUE, BOUNDED, NO_FAIL, PARTIAL = 1, 2, 4, 8
"""How a list is to be modified."""
DESCENDING, DROP_DUPLICATES = 1, 2

Outcome = tuple[Opened, Bin | None]
Change = Callable[[Opened, Sequence[bytes]], Outcome]

READS: dict[int, Way] = {
    17: Way.INDEX, 18: Way.INDEX_RANGE, 19: Way.INDEX, 20: Way.VALUE, 21: Way.RANK, 22: Way.ALL_BY_VALUE,
    23: Way.VALUE_LIST, 24: Way.INDEX_RANGE, 25: Way.VALUE_INTERVAL, 26: Way.RANK_RANGE, 27: Way.VALUE_RELATIVE_RANK,
}  # fmt: skip
REMOVES: dict[int, Way] = {
    5: Way.INDEX, 6: Way.INDEX_RANGE, 7: Way.INDEX, 8: Way.INDEX_RANGE, 10: Way.INDEX_RANGE, 32: Way.INDEX,
    33: Way.VALUE, 34: Way.RANK, 35: Way.ALL_BY_VALUE, 36: Way.VALUE_LIST, 37: Way.INDEX_RANGE, 38: Way.VALUE_INTERVAL,
    39: Way.RANK_RANGE, 40: Way.VALUE_RELATIVE_RANK,
}  # fmt: skip
FIXED_RETURNS: dict[int, int] = {
    17: Return.VALUE, 18: Return.VALUE, 5: Return.VALUE, 6: Return.VALUE, 7: Return.COUNT, 8: Return.COUNT,
    10: Return.COUNT | INVERTED,
}  # fmt: skip
"""Operations that have no return type among their arguments."""


def created_flags(operation: int, arguments: Sequence[bytes]) -> int:
    """The order flags of a list that this operation creates; an unknown flag means none."""
    at = {1: 1, 2: 1, 12: 2}.get(operation)
    flags = number(arguments[at]) if at is not None and len(arguments) > at else 0
    return flags & msgpack.ORDERED if not flags & ~(msgpack.ORDERED | msgpack.PERSIST_INDEX) else 0


def _exists(flags: int, size: int) -> Bin:
    if flags & NO_FAIL:
        return integer_bin(size)
    raise Refused(Result.ELEMENT_EXISTS)


def _flags(arguments: Sequence[bytes], at: int) -> int:
    return number(arguments[at]) if len(arguments) > at else 0


def _items(argument: bytes) -> list[bytes]:
    if not msgpack.is_list(argument):
        raise Refused(Result.PARAMETER)
    return list(msgpack.container(stored(argument)).items)


def _admitted(held: Opened, items: list[bytes], flags: int) -> list[bytes] | None:
    """The items that uniqueness lets in; None: nothing is to happen. Refused when one is there and may not be."""
    if not flags & UNIQUE:
        return items
    partial = flags & NO_FAIL and flags & PARTIAL
    held_orders = {msgpack.order(value) for value in held.values}
    seen, admitted = set(), []
    for item in items:
        order = msgpack.order(item)
        if order in held_orders or order in seen:
            if partial:
                continue
            if flags & NO_FAIL:
                return None
            raise Refused(Result.OP_NOT_APPLICABLE if order in seen else Result.ELEMENT_EXISTS)
        seen.add(order)
        admitted.append(item)
    if items and not admitted:
        return None
    return admitted


def _added(held: Opened, items: list[bytes], flags: int) -> Outcome:
    """Items put where their order says, or at the end."""
    if not held.ordered:
        return _inserted(held, len(held), items, flags)
    admitted = _admitted(held, items, flags)
    if admitted is None:
        return held, integer_bin(len(held))
    grown = held.with_values(sorted([*held.values, *admitted], key=msgpack.order))
    return grown, integer_bin(len(grown))


def _inserted(held: Opened, index: int, items: list[bytes], flags: int) -> Outcome:
    """Items put at an index of an unordered list; nils fill a gap. Refused (OP_NOT_APPLICABLE) before its beginning."""
    size = len(held)
    if not items:
        return held, integer_bin(size)
    at = index + size if index < 0 else index
    if at < 0 or at > (1 << 31) - 1:
        raise Refused(Result.OP_NOT_APPLICABLE)
    if flags & BOUNDED and at > size:
        if flags & NO_FAIL:
            return held, integer_bin(size)
        raise Refused(Result.OP_NOT_APPLICABLE)
    admitted = _admitted(held, items, flags)
    if admitted is None:
        return held, integer_bin(size)
    gap = [msgpack.NIL] * max(0, at - size)
    grown = held.with_values([*held.values[:at], *gap, *admitted, *held.values[at:]])
    return grown, integer_bin(len(grown))


def _append(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _added(held, [stored(arguments[0])], _flags(arguments, 2))


def _append_items(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _added(held, _items(arguments[0]), _flags(arguments, 2))


def _insert(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    item = stored(arguments[1])
    if held.ordered:
        raise Refused(Result.OP_NOT_APPLICABLE)
    return _inserted(held, number(arguments[0]), [item], _flags(arguments, 2))


def _insert_items(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    items = _items(arguments[1])
    if held.ordered:
        raise Refused(Result.OP_NOT_APPLICABLE)
    return _inserted(held, number(arguments[0]), items, _flags(arguments, 2))


def _set(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    return _replaced(held, number(arguments[0]), stored(arguments[1]), _flags(arguments, 2)), None


def _replaced(held: Opened, index: int, item: bytes, flags: int) -> Opened:
    if held.ordered:
        raise Refused(Result.OP_NOT_APPLICABLE)
    size = len(held)
    if index >= size:
        return _inserted(held, index, [item], flags)[0]
    at = index + size if index < 0 else index
    if at < 0:
        raise Refused(Result.OP_NOT_APPLICABLE)
    others = held.values[:at] + held.values[at + 1 :]
    if flags & UNIQUE and msgpack.order(item) in {msgpack.order(other) for other in others}:
        _exists(flags, size)
        return held
    return held.with_values([*held.values[:at], item, *held.values[at + 1 :]])


def _increment(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    index, size = number(arguments[0]), len(held)
    at = index + size if index < 0 else index
    if at < 0 or at > (1 << 31) - 1:
        raise Refused(Result.OP_NOT_APPLICABLE)
    delta = arguments[1] if len(arguments) > 1 else None
    new = increased(held.values[at] if at < size else None, delta)
    flags = _flags(arguments, 3)
    if not held.ordered:
        return _replaced(held, at, new, flags), as_bin(new)
    if at > size:
        raise Refused(Result.OP_NOT_APPLICABLE)
    order = msgpack.order(new)
    if flags & UNIQUE and order in (orders := [msgpack.order(value) for value in held.values]):
        if orders.index(order) != at:
            _exists(flags, size)
        return held, as_bin(new)
    others = [*held.values[:at], *held.values[at + 1 :], new]
    return held.with_values(sorted(others, key=msgpack.order)), as_bin(new)


def _set_type(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    flags = number(arguments[0])
    if flags & ~(msgpack.ORDERED | msgpack.PERSIST_INDEX):
        raise Refused(Result.OP_NOT_APPLICABLE)
    flags &= msgpack.ORDERED  # a persisted index never leaves the server
    return (held if flags == held.flags else held.with_flags(flags)), None


def _sort(held: Opened, arguments: Sequence[bytes]) -> Outcome:
    flags = _flags(arguments, 0)
    values = list(held.values)
    if not held.ordered:
        values.sort(key=msgpack.order, reverse=bool(flags & DESCENDING))
    if flags & DROP_DUPLICATES:
        orders = [msgpack.order(value) for value in values]
        if any(a > b for a, b in pairwise(orders)):
            raise Refused(Result.PARAMETER)  # the server looks for equals in ascending order only
        values = [value for i, value in enumerate(values) if i == 0 or orders[i] != orders[i - 1]]
    return held.with_values(values), None


CHANGES: dict[int, tuple[Change, int, int]] = {
    SET_TYPE: (_set_type, 1, 1), 1: (_append, 1, 3), 2: (_append_items, 1, 3), 3: (_insert, 2, 3),
    4: (_insert_items, 2, 3), 9: (_set, 2, 3), 12: (_increment, 1, 4), SORT: (_sort, 0, 1),
}  # fmt: skip
"""What changes a list other than by removing: the function, its least and its most arguments."""
