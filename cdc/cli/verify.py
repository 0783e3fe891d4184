"""`verify`: whether the archive is what was written, or what the database holds, and which moments damage costs."""

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cdc.archive import open_store
from cdc.archive.cost import Moments
from cdc.archive.siblings import Openers, asked
from cdc.archive.verify import Elsewhere, Verification, told
from cdc.archive.verify import verify as verify_archive
from cdc.cli import common
from cdc.cli.common import Destination, Json, Namespace, moment
from cdc.cli.progress import bars
from cdc.config import Settings
from cdc.errors import ObjectMissing, UsageError
from cdc.replayer.report import Watch
from cdc.units import count, size

if TYPE_CHECKING:
    from cdc.replayer.live import Comparison

SHOWN = 5
"""So many garbage objects are listed; `--json` has all."""


Tier = Literal["presence", "hashes", "decode"]
"""How thoroughly an archive is looked at: each says all that the one before says."""


def verify(
    context: typer.Context,
    namespace: Namespace = "",
    destination: Destination = "",
    tier: Annotated[
        Literal[Tier, "live"],
        typer.Option("--tier", help="How thorough: each says all that the one before says; live: the database."),
    ] = "hashes",
    new: Annotated[bool, typer.Option("--new", help="Only what no earlier verification has covered.")] = False,
    as_json: Json = False,
) -> None:
    """Look whether the archive is what was written, and say which moments any damage costs."""
    if tier == "live" and new:
        raise UsageError("--new and --tier live: all of the database is compared", "Leave one of them out.")
    every = common.settings(context, namespace, destination).each()
    whole = common.settings(context)

    def look(at: Settings) -> "Verification | Comparison":
        return _compared(at) if tier == "live" else asked(_verified(at, tier, new), others(whole, at))

    # Damage before absence: of the two it is the one that a glance at the store does not show.
    common.tell_each(
        every, look, lambda _, found: to_dict(found), lambda _, found: print_found(found), as_json=as_json,
        problem=lambda found: found.error(), late=(ObjectMissing,),
    )  # fmt: skip


def others(whole: Settings, one: Settings) -> Openers:
    """The destinations beside the one that `one` is about."""
    names = (name for name in whole.destination_names if name != one.archive.destination)
    return {name: partial(open_store, whole.destination(name).archive) for name in names}


def _verified(settings: Settings, tier: Tier, new: bool) -> Verification:
    store = open_store(settings.archive)
    with bars() as shown:
        return verify_archive(store, settings.aerospike.namespace, tier, only_new=new, progress=shown.update)


def _compared(settings: Settings) -> "Comparison":
    # The kernels' compiler takes a second to import: only who compares waits for it.
    from cdc.replayer.live import compare
    from cdc.replayer.target import Target
    from cdc.source import Scope, Source
    from cdc.wire import Cluster

    archive, namespace = common.archive(settings), settings.aerospike.namespace
    with Cluster(settings.aerospike) as cluster, bars() as shown:
        source = Source(cluster, namespace, scope=Scope.of(settings.scope.get(namespace)))
        source.learn_sets()
        return compare(archive, Target.of(source, settings.replayer), Watch(progress=shown.update))


def _print_comparison(found: "Comparison") -> None:
    out = common.console()
    wrong = found.different + found.unarchived
    differ = "record differs" if wrong == 1 else "records differ"
    out.print(
        f"[bold]{found.namespace}[/bold]: live against the archive, which knows every write up to "
        f"{moment(found.resolved_at)} and every delete up to {moment(found.reconciled_at)}: "
        + ("[green]OK[/green]" if not wrong else f"[red]{wrong:,} {differ}[/red]")
    )
    out.print(
        f"{found.same:,} the same, {found.different:,} different, {found.unarchived:,} not in the archive; "
        f"{found.changed:,} written since, {found.gone:,} deleted since, {found.aside:,} kept aside"
    )
    if found.unlike > 0:
        have = "partition has" if found.unlike == 1 else "partitions have"
        out.print(f"{found.unlike:,} {have} another number of records than the archive")
    for digest in found.named:
        out.print(f"differs  {digest}")
    sys.stdout.flush()


