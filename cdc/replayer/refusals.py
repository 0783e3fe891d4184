"""Why a target refuses records: what its result codes mean, and what a person can do about it. No I/O.

The meanings are those of the server's write path (`as/src/transaction/write.c`, `as/src/base/nsup.c`).
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cdc.errors import RecordsRefused
from cdc.replayer.report import GaveUp, Report
from cdc.replayer.resettled import NO_KEY
from cdc.source import facts
from cdc.wire.messages import Result, result_name

IN_A_ROW: Final = 10_000
"""After so many refused records with none accepted between them nothing more is sent."""

NO_TTL = "the record expires, and the namespace takes no TTL: its nsup-period is 0 and allow-ttl-without-nsup false"
SET_FULL = "the record's set has reached its stop-writes-count or stop-writes-size"
CLOCK_SKEW = "the namespace takes no writes: the nodes' clocks are too far apart"

_MEANINGS: Final = MappingProxyType(
    {
        Result.PARAMETER: "the server takes the record for malformed: its null set may be disallowed, the namespace "
        "may have no room for another set, or the TTL is above ten years",
        Result.OUT_OF_SPACE: "the namespace has stopped writes: its storage or its memory is used up",
        Result.RECORD_TOO_BIG: "the record is larger than the namespace's max-record-size",
        Result.KEY_MISMATCH: "another user key is stored under the record's digest",
        Result.BIN_NAME: "the server does not take the name of one of its bins",
        Result.FORBIDDEN: "the namespace forbids the write",
        Result.ENTERPRISE_ONLY: "the server's edition does not do this",
        Result.DEVICE_OVERLOAD: "the target's device stayed overloaded",
        Result.KEY_BUSY: "the record stayed busy with others' writes",
        Result.TIMEOUT: "the server did not get to it in time, however often it was asked",
        Result.UNAVAILABLE: "no node serves the record's partition",
        Result.ROLE_VIOLATION: "the user may not write here",
        Result.QUOTA_EXCEEDED: "the user's quota of writes is used up",
    }
)
_ADVICE: Final = MappingProxyType(
    {
        NO_TTL: "Set the namespace's nsup-period (or allow-ttl-without-nsup true)",
        SET_FULL: "Raise the set's limit",
        CLOCK_SKEW: "Set the nodes' clocks",
        NO_KEY: "Into another namespace records go without a user key: leave --into-set out",
        Result.OUT_OF_SPACE: "Give the namespace room (stop-writes-used-pct, stop-writes-avail-pct and "
        "stop-writes-sys-memory-pct say when it stops)",
        Result.RECORD_TOO_BIG: "Raise the namespace's max-record-size",
        Result.ROLE_VIOLATION: "Give the user a role that writes",
        Result.QUOTA_EXCEEDED: "Raise the quota, or set replayer.records_per_s",
        Result.DEVICE_OVERLOAD: "Set replayer.records_per_s",
        Result.TIMEOUT: "Set replayer.records_per_s",
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What of a namespace's state makes it forbid writes: on any of its nodes."""

    no_ttl: bool = False
    skewed: bool = False
    full_sets: frozenset[str] = frozenset()

    @classmethod
    def said(cls, namespace: Iterable[Mapping[str, str]], sets: Iterable[Mapping[str, str]]) -> "Limits":
        """From the nodes' answers to `namespace/NAME` and the lines of `sets/NAME`. ProtocolError."""
        known = list(namespace)
        return cls(
            no_ttl=any(n.get("nsup-period") == "0" and n.get("allow-ttl-without-nsup") == "false" for n in known),
            skewed=any(n.get("clock_skew_stop_writes") == "true" for n in known),
            full_sets=frozenset(line["set"] for line in sets if _full(line)),
        )


class Reception:
    """How a target takes what it is sent, over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_a_row = 0
        self.forbids = False
        """Whether what it forbade it forbade again."""

    def answered(self, rows: int, refused: int) -> None:
        """So many rows were answered, so many of them with a refusal. GaveUp after IN_A_ROW in a row."""
        with self._lock:
            self._in_a_row = self._in_a_row + refused if refused == rows else 0
            if self._in_a_row >= IN_A_ROW:
                raise GaveUp


def _full(line: Mapping[str, str]) -> bool:
    pairs = (("stop-writes-count", "objects"), ("stop-writes-size", "data_used_bytes"))
    return any(0 < facts.number(line, limit) <= facts.number(line, used) for limit, used in pairs if limit in line)


def reason(code: int, set_name: str | None, *, expires: bool, limits: Limits) -> str:
    """Why a record was refused, in words that many records share."""
    if code == Result.FORBIDDEN:
        if limits.skewed:
            return CLOCK_SKEW
        if expires and limits.no_ttl:
            return NO_TTL
        if set_name in limits.full_sets:
            return SET_FULL
    return _MEANINGS[Result(code)] if code in _MEANINGS else f"the server answered {result_name(code)}"


def error(report: Report, *, gave_up: bool) -> RecordsRefused:
    """What to raise for a report with refused records: each reason once, with how many it concerns."""
    where = f", named in {report.named_file}" if report.named_file else ""
    ordered = sorted(report.reasons.items(), key=lambda item: -item[1])
    why = "; ".join(f"{count:,} because {words}" for words, count in ordered)
    text = f"{report.namespace} refused {report.refused:,} records{where}" + (why and f": {why}")
    if gave_up:
        text += (
            f". It took none of the last {IN_A_ROW:,} or more, so nothing more was sent: {report.written:,} had been "
            f"written and {report.removed:,} removed before"
        )
    return RecordsRefused(text, _hint(report), report=report)


def _hint(report: Report) -> str:
    codes = {meaning: code for code, meaning in _MEANINGS.items()}
    known = [words if words in _ADVICE else codes.get(words) for words in report.reasons]
    return " ".join(dict.fromkeys(f"{_ADVICE[key]}." for key in known if key is not None and key in _ADVICE))
