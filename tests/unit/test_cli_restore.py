"""The exit code of `restore` says whether all was done that was asked."""

import io

import pytest
import typer
from typer.main import get_command

from cdc.api import Outcome
from cdc.cli import INTERRUPTED, told
from cdc.cli.app import invoke
from cdc.cli.restore import _do
from cdc.config import AerospikeSettings
from cdc.errors import RecordsRefused, UsageError
from cdc.replayer.place import place_of
from cdc.replayer.report import Report
from cdc.replayer.verified import Verification
from tests.unit.test_replayer_told import made

RIGHT = Verification("test", 1, 1, 1)
UNSEEN = Verification("test", 1, 1, 0, unseen=1)


@pytest.mark.parametrize(
    ("complete", "verify", "found", "code"),
    [
        (True, True, RIGHT, 0),
        (True, True, UNSEEN, RecordsRefused.exit_code),
        (True, True, None, INTERRUPTED),  # ended while it was compared
        (True, False, None, 0),
        (False, True, None, INTERRUPTED),
    ],
)
def test_what_was_ended_before_all_was_done_that_was_asked_is_no_success(
    complete: bool, verify: bool, found: Verification | None, code: int
) -> None:
    report = Report("rewind", "test", 1, complete, written=1, verification=found)
    app = typer.Typer()
    app.command()(lambda: None)
    context = typer.Context(get_command(app))
    assert _do(context, lambda _: Outcome(None, report), verify, False) == code  # type: ignore[arg-type]


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


def test_who_is_asked_is_asked_beside_what_a_program_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, place = made(1100, (1000, 1500)), place_of(AerospikeSettings(namespaces=("test",)), "")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    told.ask(plan, place)
    said = capsys.readouterr()
    assert said.out.strip() == ""
    assert "in test at" in said.err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(typer.Abort):
        told.ask(plan, place)


@pytest.mark.parametrize("option", ["--into", "--into-set"])
def test_a_place_that_is_empty_by_mistake_is_no_rewind(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["restore", "--at", "10m", "--set", "orders", option, "", "--yes"])
    assert code == UsageError.exit_code
    assert f"{option} is empty" in capsys.readouterr().err
