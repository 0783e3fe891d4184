"""`prune`: remove what retention no longer keeps, and say what goes, why, and what stays."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer

from cdc.archive.manifests import RestoreSet, SegmentInfo
from cdc.archive.prune import METADATA, Plan, Pruned, part, plan_of
from cdc.archive.prune import prune as prune_archive
from cdc.cli import common
from cdc.cli.common import Destination, Json, Namespace, moment
from cdc.cli.progress import bars
from cdc.clock import wall_clock
from cdc.config import Settings
from cdc.errors import ObjectDamaged
from cdc.units import count, size, span


def prune(
    context: typer.Context,
    namespace: Namespace = "",
    destination: Destination = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go and why, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove from the archive what archive.retention no longer keeps, and what nothing names any more."""
    every = common.settings(context, namespace, destination).each()
    now = wall_clock()

    def work(place: Settings) -> Pruned:
        archive = common.archive(place)
        if dry_run:
            return Pruned(plan_of(archive, place, now))
        with bars() as shown:
            return prune_archive(archive, place, now, progress=shown.update)

    common.tell_each(
        every, work, partial(to_dict, dry_run=dry_run), partial(_print, dry_run=dry_run), as_json=as_json,
        problem=_problem,
    )  # fmt: skip


def _problem(done: Pruned) -> ObjectDamaged | None:
    for shard, said in done.plan.refused.items():
        return ObjectDamaged(
            f"nothing of {part(shard)} was looked for as garbage: {said}", "`verify` says all that is damaged."
        )
    return None


def _print(settings: Settings, done: Pruned, *, dry_run: bool) -> None:
    out = common.console()
    plan, decision = done.plan, done.plan.decision
    out.print(f"[bold]{settings.aerospike.namespace}[/bold]" + (" (nothing is done yet)" if dry_run else ""))
    sets, segments = _sets(plan), _segments(plan)
    goes = common.table(">goes", "what", ">bytes", "why")
    if sets:
        goes.add_row(f"{len(sets):,}", f"restore sets, {_between([s.at for s in sets])}", size(_size(plan)[0]),
                     "no rule and no mark keeps their moments")  # fmt: skip
    if segments:
        goes.add_row(f"{len(segments):,}", "segments", size(_size(plan)[1]),
                     f"changes before {moment(decision.changes_from)}, which no kept moment needs")  # fmt: skip
    epochs = sum(len(shard.epochs) for shard in plan.shards)
    if epochs:
        goes.add_row(f"{epochs:,}", "epochs", "", "nothing of them is kept")
    if plan.garbage:
        goes.add_row(f"{len(plan.garbage):,}", "objects", size(plan.garbage_bytes), "nothing that is kept names them")
    if goes.row_count:
        out.print(goes)
    else:
        out.print("nothing goes" + (f": {decision.held}" if decision.held else ""))
    if decision.held and goes.row_count:
        out.print(f"changes and restore sets stay: {decision.held}")
    if not decision.held:
        stays = common.table(">stays", "why", "from", "to")
        stays.add_row("", "every moment", moment(decision.changes_from), "now")
        for why in dict.fromkeys(decision.sets.values()):
            ats = [at for at, reason in decision.sets.items() if reason == why]
            stays.add_row(f"{len(ats):,}", why, moment(min(ats)), moment(max(ats)))
        out.print(stays)
    for name in decision.lost:
        out.print(f"the moment kept as {name} cannot be restored any more", style="yellow", markup=False)
    for shard, said in plan.refused.items():
        out.print(f"{part(shard)}: no garbage is looked for, {said}", style="red", markup=False)
    grace = span(round(settings.archive.retention.grace_s * 1000))
    if not dry_run:
        out.print(
            f"{size(done.bytes)} freed in {count(done.removed, 'object')}; "
            f"what goes from now on is removed {grace} later"
        )


def to_dict(settings: Settings, done: Pruned, *, dry_run: bool) -> dict[str, Any]:
    """The stable form for programs; moments are RFC 3339."""
    plan, decision = done.plan, done.plan.decision
    return {
        "namespace": settings.aerospike.namespace,
        "dry_run": dry_run,
        "held": decision.held,
        "changes_kept_from": moment(decision.changes_from) if decision.changes_from else None,
        "kept_sets": [{"at": moment(at), "reason": why} for at, why in decision.sets.items()],
        "lost_marks": list(decision.lost),
        "sets": [{"shard": p.before.shard, "at": moment(s.at), "bytes": s.size} for p in plan.shards for s in p.sets],
        "segments": [{"name": s.name, "bytes": s.size + s.index_size} for s in _segments(plan)],
        "epochs": [{"shard": p.before.shard, "number": e.number} for p in plan.shards for e in p.epochs],
        "garbage": [{"name": entry.name, "bytes": entry.size} for entry in plan.garbage],
        "refused": [
            {"shard": None if shard == METADATA else shard, "reason": said} for shard, said in plan.refused.items()
        ],
        "made_sets": done.made,
        "completed_sets": done.completed,
        "removed": done.removed,
        "removed_bytes": done.bytes,
        "stopped": done.stopped,
    }


def _sets(plan: Plan) -> list[RestoreSet]:
    return [made for shard in plan.shards for made in shard.sets]


def _segments(plan: Plan) -> list[SegmentInfo]:
    return [info for shard in plan.shards for info in shard.segments]


def _size(plan: Plan) -> tuple[int, int]:
    """Of the sets and of the segments that go."""
    return sum(made.size for made in _sets(plan)), sum(info.size + info.index_size for info in _segments(plan))


def _between(ats: Sequence[int]) -> str:
    return moment(min(ats)) if len(set(ats)) == 1 else f"{moment(min(ats))} to {moment(max(ats))}"
