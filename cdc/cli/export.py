"""`export`: what an archive holds as plain files, for analytics or for another archive."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from cdc.cli import INTERRUPTED, common
from cdc.cli.common import Destination, Json, Namespace
from cdc.cli.progress import bars
from cdc.clock import rfc3339, wall_clock
from cdc.errors import UsageError
from cdc.replayer.at import LATEST
from cdc.replayer.report import Cancelled, Watch
from cdc.units import count, size

At = Annotated[
    str, typer.Option("--at", help="The state at: RFC 3339 with zone, a duration ago, latest, or the name of a mark.")
]
From = Annotated[str, typer.Option("--from", help="Or the changes from then on, which is included.")]
Until = Annotated[str, typer.Option("--until", help="With --from: up to then, included; latest unless given.")]
To = Annotated[Path, typer.Option("--to", help="A new or empty directory.")]
Format = Annotated[Literal["avro", "parquet"], typer.Option("--format", help="avro is lossless; parquet has columns.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help='Only this set, again and again; "": the null set.')]
Codec = Annotated[
    Literal["deflate", "zstandard", "null"],
    typer.Option("--codec", help="Of Avro's blocks; every reader knows deflate and null."),
]


def export(
    context: typer.Context,
    to: To,
    at: At = "",
    since: From = "",
    until: Until = "",
    format: Format = "avro",
    sets: Sets = None,
    codec: Codec = "deflate",
    namespace: Namespace = "",
    destination: Destination = "",
    as_json: Json = False,
) -> int:
    """Write the state at a moment, or the changes of a span, as plain Avro or Parquet."""
    if bool(at) == bool(since) or (until and not since):
        raise UsageError("it is one of --at, and --from with or without --until", "Give --at T, or --from A --until B.")
    with common.replayer(context, namespace, destination, "never") as replayer:
        archive, now = replayer.archive(), wall_clock()
        begin = replayer.resolve(since) if since else None
        end = replayer.resolve(at or until or LATEST)
    if begin is not None and begin > end:
        raise UsageError(f"--from {rfc3339(begin)} is later than --until {rfc3339(end)}")
    # The kernels' compiler takes a second to import: not for words that are wrong.
    from cdc.exchange import export_changes, export_state
    from cdc.service.roles import stop_on_signals

    try:
        with stop_on_signals() as stop, bars() as shown:
            watch = Watch(progress=shown.update, cancel=stop)
            what = partial(export_state, archive) if begin is None else partial(export_changes, archive, begin)
            made = what(end, to, now=now, format=format, sets=tuple(sets or ()), codec=codec, watch=watch)
    except Cancelled:
        sys.stderr.write(f"interrupted; nothing is left in {to}\n")
        return INTERRUPTED
    if as_json:
        common.print_json(made.to_dict())
        return 0
    counts = made.counts
    about = f"state at {rfc3339(end)}" if begin is None else f"changes from {rfc3339(begin)} to {rfc3339(end)}"
    told = (
        f"{counts.exact:,} exact, {counts.presumed:,} presumed, {counts.fuzzy:,} fuzzy"
        if begin is None
        else f"{count(counts.ends, 'end')} of records, {counts.aside:,} kept aside"
    )
    written = sum(file.size for file in made.files)
    sys.stdout.write(
        f"{made.namespace}, {about}, into {to}\n"
        f"  {count(counts.records, 'record' if begin is None else 'write')}; {told}\n"
        f"  {count(len(made.files), 'file')} of {format}, {size(written)}\n"
        + (f"  only {made.scope}\n" if made.scope else "")
    )
    return 0
