"""`status`: lag, recoverable windows, destinations, and whatever was kept aside."""

from typing import Any

import typer

from cdc.cli import common
from cdc.cli.common import Destination, Json, Namespace, moment
from cdc.cli.drill import summary
from cdc.cli.list import print_windows, window_dict
from cdc.errors import CaptureIncomplete
from cdc.service.status import ArchivedShard, DestinationStatus, Status
from cdc.service.status import status as ask
from cdc.units import span

NAMED = 20
"""So many records that were kept aside are named; `--json` has all."""


def status(
    context: typer.Context, namespace: Namespace = "", destination: Destination = "", as_json: Json = False
) -> int:
    """How far capture and archives are, and to which moments one can restore."""
    found = [ask(settings) for settings in common.settings(context, namespace, destination).each()]
    alone = [at.error for one in found for at in one.destinations if at.error and len(one.destinations) == 1]
    if alone:
        raise alone[0]
    if as_json:
        common.print_json_each([to_dict(one) for one in found])
    else:
        for one in found:
            print_status(one)
    for error in (at.error for one in found for at in one.destinations if at.error):
        raise error
    return CaptureIncomplete.exit_code if any(one.aside for one in found) else 0


def print_status(found: Status) -> None:
    """For people."""
    out = common.console()
    lag = found.lag_ms
    age = span(lag) + " ago" if lag is not None else "never"
    out.print(f"[bold]{found.namespace}[/bold] at {moment(found.at)}")
    if found.scope:
        out.print(f"captured are only {found.scope}", markup=False)
    out.print(f"every write is in Kafka up to  {moment(found.resolved_at)}  ({age})")
    out.print(f"every delete is in Kafka up to {moment(found.reconciled_at)}")
    several = len(found.destinations) > 1
    if several:
        _print_destinations(found)
    for at in found.destinations:
        if several:
            out.print(f"[bold]{at.destination}[/bold]")
        if at.error is None:
            print_windows(list(at.windows), list(at.holes), coarse=3)
            if at.metadata_at:
                out.print(f"indexes, modules and settings are archived as of {moment(at.metadata_at)}")
            if at.drill is not None:
                out.print(summary(at.drill), style="" if at.drill.passed else "bold red", markup=False)
        else:
            out.print(common.wrong(at.error), style="red", markup=False)
    archived = [at for at in found.destinations if at.error is None]
    rows = common.table(
        "shard", "last look", "resolved to", "deletes to",
        *(name for at in archived for name in _columns(at, several=several)),
    )  # fmt: skip
    for shard, seen in enumerate(found.captured):
        rows.add_row(
            str(shard),
            f"{seen.kind.value} {'' if seen.complete else '(unfinished)'}" if seen else "-",
            moment(seen.resolved_at if seen else 0),
            moment(seen.reconciled_at if seen else 0),
            *(cell for at in archived for cell in _cells(at.shards[shard], several=several)),
        )
    out.print(rows)
    if found.aside:
        out.print(
            f"{len(found.aside):,} records could not be encoded and are kept in the aside topic", style="bold red"
        )
        for kept in found.aside[:NAMED]:
            out.print(f"  {kept.digest.hex()}  {moment(kept.observed_at)}  {kept.reason}", markup=False)


def _print_destinations(found: Status) -> None:
    rows = common.table("destination", "archived to", ">behind", ">offsets to archive", "recoverable from", "to")
    for at in found.destinations:
        if at.error is not None:
            rows.add_row(at.destination, f"[red]{type(at.error).__name__}[/red]", "", "", "", "")
            continue
        last = at.windows[-1] if at.windows else None
        behind = span(max(0, found.resolved_at - at.resolved_at)) if at.resolved_at else "-"
        rows.add_row(
            at.destination, moment(at.resolved_at), behind, str(at.lag),
            moment(last.start if last else 0), moment(last.end if last else 0),
        )  # fmt: skip
    common.console().print(rows)


def _columns(at: DestinationStatus, *, several: bool) -> tuple[str, ...]:
    return (f">to {at.destination}",) if several else ("archived to", ">offsets to archive")


def _cells(shard: ArchivedShard, *, several: bool) -> tuple[str, ...]:
    return (str(shard.lag),) if several else (moment(shard.resolved_at), str(shard.lag))


def to_dict(found: Status) -> dict[str, Any]:
    """The stable form for programs. With one destination, what it has archived stands beside what was captured; with
    several, in a list under `destinations`."""
    shards = [
        {
            "shard": shard,
            "resolved_at": moment(seen.resolved_at) if seen and seen.resolved_at else None,
            "reconciled_at": moment(seen.reconciled_at) if seen and seen.reconciled_at else None,
        }
        for shard, seen in enumerate(found.captured)
    ]
    told: dict[str, Any] = {
        "namespace": found.namespace,
        "scope": found.scope,
        "at": moment(found.at),
        "resolved_at": moment(found.resolved_at) if found.resolved_at else None,
        "reconciled_at": moment(found.reconciled_at) if found.reconciled_at else None,
        "lag_ms": found.lag_ms,
        "aside": [
            {"digest": a.digest.hex(), "reason": a.reason, "observed_at": moment(a.observed_at)} for a in found.aside
        ],
    }
    if len(found.destinations) == 1:
        archived = _archived(found.destinations[0])
        both = [a | b for a, b in zip(shards, archived.pop("shards"), strict=True)]
        return told | archived | {"shards": both}
    places = [
        {
            "destination": at.destination,
            "place": at.place,
            "error": common.wrong(at.error),
            **_archived(at),
        }
        for at in found.destinations
    ]
    return told | {"shards": shards, "destinations": places}


def _archived(at: DestinationStatus) -> dict[str, Any]:
    return {
        "windows": [window_dict(w) for w in at.windows],
        "holes": [h.reason for h in at.holes],
        "drill": at.drill.to_dict() if at.drill is not None else None,
        "metadata_at": moment(at.metadata_at) if at.metadata_at else None,
        "shards": [
            {"shard": k, "archived_to": moment(s.resolved_at) if s.resolved_at else None, "archive_lag": s.lag}
            for k, s in enumerate(at.shards)
        ],
    }
