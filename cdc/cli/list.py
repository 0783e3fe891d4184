"""`list`: what the archive holds and to which moments it leads back."""

from typing import Any

import typer

from cdc.archive import Hole, Manifest, Window
from cdc.cli import common
from cdc.cli.common import Json, moment, size, span


def list_(context: typer.Context, as_json: Json = False) -> None:
    """Recoverable windows, holes and restore sets of the archive."""
    settings = common.settings(context)
    archive = common.archive(settings)
    manifests = [manifest for manifest in archive.all_shards() if manifest is not None]
    windows, holes = archive.windows(), archive.holes()
    if as_json:
        common.print_json(to_dict(archive.namespace, archive.shards, windows, holes, manifests))
        return
    out = common.console()
    out.print(f"[bold]{archive.namespace}[/bold] in {settings.archive.path}, {archive.shards} shards")
    print_windows(windows, holes)
    shards = common.table("shard", ">segments", ">versions", ">bytes", ">sets", "newest set", "resolved to")
    for m in manifests:
        held = [*m.segments, *(s for restore_set in m.sets for s in restore_set.segments)]
        shards.add_row(
            str(m.shard),
            str(len(m.segments)),
            str(sum(s.rows for s in m.segments)),
            size(sum(s.size + s.index_size for s in held)),
            str(len(m.sets)),
            moment(m.sets[-1].at if m.sets else None),
            moment(m.epochs[-1].resolved_at if m.epochs else None),
        )
    out.print(shards)


def print_windows(windows: list[Window], holes: list[Hole]) -> None:
    """The windows and holes as a table, or why there is none."""
    out = common.console()
    if windows:
        rows = common.table("recoverable from", "to", ">span", ">resolution", "deletes known to")
        for w in windows:
            rows.add_row(
                moment(w.start), moment(w.end), span(w.end - w.start), span(w.resolution_ms), moment(w.reconciled_at)
            )
        out.print(rows)
    else:
        out.print("no recoverable window yet", style="yellow")
    for hole in holes:
        between = f" {moment(hole.start)} to {moment(hole.end)}" if hole.end else ""
        out.print(f"hole{between}: {hole.reason}", style="yellow")


def to_dict(
    namespace: str, shards: int, windows: list[Window], holes: list[Hole], manifests: list[Manifest]
) -> dict[str, Any]:
    """The stable form for programs; moments are RFC 3339."""
    return {
        "namespace": namespace,
        "shards": shards,
        "windows": [window_dict(w) for w in windows],
        "holes": [
            {"start": moment(h.start) if h.end else None, "end": moment(h.end) if h.end else None, "reason": h.reason}
            for h in holes
        ],
        "archive": [
            {
                "shard": m.shard,
                "manifest": m.sequence,
                "segments": len(m.segments),
                "versions": sum(s.rows for s in m.segments),
                "bytes": sum(s.size + s.index_size for s in m.segments)
                + sum(s.size + s.index_size for restore_set in m.sets for s in restore_set.segments),
                "sets": [{"at": moment(s.at), "versions": s.rows} for s in m.sets],
                "resolved_at": moment(m.epochs[-1].resolved_at) if m.epochs else None,
            }
            for m in manifests
        ],
    }


def window_dict(window: Window) -> dict[str, Any]:
    """One window for programs."""
    return {
        "start": moment(window.start),
        "end": moment(window.end),
        "resolution_ms": window.resolution_ms,
        "reconciled_at": moment(window.reconciled_at),
    }
