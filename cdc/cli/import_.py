"""`import`: an archive made of an export's files."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cdc.cli import INTERRUPTED, common
from cdc.cli.common import Destination, Json, Namespace
from cdc.cli.progress import bars
from cdc.clock import rfc3339, wall_clock
from cdc.replayer.at import moment
from cdc.replayer.report import Cancelled, Watch
from cdc.units import count, size

Source = Annotated[Path, typer.Argument(metavar="DIR", help="What `export --at` made, or other files of versions.")]
At = Annotated[str, typer.Option("--at", help="Files of others: the moment that they are the state of.")]


def import_(
    context: typer.Context,
    source: Source,
    at: At = "",
    namespace: Namespace = "",
    destination: Destination = "",
    as_json: Json = False,
) -> int:
    """Make an archive whose one moment is that of an export as Avro; the destination must not have the namespace."""
    # The kernels' compiler takes a second to import: not for words that are wrong.
    from cdc.exchange.importing import import_state, namespace_of
    from cdc.service.roles import stop_on_signals

    settings = common.settings(context, namespace or namespace_of(source) or "", destination)
    now = wall_clock()
    when = moment(at, (), now) if at else None
    try:
        with stop_on_signals() as stop, bars() as shown:
            watch = Watch(progress=shown.update, cancel=stop)
            made = import_state(source, settings, now=now, at=when, watch=watch)
    except Cancelled:
        sys.stderr.write("interrupted; the archive was not made\n")
        return INTERRUPTED
    if as_json:
        common.print_json(
            {
                "namespace": made.namespace, "place": made.place, "at": rfc3339(made.at), "shards": made.shards,
                "records": made.records, "doubts": made.doubts, "bytes": made.bytes,
            }
        )  # fmt: skip
        return 0
    sys.stdout.write(
        f"{made.namespace} as of {rfc3339(made.at)} is in {made.place}\n"
        f"  {count(made.records, 'record')} in {count(made.shards, 'shard')}, {size(made.bytes)}\n"
        "  restore --at latest --into NAMESPACE brings it back\n"
    )
    return 0
