"""List and map operations on raw particles, as the server does them.

`apply` does one operation of the official clients; `stored` is the form in which a list or map is kept. What is not
implemented (selecting by expressions, index and rank ranges as return types) is refused with a result code.
"""

from collections.abc import Sequence

from cdc.codec import msgpack
from cdc.embedded.aerospike.cdt import lists, maps
from cdc.embedded.aerospike.cdt.context import steps_of, within
from cdc.embedded.aerospike.cdt.pick import SINGLE, Way, number, pick
from cdc.embedded.aerospike.cdt.select import Asked, answer
from cdc.embedded.aerospike.cdt.values import Opened, Ranking, as_bin, integer_bin, opened, stored
from cdc.embedded.aerospike.record import Particle as Bin
from cdc.embedded.aerospike.record import Refused
from cdc.errors import CodecError
from cdc.wire.messages import Particle, Result

__all__ = ["apply", "as_bin", "stored"]

_FIRST_MAP_OPERATION = 64
_FIRST_MAP_READ = 96
_SELECT, _WITH_CONTEXT = 0xFE, 0xFF


def apply(op: bytes, particle: Bin | None) -> tuple[Bin | None, Bin | None]:
    """One list or map operation on a bin: the bin afterwards and the operation's result (None: nothing).

    `op` is the op's value on the wire: a packed list of the operation's number and its arguments, or of 255, a context
    and such a list. An operation that changes nothing gives the bin back as it was, the very same object. Raises
    Refused: PARAMETER, INCOMPATIBLE_TYPE, OP_NOT_APPLICABLE, ELEMENT_EXISTS, ELEMENT_NOT_FOUND, UNSUPPORTED_FEATURE.
    """
    try:
        return _apply(op, particle)
    except CodecError as error:
        raise Refused(Result.PARAMETER) from error


def _apply(op: bytes, particle: Bin | None) -> tuple[Bin | None, Bin | None]:
    parts = msgpack.container(op).items
    if not parts:
        raise Refused(Result.PARAMETER)
    operation, arguments, steps = number(parts[0]), parts[1:], None
    if operation == _SELECT:
        raise Refused(Result.UNSUPPORTED_FEATURE)
    if operation == _WITH_CONTEXT:
        if len(parts) != 3:
            raise Refused(Result.PARAMETER)
        steps = steps_of(parts[1])
        inner = msgpack.container(parts[2]).items
        operation, arguments = number(inner[0]), inner[1:]
    changing = is_change(operation)
    if particle is None and not changing:
        return None, None
    data = None if particle is None else particle[1]
    kind = Particle.MAP if operation >= _FIRST_MAP_OPERATION else Particle.LIST
    if particle is not None:
        if steps is None and particle[0] != kind:
            raise Refused(Result.INCOMPATIBLE_TYPE)
        if steps is not None and particle[0] not in (Particle.LIST, Particle.MAP):
            raise Refused(Result.PARAMETER)

    def work(container: bytes | None) -> tuple[bytes | None, Bin | None]:
        if container is not None and not (msgpack.is_map if kind is Particle.MAP else msgpack.is_list)(container):
            raise Refused(Result.INCOMPATIBLE_TYPE)
        return _change(operation, arguments, container) if changing else (None, _read(operation, arguments, container))

    new, result = within(data, steps or [], work)
    if new is None:
        return particle, result
    return (Particle.MAP if msgpack.is_map(new) else Particle.LIST, new), result


def is_change(operation: int) -> bool:
    """Whether an operation may change the bin."""
    if operation >= _FIRST_MAP_OPERATION:
        return operation < _FIRST_MAP_READ
    return operation < lists.SIZE or operation in lists.REMOVES


def _read(operation: int, arguments: Sequence[bytes], data: bytes | None) -> Bin | None:
    held = opened(data or b"")
    if operation in (lists.SIZE, maps.SIZE):
        return integer_bin(len(held))
    way = (maps.READS if held.is_map else lists.READS).get(operation)
    if way is None:
        raise Refused(Result.PARAMETER)
    return _picked(operation, way, arguments, held)[1]


def _picked(operation: int, way: Way, arguments: Sequence[bytes], held: Opened) -> tuple[set[int], Bin | None]:
    """The positions that an operation is about, and its answer for them."""
    kind = lists.FIXED_RETURNS.get(operation)
    if operation == lists.TRIM and len(arguments) != 2:
        raise Refused(Result.PARAMETER)
    if kind is None:
        if not arguments:
            raise Refused(Result.PARAMETER)
        kind, arguments = number(arguments[0]), arguments[1:]
    asked = Asked.of(kind, way not in SINGLE)
    ranking = Ranking(held)
    picked = pick(way, held, ranking, asked, arguments)
    return set(picked.positions), answer(asked, held, ranking, picked)


def _change(operation: int, arguments: Sequence[bytes], data: bytes | None) -> tuple[bytes | None, Bin | None]:
    folder = maps if operation >= _FIRST_MAP_OPERATION else lists
    removal = folder.REMOVES.get(operation)
    if removal is not None or operation in (lists.CLEAR, maps.CLEAR):
        return (None, None) if data is None else _removed(operation, removal, arguments, opened(data))
    if data is None and operation == lists.SORT:
        raise Refused(Result.INCOMPATIBLE_TYPE)
    if data is None and operation == maps.REPLACE_ITEMS:
        raise Refused(Result.ELEMENT_NOT_FOUND)
    change, least, most = folder.CHANGES.get(operation, (None, 0, 0))
    if change is None or not least <= len(arguments) <= most:
        raise Refused(Result.PARAMETER)
    flags = folder.created_flags(operation, arguments)
    held = opened(data) if data is not None else Opened(folder is maps, flags, ())
    after, result = change(held, arguments)
    return (None if after is held and data is not None else after.packed()), result


def _removed(
    operation: int, way: Way | None, arguments: Sequence[bytes], held: Opened
) -> tuple[bytes | None, Bin | None]:
    if way is None:
        return Opened(held.is_map, held.flags, ()).packed(), None
    positions, result = _picked(operation, way, arguments, held)
    return (held.without(positions).packed() if positions else None), result
