"""Why a target refuses records, in words that many of them share, and when it is left alone."""

import pytest

from cdc.errors import ProtocolError
from cdc.replayer import refusals
from cdc.replayer.refusals import CLOCK_SKEW, IN_A_ROW, NO_TTL, SET_FULL, Limits, Reception, error, reason
from cdc.replayer.report import GaveUp, Report
from cdc.wire.messages import Result

FREE = Limits()
STRICT = {"nsup-period": "0", "allow-ttl-without-nsup": "false", "clock_skew_stop_writes": "false"}


def test_what_any_node_says_of_its_limits_counts() -> None:
    free = {"nsup-period": "120", "allow-ttl-without-nsup": "false", "clock_skew_stop_writes": "false"}
    assert Limits.said([free, free], []) == FREE
    assert Limits.said([free, STRICT], []).no_ttl
    assert not Limits.said([STRICT | {"allow-ttl-without-nsup": "true"}], []).no_ttl
    assert Limits.said([free, free | {"clock_skew_stop_writes": "true"}], []).skewed


@pytest.mark.parametrize(
    ("count", "size", "full"), [("0", "0", False), ("6", "0", False), ("5", "0", True), ("0", "90", True)]
)
def test_a_set_is_full_at_its_limit_and_zero_is_none(count: str, size: str, full: bool) -> None:
    line = {"set": "s", "objects": "5", "data_used_bytes": "90", "stop-writes-count": count, "stop-writes-size": size}
    assert Limits.said([], [line]).full_sets == (frozenset({"s"}) if full else frozenset())
    assert Limits.said([], [{"set": "old", "objects": "5"}]) == FREE
    with pytest.raises(ProtocolError):
        Limits.said([], [line | {"stop-writes-count": "many"}])


@pytest.mark.parametrize(
    ("limits", "expires", "why"),
    [
        (Limits(no_ttl=True), True, NO_TTL),
        (Limits(no_ttl=True, full_sets=frozenset({"s"})), False, SET_FULL),
        (Limits(no_ttl=True, skewed=True), True, CLOCK_SKEW),
        (Limits(full_sets=frozenset({"t"})), True, "the namespace forbids the write"),
    ],
)
def test_what_is_forbidden_is_told_by_what_forbids_it(limits: Limits, expires: bool, why: str) -> None:
    assert reason(Result.FORBIDDEN, "s", expires=expires, limits=limits) == why


def test_a_code_without_words_is_told_as_it_is() -> None:
    assert reason(99, None, expires=False, limits=FREE) == "the server answered 99"
    assert reason(Result.FILTERED_OUT, None, expires=False, limits=FREE) == "the server answered 27 (FILTERED_OUT)"
    assert "max-record-size" in reason(Result.RECORD_TOO_BIG, None, expires=True, limits=Limits(no_ttl=True))


def test_an_error_says_each_reason_once_and_what_to_do() -> None:
    big = reason(Result.RECORD_TOO_BIG, None, expires=False, limits=FREE)
    report = Report("clone", "space", 0, written=7, refused=1007, reasons={big: 7, NO_TTL: 1000})
    told = error(report, gave_up=False)
    assert told.message == f"space refused 1,007 records: 1,000 because {NO_TTL}; 7 because {big}"
    assert "nsup-period" in told.hint
    assert "max-record-size" in told.hint
    assert told.report is report
    assert "nothing more was sent: 7 had been written" in error(report, gave_up=True).message


def test_a_target_is_given_up_after_so_many_refusals_in_a_row_and_not_before() -> None:
    reception = Reception()
    reception.answered(IN_A_ROW - 1, IN_A_ROW - 1)
    reception.answered(10, 9)  # one was taken
    reception.answered(IN_A_ROW - 1, IN_A_ROW - 1)
    with pytest.raises(GaveUp):
        reception.answered(1, 1)


def test_no_rows_are_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "IN_A_ROW", 4)
    reception = Reception()
    reception.answered(3, 3)
    reception.answered(0, 0)
    with pytest.raises(GaveUp):
        reception.answered(1, 1)
