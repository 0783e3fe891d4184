"""The exit code of `restore` says whether all was done that was asked."""

import pytest
import typer
from typer.main import get_command

from cdc.api import Outcome
from cdc.cli import INTERRUPTED
from cdc.cli.restore import _do
from cdc.errors import RecordsRefused
from cdc.replayer.report import Report
from cdc.replayer.verified import Verification

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
