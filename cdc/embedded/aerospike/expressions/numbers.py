"""Arithmetic as the server's C does it: 64-bit integers that wrap, IEEE floats that never raise."""

import math
from collections.abc import Callable
from functools import reduce

from cdc.embedded.aerospike.expressions.types import UNKNOWN, Value

Many = Callable[[list[Value]], Value]


def wrap(value: int) -> int:
    """An integer as 64 bits hold it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _unsigned(value: int) -> int:
    return value & (1 << 64) - 1


def _fold(step: Callable[[Value, Value], Value]) -> Many:
    return lambda values: reduce(step, values)


def _fitted(value: Value) -> Value:
    return wrap(value) if isinstance(value, int) else value


def _subtract(values: list[Value]) -> Value:
    if len(values) == 1:
        return _fitted(-values[0] if isinstance(values[0], int) else 0.0 - values[0])
    return _fitted(reduce(lambda a, b: a - b, values))


def _quotient(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def _divide(values: list[Value]) -> Value:
    first, rest = (values[0], values[1:]) if len(values) > 1 else (type(values[0])(1), values)
    if isinstance(first, float):
        return _quotient(first, math.prod(rest))
    product = wrap(math.prod(rest))
    if product == 0:
        return UNKNOWN
    return wrap(abs(first) // abs(product) * (1 if (first < 0) == (product < 0) else -1))


def _power(values: list[Value]) -> Value:
    base, exponent = values
    try:
        return math.pow(base, exponent)
    except OverflowError:
        odd = base < 0 and float(exponent).is_integer() and exponent % 2 == 1
        return -math.inf if odd else math.inf
    except ValueError:
        return math.inf if base == 0 else math.nan


def _log_of(value: float) -> float:
    if value > 0:
        return math.log(value)
    return -math.inf if value == 0 else math.nan


def _logarithm(values: list[Value]) -> Value:
    return _quotient(_log_of(values[0]), _log_of(values[1]))


def _modulo(values: list[Value]) -> Value:
    a, b = values
    return UNKNOWN if b == 0 else int(math.copysign(1, a)) * (abs(a) % abs(b))


def _rounded(function: Callable[[float], int]) -> Many:
    return lambda values: float(function(values[0])) if math.isfinite(values[0]) else values[0]


def _to_integer(values: list[Value]) -> Value:
    value = values[0]
    if not math.isfinite(value) or not -(2**63) <= value < 2**63:
        return -(1 << 63)
    return int(value)


def _leading(values: list[Value]) -> Value:
    """The place of the first bit, from the left, that is as asked; -1 if there is none."""
    bits = _unsigned(values[0] if values[1] else ~values[0])
    return 64 - bits.bit_length() if bits else -1


def _trailing(values: list[Value]) -> Value:
    """The same from the right, counted from the left all the same."""
    bits = _unsigned(values[0] if values[1] else ~values[0])
    return 64 - (bits & -bits).bit_length() if bits else -1


ANY_NUMBERS: dict[int, Many] = {
    20: lambda values: _fitted(sum(values[1:], values[0])),
    21: _subtract,
    22: lambda values: _fitted(math.prod(values[1:], start=values[0])),
    23: _divide,
    50: _fold(lambda a, b: b if a > b else a),
    51: _fold(lambda a, b: b if a < b else a),
}
"""Of one or more numbers of one type, in that type."""
FLOATS: dict[int, tuple[int, Many]] = {
    24: (2, _power),
    25: (2, _logarithm),
    28: (1, _rounded(math.floor)),
    29: (1, _rounded(math.ceil)),
    30: (1, _to_integer),
}
"""Of so many floats."""
INTEGERS: dict[int, tuple[int, Many]] = {
    26: (2, _modulo),
    31: (1, lambda values: float(values[0])),
    35: (1, lambda values: ~values[0]),
    36: (2, lambda values: wrap(values[0] << (values[1] & 63))),
    37: (2, lambda values: wrap(_unsigned(values[0]) >> (values[1] & 63))),
    38: (2, lambda values: values[0] >> (values[1] & 63)),
    39: (1, lambda values: _unsigned(values[0]).bit_count()),
}
"""Of so many integers."""
BITS: dict[int, Many] = {
    32: _fold(lambda a, b: a & b),
    33: _fold(lambda a, b: a | b),
    34: _fold(lambda a, b: a ^ b),
}
"""Of one or more integers."""
SCANS: dict[int, Many] = {40: _leading, 41: _trailing}
"""Of an integer and a bool."""
ABSOLUTE = 27
TO_INTEGER, TO_FLOAT = 30, 31


def absolute(values: list[Value]) -> Value:
    """A number without its sign; the lowest integer stays itself."""
    return _fitted(abs(values[0]))
