"""The ways in which elements are picked: by index, rank, value or key, alone, in ranges, in lists, relative to another.

The rules are those of `packed_list_get_remove_by_…` and `packed_map_get_remove_by_…` in the server's
`particle_list.c` and `particle_map.c`.
"""

from collections.abc import Sequence
from enum import Enum, auto

from cdc.codec import msgpack
from cdc.embedded.aerospike.cdt.select import (
    UNLIMITED,
    Asked,
    By,
    Picked,
    Return,
    Run,
    interval,
    inverse,
    other_runs,
    relative,
    runs_of,
    span,
)
from cdc.embedded.aerospike.cdt.values import Opened, Ranking, compare
from cdc.embedded.aerospike.record import Refused
from cdc.errors import CodecError
from cdc.wire.messages import Result


class Way(Enum):
    """What a get or remove picks by."""

    INDEX = auto()
    INDEX_RANGE = auto()
    RANK = auto()
    RANK_RANGE = auto()
    VALUE = auto()
    ALL_BY_VALUE = auto()
    VALUE_LIST = auto()
    VALUE_INTERVAL = auto()
    VALUE_RELATIVE_RANK = auto()
    KEY = auto()
    KEY_LIST = auto()
    KEY_INTERVAL = auto()
    KEY_RELATIVE_INDEX = auto()


SINGLE = {Way.INDEX, Way.RANK, Way.VALUE, Way.KEY}
_NUMBERS = {Way.INDEX: 1, Way.INDEX_RANGE: 2, Way.RANK: 1, Way.RANK_RANGE: 2}
_MOST = {
    Way.VALUE: 1, Way.ALL_BY_VALUE: 1, Way.VALUE_LIST: 1, Way.VALUE_INTERVAL: 2, Way.VALUE_RELATIVE_RANK: 3,
    Way.KEY: 1, Way.KEY_LIST: 1, Way.KEY_INTERVAL: 2, Way.KEY_RELATIVE_INDEX: 3,
} | _NUMBERS  # fmt: skip
_LEAST = {Way.INDEX_RANGE: 1, Way.RANK_RANGE: 1, Way.VALUE_INTERVAL: 1, Way.KEY_INTERVAL: 1,
          Way.VALUE_RELATIVE_RANK: 2, Way.KEY_RELATIVE_INDEX: 2}  # fmt: skip


def number(element: bytes) -> int:
    """An integer argument. Refused (PARAMETER) if it is none."""
    value = msgpack.unpack(element)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(Result.PARAMETER)
    return value


def pick(way: Way, opened: Opened, ranking: Ranking, asked: Asked, arguments: Sequence[bytes]) -> Picked:
    """The elements that an operation is about. Refused (PARAMETER, OP_NOT_APPLICABLE) as the server refuses."""
    if not _LEAST.get(way, _MOST[way]) <= len(arguments) <= _MOST[way]:
        raise Refused(Result.PARAMETER)
    if asked.inverted and not asked.many:
        raise Refused(Result.OP_NOT_APPLICABLE)
    if way in _NUMBERS:
        first = number(arguments[0])
        count = 1 if way in SINGLE else number(arguments[1]) if len(arguments) > 1 else UNLIMITED
        by_index = way in (Way.INDEX, Way.INDEX_RANGE)
        return (_by_index if by_index else _by_rank)(opened, ranking, asked, first, count)
    if way in (Way.VALUE_LIST, Way.KEY_LIST):
        return _by_list(way, opened, ranking, asked, arguments[0])
    low = msgpack.order(arguments[0])
    if way in (Way.VALUE_RELATIVE_RANK, Way.KEY_RELATIVE_INDEX):
        by_key = way is Way.KEY_RELATIVE_INDEX
        orders = ranking.key_orders if by_key else ranking.orders
        base = sum(compare(order, low) < 0 for order in orders)
        limit = number(arguments[2]) if len(arguments) > 2 else UNLIMITED
        first, count = relative(number(arguments[1]), limit, base)
        return (_by_index if by_key else _by_rank)(opened, ranking, asked, first, count)
    by_key = way in (Way.KEY, Way.KEY_INTERVAL)
    orders = ranking.key_orders if by_key else ranking.orders
    high = msgpack.order(arguments[1]) if len(arguments) > 1 else None
    ranged = way in (Way.VALUE_INTERVAL, Way.KEY_INTERVAL)
    found, below = interval(low, high if ranged else low, orders, asked.many)
    if way is Way.KEY_INTERVAL and not opened.ordered:
        chosen = inverse(found, len(opened)) if asked.inverted else found
        return Picked(By.KEY, chosen, runs_of(chosen))
    if by_key or (opened.ordered and not opened.is_map) or (opened.is_map and asked.inverted and not found):
        return _indexes(found, asked, len(opened))
    run = (below, len(found))
    if not asked.inverted:
        return Picked(By.VALUE, found, [run])
    return Picked(By.VALUE, inverse(found, len(opened)), other_runs(run, len(opened)))


