"""When the whole namespace is read again."""

from pathlib import Path

import pytest

from cdc.topics.progress import Kind
from tests.model.drive import Drive
from tests.model.programs import Event, Program, Round, Stop
from tests.model.world import Pass

EVERY_S = 1_000.0
PIECES = (Round(),) * 4
"""An audit is cut into so many pieces, a round each; they grow, so the last is the largest."""


def audits(directory: Path, monkeypatch: pytest.MonkeyPatch, *events: Event) -> int:
    """How many audits of a shard were finished, while these things happened after the base snapshot."""
    drive = Drive(Program(10.0, EVERY_S, True, 0, events), directory, monkeypatch)
    drive.run()
    return sum(p.kind == Kind.AUDIT and p.complete for p in drive.log.progress[0])


def test_a_collector_that_is_restarted_more_often_than_audits_come_audits_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_third = (Pass(350_000), Stop(), *PIECES)
    assert audits(tmp_path, monkeypatch, *a_third * 7) == 2


def test_an_audit_that_a_stop_interrupts_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert audits(tmp_path, monkeypatch, Pass(1_100_000), *(*PIECES[1:], Stop()) * 8) == 1


def test_a_collector_that_was_away_for_longer_audits_when_it_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert audits(tmp_path, monkeypatch, Stop(), Pass(2_000_000), *PIECES) == 1


def test_a_restart_is_no_reason_for_an_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert audits(tmp_path, monkeypatch, *(Pass(100_000), Stop(), Round()) * 3) == 0


def test_audits_come_regularly_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert audits(tmp_path, monkeypatch, *(Pass(260_000), Round()) * 9) == 2
