"""`check`: one OK or FAILED line a rule."""

import sys

import typer

from cdc.cli import common
from cdc.cli.common import Json
from cdc.service.checks import Outcome, checks


def check(context: typer.Context, as_json: Json = False) -> int:
    """Try everything that the settings name, and change nothing. The exit code is that of the first failure."""
    found: list[Outcome] = []
    for outcome in checks(common.settings(context)):
        found.append(outcome)
        if not as_json:
            _print(outcome)
    if as_json:
        common.print_json(
            [
                {
                    "rule": o.rule,
                    "ok": o.error is None,
                    "detail": o.detail,
                    "hint": o.error.hint if o.error else "",
                    "exit_code": o.error.exit_code if o.error else 0,
                }
                for o in found
            ]
        )
    return next((o.error.exit_code for o in found if o.error is not None), 0)


def _print(outcome: Outcome) -> None:
    word = "OK    " if outcome.error is None else "FAILED"
    hint = f" ({outcome.error.hint})" if outcome.error is not None and outcome.error.hint else ""
    sys.stdout.write(f"{word}  {outcome.rule}: {outcome.detail}{hint}\n")
    sys.stdout.flush()
