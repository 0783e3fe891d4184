"""`run`, `collect` and `compact`: the roles, as services or once."""

import sys
from typing import Annotated

import typer

from cdc.cli import common
from cdc.cli.common import Json, moment, size
from cdc.clock import rfc3339, wall_clock
from cdc.errors import CaptureIncomplete
from cdc.service.roles import stop_on_signals
from cdc.service.run import ROLES
from cdc.service.run import run as run_service

Once = Annotated[bool, typer.Option("--once", help="Do what there is to do now, and end.")]


def run(context: typer.Context) -> None:
    """Collect and compact until stopped, with /metrics and /healthz."""
    _serve(context, ROLES)


def collect(
    context: typer.Context,
    once: Once = False,
    audit: Annotated[bool, typer.Option("--audit", help="With --once: look at every record again.")] = False,
    as_json: Json = False,
) -> None:
    """Publish the namespace's changes to Kafka: a base snapshot first, then sweeps."""
    if not once:
        _serve(context, ("collector",))
        return
    from cdc.collector import Collector

    with Collector(common.settings(context)) as collector:
        stats = collector.run_once(audit=audit)
    written = sum(count for (op, _), count in stats.changes.items() if op.name == "WRITE")
    ended = sum(count for (op, _), count in stats.changes.items() if op.name not in ("WRITE", "ASIDE"))
    if as_json:
        common.print_json(
            {
                "swept": stats.swept,
                "writes": written,
                "deletes": ended,
                "duplicates": stats.duplicates,
                "aside": stats.aside,
                "drift": stats.drift,
                "records": stats.catalog_records,
                "resolved_at": moment(stats.resolved_at),
                "reconciled_at": moment(stats.reconciled_at),
                "notes": stats.notes,
            }
        )
    else:
        for note in stats.notes:
            sys.stdout.write(f"{note}\n")
        sys.stdout.write(
            f"{stats.swept:,} records seen, {written:,} writes and {ended:,} deletes published, "
            f"{stats.duplicates:,} known already; {stats.catalog_records:,} live records\n"
            f"every write up to {moment(stats.resolved_at)} and every delete up to {moment(stats.reconciled_at)} "
            "is in Kafka\n"
        )
    if stats.aside:
        raise CaptureIncomplete(f"{stats.aside:,} records could not be encoded and were kept aside")


def compact(context: typer.Context, once: Once = False, as_json: Json = False) -> None:
    """Turn changes in Kafka into segments and restore sets of the archive."""
    if not once:
        _serve(context, ("compactor",))
        return
    from cdc.compactor import Compactor

    stats = Compactor(common.settings(context)).run_once()
    if as_json:
        common.print_json(stats)
        return
    sys.stdout.write(
        f"{stats.rows:,} versions archived in {stats.segments:,} segments, {stats.sets:,} restore sets made, "
        f"{size(stats.bytes)} written\n"
    )


def _serve(context: typer.Context, roles: tuple[str, ...]) -> None:
    settings = common.settings(context)

    def say(text: str) -> None:
        sys.stderr.write(f"{rfc3339(wall_clock())} {text}\n")
        sys.stderr.flush()

    with stop_on_signals() as stop:
        run_service(settings, roles, stop, say)
