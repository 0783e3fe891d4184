"""What a plan says, to people and to programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from cdc.archive.windows import Hole, namespace_holes
from cdc.clock import rfc3339
from cdc.replayer.report import Counts
from cdc.replayer.wanted import Existing, Expired
from cdc.units import size, span

if TYPE_CHECKING:
    from cdc.replayer.plan import Plan, ShardPlan

EXPIRED: Final[dict[Expired, str]] = {
    "keep": "they are gone",
    "leave": "they are no part of it",
    "shift": "they come back with the life that they had left",
}

EXISTING: Final[dict[Existing, str]] = {
    "fail": "there must be none",
    "keep": "they stay",
    "newer": "they stay if they were written after the version that is to be there, else they are replaced",
    "replace": "they are replaced",
}
HOLES = 3
"""So many holes are told to people."""


def to_dict(plan: Plan) -> dict[str, Any]:
    """For JSON; moments are RFC 3339."""
    counts, seconds, comparing = plan.counts, plan.estimated_seconds, plan.estimated_verify_seconds
    return {
        "kind": plan.kind,
        "namespace": plan.namespace,
        "into": plan.into,
        "scope": plan.scope,
        "part": plan.wanted.part.to_dict(),
        "expired": plan.wanted.expired,
        "existing": plan.wanted.existing if plan.kind == "clone" else None,
        "into_set": plan.wanted.into_set or None,
        "overwrite": plan.wanted.overwrite,
        "at": rfc3339(plan.at),
        "planned_at": rfc3339(plan.planned_at),
        "captured_until": rfc3339(plan.captured_until),
        "reconciled_at": rfc3339(plan.reconciled_at),
        "resolution": plan.resolution._asdict(),
        "holes": [{"start": rfc3339(h.start), "end": rfc3339(h.end), "reason": h.reason} for h in _holes(plan)],
        "counts": counts.to_dict() if counts else None,
        "estimated_seconds": None if seconds is None else round(seconds, 1),
        "estimated_verify_seconds": None if comparing is None else round(comparing, 1),
        "rates": {name: round(value) for name, value in asdict(plan.speed).items()},
        "metadata": None if plan.metadata is None else {"when": plan.wanted.metadata, **plan.metadata.to_dict()},
        "shards": [_shard(shard) for shard in plan.shards],
    }


def to_text(plan: Plan) -> str:
    """For people, a line for each thing to know."""
    resolution = plan.resolution
    into = f" into {plan.into}" if plan.kind == "clone" else ""
    into += f", set {plan.wanted.into_set}" if plan.wanted.into_set else ""
    lines = [f"{plan.kind} of {plan.namespace} to {rfc3339(plan.at)}{into}"]
    if plan.wanted.part.told:
        lines.append(f"  part       {plan.wanted.part.told}")
    lines += [
        f"  {_reading(plan)}",
        f"  known      every change up to {rfc3339(plan.captured_until)}, "
        f"every delete up to {rfc3339(plan.reconciled_at)}",
        f"  resolution within {span(resolution.writes_ms)} for writes and {span(resolution.deletes_ms)} "
        "for deletes at this moment",
    ]
    if plan.scope:
        lines.append(f"  scope      {plan.scope}; nothing is known of other records, and they are left alone")
    lines += [f"  {line}" for line in (*_told_holes(_holes(plan)), *_there_already(plan))]
    if plan.counts is not None:
        lines += [f"  {line}" for line in (*_concerned(plan, plan.counts), *_counted(plan, plan.counts))]
    if plan.metadata is not None:
        lines += plan.metadata.to_text(plan.wanted.metadata)
    return "\n".join(lines)


def _reading(plan: Plan) -> str:
    some = plan.kind == "rewind" or plan.wanted.part.seeks
    sets = sorted({shard.view.base.at for shard in plan.shards if shard.view.base})
    stored = size(sum(info.size for info in plan.objects))
    based = f"restore sets of {', '.join(map(rfc3339, sets))}" if sets else "no restore set yet"
    what = "reads of" if some else "reads"
    return f"{what:<10} {len(plan.objects)} objects of {len(plan.shards)} shards, {stored}; {based}"


def _holes(plan: Plan) -> list[Hole]:
    """The last one before the moment, and all after it."""
    found = namespace_holes(plan.manifests)
    return [h for h in found if h.end <= plan.at][-1:] + [h for h in found if h.end > plan.at]


def _told_holes(found: list[Hole]) -> Iterator[str]:
    for hole in found[:HOLES]:
        yield f"hole       {rfc3339(hole.start)} to {rfc3339(hole.end)}: {hole.reason}"
    if len(found) > HOLES:
        yield f"           and {len(found) - HOLES:,} more after it; `list` names them"


def _there_already(plan: Plan) -> Iterator[str]:
    """What becomes of records that stand where the restore writes."""
    if plan.kind == "clone":
        yield f"existing   records in the target: {EXISTING[plan.wanted.existing]}"
    elif plan.wanted.overwrite:
        yield "overwrites records that changed again after they were captured last"


def _concerned(plan: Plan, counts: Counts) -> Iterator[str]:
    """How many records a part has: a set or a key that is misspelt has none."""
    named, clone = len(plan.wanted.part.digests), plan.kind == "clone"
    found = counts.touched + counts.leave + counts.spare + (counts.expired if clone and not plan.shift else 0)
    what = "were there" if clone else "changed since"
    if named:
        yield f"named      {named:,} records, of which {found:,} {what}"
    elif plan.wanted.part.told and not found:
        yield f"nothing    to do: no records of this part {what}"


def _counted(plan: Plan, counts: Counts) -> Iterator[str]:
    bins = plan.wanted.part.bins
    yield f"writes     {counts.write:,} records, {size(counts.bytes)}"
    if plan.kind == "rewind" and bins:
        yield f"takes off  these bins of {counts.remove:,} records that had none of them"
        yield f"leaves     {counts.leave:,} records that changed, and have these bins as they were"
    elif plan.kind == "rewind":
        yield f"removes    {counts.remove:,} records that were not there"
        yield f"leaves     {counts.leave:,} records that changed and are as they were"
    if counts.spare:
        yield (
            f"spares     {counts.spare:,} records that began to match the filter since, and may have been "
            "there before; --overwrite removes them"
        )
    yield f"expired    {counts.expired:,} records whose time has passed since: {EXPIRED[plan.wanted.expired]}"
    if plan.shift:
        yield f"shifts     each expiry that is written by {span(plan.shift)}"
    unsure = "; --list-fuzzy names those that are not exact" if counts.presumed or counts.fuzzy else ""
    yield f"certainty  {counts.exact:,} exact, {counts.presumed:,} presumed, {counts.fuzzy:,} fuzzy{unsure}"
    taken, compared = max(plan.estimated_seconds or 0, 0.1), max(plan.estimated_verify_seconds or 0, 0.1)
    past = plan.speed.measured
    why = f"as the last {past} restores took" if past > 1 else "as the last restore took" if past else "assumed"
    yield f"takes      about {taken:.1f} s, and {compared:.1f} s to verify ({why})"


def _shard(shard: ShardPlan) -> dict[str, Any]:
    base = shard.view.base
    return {
        "shard": shard.view.shard,
        "epoch": rfc3339(shard.view.epoch.began_at),
        "restore_set": rfc3339(base.at) if base else None,
        "objects": [{"name": info.name, "size": info.size, "rows": info.rows} for info in shard.objects],
        "counts": asdict(shard.counts) if shard.counts else None,
    }
