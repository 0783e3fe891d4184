"""List and map operations on a few containers, as they go over the wire: what the server answered is in
`cdt_answers.json`, and `test_cdt_answers.py` holds any server to it.

A case is a container and an operation; its answer is the result code, the result and the bin afterwards, as text. To
record the answers of a real server anew: `AEROSPIKE_HOSTS=host:port CDT_RECORD=1 pytest tests/conformance`.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from cdc.codec import msgpack

LIST, MAP = 20, 19
READ, MODIFY = 3, 4
INVERTED = 1 << 16
INF = msgpack.Ext(0xFF, b"\x01")
WILD = msgpack.Ext(0xFF, b"\x00")

VALUES: list[Any] = [5, 1, "x", 3, 1, None, 2.5, [1, 2], True, {"k": 1}, "a" * 40, 70000, -70000, b"\x04\x00\xff"]


def _ordered(values: list[Any]) -> bytes:
    return msgpack.list_of(sorted((msgpack.pack(v) for v in values), key=msgpack.order), msgpack.ORDERED)


def _map(pairs: dict[Any, Any], flags: int | None) -> bytes:
    items = sorted(((msgpack.pack(k), msgpack.pack(v)) for k, v in pairs.items()), key=lambda p: msgpack.order(p[0]))
    return msgpack.map_of([part for pair in items for part in pair], flags)


PAIRS: dict[Any, Any] = {"b": 3, "a": 9, 7: "x", "c": 3, -2: [1], b"\x04z": {"q": 2}, "d": None}

CONTAINERS: dict[str, tuple[int, bytes] | None] = {
    "absent": None,
    "list": (LIST, msgpack.pack([5, 1, 3, 1, "x", 9])),
    "ordered list": (LIST, _ordered([5, 1, 3, 1, "x", 9])),
    "empty list": (LIST, msgpack.list_of([])),
    "empty ordered list": (LIST, msgpack.list_of([], msgpack.ORDERED)),
    "mixed list": (LIST, msgpack.pack(VALUES)),
    "mixed ordered list": (LIST, _ordered(VALUES)),
    "map": (MAP, _map(PAIRS, None)),
    "key-ordered map": (MAP, _map(PAIRS, 1)),
    "key-value-ordered map": (MAP, _map(PAIRS, 3)),
    "empty map": (MAP, msgpack.map_of([])),
    "empty ordered map": (MAP, msgpack.map_of([], 1)),
    "nested": (MAP, _map({"l": [1, [4, 2], {"x": [7]}], "m": {"k": {"z": [3, 1]}}, "n": 5}, 1)),
    "nested list": (LIST, msgpack.list_of([msgpack.pack([3, 1]), _ordered([2, 8]), _map({"k": 1}, 1)])),
}
LISTS = [name for name, held in CONTAINERS.items() if held and held[0] == LIST and "nested" not in name]
MAPS = [name for name, held in CONTAINERS.items() if held and held[0] == MAP and "nested" not in name]

LIST_RETURNS = (0, 1, 2, 3, 4, 5, 7, 13)
MAP_RETURNS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 17)
_STRIDE = 7  # of all combinations of reads and removes; shares no factor with the numbers of return types
_SPANS = ((0, 2), (-2, 2), (1, 3), (2, 100), (50, 2), (-50, 2), (0, 100), (0, 0), (-3,), (2,))

Case = tuple[str, list[Any]]
"""A container's name and an operation with its arguments."""


def _with_returns(container: str, number: int, arguments: Any, returns: tuple[int, ...], many: bool) -> Iterator[Case]:
    for kind, inverted in product(returns, (0, INVERTED) if many else (0,)):
        if kind == 13 and inverted:
            continue  # the server's answer does not follow from what it picked
        if number in (107, 108) and inverted and arguments == [[]]:
            continue  # ends a server of version 8.1.2
        yield container, [number, kind | inverted, *arguments]


