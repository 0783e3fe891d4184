"""Building: from a packed expression to nodes, with the type rules of the server's `build_…` functions in `exp.c`.

Everything that the server refuses when it builds is refused here: Refused (PARAMETER). What it would build and this
emulator cannot evaluate (GeoJSON matching, bit and HyperLogLog calls, results of removal) is refused with
UNSUPPORTED_FEATURE, so that it is never silently wrong.
"""

import re
import struct
from collections.abc import Callable, Sequence

from cdc.codec import msgpack
from cdc.embedded.aerospike import cdt
from cdc.embedded.aerospike.expressions import numbers
from cdc.embedded.aerospike.expressions.facts import (
    METADATA,
    bin_type,
    bin_value,
    digest_modulo,
    of_metadata,
    user_key,
    value_of,
)
from cdc.embedded.aerospike.expressions.matching import COMPARISONS, as_element, compared, contains, pattern
from cdc.embedded.aerospike.expressions.types import PARTICLES, UNKNOWN, Node, Type, Value
from cdc.embedded.aerospike.record import RecordView, Refused
from cdc.wire.messages import Particle, Result

REGEX, GEO, IN_LIST, AND, OR, NOT, EXCLUSIVE = 7, 8, 9, 16, 17, 18, 19
DIGEST_MODULO, KEY, BIN, BIN_TYPE, REMOVE, MAP_KEYS, MAP_VALUES = 64, 80, 81, 82, 100, 101, 102
BUILT_IN, COND, VAR, LET, QUOTE, CALL = 122, 123, 124, 125, 126, 127
_CALL_CDT, _CALL_LAST, _MODIFY = 0, 2, 0x40
_CDT_SELECT, _CDT_WITH_CONTEXT = 0xFE, 0xFF
_BIN_NAME_MAX = 15
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")

Scope = dict[bytes, tuple[int, Type]]
"""The variables that may be used: their place among the values, and their type."""


def _refuse() -> Refused:
    return Refused(Result.PARAMETER)


def build(packed: bytes, scope: Scope) -> Node:
    """A node from one packed element."""
    if not msgpack.is_list(packed):
        return _constant(packed)
    items = msgpack.container(packed).items
    if not items:
        raise _refuse()
    operation, arguments = _integer(items[0]), items[1:]
    builder = _BUILDERS.get(operation)
    if builder is None:
        raise _refuse()
    return builder(operation, arguments, scope)


def _integer(element: bytes) -> int:
    value = msgpack.unpack(element)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refuse()
    return value


def _bytes(element: bytes) -> bytes:
    value = msgpack.unpack(element)
    if not isinstance(value, bytes):
        raise _refuse()
    return value


def _type(element: bytes) -> Type:
    try:
        return Type(_integer(element))
    except ValueError as error:
        raise _refuse() from error


def _expect(arguments: Sequence[bytes], count: int) -> None:
    if len(arguments) != count:
        raise _refuse()


def _of_types(nodes: Sequence[Node], *types: Type) -> None:
    if any(node.type is not kind for node, kind in zip(nodes, types, strict=True)):
        raise _refuse()


_STRINGS = {Particle.STRING: Type.STRING, Particle.BLOB: Type.BLOB, Particle.HLL: Type.HLL,
            Particle.GEOJSON: Type.GEOJSON}  # fmt: skip


def _constant(packed: bytes) -> Node:
    if msgpack.is_map(packed):
        return _fixed(Type.MAP, (Particle.MAP, packed))
    value = msgpack.unpack(packed)
    match value:
        case None:
            return _fixed(Type.NIL, None)
        case bool():
            return _fixed(Type.BOOL, value)
        case int():
            return _fixed(Type.INTEGER, numbers.wrap(value))
        case float():
            return _fixed(Type.FLOAT, value)
        case bytes() if value and value[0] in _STRINGS:
            kind = Particle(value[0])
            text = b"\0\0\0" + value[1:] if kind is Particle.GEOJSON else value[1:]
            return _fixed(_STRINGS[kind], (kind, text))
    raise _refuse()


def _fixed(kind: Type, value: Value) -> Node:
    return Node(kind, lambda view, variables: value)


def _strict(kind: Type, nodes: Sequence[Node], function: Callable[[list[Value]], Value]) -> Node:
    """A node of a function that is unknown as soon as one of its arguments is."""

    def run(view: RecordView, variables: list[Value]) -> Value:
        values = []
        for node in nodes:
            value = node.run(view, variables)
            if value is UNKNOWN:
                return UNKNOWN
            values.append(value)
        return function(values)

    return Node(kind, run)


def _all(arguments: Sequence[bytes], scope: Scope) -> list[Node]:
    return [build(argument, scope) for argument in arguments]


def _unknown(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 0)
    return Node(Type.BOOL, lambda view, variables: UNKNOWN, unknown=True)


def _compare(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 2)
    left, right = _all(arguments, scope)
    if left.type is not right.type or left.type in (Type.GEOJSON, Type.HLL):
        raise _refuse()
    return _strict(Type.BOOL, (left, right), lambda values: compared(operation, values[0], values[1]))


