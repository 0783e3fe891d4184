"""The drill's role: when it is due, and what it exports."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cdc import metrics
from cdc.archive import Archive, LocalStore, drills
from cdc.archive.drills import Drilled
from cdc.config import AerospikeSettings, ArchiveSettings, DrillSettings, Settings
from cdc.errors import CdcError, ObjectDamaged, StoreForbidden
from cdc.replayer.turns import turn
from cdc.service.drill import LOOK_S, RETRY_S, Driller, noted

NOW = 1_800_000_000_000
HOUR = 3_600_000
ONE = Drilled("shop", "scratch", at=NOW - 5 * HOUR, began_at=NOW - HOUR, partitions=41, written=10, read_s=1, write_s=1)


def driller(tmp_path: Path, **asked: object) -> Driller:
    settings = Settings(
        aerospike=AerospikeSettings(namespaces=("shop",)),
        archive=ArchiveSettings(path=tmp_path / "archive"),
        drill=DrillSettings.model_validate({"into": "scratch", **asked}),
    )
    return Driller(settings, clock=lambda: NOW)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.create(LocalStore(tmp_path / "archive", create=True), "shop", 1)


def value(metric: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(f"aerospike_cdc_{metric}", {"namespace": "exported", **labels})


def test_while_there_is_no_archive_or_no_window_it_waits(tmp_path: Path) -> None:
    one = driller(tmp_path)
    assert one.round(threading.Event()) == RETRY_S
    Archive.create(LocalStore(tmp_path / "archive", create=True), "shop", 1)
    assert one.round(threading.Event()) == RETRY_S


def test_the_first_drill_is_due_at_once_or_when_the_schedule_says(tmp_path: Path, archive: Archive) -> None:
    stopped = threading.Event()
    stopped.set()  # what is due would be begun
    assert driller(tmp_path).round(stopped) == 0
    # NOW is 08:00:00 UTC.
    assert driller(tmp_path, schedule="5 8 * * *").round(stopped) == 300
    assert driller(tmp_path, schedule="0 9 * * *").round(stopped) == LOOK_S


def test_the_next_is_due_after_the_last_whoever_did_it_and_what_was_missed_once(
    tmp_path: Path, archive: Archive
) -> None:
    stopped = threading.Event()
    stopped.set()
    drills.remember(archive.store, "shop", ONE)
    assert driller(tmp_path, every_s=3700).round(stopped) == pytest.approx(100)
    assert driller(tmp_path, schedule="2 8 * * *").round(stopped) == 120
    assert driller(tmp_path, schedule="*/10 * * * *").round(stopped) == 0  # six were missed
    drills.remember(archive.store, "shop", replace(ONE, began_at=NOW))
    assert driller(tmp_path, schedule="*/10 * * * *").round(stopped) == 600


def test_while_another_machine_drills_it_waits_and_nothing_is_wrong(tmp_path: Path, archive: Archive) -> None:
    """Both were due at the same moment."""
    one, stopped = driller(tmp_path), threading.Event()
    stopped.set()  # what is due would be begun
    with turn(archive.store, "shop", "drill", "elsewhere", pytest.fail, lambda: NOW):
        assert one.round(stopped) == RETRY_S
        drills.remember(archive.store, "shop", replace(ONE, began_at=NOW))
    assert one.round(stopped) > 0


def test_what_keeps_a_drill_from_being_begun_is_an_error_and_tried_again(tmp_path: Path, archive: Archive) -> None:
    archive.store.put_if_absent(f"{drills.directory('shop')}/{1:020d}.json", b"{}")
    errors: list[CdcError] = []
    stop = threading.Event()

    def failure(error: CdcError) -> None:
        errors.append(error)
        stop.set()

    driller(tmp_path).run(stop, failure=failure)
    assert [type(error) for error in errors] == [ObjectDamaged]


@pytest.mark.parametrize("wrong", ["", "1 is missing"])
def test_one_that_cannot_be_remembered_is_an_error_of_the_role_and_not_repeated(
    tmp_path: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """No metric says that it failed: those are of what the archive remembers."""

    def drill(*_: object, **__: object) -> Drilled:
        error = StoreForbidden(f"the drill {'failed' if wrong else 'passed'}, but cannot be remembered")
        error.report = replace(ONE, wrong=wrong)
        raise error

    monkeypatch.setattr("cdc.service.drill.choose", lambda *_: None)
    monkeypatch.setattr("cdc.replayer.drill.drill", drill)
    monkeypatch.setattr(Archive, "windows", lambda self: [object()])
    one, said = driller(tmp_path, every_s=3600), list[str]()
    with pytest.raises(StoreForbidden, match="cannot be remembered"):
        one.round(threading.Event(), said.append)
    assert said == []
    assert one.round(threading.Event(), said.append) == LOOK_S  # an hour is left


def test_the_last_drill_is_exported() -> None:
    noted([], "exported", "main", NOW - HOUR, 60.0)
    assert value("drill_passed", destination="main") is None
    assert value("drill_passed_timestamp_seconds", destination="main") == (NOW - HOUR) / 1000
    failed = replace(ONE, began_at=NOW, wrong="1 is missing", missing=1, live_missing=2)
    noted([ONE, failed], "exported", "main", NOW, 60.0)
    assert value("drill_passed", destination="main") == 0
    assert value("drill_timestamp_seconds", destination="main") == NOW / 1000
    assert value("drill_passed_timestamp_seconds", destination="main") == ONE.began_at / 1000
    assert value("drill_interval_seconds", destination="main") == 60
    assert value("drill_recovery_seconds", destination="main", of="sample") == 2
    assert value("drill_recovery_seconds", destination="main", of="all") == ONE.projected_s
    assert value("drill_records_per_second", destination="main") == 5
    assert value("drill_different_records", destination="main", **{"with": "archive"}) == 1
    assert value("drill_different_records", destination="main", **{"with": "source"}) == 2
