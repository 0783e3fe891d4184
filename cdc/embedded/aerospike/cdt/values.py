"""A list or map opened for work, and the form in which the server keeps what a client sends."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from cdc.codec import msgpack
from cdc.codec.msgpack import Order
from cdc.embedded.aerospike.record import Particle as Bin
from cdc.embedded.aerospike.record import Refused
from cdc.errors import CodecError
from cdc.wire.messages import Particle, Result


@dataclass(slots=True, frozen=True)
class Opened:
    """A list's elements, or a map's pairs, in their stored order; raw. `keys` is empty for a list.

    A map is always kept sorted by key, whether or not it is flagged as ordered, as the server keeps it.
    """

    is_map: bool
    flags: int
    values: tuple[bytes, ...]
    keys: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ordered(self) -> bool:
        return bool(self.flags & msgpack.ORDERED)

    def packed(self) -> bytes:
        flags = self.flags or None
        if not self.is_map:
            return msgpack.list_of(self.values, flags)
        return msgpack.map_of([part for pair in zip(self.keys, self.values, strict=True) for part in pair], flags)

    def with_values(self, values: list[bytes] | tuple[bytes, ...]) -> "Opened":
        """The same list with other elements."""
        return Opened(False, self.flags, tuple(values))

    def with_pairs(self, pairs: list[tuple[bytes, bytes]]) -> "Opened":
        """The same map with other pairs, sorted here."""
        pairs = sorted(pairs, key=lambda pair: msgpack.order(pair[0]))
        return Opened(True, self.flags, tuple(v for _, v in pairs), tuple(k for k, _ in pairs))

    def with_flags(self, flags: int) -> "Opened":
        """The same elements with other order flags; a list that becomes ordered is sorted."""
        if self.is_map or not flags & msgpack.ORDERED:
            return Opened(self.is_map, flags, self.values, self.keys)
        return Opened(False, flags, tuple(sorted(self.values, key=msgpack.order)))

    def without(self, positions: set[int]) -> "Opened":
        """The elements that are not at these positions."""
        kept = [i for i in range(len(self.values)) if i not in positions]
        keys = tuple(self.keys[i] for i in kept) if self.is_map else ()
        return Opened(self.is_map, self.flags, tuple(self.values[i] for i in kept), keys)


class Ranking:
    """The order of an opened container's elements, worked out when first asked for."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened

    @cached_property
    def orders(self) -> list[Order]:
        """Each value's order."""
        return [msgpack.order(value) for value in self.opened.values]

    @cached_property
    def key_orders(self) -> list[Order]:
        """Each key's order, ascending."""
        return [msgpack.order(key) for key in self.opened.keys]

    @cached_property
    def by_rank(self) -> list[int]:
        """The positions from the lowest value to the highest; equals in their stored order."""
        return sorted(range(len(self.opened)), key=self.orders.__getitem__)

    @cached_property
    def rank(self) -> list[int]:
        """The rank of each position, no two alike."""
        ranks = [0] * len(self.opened)
        for rank, position in enumerate(self.by_rank):
            ranks[position] = rank
        return ranks

    def lower(self, value: Order) -> int:
        """How many values are lower than this one."""
        return sum(compare(order, value) < 0 for order in self.orders)

    def first_rank(self, position: int) -> int:
        """How many values are lower than the one at a position."""
        return bisect_left(sorted(self.orders), self.orders[position])


def compare(left: Order, right: Order) -> int:
    """-1, 0 or 1, as the server compares two elements; a wildcard equals all that stands in its place and after it."""
    return 0 if left == right else (_compare(left, right) or 0)


def _compare(left: Order, right: Order) -> int | None:
    """None: a wildcard decided that they are equal, whatever follows."""
    if msgpack.WILDCARD_RANK in (left[0], right[0]):
        return None
    if left[0] != right[0] or left[0] not in (msgpack.LIST_RANK, msgpack.MAP_RANK):
        return (left > right) - (left < right)
    mine, other = left[1], right[1]
    if left[0] == msgpack.MAP_RANK:
        if mine[0] != other[0]:
            return 1 if mine[0] > other[0] else -1
        mine, other = mine[1:], other[1:]
    for a, b in zip(mine, other, strict=False):
        found = _compare(a, b)
        if found != 0:
            return found
    return (len(mine) > len(other)) - (len(mine) < len(other))


def opened(data: bytes) -> Opened:
    """A stored list or map, opened. Refused (PARAMETER) if it is neither."""
    try:
        parts = msgpack.container(data)
    except CodecError as error:
        raise Refused(Result.PARAMETER) from error
    flags = parts.flags or 0
    if not parts.is_map:
        return Opened(False, flags, parts.items)
    return Opened(True, flags, parts.items[1::2], parts.items[::2])


