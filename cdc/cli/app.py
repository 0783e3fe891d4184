"""The program: its subcommands, and what becomes of errors."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import TyperException

from cdc import __version__
from cdc.cli import INTERRUPTED
from cdc.cli.check import check
from cdc.cli.consume import consume
from cdc.cli.demo import demo
from cdc.cli.diff import diff
from cdc.cli.drill import drill
from cdc.cli.export import export
from cdc.cli.history import history_
from cdc.cli.import_ import import_
from cdc.cli.init import init
from cdc.cli.keep import keep
from cdc.cli.list import list_
from cdc.cli.metadata import metadata
from cdc.cli.prune import prune
from cdc.cli.rekey import rekey
from cdc.cli.repair import repair
from cdc.cli.restore import restore
from cdc.cli.restores import restores
from cdc.cli.run import collect, compact, run
from cdc.cli.show import show_
from cdc.cli.status import status
from cdc.cli.verify import verify
from cdc.errors import CdcError, UsageError

app = typer.Typer(
    name="aerospike-cdc",
    help="Continuous backup and point-in-time recovery for Aerospike.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"aerospike-cdc {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration file.")] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    context.obj = config


app.command("init")(init)
app.command("check")(check)
app.command("run")(run)
app.command("collect")(collect)
app.command("compact")(compact)
app.command("status")(status)
app.command("list")(list_)
app.command("metadata")(metadata)
app.command("restore")(restore)
app.command("restores")(restores)
app.command("drill")(drill)
app.command("history")(history_)
app.command("show")(show_)
app.command("diff")(diff)
app.command("export")(export)
app.command("import")(import_)
app.command("consume")(consume)
app.command("verify")(verify)
app.command("repair")(repair)
app.command("keep")(keep)
app.command("prune")(prune)
app.command("rekey")(rekey)
app.command("demo")(demo)


def invoke(arguments: list[str]) -> int:
    """Run a command and return its exit code; what goes wrong is said on standard error."""
    try:
        code = app(arguments or ["--help"], standalone_mode=False)
    except TyperException as error:
        usage = UsageError(error.format_message() if hasattr(error, "format_message") else str(error))
        _say(usage, as_json="--json" in arguments)
        return usage.exit_code
    except CdcError as error:
        _say(error, as_json="--json" in arguments)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _say(error: CdcError, as_json: bool) -> None:
    if as_json:
        problem = {
            "error": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        sys.stderr.write(json.dumps(problem) + "\n")
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(error.message, markup=False)
    if error.hint:
        console.print("hint: ", style="bold", end=" ")
        console.print(error.hint, markup=False)
