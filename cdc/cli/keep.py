"""`keep`: marks that keep a moment for ever, under a name."""

from typing import Annotated, Any

import typer

from cdc.archive import Archive, keeps
from cdc.archive.keeps import Keep
from cdc.cli import common
from cdc.cli.common import Destination, Json, Namespace, moment
from cdc.clock import wall_clock
from cdc.config import Settings
from cdc.errors import NotRecoverable, UsageError
from cdc.replayer.at import require_recoverable, resolve

Name = Annotated[str, typer.Argument(help="The name of the mark; `restore --at` takes it.")]
At = Annotated[str, typer.Option("--at", help="The moment: RFC 3339 with zone, a duration ago, or latest.")]


def keep(
    context: typer.Context,
    name: Name = "",
    at: At = "",
    note: Annotated[str, typer.Option("--note", help="Why, for whoever reads it later.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the mark away.")] = False,
    namespace: Namespace = "",
    destination: Destination = "",
    as_json: Json = False,
) -> None:
    """Keep a moment for ever under a name, in every archive; without a name, list what is kept."""
    if remove and at:
        raise UsageError("--remove takes a mark away, --at sets one", "Leave one of them out.")
    if not name and (remove or at or note):
        raise UsageError("a mark needs a name", "Write: keep NAME --at MOMENT.")
    if name and not (remove or at):
        raise UsageError("a mark needs a moment", "Write: keep NAME --at MOMENT, or keep NAME --remove.")
    every = common.settings(context, namespace, destination).each()
    now = wall_clock()

    def change(place: Settings) -> dict[str, Keep]:
        archive = common.archive(place)
        if remove:
            keeps.remove(archive.store, archive.namespace, name)
        elif name:
            _add(archive, name, at, note, now)
        return keeps.load(archive.store, archive.namespace)

    common.tell_each(every, change, to_dict, lambda _, kept: _print(kept), as_json=as_json)


def _add(archive: Archive, name: str, at: str, note: str, now: int) -> None:
    """Set the mark, and look once more: a prune may have been about to let go of the moment."""
    when = resolve(at, archive.windows(), now)
    keeps.add(archive.store, archive.namespace, name, Keep(when, now, note))
    try:
        require_recoverable(when, archive.windows(), now)
    except NotRecoverable:
        keeps.remove(archive.store, archive.namespace, name)
        raise


def _print(kept: dict[str, Keep]) -> None:
    out = common.console()
    if not kept:
        out.print("nothing is kept by name")
        return
    rows = common.table("name", "moment", "set at", "note")
    for name, one in sorted(kept.items(), key=lambda item: item[1].at):
        rows.add_row(name, moment(one.at), moment(one.made_at), one.note)
    out.print(rows)


def to_dict(settings: Settings, kept: dict[str, Keep]) -> dict[str, Any]:
    """The stable form for programs; moments are RFC 3339."""
    return {
        "namespace": settings.aerospike.namespace,
        "keeps": [
            {"name": name, "at": moment(one.at), "made_at": moment(one.made_at), "note": one.note}
            for name, one in sorted(kept.items())
        ],
    }