def _indexes(found: list[int], asked: Asked, size: int) -> Picked:
    chosen = inverse(found, size) if asked.inverted else found
    return Picked(By.INDEX, chosen, runs_of(chosen))


def _by_index(opened: Opened, ranking: Ranking, asked: Asked, first: int, count: int) -> Picked:
    start, length = span(first, count, len(opened), asked.many)
    return _indexes(list(range(start, start + length)), asked, len(opened))


def _by_rank(opened: Opened, ranking: Ranking, asked: Asked, first: int, count: int) -> Picked:
    if opened.ordered and not opened.is_map:
        return _by_index(opened, ranking, asked, first, count)
    size = len(opened)
    run = span(first, count, size, asked.many)
    if asked.inverted and opened.is_map and (at_edge := _rest(run, size)) is not None:
        return _ranked(opened, ranking, at_edge)
    if not asked.inverted:
        return _ranked(opened, ranking, run)
    chosen = inverse(ranking.by_rank[run[0] : sum(run)], size)
    return Picked(By.RANK if opened.is_map else By.VALUE, chosen, other_runs(run, size))


def _rest(run: Run, size: int) -> Run | None:
    """What remains outside a run, if that is one run."""
    start, count = run
    if count == 0:
        return 0, size
    if start == 0:
        return count, size - count
    return (0, start) if start + count >= size else None


def _ranked(opened: Opened, ranking: Ranking, run: Run) -> Picked:
    start, count = run
    positions = ranking.by_rank[start : start + count]
    if not opened.is_map and start <= len(opened) - start - count:
        positions = positions[::-1]  # the server's heap yields the lower half of an unordered list from its top
    return Picked(By.RANK, positions, [run])


def _by_list(way: Way, opened: Opened, ranking: Ranking, asked: Asked, items: bytes) -> Picked:
    by_key = way is Way.KEY_LIST
    if by_key and asked.kind in (Return.RANK, Return.REVERSE_RANK):
        raise Refused(Result.OP_NOT_APPLICABLE)
    if not msgpack.is_list(items):
        raise Refused(Result.PARAMETER)
    try:
        wanted = [msgpack.order(item) for item in msgpack.container(items).items]
    except CodecError as error:
        raise Refused(Result.PARAMETER) from error
    orders, size = (ranking.key_orders if by_key else ranking.orders), len(opened)
    found, runs = [], []
    for order in wanted:
        positions, below = interval(order, order, orders, many=True)
        found += positions
        runs.append((below, len(positions)))
    ordered_list = opened.ordered and not opened.is_map
    if asked.inverted:
        if not wanted:
            return _indexes([], asked, size)
        chosen = inverse(found, size)
        if ordered_list or (by_key and opened.ordered):
            return Picked(By.INDEX, chosen, _singly(runs_of(chosen)))
        gone = {rank for start, count in runs for rank in range(start, start + count)}
        others = runs_of(i for i in range(size) if i not in gone)
        return Picked(By.INDEX if by_key else By.VALUE, chosen, others)
    if ordered_list:
        return Picked(By.INDEX, found, runs)
    return Picked(By.INDEX if by_key else By.VALUE, sorted(set(found)), _singly(runs))


def _singly(runs: list[Run]) -> list[Run]:
    """Runs cut into single numbers: answered in reverse, each number turns and their order stays."""
    return [(i, 1) for start, count in runs for i in range(start, start + count)]
