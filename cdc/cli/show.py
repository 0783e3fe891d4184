"""`show`: one record at a moment."""

import json
import sys
from typing import Annotated, Any

import typer

from cdc.cli import common, record
from cdc.cli.common import MOMENT, Destination, Json, Namespace, Tail, moment
from cdc.cli.record import Digest, Key, Set
from cdc.codec.decode import jsonable
from cdc.replayer.history import Shown

At = Annotated[str, typer.Option("--at", help=MOMENT)]


def show_(
    context: typer.Context,
    at: At = "latest",
    set_name: Set = "",
    key: Key = None,
    digest: Digest = "",
    namespace: Namespace = "",
    destination: Destination = "",
    tail: Tail = "auto",
    as_json: Json = False,
) -> None:
    """One record as it was at a moment, and how sure that is."""
    found, name = record.meant(set_name, key, digest)
    with common.replayer(context, namespace, destination, tail) as replayer:
        shown, namespace = replayer.show(found, at), replayer.namespace
    if as_json:
        common.print_json(to_dict(namespace, shown))
    else:
        sys.stdout.write("\n".join(_lines(namespace, name, shown)) + "\n")


def to_dict(namespace: str, shown: Shown) -> dict[str, Any]:
    """The stable form for programs; moments are RFC 3339."""
    blind = shown.blind
    return {
        "namespace": namespace,
        "digest": shown.digest.hex(),
        "shard": shown.shard,
        "at": moment(shown.at),
        "scope": shown.scope,
        "present": shown.held is not None,
        "certainty": shown.certainty.name.lower(),
        "reason": shown.reason,
        "blind": {"unobserved_since": moment(blind[0]), "effective_at": moment(blind[1])} if blind else None,
        "version": record.version_dict(shown.held) if shown.held else None,
        "ended_by": record.version_dict(shown.ended) if shown.ended else None,
    }


def _lines(namespace: str, name: str, shown: Shown) -> list[str]:
    lines = [f"{namespace}: {name}"]
    state = "there" if shown.held else "absent"
    lines.append(f"  at {moment(shown.at)}: {state}, {shown.certainty.name.lower()}")
    if shown.reason:
        lines.append(f"  {shown.reason}")
    version = shown.held or shown.ended
    if version is not None:
        change = version.change
        what = {"WRITE": "written" if shown.held else "expired; written"}.get(change["op"], change["op"].lower())
        lines.append(f"  {what} {moment(change['effective_at'])}, generation {change['generation']}, {_expiry(change)}")
    elif not shown.reason:
        lines.append("  no version of it was captured that took effect by then")
    if shown.scope:
        lines.append(f"  only {shown.scope} is captured: of other records nothing is known")
    if shown.held:
        change = shown.held.change
        lines.append(f"  set   {'(none)' if change['set'] is None else change['set']}")
        lines.append(f"  key   {'(not stored)' if change['user_key'] is None else _value(change['user_key'])}")
        width = max(len(each) for each in change["bins"])
        lines += [f"  bin   {each:<{width}}  {_value(value)}" for each, value in change["bins"].items()]
    return lines


def _expiry(change: dict[str, Any]) -> str:
    return "never expires" if change["void_time"] is None else f"expires {moment(change['void_time'])}"


def _value(value: Any) -> str:
    return json.dumps(jsonable(value), ensure_ascii=False)
