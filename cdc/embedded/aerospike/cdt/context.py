"""Contexts: the way down to a nested list or map, which is made on the way where the context says so.

The rules are those of `cdt_context_dig` and the `…_subcontext_by_…` functions in the server's `cdt.c`.
"""

from collections.abc import Callable, Sequence

from cdc.codec import msgpack
from cdc.embedded.aerospike.cdt.pick import number
from cdc.embedded.aerospike.cdt.select import span
from cdc.embedded.aerospike.cdt.values import Opened, Ranking, compare, opened, stored
from cdc.embedded.aerospike.record import Particle as Bin
from cdc.embedded.aerospike.record import Refused
from cdc.errors import CodecError
from cdc.wire.messages import Result

INDEX, RANK, KEY, VALUE = 0, 1, 2, 3
LIST, MAP = 0x10, 0x20
CREATE, CREATE_UNBOUND, CREATE_ORDERED, PERSIST = 0xC0, 0x80, 0xC0, 0x100

Step = tuple[int, bytes]
"""A context's type and its value, raw."""
Work = Callable[[bytes | None], tuple[bytes | None, Bin | None]]
"""From a container's bytes (None: there is none yet) to its new bytes (None: nothing changes) and a result."""


def steps_of(context: bytes) -> list[Step]:
    """A packed context as steps. Refused (PARAMETER) if it is not pairs."""
    try:
        parts = msgpack.container(context).items
    except CodecError as error:
        raise Refused(Result.PARAMETER) from error
    if not parts or len(parts) % 2:
        raise Refused(Result.PARAMETER)
    return [(number(kind), value) for kind, value in zip(parts[::2], parts[1::2], strict=True)]


def within(data: bytes | None, steps: Sequence[Step], work: Work) -> tuple[bytes | None, Bin | None]:
    """Do `work` at the end of the steps; the new bytes of the whole (None: nothing changes) and the result.

    Refused (OP_NOT_APPLICABLE) where a step leads nowhere and does not create.
    """
    if not steps:
        return work(data)
    (kind, value), rest = steps[0], steps[1:]
    if kind & 0x0F > VALUE or (kind & CREATE and not kind & (LIST | MAP)):
        raise Refused(Result.OP_NOT_APPLICABLE)
    if data is None:
        if not kind & CREATE:
            raise Refused(Result.OP_NOT_APPLICABLE)
        return _made(steps, work)
    if not msgpack.is_list(data) and not msgpack.is_map(data):
        raise Refused(Result.OP_NOT_APPLICABLE)
    held = opened(data)
    if kind & (LIST if held.is_map else MAP):
        raise Refused(Result.OP_NOT_APPLICABLE)
    at = _find(held, kind, value)
    if at is not None:
        new, result = within(held.values[at], rest, work)
        return (None if new is None else _put(held, at, new).packed()), result
    if not kind & CREATE:
        raise Refused(Result.OP_NOT_APPLICABLE)
    padding = 0 if held.is_map else _padding(held, kind, number(value))
    _check_creatable(rest)
    new, result = _made(rest, work)
    return (None if new is None else _grown(held, value, padding, new).packed()), result


def _find(held: Opened, kind: int, value: bytes) -> int | None:
    """Where a step leads, or None. Refused where a step that cannot create leads nowhere."""
    base, ranking = kind & 0x0F, Ranking(held)
    if base in (INDEX, RANK):
        try:
            at, _ = span(number(value), 1, len(held), many=False)
        except Refused:
            if base == INDEX and not held.is_map:
                return None
            raise
        return ranking.by_rank[at] if base == RANK else at
    if base == KEY:
        if not held.is_map:
            raise Refused(Result.OP_NOT_APPLICABLE)
        wanted = msgpack.order(value)
        return next((i for i, order in enumerate(ranking.key_orders) if compare(order, wanted) == 0), None)
    wanted = msgpack.order(value)
    found = next((i for i, order in enumerate(ranking.orders) if compare(order, wanted) == 0), None)
    if found is None:
        raise Refused(Result.OP_NOT_APPLICABLE)
    return found


def _put(held: Opened, at: int, new: bytes) -> Opened:
    values = [*held.values[:at], new, *held.values[at + 1 :]]
    if held.is_map:
        return Opened(True, held.flags, tuple(values), held.keys)
    return held.with_values(sorted(values, key=msgpack.order) if held.ordered else values)


def _padding(held: Opened, kind: int, index: int) -> int:
    """How many nils go before a new element. Refused where the list may not grow so far."""
    if index == len(held) or (index == -1 and not len(held)):
        return 0
    if index > len(held) and held.ordered:
        return 0
    if index > len(held) and kind & CREATE == CREATE_UNBOUND:
        return index - len(held)
    raise Refused(Result.OP_NOT_APPLICABLE)


def _grown(held: Opened, value: bytes, padding: int, new: bytes) -> Opened:
    if held.is_map:
        return held.with_pairs([*zip(held.keys, held.values, strict=True), (stored(value), new)])
    values = [*held.values, *[msgpack.NIL] * padding, new]
    return held.with_values(sorted(values, key=msgpack.order) if held.ordered else values)


def _check_creatable(steps: Sequence[Step]) -> None:
    if any(kind & PERSIST for kind, _ in steps):
        raise Refused(Result.OP_NOT_APPLICABLE)


def _made(steps: Sequence[Step], work: Work) -> tuple[bytes | None, Bin | None]:
    """Containers made from nothing along the steps, around what `work` makes."""
    if not steps:
        return work(None)
    (kind, value), rest = steps[0], steps[1:]
    _check_creatable(rest)
    create = kind & CREATE
    new, result = _made(rest, work)
    if kind & 0x3F == MAP | KEY:
        flags = {0x80: msgpack.ORDERED, 0xC0: msgpack.KEY_VALUE_ORDERED}.get(create, 0)
        key = stored(value)
        made = Opened(True, flags, (new,), (key,)) if new is not None else None
    elif kind & 0x3F == LIST | INDEX:
        index = number(value)
        if index < -1 or (index > 0 and create not in (CREATE_UNBOUND, CREATE_ORDERED)):
            raise Refused(Result.OP_NOT_APPLICABLE)
        padding = max(index, 0) if create == CREATE_UNBOUND else 0
        flags = msgpack.ORDERED if create == CREATE_ORDERED else 0
        made = Opened(False, flags, (*[msgpack.NIL] * padding, new)) if new is not None else None
    else:
        raise Refused(Result.OP_NOT_APPLICABLE)
    return (None if made is None else made.packed()), result
