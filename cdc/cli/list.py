"""`list`: what the archive holds and to which moments it leads back."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cdc.archive import Hole, Manifest, Window, keeps, metadata
from cdc.archive.items import Snapshot
from cdc.archive.keeps import Keep
from cdc.archive.windows import PRUNED, holes_within, namespace_holes, namespace_windows, runs
from cdc.cli import common
from cdc.cli.common import Destination, Json, Namespace, moment
from cdc.clock import wall_clock
from cdc.config import Settings
from cdc.errors import UsageError
from cdc.replayer import at
from cdc.units import count, size, span

From = Annotated[str, typer.Option("--from", help="Only what holds from then on: RFC 3339, a duration ago, or latest.")]
To = Annotated[str, typer.Option("--to", help="Only what holds up to then, both ends included.")]

SHOWN = 20
"""So many coarse spans of a window are told, the coarsest; `--json` has all."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What the archive at `place` holds of a namespace: windows and holes (of the span asked for), and the manifests of
    those of its shards that have one; `described` is the newest metadata."""

    namespace: str
    place: str
    shards: int
    windows: list[Window]
    holes: list[Hole]
    manifests: list[Manifest]
    keeps: dict[str, Keep]
    described: Snapshot | None


def list_(
    context: typer.Context,
    namespace: Namespace = "",
    destination: Destination = "",
    since: From = "",
    until: To = "",
    as_json: Json = False,
) -> None:
    """Recoverable windows, how exact they are, holes and restore sets of every archive; or of a span of it."""
    every = common.settings(context, namespace, destination).each()
    common.tell_each(
        every, lambda place: listed(place, since, until), lambda _, found: to_dict(found),
        lambda _, found: _print(found), as_json=as_json,
    )  # fmt: skip


def listed(settings: Settings, since: str = "", until: str = "") -> Listed:
    """Of the only namespace of the settings. Raises ArchiveError, and UsageError for words that are no moments."""
    archive = common.archive(settings)
    shards = archive.all_shards()
    windows, holes = namespace_windows(shards), namespace_holes(shards)
    if since or until:
        windows, holes = within(windows, holes, since, until, wall_clock())
    manifests = [manifest for manifest in shards if manifest is not None]
    return Listed(
        archive.namespace, settings.archive.place, archive.shards, windows, holes, manifests,
        keeps.load(archive.store, archive.namespace), metadata.newest(archive.store, archive.namespace),
    )  # fmt: skip


def _print(found: Listed) -> None:
    out = common.console()
    out.print(f"[bold]{found.namespace}[/bold] in {found.place}, {count(found.shards, 'shard')}")
    print_windows(found.windows, found.holes)
    for name, keep in sorted(found.keeps.items(), key=lambda one: one[1].at):
        out.print(f"kept as {name}: {moment(keep.at)}" + (f"; {keep.note}" if keep.note else ""), markup=False)
    if found.described is not None:
        out.print(f"indexes, modules and settings: looked at {moment(found.described.looked_at)} (metadata --at)")
    rows = common.table("shard", ">segments", ">versions", ">bytes", ">sets", "newest set", "resolved to")
    for m in found.manifests:
        rows.add_row(
            str(m.shard),
            str(len(m.segments)),
            str(sum(s.rows for s in m.segments)),
            size(_bytes(m)),
            str(len(m.sets)),
            moment(max((s.at for s in m.sets), default=None)),
            moment(m.epochs[-1].resolved_at if m.epochs else None),
        )
    out.print(rows)


def within(
    windows: list[Window], holes: list[Hole], since: str, until: str, now: int
) -> tuple[list[Window], list[Hole]]:
    """The parts of windows and holes that lie between two moments in words; an empty one leaves that side open.

    UsageError when the words are no moments, or stand the wrong way round.
    """
    start = at.moment(since, windows, now) if since else min((w.start for w in windows), default=0)
    end = at.moment(until, windows, now) if until else max((w.end for w in windows), default=now)
    if start > end:
        raise UsageError(f"--from {moment(start)} is later than --to {moment(end)}")
    parts = [part for w in windows if (part := w.part(start, end)) is not None]
    return parts, holes_within(windows, holes, start, end)


def print_windows(windows: list[Window], holes: list[Hole], coarse: int = SHOWN) -> None:
    """The windows as a table (or why there is none), their coarse spans (so many at most, the coarsest), and the
    holes."""
    out = common.console()
    if windows:
        rows = common.table("recoverable from", "to", ">span", ">writes within", ">deletes within", "deletes known to")
        for every, run in runs(windows):
            long = span(run[0].end - run[0].start) if len(run) == 1 else f"{len(run)} {every} sets".replace("  ", " ")
            writes, deletes = (
                _within(max(w.typical()[of] for w in run), max(w.resolution()[of] for w in run)) for of in (0, 1)
            )
            known = moment(max(w.reconciled_at for w in run))
            rows.add_row(moment(run[0].start), moment(run[-1].end), long, writes, deletes, known)
        out.print(rows)
    else:
        out.print("no recoverable window", style="yellow")
    for w in windows:
        if w.scope:
            out.print(f"{moment(w.start)} to {moment(w.end)}: only {w.scope}", markup=False)
        found = w.coarse()
        told = set(sorted(found, key=lambda c: c.resolution.coarser_ms)[-coarse:])
        for c in found:
            if c in told:
                out.print(
                    f"coarse {moment(c.start)} to {moment(c.end)} ({span(c.end - c.start)}): writes within "
                    f"{span(c.resolution.writes_ms)}, deletes within {span(c.resolution.deletes_ms)}; {c.reason}",
                    style="yellow",
                )
        if len(found) > len(told):
            out.print(f"and {len(found) - len(told)} less coarse spans (--json has all)", style="yellow")
    pruned = [hole for hole in holes if hole.reason == PRUNED]
    if pruned:
        said = f"{moment(pruned[0].start)} to {moment(pruned[-1].end)}, but for the moments of restore sets"
        out.print(f"{PRUNED}: {said}", style="yellow")
    for hole in holes:
        if hole.reason == PRUNED:
            continue
        between = f" {moment(hole.start)} to {moment(hole.end)}" if hole.end else ""
        out.print(f"hole{between}: {hole.reason}", style="yellow")


def _within(typical: int, worst: int) -> str:
    return f"{span(typical)}, at worst {span(worst)}" if worst > typical else span(worst)


def to_dict(found: Listed) -> dict[str, Any]:
    """The stable form for programs; moments are RFC 3339."""
    return {
        "namespace": found.namespace,
        "shards": found.shards,
        "windows": [window_dict(w) for w in found.windows],
        "holes": [
            {"start": moment(h.start) if h.end else None, "end": moment(h.end) if h.end else None, "reason": h.reason}
            for h in found.holes
        ],
        "keeps": [
            {"name": name, "at": moment(keep.at), "made_at": moment(keep.made_at), "note": keep.note}
            for name, keep in sorted(found.keeps.items())
        ],
        "metadata": {
            "looked_at": moment(found.described.looked_at) if found.described.looked_at else None,
            "items": sum(not told.removed for told in found.described.items),
            "objects": len(found.described.earlier) + 1,
        }
        if found.described is not None
        else None,
        "archive": [
            {
                "shard": m.shard,
                "manifest": m.sequence,
                "segments": len(m.segments),
                "versions": sum(s.rows for s in m.segments),
                "bytes": _bytes(m),
                "sets": [{"at": moment(s.at), "versions": s.rows, "bytes": s.size} for s in m.sets],
                "resolved_at": moment(m.epochs[-1].resolved_at) if m.epochs else None,
            }
            for m in found.manifests
        ],
    }


def _bytes(manifest: Manifest) -> int:
    """Of everything that a restore may read. Objects that two sets share count twice."""
    return sum(s.size + s.index_size for s in manifest.segments) + sum(s.size for s in manifest.sets)


def window_dict(window: Window) -> dict[str, Any]:
    """One window for programs."""
    return {
        "start": moment(window.start),
        "end": moment(window.end),
        "scope": window.scope,
        "reconciled_at": moment(window.reconciled_at),
        "typical": window.typical()._asdict(),
        "worst": window.resolution()._asdict(),
        "coarse": [
            {"start": moment(c.start), "end": moment(c.end), **c.resolution._asdict(), "reason": c.reason}
            for c in window.coarse()
        ],
    }
