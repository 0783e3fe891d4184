"""The rates of past restores, and what they say of the next."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import RestoreError
from cdc.replayer import rates
from cdc.replayer.rates import ASSUMED, KEPT, TELLING, Measured, Speed, load, remember, speed

HERE = rates.place("restore", ["b:3000", "a:3000"])


def one(rows: int = 10_000, records: int = 10_000, seconds: float = 1.0, place: str = HERE) -> Measured:
    return Measured("clone", place, rows, seconds, records, seconds, records, seconds)


def test_a_place_is_the_same_in_whatever_order_its_hosts_are_named() -> None:
    assert HERE == rates.place("restore", ["a:3000", "b:3000"]) == "restore@a:3000,b:3000"


def test_nothing_measured_is_assumed() -> None:
    assert speed([], "clone", HERE) == ASSUMED["clone"]
    assert speed([one(place="elsewhere@a:3000")], "clone", HERE).measured == 0
    assert speed([one()], "rewind", HERE) == ASSUMED["rewind"]


def test_the_last_few_tell_by_their_median() -> None:
    known = [one(seconds=100.0)] * 20 + [one(seconds=s) for s in (1.0, 2.0, 4.0, 5.0, 50.0)]
    assert speed(known, "clone", HERE) == Speed(2500, 2500, 2500, TELLING)


def test_a_restore_of_a_few_records_says_nothing_of_rates() -> None:
    found = speed([one(records=10), one(records=2000)], "clone", HERE)
    assert (found.writes_per_s, found.measured) == (2000, 1)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**6))
def test_more_to_do_takes_longer_and_a_throttle_never_less(rows: int, records: int, compared: int, limit: int) -> None:
    usual = ASSUMED["rewind"]
    took = usual.seconds(rows, records, compared)
    assert usual.seconds(rows + 1, records, compared) >= took
    assert usual.seconds(rows, records + 1, compared) >= took
    assert usual.seconds(rows, records, compared, limit) >= took
    if limit:
        assert usual.seconds(rows, records, compared, limit) >= records / limit


def test_what_is_remembered_is_there_and_the_oldest_of_a_place_goes(tmp_path: Path) -> None:
    journal = tmp_path / "restores"
    assert load(journal) == []
    other = one(place="other@a:3000")
    remember(journal, other)
    for i in range(KEPT + 3):
        remember(journal, one(seconds=1.0 + i))
    known = load(journal)
    assert known[0] == other
    assert [m.read_s for m in known[1:]] == [1.0 + i for i in range(3, KEPT + 3)]
    assert [p.name for p in journal.iterdir()] == [rates.FILE]


def test_restores_that_were_alike_are_all_remembered(tmp_path: Path) -> None:
    for _ in range(KEPT + 3):
        remember(tmp_path, one())
    assert load(tmp_path) == [one()] * KEPT


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "rates": [{"kind": 1}]}', "\x00"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / rates.FILE).write_text(text)
    with pytest.raises(RestoreError, match=rates.FILE):
        load(tmp_path)


def test_a_file_of_another_version_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / rates.FILE).write_text(json.dumps({"version": 99, "rates": []}))
    remember(tmp_path, one())
    assert load(tmp_path) == [one()]
