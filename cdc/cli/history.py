"""`history`: every captured version of one record."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import typer

from cdc.cli import common, record
from cdc.cli.common import Destination, Json, Namespace, Tail, moment
from cdc.cli.record import Digest, Key, Set
from cdc.codec.decode import jsonable
from cdc.model import BEGINNING, END_OF_TIME, Op
from cdc.replayer.differences import BinPair, bins_between, told
from cdc.replayer.history import Captured, History
from cdc.units import span

SHOWN = 60
"""So many characters of a version's bins are shown."""
VALUE = 20
"""So many of a value that changed."""

Changes = Annotated[
    bool, typer.Option("--changes", help="Of each version what it changed: bins that are new, other or gone.")
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Only so many versions, the last ones.")]


def history_(
    context: typer.Context,
    set_name: Set = "",
    key: Key = None,
    digest: Digest = "",
    changes: Changes = False,
    limit: Limit = None,
    namespace: Namespace = "",
    destination: Destination = "",
    tail: Tail = "auto",
    as_json: Json = False,
) -> None:
    """Every captured version of one record, with the intervals in which nothing was seen of it."""
    found, name = record.meant(set_name, key, digest)
    with common.replayer(context, namespace, destination, tail) as replayer:
        known, namespace = replayer.history(found), replayer.namespace
    changed = _changed(known.versions) if changes else [None] * len(known.versions)
    shown = list(zip(known.versions, changed, strict=True))[-(limit or 0) :]
    if as_json:
        common.print_json(to_dict(namespace, known, shown))
    else:
        _print(namespace, name, known, shown)


Shown = Sequence[tuple[Captured, dict[str, BinPair] | None]]
"""Versions, and what each changed where that was asked for."""


def _changed(versions: Sequence[Captured]) -> list[dict[str, BinPair]]:
    """What each version changed against the one before it. The end of a record takes all its bins; what was kept aside
    changed nobody knows what, and the next one is compared with what was known before."""
    bins = [dict[str, Any]()]
    for version in versions:
        bins.append(bins[-1] if version.change["op"] == Op.ASIDE.name else version.change["bins"])
    return [bins_between(was, now) for was, now in pairwise(bins)]


def to_dict(namespace: str, found: History, shown: Shown) -> dict[str, Any]:
    """The stable form for programs; moments are RFC 3339."""
    epoch = found.manifest.epochs[-1] if found.manifest.epochs else None
    return {
        "namespace": namespace,
        "digest": found.digest.hex(),
        "shard": found.manifest.shard,
        "changes_kept_from": moment(found.manifest.changes_kept_from) if found.manifest.changes_kept_from else None,
        "captured_until": moment(epoch.resolved_at) if epoch else None,
        "reconciled_at": moment(epoch.reconciled_at) if epoch else None,
        "scope": epoch.scope if epoch else "",
        "versions": [
            record.version_dict(v)
            | {"within_blind_interval": _within(v)}
            | ({} if changed is None else {"changed": told(changed)})
            for v, changed in shown
        ],
    }


def _within(version: Captured) -> str | None:
    return version.within.name.lower() if version.blind else None


def _print(namespace: str, name: str, found: History, shown: Shown) -> None:
    out = common.console()
    out.print(f"{namespace}: {name}", markup=False, style="bold")
    if found.versions:
        rows = common.table(
            "effective at", "op", ">generation", "expires", "unobserved since", "blind", "found by", "content"
        )
        for v, changed in shown:
            rows.add_row(*_cells(v), _content(v.change["bins"]) if changed is None else _changes(changed))
        out.print(rows)
        if len(shown) < len(found.versions):
            out.print(f"and {len(found.versions) - len(shown):,} older ones")
    else:
        out.print("no version of it was captured", style="yellow")
    if not found.manifest.epochs:
        out.print("nothing of its shard is in the archive yet", style="yellow")
        return
    epoch, kept = found.manifest.epochs[-1], found.manifest.changes_kept_from
    out.print(f"captured up to {moment(epoch.resolved_at)}, deletes up to {moment(epoch.reconciled_at)}")
    if kept:
        out.print(f"before {moment(kept)} only what restore sets have is kept", style="yellow")
    if epoch.scope:
        out.print(f"only {epoch.scope}: nothing is known of other records", markup=False, style="yellow")


def _cells(version: Captured) -> tuple[str, ...]:
    change = version.change
    aside = change["effective_at"] == END_OF_TIME
    return (
        f"kept aside {moment(change['observed_at'])}" if aside else moment(change["effective_at"]),
        change["op"],
        str(change["generation"]),
        moment(change["void_time"]) if change["void_time"] else "never",
        moment(change["unobserved_since"]),
        _blind(version),
        change["origin"],
    )


def _blind(version: Captured) -> str:
    if version.blind is None:
        return "-"
    since, until = version.blind
    if until == END_OF_TIME:
        return "until its next change"
    return "before" if since == BEGINNING else f"{span(until - since)}, {_within(version)}"


def _content(bins: dict[str, Any]) -> str:
    if not bins:
        return "-"
    return _short(json.dumps({name: jsonable(value) for name, value in bins.items()}, ensure_ascii=False), SHOWN)


def _changes(changed: dict[str, BinPair]) -> str:
    """`n: 1 -> 2, +tag: "a", -old`."""
    said = []
    for name, pair in changed.items():
        sign = "" if all(pair) else "+" if pair[1] else "-"
        values = [_short(json.dumps(jsonable(*value), ensure_ascii=False), VALUE) for value in pair if value]
        said.append(f"{sign}{name}" + (f": {' -> '.join(values)}" if pair[1] else ""))
    return _short(", ".join(said) or "-", SHOWN)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