def print_found(found: "Verification | Comparison") -> None:
    """A result, for people."""
    if not isinstance(found, Verification):
        _print_comparison(found)
        return
    out = common.console()
    since = f" that is new since {moment(found.since)}" if found.since else ""
    out.print(
        f"[bold]{found.namespace}[/bold]: {found.tier} of {count(found.objects, 'object')}, "
        f"{size(found.bytes)}{since}: "
        + ("[green]OK[/green]" if not found.damage else f"[red]{len(found.damage):,} damaged or missing[/red]")
    )
    for damage in found.damage:
        where = "" if damage.shard < 0 else f"shard {damage.shard}: "
        out.print(f"{damage.kind:<8} {where}{damage.text}", markup=False)
    for words, spans in (
        ("cannot be restored", found.cost.lost),
        ("cannot be rewound to", found.cost.lost_in_place if found.cost.lost_in_place != found.cost.lost else ()),
        ("can still be restored", found.cost.left if found.damage else ()),
    ):
        for span in spans:
            out.print(f"{words}: {moment(span.start)} to {moment(span.end)}", markup=False)
    if found.damage and not found.cost.lost and found.cost.left:
        out.print("this costs no moment")
    for reason in found.nowhere:
        out.print(f"nothing can be restored: {reason}", style="yellow", markup=False)
    if found.forgotten:
        again = f"not remembered, so --new will look at all of it again: {found.forgotten}"
        out.print(again, style="yellow", markup=False)
    for other in found.elsewhere:
        out.print(_said_elsewhere(found, other), markup=False)
    for name in found.garbage[:SHOWN]:
        out.print(f"garbage  {name}: no manifest names it", markup=False)
    if len(found.garbage) > SHOWN:
        out.print(f"and {len(found.garbage) - SHOWN:,} more that no manifest names (--json has all)")
    sys.stdout.flush()


def _said_elsewhere(found: Verification, other: Elsewhere) -> str:
    if other.problem:
        return f"{other.destination} cannot be asked what it has of it: {other.problem}"
    spans = ", ".join(f"{moment(span.start)} to {moment(span.end)}" for span in other.moments)
    if not found.costs:
        return f"{other.destination} can restore {spans or 'nothing'}"
    return f"{other.destination} has {len(other.objects):,} of {len(found.costs):,} objects that cost moments" + (
        f", and can restore {spans}" if spans else ""
    )


def to_dict(found: "Verification | Comparison") -> dict[str, Any]:
    """The stable form for programs; moments are RFC 3339."""
    if not isinstance(found, Verification):
        return {"namespace": found.namespace, "tier": "live", "ok": found.error() is None, **found.to_dict()}
    return {
        "namespace": found.namespace,
        "tier": found.tier,
        "ok": not found.damage,
        "began_at": moment(found.began_at),
        "since": moment(found.since) if found.since else None,
        "objects": found.objects,
        "bytes": found.bytes,
        "damage": told(found),
        "lost": _spans(found.cost.lost),
        "lost_in_place": _spans(found.cost.lost_in_place),
        "left": _spans(found.cost.left),
        "nowhere": list(found.nowhere),
        "elsewhere": [
            {
                "destination": other.destination,
                "error": other.problem or None,
                "objects": list(other.objects),
                "moments": _spans(other.moments),
            }
            for other in found.elsewhere
        ],
        "garbage": list(found.garbage),
        "remembered": found.remembered,
        "forgotten": found.forgotten or None,
    }


def _spans(spans: tuple[Moments, ...]) -> list[dict[str, str]]:
    return [{"start": moment(span.start), "end": moment(span.end)} for span in spans]
