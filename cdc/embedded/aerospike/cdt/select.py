"""Which elements a get or remove is about, and what it answers for them (`cdt.h`, result types).

Every `get_by_…` and `remove_by_…` picks elements in one of a few ways and then answers in the asked return type. The
order of what is answered depends on the way: by index, key and value in stored order, by rank in rank order. Inverted
picks are answered in stored order.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum

from cdc.codec import msgpack
from cdc.codec.msgpack import Order
from cdc.embedded.aerospike.cdt.values import Opened, Ranking, as_bin, compare, integer_bin
from cdc.embedded.aerospike.record import Particle as Bin
from cdc.embedded.aerospike.record import Refused
from cdc.wire.messages import Particle, Result

INVERTED = 1 << 16
PRESERVE_ORDER = 8
"""The flag of a map that is answered as key-value pairs in the order of the answer."""
UNLIMITED = (1 << 32) - 1
Run = tuple[int, int]


class Return(IntEnum):
    """Return types of the protocol. The ranges (9 to 12) have no name in the clients and are refused here."""

    NONE = 0
    INDEX = 1
    REVERSE_INDEX = 2
    RANK = 3
    REVERSE_RANK = 4
    COUNT = 5
    KEY = 6
    VALUE = 7
    KEY_VALUE = 8
    EXISTS = 13
    UNORDERED_MAP = 16
    ORDERED_MAP = 17


MAPS = {Return.KEY_VALUE: PRESERVE_ORDER, Return.UNORDERED_MAP: 0, Return.ORDERED_MAP: msgpack.ORDERED}


class By(Enum):
    """How elements are picked."""

    INDEX = 1
    RANK = 2
    VALUE = 3
    KEY = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: the return type, whether of all other elements, and whether of many."""

    kind: Return
    inverted: bool
    many: bool

    @classmethod
    def of(cls, number: int, many: bool) -> "Asked":
        """From the number on the wire. Refused (OP_NOT_APPLICABLE) for a return type that is not known here."""
        try:
            return cls(Return(number & 0xFFFF), bool(number & INVERTED), many)
        except ValueError as error:
            raise Refused(Result.OP_NOT_APPLICABLE) from error


@dataclass(frozen=True, slots=True)
class Picked:
    """Positions in the order of the answer, and the same as runs of indexes or ranks where they are runs."""

    by: By
    positions: list[int]
    runs: list[Run]


def span(index: int, count: int, size: int, many: bool) -> Run:
    """The part of `size` elements that an index and a count name; negative indexes count from the end.

    Refused (OP_NOT_APPLICABLE) for a single element outside (`calc_index_count`).
    """
    if not many:
        at = index + size if index < 0 else index
        if not 0 <= at < size:
            raise Refused(Result.OP_NOT_APPLICABLE)
        return at, 1
    if index >= size:
        return size, 0
    start = index + size if index < 0 else index
    if start < 0:
        return 0, max(0, min(count + start, size))
    return start, min(count, size - start)


def relative(index: int, count: int, base: int) -> Run:
    """An index and count that are relative to `base`, as absolute ones that do not begin before 0."""
    index += base
    return (index, count) if index >= 0 else (0, max(0, count + index))


def interval(low: Order, high: Order | None, orders: list[Order], many: bool) -> tuple[list[int], int]:
    """Positions with low <= value < high (no high: to the end; `high is low`: equal to it), and how many are lower."""
    if high is low:
        found = [i for i, order in enumerate(orders) if compare(order, low) == 0]
        return (found if many else found[:1]), sum(compare(order, low) < 0 for order in orders)
    below = sum(compare(order, low) < 0 for order in orders)
    return [
        i for i, order in enumerate(orders) if compare(order, low) >= 0 and (high is None or compare(order, high) < 0)
    ], below


def inverse(positions: Iterable[int], size: int) -> list[int]:
    """All other positions."""
    gone = set(positions)
    return [i for i in range(size) if i not in gone]


def other_runs(run: Run, size: int) -> list[Run]:
    """The runs before and after one."""
    start, count = run
    return [(0, start), (start + count, size - start - count)]


def runs_of(numbers: Iterable[int]) -> list[Run]:
    """Ascending numbers as runs."""
    runs: list[Run] = []
    for number in numbers:
        if runs and sum(runs[-1]) == number:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


