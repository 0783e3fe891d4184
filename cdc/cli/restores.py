"""`restores`: what was restored, what is being restored, and what waits to go on."""

from typing import Annotated

import typer

from cdc.cli import common
from cdc.cli.common import Json
from cdc.clock import rfc3339
from cdc.errors import UsageError
from cdc.replayer.journal import Entry, Journal

Forget = Annotated[str, typer.Option("--forget", help="Remove this one from the journal: it cannot go on any more.")]
ForgetComplete = Annotated[bool, typer.Option("--forget-complete", help="Remove all that have nothing left to do.")]
_COLOURS = {"running": "green", "interrupted": "yellow", "failed": "red", "damaged": "red"}


def restores(
    context: typer.Context,
    forget: Forget = "",
    forget_complete: ForgetComplete = False,
    as_json: Json = False,
) -> int:
    """List the restores: from where, into what, to which moment, how far each is, and what ended it."""
    journal = Journal(common.settings(context).replayer.journal)
    if forget and forget_complete:
        raise UsageError("--forget names one restore, --forget-complete means many: give one of the two")
    if forget or forget_complete:
        gone = [journal.entry(forget)] if forget else [entry for entry in journal.entries() if entry.over]
        for entry in gone:
            journal.forget(entry)
        if as_json:
            common.print_json({"forgotten": [entry.id for entry in gone]})
        else:
            common.console().print(f"forgot {len(gone):,} restores" if forget_complete else f"forgot {forget}")
        return 0
    entries = journal.entries()
    if as_json:
        common.print_json({"journal": str(journal.path), "restores": [entry.to_dict() for entry in entries]})
    else:
        _print(journal, entries)
    return 0


def _print(journal: Journal, entries: list[Entry]) -> None:
    console = common.console()
    if not entries:
        console.print(f"no restore was begun yet; the journal is {journal.path}", markup=False)
        return
    shown = common.table("restore", "state", "from", "into", "to", ">done", ">of", "last step")
    for entry in entries:
        asked, now = entry.asked, entry.standing
        into = "-" if asked is None else "in place" if asked.kind == "rewind" else asked.into
        into += f", set {asked.wanted.into_set}" if asked is not None and asked.wanted.into_set else ""
        shown.add_row(
            entry.id,
            entry.state,
            "-" if asked is None else asked.namespace,
            into,
            common.moment(None if asked is None else asked.at),
            f"{now.touched:,}",
            f"{now.total:,}" if now.total else "-",
            common.moment(now.said_at),
            style=_COLOURS.get(entry.state, ""),
        )
    console.print(shown)
    for entry in entries:
        if entry.error:
            console.print(f"{entry.id}: {entry.error}", markup=False)
    waiting = [entry for entry in entries if entry.goes_on and entry.standing.writing]
    if waiting:
        begun = rfc3339(waiting[-1].asked.begun_at) if waiting[-1].asked else "-"
        console.print(
            f"{len(waiting):,} can go on; the last of them, of {begun}: aerospike-cdc restore --resume last",
            markup=False,
        )
