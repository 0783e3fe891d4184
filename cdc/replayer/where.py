"""Conditions on bins, from the words of a person: `BIN OP VALUE`, `BIN exists`, `BIN missing`. Pure."""

import json
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from cdc.errors import UsageError

Value = bool | int | float | str
Test = Literal["==", "!=", "<=", ">=", "<", ">", "exists", "missing"]

BIN_NAME_MOST: Final = 15
"""Bytes of a bin's name, by the server (`AS_BIN_NAME_MAX_SZ`)."""

_COMPARE: Final = MappingProxyType[str, Callable[[Any, Any], bool]](
    {"==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
)
_QUOTED: Final = r"\"(?:[^\"\\]|\\.)*\"|'[^']*'"
_CONDITION: Final = re.compile(
    rf"\s*(?P<bin>{_QUOTED}|[^\s=!<>\"']+)\s*"
    r"(?:(?P<test>==|!=|<=|>=|<|>)\s*(?P<value>.*\S)|(?<=[\s\"'])(?P<alone>exists|missing))\s*",
    re.DOTALL,
)
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HINT: Final = (
    "Write BIN OP VALUE with == != < <= > >=, or BIN exists, or BIN missing; such as: status == open, price >= 9.5, "
    'paid == true, code == "17" for a string that looks like a number.'
)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a bin must be.

    A comparison holds only where the bin is there and can be compared: numbers with numbers (an integer with a float
    by value), strings with strings, by code points, true and false with one another. `!=` also holds where the bin is
    of another kind than the value, so that every record with the bin meets either `==` or `!=`.
    """

    bin: str
    test: Test
    value: Value | None = None

    def __str__(self) -> str:
        name = self.bin if _plain(self.bin) else json.dumps(self.bin, ensure_ascii=False)
        if self.test in ("exists", "missing"):
            return f"{name} {self.test}"
        bare = isinstance(self.value, str) and _plain(self.value) and self.value == _value(self.value)
        return f"{name} {self.test} {self.value if bare else json.dumps(self.value, ensure_ascii=False)}"

    def met(self, there: bool, value: Any) -> bool:
        """Whether a record meets it whose bin is there with a value, as `codec.values_plain` has it, or is not."""
        if self.test in ("exists", "missing"):
            return there == (self.test == "exists")
        if not there:
            return False
        if _kind(value) != _kind(self.value) or not _kind(value):
            return self.test == "!="
        return _COMPARE[self.test](value, self.value)


def condition(text: str) -> Condition:
    """The condition that a text means. Raises UsageError.

    A value is `true` or `false`, an integer, a float, or else a string; quoted ("…" with JSON's escapes, '…' without)
    it always is one.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        single = re.search(r"(?<![=!<>])=(?!=)", text)
        said = "one = is no comparison: write ==" if single else "it is no condition"
        raise UsageError(f"--where {text!r}: {said}", _HINT)
    name = _unquoted(found["bin"], text)
    if not name or len(name.encode()) > BIN_NAME_MOST:
        raise UsageError(f"--where {text!r}: a bin's name has 1 to {BIN_NAME_MOST} bytes", _HINT)
    if found["alone"]:
        return Condition(name, "exists" if found["alone"] == "exists" else "missing")
    said = found["value"]
    value: Value = _unquoted(said, text) if said[0] in "\"'" else _value(said)
    if said[0] == "=":
        raise UsageError(f"--where {text!r}: {found['test'] + said[0]!r} is no comparison", _HINT)
    if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 63:
        raise UsageError(f"--where {text!r}: integers have 64 bits", _HINT)
    if isinstance(value, float) and math.isinf(value):
        raise UsageError(f"--where {text!r}: floats have 64 bits", _HINT)
    test = found["test"]
    if isinstance(value, bool) and test not in ("==", "!="):
        raise UsageError(f"--where {text!r}: true and false are not greater or less than another", _HINT)
    return Condition(name, test, value)  # type: ignore[arg-type]  # the pattern has no others


def _unquoted(said: str, text: str) -> str:
    if said[:1] not in ('"', "'"):
        return said
    if not re.fullmatch(_QUOTED, said):
        raise UsageError(f"--where {text!r}: {said} does not end where its quotation does", _HINT)
    if said[0] == "'":
        return said[1:-1]
    try:
        return str(json.loads(said, strict=False))
    except ValueError:
        raise UsageError(f"--where {text!r}: {said} has an escape that is not JSON's", _HINT) from None


def _value(said: str) -> Value:
    if said in ("true", "false"):
        return said == "true"
    if _INTEGER.fullmatch(said):
        return int(said)
    return float(said) if _FLOAT.fullmatch(said) else said


def _plain(text: str) -> bool:
    """Whether a text is read again as it is without quotation."""
    return re.fullmatch(r"[^\s=!<>\"']+", text) is not None


def _kind(value: Any) -> str:
    """What can be compared with one another; empty: nothing."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else ""