def _regex(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 3)
    compiled = pattern(_bytes(arguments[1]), _integer(arguments[0]))
    text = build(arguments[2], scope)
    _of_types([text], Type.STRING)
    # The server hands C a string that ends at its first NUL.
    return _strict(Type.BOOL, [text], lambda values: compiled.search(values[0][1].split(b"\0", 1)[0]) is not None)


def _in_list(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 2)
    value, items = _all(arguments, scope)
    _of_types([items], Type.LIST)
    return _strict(Type.BOOL, (value, items), lambda values: contains(values[1][1], values[0]))


def _logic(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    nodes = _all(arguments, scope)
    if len(nodes) < 2 or any(node.type is not Type.BOOL for node in nodes):
        raise _refuse()
    runs = [node.run for node in nodes]
    if operation == EXCLUSIVE:

        def exclusive(view: RecordView, variables: list[Value]) -> Value:
            trues = 0
            for run in runs:
                value = run(view, variables)
                if value is UNKNOWN:
                    return UNKNOWN
                trues += value
                if trues > 1:
                    return False
            return trues == 1

        return Node(Type.BOOL, exclusive)
    decides = operation == OR

    def logic(view: RecordView, variables: list[Value]) -> Value:
        result: Value = not decides
        for run in runs:
            value = run(view, variables)
            if value is decides:
                return decides
            if value is UNKNOWN:
                result = UNKNOWN
        return result

    return Node(Type.BOOL, logic)


def _not(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 1)
    nodes = _all(arguments, scope)
    _of_types(nodes, Type.BOOL)
    return _strict(Type.BOOL, nodes, lambda values: not values[0])


def _number(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    nodes = _all(arguments, scope)
    if not nodes or nodes[0].type not in (Type.INTEGER, Type.FLOAT) or {node.type for node in nodes} != {nodes[0].type}:
        raise _refuse()
    if operation == numbers.ABSOLUTE:
        _expect(arguments, 1)
        return _strict(nodes[0].type, nodes, numbers.absolute)
    return _strict(nodes[0].type, nodes, numbers.ANY_NUMBERS[operation])


def _float(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    count, function = numbers.FLOATS[operation]
    _expect(arguments, count)
    nodes = _all(arguments, scope)
    _of_types(nodes, *[Type.FLOAT] * count)
    return _strict(Type.INTEGER if operation == numbers.TO_INTEGER else Type.FLOAT, nodes, function)


def _whole(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    count, function = numbers.INTEGERS[operation]
    _expect(arguments, count)
    nodes = _all(arguments, scope)
    _of_types(nodes, *[Type.INTEGER] * count)
    return _strict(Type.FLOAT if operation == numbers.TO_FLOAT else Type.INTEGER, nodes, function)


def _bits(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    nodes = _all(arguments, scope)
    if not nodes:
        raise _refuse()
    _of_types(nodes, *[Type.INTEGER] * len(nodes))
    return _strict(Type.INTEGER, nodes, numbers.BITS[operation])


def _scan(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 2)
    nodes = _all(arguments, scope)
    _of_types(nodes, Type.INTEGER, Type.BOOL)
    return _strict(Type.INTEGER, nodes, numbers.SCANS[operation])


def _metadata(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 0)
    return of_metadata(operation)


def _digest(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 1)
    modulus = struct.unpack("<i", (_integer(arguments[0]) & 0xFFFFFFFF).to_bytes(4, "little"))[0]
    if modulus == 0:
        raise _refuse()
    return digest_modulo(modulus)


def _key(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 1)
    kind = _type(arguments[0])
    if kind not in (Type.INTEGER, Type.STRING, Type.BLOB):
        raise _refuse()
    return user_key(kind)


def _bin_name(element: bytes) -> bytes:
    name = _bytes(element)
    if len(name) > _BIN_NAME_MAX:
        raise _refuse()
    return name


def _bin(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 2)
    return bin_value(_type(arguments[0]), _bin_name(arguments[1]))


def _bin_type(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 1)
    return bin_type(_bin_name(arguments[0]))


def _map_part(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 1)
    nodes = _all(arguments, scope)

    def parts(values: list[Value]) -> Value:
        if not isinstance(values[0], tuple) or values[0][0] != Particle.MAP:
            return UNKNOWN
        items = msgpack.container(values[0][1]).items
        return Particle.LIST, msgpack.list_of(items[operation == MAP_VALUES :: 2])

    return _strict(Type.LIST, nodes, parts)


def _cond(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    if len(arguments) < 3 or len(arguments) % 2 == 0:
        raise _refuse()
    nodes = _all(arguments, scope)
    conditions, results, default = nodes[0:-1:2], nodes[1:-1:2], nodes[-1]
    typed = [node.type for node in (*results, default) if not node.unknown] or [Type.BOOL]
    if any(node.type is not Type.BOOL for node in conditions) or len(set(typed)) > 1:
        raise _refuse()
    cases = list(zip([node.run for node in conditions], [node.run for node in results], strict=True))

    def run(view: RecordView, variables: list[Value]) -> Value:
        for condition, result in cases:
            value = condition(view, variables)
            if value is UNKNOWN:
                return UNKNOWN
            if value:
                return result(view, variables)
        return default.run(view, variables)

    return Node(typed[0], run)


def _variable(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 1)
    found = scope.get(_bytes(arguments[0]))
    if found is None:
        raise _refuse()
    place, kind = found
    return Node(kind, lambda view, variables: variables[place])


def _let(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    if len(arguments) < 3 or len(arguments) % 2 == 0:
        raise _refuse()
    inner, nodes = dict(scope), []
    for name_element, value_element in zip(arguments[:-1:2], arguments[1:-1:2], strict=True):
        name = _bytes(name_element)
        if not _NAME.fullmatch(name) or name in inner:
            raise _refuse()
        node = build(value_element, inner)
        inner[name] = len(inner), node.type
        nodes.append(node)
    body, base = build(arguments[-1], inner), len(scope)

    def run(view: RecordView, variables: list[Value]) -> Value:
        mine = variables[:base]
        for node in nodes:
            mine.append(node.run(view, mine))
        return body.run(view, mine)

    return Node(body.type, run)


def _quote(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 1)
    if not msgpack.is_list(arguments[0]):
        raise _refuse()
    return _fixed(Type.LIST, (Particle.LIST, arguments[0]))


def _call(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    _expect(arguments, 4)
    kind, system = _type(arguments[0]), _integer(arguments[1])
    if system & ~_MODIFY > _CALL_LAST:
        raise _refuse()
    if system & ~_MODIFY != _CALL_CDT:
        raise Refused(Result.UNSUPPORTED_FEATURE)
    prefix, parameters = _call_parts(arguments[2], scope)
    on = build(arguments[3], scope)
    if on.type not in (Type.LIST, Type.MAP):
        raise _refuse()
    changing, wanted = bool(system & _MODIFY), PARTICLES.get(kind)

    def run(view: RecordView, variables: list[Value]) -> Value:
        values = []
        for parameter in parameters:
            value = parameter if isinstance(parameter, bytes) else parameter.run(view, variables)
            if value is UNKNOWN:
                return UNKNOWN
            values.append(value if isinstance(value, bytes) else as_element(value))
        particle = on.run(view, variables)
        if particle is UNKNOWN:
            return UNKNOWN
        try:
            new, result = cdt.apply(prefix(values), particle)
        except Refused as refused:
            if refused.code == Result.UNSUPPORTED_FEATURE:
                raise
            return UNKNOWN
        answer = new if changing else result
        if answer is None:
            return None if wanted is None else UNKNOWN
        return value_of(answer) if answer[0] == wanted else UNKNOWN

    return Node(kind, run)


def _call_parts(packed: bytes, scope: Scope) -> tuple[Callable[[list[bytes]], bytes], list[bytes | Node]]:
    """How to pack the call's operation from its parameters, and the parameters: raw, or nodes where they are lists."""
    if not msgpack.is_list(packed):
        raise _refuse()
    items = msgpack.container(packed).items
    operation = _integer(items[0]) if items else None
    if operation == _CDT_SELECT:
        raise Refused(Result.UNSUPPORTED_FEATURE)
    outer: list[bytes] = []
    if operation == _CDT_WITH_CONTEXT:
        if len(items) != 3 or not msgpack.is_list(items[2]):
            raise _refuse()
        outer, items = list(items[:2]), msgpack.container(items[2]).items
    if not items:
        raise _refuse()
    head = items[0]
    parameters: list[bytes | Node] = [build(item, scope) if msgpack.is_list(item) else item for item in items[1:]]

    def pack(values: list[bytes]) -> bytes:
        inner = msgpack.list_of([head, *values])
        return msgpack.list_of([*outer, inner]) if outer else inner

    return pack, parameters


def _unsupported(operation: int, arguments: Sequence[bytes], scope: Scope) -> Node:
    raise Refused(Result.UNSUPPORTED_FEATURE)


_BUILDERS: dict[int, Callable[[int, Sequence[bytes], Scope], Node]] = {
    0: _unknown,
    **dict.fromkeys(COMPARISONS, _compare),
    REGEX: _regex, GEO: _unsupported, IN_LIST: _in_list,
    AND: _logic, OR: _logic, NOT: _not, EXCLUSIVE: _logic,
    **dict.fromkeys(numbers.ANY_NUMBERS, _number), numbers.ABSOLUTE: _number,
    **dict.fromkeys(numbers.FLOATS, _float),
    **dict.fromkeys(numbers.INTEGERS, _whole),
    **dict.fromkeys(numbers.BITS, _bits),
    **dict.fromkeys(numbers.SCANS, _scan),
    DIGEST_MODULO: _digest,
    **dict.fromkeys(METADATA, _metadata),
    KEY: _key, BIN: _bin, BIN_TYPE: _bin_type,
    REMOVE: _unsupported, MAP_KEYS: _map_part, MAP_VALUES: _map_part,
    BUILT_IN: _unsupported, COND: _cond, VAR: _variable, LET: _let, QUOTE: _quote, CALL: _call,
}  # fmt: skip