def _reads(container: str, is_map: bool) -> Iterator[Case]:
    returns = MAP_RETURNS if is_map else LIST_RETURNS
    index, value, rank, every, values, indexes, interval, ranks, relative = (
        (98, 99, 100, 102, 108, 104, 105, 106, 110) if is_map else (19, 20, 21, 22, 23, 24, 25, 26, 27)
    )
    for number in (index, rank):
        for at in (0, -1, 3, 50):
            yield from _with_returns(container, number, [at], returns, many=False)
    for wanted in (1, 3, "x", [1, WILD], 4):
        yield from _with_returns(container, value, [wanted], returns, many=False)
        yield from _with_returns(container, every, [wanted], returns, many=True)
    for number in (indexes, ranks):
        for span in _SPANS:
            yield from _with_returns(container, number, span, returns, many=True)
    for wanted_values in ([], [1, "x"], ["x", 4, 3], [77]):
        yield from _with_returns(container, values, [wanted_values], returns, many=True)
    for ends in ((1, 5), (2,), (None, INF), (9, 1), ("a", "y")):
        yield from _with_returns(container, interval, ends, returns, many=True)
    for how in ((3, 0), (3, -1, 2), (4, 1, 1), (0, -5, 4)):
        yield from _with_returns(container, relative, how, returns, many=True)
    if is_map:
        for key in ("a", 7, "nokey", -2):
            yield from _with_returns(container, 97, [key], returns, many=False)
        for ends in (("a", "c"), ("b",), (None, INF), (0, "b")):
            yield from _with_returns(container, 103, ends, returns, many=True)
        keys_returns = tuple(kind for kind in returns if kind not in (3, 4))
        for keys in ([], ["a", 7], ["d", "nokey", "a"]):
            yield from _with_returns(container, 107, [keys], keys_returns, many=True)
        for how in (("b", 0), ("b", -1, 2), ("bb", 1, 1)):
            yield from _with_returns(container, 109, how, returns, many=True)
    else:
        for at in (0, -1, 50):
            yield container, [17, at]
        for span in _SPANS:
            yield container, [18, *span]
    yield container, [96 if is_map else 16]


_REMOVES_OF_READS = {97: 76, 98: 77, 99: 78, 100: 79, 102: 82, 103: 84, 104: 85, 105: 86, 106: 87, 107: 81, 108: 83,
                     109: 88, 110: 89} | {number: number + 13 for number in range(19, 28)}  # fmt: skip


def _removes(container: str, is_map: bool) -> Iterator[Case]:
    for name, (number, *arguments) in _reads(container, is_map):
        if number in _REMOVES_OF_READS and arguments[0] & 0xFFFF in (5, 7):
            yield name, [_REMOVES_OF_READS[number], *arguments]
    if not is_map:
        for number in (5, 7):
            yield from ((container, [number, at]) for at in (0, -1, 50))
        for number in (6, 8, 10):
            yield from ((container, [number, *span]) for span in _SPANS)


def _list_changes(container: str) -> Iterator[Case]:
    for flags in (0, 1, 16, 17, 2):
        yield container, [0, flags]
    for item in (4, 1, "x", None, [3, 1], {"b": 1, "a": 2}, 2.5, WILD, b"\x04raw"):
        yield container, [1, item]
        yield container, [1, item, 0, 1]
        yield container, [1, item, 1, 5]
        yield container, [3, 1, item]
        yield container, [9, 0, item]
    for items in ([], [4, 2], [1, 8], [8, 8], 5):
        for flags in (0, 1, 5, 13):
            yield container, [2, items, 1, flags]
            yield container, [4, 2, items, flags]
    for at in (0, -1, 6, 9, -9):
        yield container, [3, at, 4]
        yield container, [3, at, 4, 2]
        yield container, [3, at, 4, 6]
        yield container, [9, at, 4]
        yield container, [9, at, 1, 1]
        yield container, [9, at, 1, 5]
        yield container, [12, at]
        yield container, [12, at, 10, 1, 0]
        yield container, [12, at, 1.5]
        yield container, [12, at, "no"]
    yield container, [11]
    for flags in (0, 1, 2, 3):
        yield container, [13, flags]


def _map_changes(container: str) -> Iterator[Case]:
    for flags in (0, 1, 3, 17, 2, 8):
        yield container, [64, flags]
    for key, value in (("a", 1), ("new", [2, 1]), (7, None), (None, 1), ([1], 1), (1.5, 1), (-1, {"b": 1, "a": 2})):
        for flags in (0, 1, 2, 5, 6):
            yield container, [67, key, value, 1, flags]
        yield container, [65, key, value]
        yield container, [69, key, value]
        yield container, [73, key, 2]
        yield container, [74, key, 2.5, 3]
    for pairs in ({}, {"a": 1, "zz": 2}, {"zz": 2, "y": 1}, {None: 1}, 5):
        for flags in (0, 1, 2, 5, 6, 13, 14):
            yield container, [68, pairs, 1, flags]
        yield container, [66, pairs]
        yield container, [70, pairs]
    yield container, [75]