def stored(element: bytes) -> bytes:
    """What a client sent, in the form in which the server keeps it (`cdt_untrusted_rewrite`).

    Scalars in their shortest form; only the order flags remain; maps sorted by key at every depth. Refused (PARAMETER)
    for wildcards, map keys that are not integer, string or blob, duplicate keys, a flagged order that does not hold,
    and anything malformed.
    """
    try:
        return _stored(element)
    except (CodecError, RecursionError) as error:
        raise Refused(Result.PARAMETER) from error


def _stored(element: bytes) -> bytes:
    if not msgpack.is_list(element) and not msgpack.is_map(element):
        if msgpack.skip(element) != len(element) or msgpack.order(element)[0] >= msgpack.WILDCARD_RANK:
            raise CodecError("not something that is stored")
        return msgpack.compact(element)
    parts = msgpack.container(element)
    items = [_stored(item) for item in parts.items]
    if not parts.is_map:
        ordered = (parts.flags or 0) & msgpack.ORDERED
        if ordered and not _ascends(items, strictly=False):
            raise CodecError("a list flagged as ordered is not")
        return msgpack.list_of(items, ordered or None)
    flags = (parts.flags or 0) & msgpack.KEY_VALUE_ORDERED
    keys = items[::2]
    if not all(is_key(key) for key in keys):
        raise CodecError("a map key that is not an integer, a string or a blob")
    if not _ascends(keys, strictly=True):
        if flags & msgpack.ORDERED:
            raise CodecError("a map flagged as ordered is not, or has a key twice")
        pairs = sorted(zip(keys, items[1::2], strict=True), key=lambda pair: msgpack.order(pair[0]))
        if not _ascends([key for key, _ in pairs], strictly=True):
            raise CodecError("a map has a key twice")
        items = [part for pair in pairs for part in pair]
    return msgpack.map_of(items, flags or None)


def _ascends(items: list[bytes], *, strictly: bool) -> bool:
    orders = [msgpack.order(item) for item in items]
    return all(a < b if strictly else a <= b for a, b in pairwise(orders))


def is_key(element: bytes) -> bool:
    """Whether this element may be a map's key."""
    order = msgpack.order(element)
    if order[0] == msgpack.BYTES_RANK:
        return bool(order[1]) and order[1][0] == msgpack.BLOB
    return order[0] in (msgpack.INTEGER_RANK, msgpack.STRING_RANK)


_OF_STRING = {
    msgpack.STRING: Particle.STRING, msgpack.BLOB: Particle.BLOB, msgpack.HLL: Particle.HLL,
}  # fmt: skip


def as_bin(element: bytes) -> Bin | None:
    """A single element as a bin's particle; None for nil."""
    if msgpack.is_list(element):
        return Particle.LIST, element
    if msgpack.is_map(element):
        return Particle.MAP, element
    value = msgpack.unpack(element)
    match value:
        case None:
            return None
        case bool():
            return Particle.BOOL, bytes((value,))
        case int():
            return Particle.INTEGER, (value & (1 << 64) - 1).to_bytes(8, "big")
        case float():
            return Particle.FLOAT, msgpack.double(value)[1:]
        case bytes() if value and value[0] == msgpack.GEOJSON:
            return Particle.GEOJSON, b"\0\0\0" + value[1:]
        case bytes() if value:
            return _OF_STRING.get(value[0], Particle(value[0])), value[1:]
    raise Refused(Result.PARAMETER)


def integer_bin(value: int) -> Bin:
    """An integer as a bin's particle."""
    return Particle.INTEGER, (value & (1 << 64) - 1).to_bytes(8, "big")


def increased(value: bytes | None, delta: bytes | None, sign: int = 1) -> bytes:
    """An integer or float element plus a delta (by default 1), in the type of the element, else of the delta.

    Refused (PARAMETER) when either is not a number. Integers wrap at 64 bits.
    """
    by = 1 if delta is None else msgpack.unpack(delta)
    by = 1 if by is None else by
    old = None if value is None else msgpack.unpack(value)
    for number in (by, 0 if value is None else old):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Refused(Result.PARAMETER)
    if isinstance(old, float) or (old is None and isinstance(by, float)):
        return msgpack.double((old or 0.0) + by * sign)
    total = ((old or 0) + int(by) * sign) & (1 << 64) - 1
    return msgpack.integer(total - (1 << 64) if total >> 63 else total)