def nothing(asked: Asked, is_map: bool) -> Bin | None:
    """The answer when nothing was found. Refused where a list is asked for keys."""
    if asked.kind in MAPS or asked.kind is Return.KEY:
        if not is_map:
            raise Refused(Result.OP_NOT_APPLICABLE)
        if asked.kind in MAPS:
            return Particle.MAP, msgpack.map_of([], MAPS[asked.kind] or None)
    match asked.kind:
        case Return.NONE:
            return None
        case Return.COUNT:
            return integer_bin(0)
        case Return.EXISTS:
            return Particle.BOOL, b"\0"
        case Return.KEY | Return.VALUE:
            return (Particle.LIST, b"\x90") if asked.many else None
        case _:
            return (Particle.LIST, b"\x90") if asked.many else integer_bin(-1)


def answer(asked: Asked, opened: Opened, ranking: Ranking, picked: Picked) -> Bin | None:
    """The answer for what was picked (after inversion)."""
    kind = asked.kind
    if kind is Return.EXISTS and asked.inverted and picked.by is not By.INDEX:
        raise Refused(Result.OP_NOT_APPLICABLE)  # the server's answer to this does not follow from what it picked
    if not picked.positions:
        return nothing(asked, opened.is_map)
    match kind:
        case Return.NONE:
            return None
        case Return.COUNT:
            return integer_bin(len(set(picked.positions)))
        case Return.EXISTS:
            return Particle.BOOL, bytes((bool(picked.positions),))
        case Return.VALUE | Return.KEY | Return.KEY_VALUE | Return.UNORDERED_MAP | Return.ORDERED_MAP:
            return _elements(asked, opened, picked)
        case Return.INDEX | Return.REVERSE_INDEX:
            numbers = _indexes(asked, opened, picked)
        case _:
            numbers = _ranks(asked, opened, ranking, picked)
    return (
        (Particle.LIST, msgpack.list_of([msgpack.integer(n) for n in numbers]))
        if asked.many
        else (integer_bin(numbers[0]))
    )


def _elements(asked: Asked, opened: Opened, picked: Picked) -> Bin | None:
    kind, positions = asked.kind, picked.positions
    if kind is Return.VALUE:
        chosen = [opened.values[i] for i in positions]
    elif not opened.is_map:
        raise Refused(Result.OP_NOT_APPLICABLE)
    elif kind is Return.KEY:
        chosen = [opened.keys[i] for i in positions]
    else:
        order = sorted(positions) if kind is Return.ORDERED_MAP else positions
        pairs = [part for i in order for part in (opened.keys[i], opened.values[i])]
        return Particle.MAP, msgpack.map_of(pairs, MAPS[kind] or None)
    return (Particle.LIST, msgpack.list_of(chosen)) if asked.many else as_bin(chosen[0])


def _numbered(runs: list[Run], size: int, reverse: bool) -> list[int]:
    numbers: list[int] = []
    for start, count in runs:
        first = size - start - count if reverse else start
        numbers += range(first, first + count)
    return numbers


def _indexes(asked: Asked, opened: Opened, picked: Picked) -> list[int]:
    size, reverse = len(opened), asked.kind is Return.REVERSE_INDEX
    if picked.by in (By.INDEX, By.KEY):
        return _numbered(picked.runs, size, reverse)
    positions = picked.positions if opened.is_map or picked.by is not By.RANK else sorted(picked.positions)
    return [size - i - 1 if reverse else i for i in positions]


def _ranks(asked: Asked, opened: Opened, ranking: Ranking, picked: Picked) -> list[int]:
    size, reverse = len(opened), asked.kind is Return.REVERSE_RANK
    if picked.by in (By.RANK, By.VALUE):
        return _numbered(picked.runs, size, reverse)
    if opened.ordered and not opened.is_map:
        return _numbered(picked.runs, size, reverse)
    if len(picked.positions) == size and asked.many and picked.by is By.INDEX:
        return _numbered([(0, size)], size, reverse)
    if opened.is_map:
        ranks = [ranking.rank[i] for i in picked.positions]
    else:
        ranks = [ranking.first_rank(i) for i in picked.positions]
    return [size - rank - 1 if reverse else rank for rank in ranks]
