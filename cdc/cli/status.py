"""`status`: lag, recoverable windows, and whatever was kept aside."""

from typing import Any

import typer

from cdc.cli import common
from cdc.cli.common import Json, moment, span
from cdc.cli.list import print_windows, window_dict
from cdc.errors import CaptureIncomplete
from cdc.service.status import Status
from cdc.service.status import status as ask

NAMED = 20
"""So many records that were kept aside are named; `--json` has all."""


def status(context: typer.Context, as_json: Json = False) -> int:
    """How far capture and archive are, and to which moments one can restore."""
    found = ask(common.settings(context))
    if as_json:
        common.print_json(to_dict(found))
    else:
        print_status(found)
    return CaptureIncomplete.exit_code if found.aside else 0


def print_status(found: Status) -> None:
    """For people."""
    out = common.console()
    lag = found.lag_ms
    age = span(lag) + " ago" if lag is not None else "never"
    out.print(f"[bold]{found.namespace}[/bold] at {moment(found.at)}")
    out.print(f"every write is in Kafka up to  {moment(found.resolved_at)}  ({age})")
    out.print(f"every delete is in Kafka up to {moment(found.reconciled_at)}")
    print_windows(list(found.windows), list(found.holes))
    rows = common.table("shard", "last look", "resolved to", "deletes to", "archived to", ">offsets to archive")
    for one in found.shards:
        seen = one.captured
        rows.add_row(
            str(one.shard),
            f"{seen.kind.value} {'' if seen.complete else '(unfinished)'}" if seen else "-",
            moment(seen.resolved_at if seen else 0),
            moment(seen.reconciled_at if seen else 0),
            moment(one.archived_to),
            str(one.archive_lag),
        )
    out.print(rows)
    if found.aside:
        out.print(
            f"{len(found.aside):,} records could not be encoded and are kept in the aside topic", style="bold red"
        )
        for kept in found.aside[:NAMED]:
            out.print(f"  {kept.digest.hex()}  {moment(kept.observed_at)}  {kept.reason}", markup=False)


def to_dict(found: Status) -> dict[str, Any]:
    """The stable form for programs."""
    return {
        "namespace": found.namespace,
        "at": moment(found.at),
        "resolved_at": moment(found.resolved_at) if found.resolved_at else None,
        "reconciled_at": moment(found.reconciled_at) if found.reconciled_at else None,
        "lag_ms": found.lag_ms,
        "windows": [window_dict(w) for w in found.windows],
        "holes": [h.reason for h in found.holes],
        "aside": [
            {"digest": a.digest.hex(), "reason": a.reason, "observed_at": moment(a.observed_at)} for a in found.aside
        ],
        "shards": [
            {
                "shard": s.shard,
                "resolved_at": moment(s.captured.resolved_at) if s.captured and s.captured.resolved_at else None,
                "reconciled_at": moment(s.captured.reconciled_at) if s.captured and s.captured.reconciled_at else None,
                "archived_to": moment(s.archived_to) if s.archived_to else None,
                "archive_lag": s.archive_lag,
            }
            for s in found.shards
        ],
    }
