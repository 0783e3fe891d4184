"""Expressions: built from their packed form as the server builds them, evaluated against a record as it evaluates them.

`evaluate` is what a request needs; `particles.of_value` makes a particle of its result, and a filter passes a record
only when the result is True (unknown filters false).
"""

from functools import lru_cache

from cdc.embedded.aerospike.expressions.build import build
from cdc.embedded.aerospike.expressions.types import UNKNOWN, Node, Type, Unknown, Value
from cdc.embedded.aerospike.record import RecordView, Refused
from cdc.errors import CodecError
from cdc.wire.messages import Result

__all__ = ["UNKNOWN", "Type", "Unknown", "Value", "check_filter", "evaluate", "passes", "prepared"]


@lru_cache(maxsize=512)
def prepared(expression: bytes) -> Node:
    """A packed expression, built. Refused: PARAMETER where the server refuses, UNSUPPORTED_FEATURE (see `build`)."""
    try:
        return build(expression, {})
    except (CodecError, RecursionError) as error:
        raise Refused(Result.PARAMETER) from error


def evaluate(expression: bytes, record: RecordView) -> Value:
    """The value of a packed expression for a record: None (nil), bool, int, float, a particle, or UNKNOWN.

    Raises Refused as `prepared` does.
    """
    return prepared(expression).run(record, [])


def check_filter(expression: bytes) -> None:
    """Refused (PARAMETER) unless this is a good expression with a true or false result: what a filter must be."""
    if prepared(expression).type is not Type.BOOL:
        raise Refused(Result.PARAMETER)


def passes(expression: bytes, record: RecordView) -> bool:
    """Whether a filter lets a record through. Refused as `check_filter` does."""
    check_filter(expression)
    return evaluate(expression, record) is True