def _contexts() -> Iterator[Case]:
    by_key, by_index, by_rank, by_value = 0x22, 0x10, 0x11, 0x13
    m_index, m_rank, m_value = 0x20, 0x21, 0x23
    ways = [
        [by_key, "l"], [by_key, "l", by_index, 1], [by_key, "l", by_index, -1, by_key, "x"], [by_key, "m", by_key, "k"],
        [by_key, "m", by_key, "k", by_key, "z"], [by_key, "n"], [by_key, "none"], [m_index, 0], [m_rank, -1],
        [m_value, 5], [by_key, "l", by_rank, 1], [by_key, "l", by_value, [4, 2]], [by_index, 0], [], [by_key],
        [by_key, "m", m_index, 0, m_rank, 0], [4, "l"], [0, 0], [0, 0, 0, 1],
    ]  # fmt: skip
    for way in ways:
        for op in ([1, 6], [16], [17, 0], [67, "q", 1], [96], [0, 1], [64, 1], [11], [7, 0], [2, [], 1]):
            yield "nested", [255, way, op]
    for way in ([by_index, 0], [by_index, 1], [by_index, 2], [by_index, -1], [by_rank, 0], [by_value, [3, 1]]):
        for op in ([1, 6], [1, -6], [16], [67, "q", 1], [0, 1], [13, 0], [11], [12, 0, 5]):
            yield "nested list", [255, way, op]
    makes = [
        [by_key | 0x40, "v"], [by_key | 0x80, "v"], [by_key | 0xC0, "v"], [by_index | 0x40, 0], [by_index | 0x80, 3],
        [by_index | 0xC0, 0], [by_index | 0x40, 3], [by_key | 0x80, "l", by_index | 0x40, 3],
        [by_key | 0x80, "l", by_index | 0x80, 5], [by_key | 0x80, "v", by_key | 0x40, "w"],
        [by_key | 0x80, "v", by_key, "w"], [by_key | 0x80, "v", by_index, 0], [by_key | 0x80, "v", by_index, 2],
        [by_key | 0x80, "v", by_index | 0xC0, 2], [by_key | 0x180, "v"], [by_key | 0x40, "v", by_key | 0x180, "w"],
        [by_key | 0x40, None], [m_index | 0x40, 0], [by_index | 0x40, -1], [by_index | 0x40, 1], [by_index | 0x80, 5],
    ]  # fmt: skip
    for container in ("absent", "nested", "map", "list", "ordered list", "empty list", "nested list"):
        for way in makes:
            for op in ([1, 6, 1], [67, "q", 1, 1], [67, "q", 1, 3], [0, 1], [7, 0], [2, [], 1], [68, {}, 1]):
                yield container, [255, way, op]


def groups() -> dict[str, list[Case]]:
    """All cases, by what they are about."""
    found: dict[str, list[Case]] = {}
    for name in LISTS:
        found[f"reads of {name}"] = list(_reads(name, is_map=False))[::_STRIDE]
        found[f"removes from {name}"] = list(_removes(name, is_map=False))[::_STRIDE]
    for name in MAPS:
        found[f"reads of {name}"] = list(_reads(name, is_map=True))[::_STRIDE]
        found[f"removes from {name}"] = list(_removes(name, is_map=True))[::_STRIDE]
    for name in ("absent", "list", "ordered list", "empty list", "mixed ordered list", "map"):
        found[f"list changes of {name}"] = list(_list_changes(name))
    for name in ("absent", "map", "key-ordered map", "key-value-ordered map", "empty ordered map", "list"):
        found[f"map changes of {name}"] = list(_map_changes(name))
    found["contexts"] = list(_contexts())
    found["operations on what is absent"] = [
        ("absent", op) for op in ([5, 0], [7, 0], [11], [13, 0], [37, 5, 0], [76, 5, "a"], [75], [70, {"a": 1}], [16],
                                  [17, 0], [96], [97, 7, "a"], [39, 5, 0], [85, 5, 0])
    ]  # fmt: skip
    found["operations that are malformed"] = [
        (name, op)
        for name in ("list", "map")
        for op in ([], [14], [90], [63], [95], [1], [1, 2, 3, 4, 5], [17], [17, "x"], [19, 7], [97], [97, 7], [16, 1],
                   [255], [255, [0x10, 0]], [19, 99, 0], [19, 6, 0], [24, 6, 0], [104, 99, 0], ["x"])
    ]  # fmt: skip
    return found


def is_modify(op: list[Any]) -> bool:
    """Whether an operation goes over the wire as one that changes the bin."""
    number = op[2][0] if op and op[0] == 255 and len(op) > 2 else op[0] if op else 1
    if not isinstance(number, int):
        return True
    return number < 16 or 32 <= number < 96
