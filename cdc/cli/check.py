"""`check`: one OK or FAILED line a rule."""

import sys
from typing import Any

import typer

from cdc.cli import common
from cdc.cli.common import Json, Namespace
from cdc.service.checks import Outcome, checks


def check(context: typer.Context, namespace: Namespace = "", as_json: Json = False) -> int:
    """Try everything that the settings name, and change nothing. The exit code is that of the first failure."""
    found: dict[str, list[Outcome]] = {}
    each = common.settings(context, namespace).each()
    for settings in each:
        name = settings.aerospike.namespace
        if len(each) > 1 and not as_json:
            sys.stdout.write(f"{name}\n")
        found[name] = []
        for outcome in checks(settings):
            found[name].append(outcome)
            if not as_json:
                _print(outcome)
    if as_json:
        told = {name: [_dict(o) for o in outcomes] for name, outcomes in found.items()}
        one = next(iter(told.values()))
        each_told = {"namespaces": [{"namespace": name, "checks": outcomes} for name, outcomes in told.items()]}
        common.print_json(one if len(told) == 1 else each_told)
    return next((o.error.exit_code for outcomes in found.values() for o in outcomes if o.error is not None), 0)


def _dict(outcome: Outcome) -> dict[str, Any]:
    return {
        "rule": outcome.rule,
        "ok": outcome.error is None,
        "detail": outcome.detail,
        "hint": outcome.error.hint if outcome.error else "",
        "exit_code": outcome.error.exit_code if outcome.error else 0,
    }


def _print(outcome: Outcome) -> None:
    word = "OK    " if outcome.error is None else "FAILED"
    hint = f" ({outcome.error.hint})" if outcome.error is not None and outcome.error.hint else ""
    sys.stdout.write(f"{word}  {outcome.rule}: {outcome.detail}{hint}\n")
    sys.stdout.flush()
