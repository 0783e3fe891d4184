"""`metadata`: indexes, UDFs, sets, settings, users and truncations, as Kafka has them now or the archive had them."""

import base64
from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.markup import escape

from cdc.archive.items import Known, MetadataState, Told
from cdc.cli import common
from cdc.cli.common import Destination, Json, Namespace, moment
from cdc.errors import CaptureIncomplete, NotRecoverable, UsageError
from cdc.model import BEGINNING, Item, ItemKind
from cdc.topics import Kept, Metadata, Topics, kept_metadata

At = Annotated[
    str,
    typer.Option("--at", help="As the archive has it: RFC 3339, a duration ago, latest, or the name of a mark."),
]


def metadata(
    context: typer.Context, at: At = "", namespace: Namespace = "", destination: Destination = "", as_json: Json = False
) -> int:
    """What the namespaces have beside their records: indexes, UDFs, sets, settings, users; and since when."""
    if at:
        return _archived(context, at, namespace, destination, as_json)
    if destination:
        raise UsageError("--destination names an archive: it goes with --at", "Leave it out to ask Kafka.")
    found = {}
    for settings in common.settings(context, namespace).each():
        topics = Topics(settings.kafka.prefix, settings.aerospike.namespace)
        topics.shards(settings.kafka)  # where there are no topics the message names the prefix
        found[topics.namespace] = kept_metadata(settings.kafka, topics)
    if as_json:
        common.print_json_each([to_dict(name, kept) for name, kept in found.items()])
    else:
        for name, kept in found.items():
            if len(found) > 1:
                common.console().print(name, style="bold", markup=False)
            print_metadata(name, kept)
    return CaptureIncomplete.exit_code if any(kept.damaged for kept in found.values()) else 0


def _archived(context: typer.Context, at: str, namespace: str, destination: str, as_json: bool) -> int:
    with common.replayer(context, namespace, destination) as replayer:
        found = replayer.metadata(at)
        if found is None:
            raise NotRecoverable(
                f"the archive of {replayer.namespace} knows nothing of the metadata at {at}",
                "Without --at, `metadata` shows what Kafka holds.",
            )
        if as_json:
            common.print_json(state_dict(replayer.namespace, found))
        else:
            print_state(replayer.namespace, found)
    return 0


def print_state(namespace: str, found: MetadataState) -> None:
    """For people: a table for each kind, of what was there at a moment."""
    out = common.console()
    looked = f"looked at {moment(found.looked_at)}" if found.looked_at else "before the first look"
    out.print(f"[bold]{escape(namespace)}[/bold] at {moment(found.at)}, {looked}")
    for kind, items in groupby(found.items, key=lambda known: known.told.item.kind):
        rows = common.table(kind, "since", "not before", "", "")
        for known in items:
            rows.add_row(
                escape(known.told.item.name or "(the namespace)"),
                moment(known.told.observed_at),
                moment(known.told.unobserved_since),
                _sure(known),
                escape(summary(known.told.item)),
            )
        out.print(rows)
    for told in found.maybe:
        said = f"{told.item.kind} {told.item.name} may have been there: {summary(told.item)}"
        out.print(said, style="yellow", markup=False)


def state_dict(namespace: str, found: MetadataState) -> dict[str, Any]:
    """The stable form for programs; moments are RFC 3339."""
    return {
        "namespace": namespace,
        "at": moment(found.at),
        "looked_at": moment(found.looked_at) if found.looked_at else None,
        "items": [_told(known.told) | {"certainty": _sure(known)} for known in found.items],
        "maybe": [_told(told) for told in found.maybe],
    }


def _sure(known: Known) -> str:
    return "exact" if known.exact else "presumed"


def _told(told: Told) -> dict[str, Any]:
    return {
        "kind": told.item.kind.value,
        "name": told.item.name,
        "observed_at": moment(told.observed_at),
        "unobserved_since": moment(told.unobserved_since) if told.unobserved_since != BEGINNING else None,
        "facts": dict(sorted(told.item.facts.items())),
        "content": _content(told.item),
    }


def _content(item: Item) -> str | None:
    return base64.b64encode(item.content).decode() if item.content is not None else None


def print_metadata(namespace: str, kept: Kept) -> None:
    """For people: a table for each kind."""
    out = common.console()
    if not kept.records:
        out.print(f"nothing is told of the metadata of [bold]{escape(namespace)}[/bold] yet", style="yellow")
    for kind, records in groupby(kept.records, key=lambda record: record.item.kind):
        rows = common.table(kind, "since", "not before", "looked at", "")
        for record in records:
            rows.add_row(
                escape(record.item.name or "(the namespace)"),
                ("removed " if record.removed else "") + moment(record.observed_at),
                moment(record.unobserved_since),
                moment(record.looked_at),
                escape(summary(record.item)),
            )
        out.print(rows)
    if not kept.whole:
        out.print("there may be more: a transaction is still open in the topic", style="yellow")
    for text in kept.damaged:
        out.print(text, style="bold red", markup=False)


def summary(item: Item) -> str:
    """An item in a line."""
    facts = item.facts
    if item.kind == ItemKind.NAMESPACE:
        return f"{len(facts)} settings (--json has them)"
    if item.content is not None:
        return f"{len(item.content):,} bytes, hash {facts.get('hash', '')[:12]}"
    return " ".join(f"{key}={value}" for key, value in sorted(facts.items()))


def to_dict(namespace: str, kept: Kept) -> dict[str, Any]:
    """The stable form for programs."""
    return {
        "namespace": namespace,
        "complete": kept.whole,
        "damaged": list(kept.damaged),
        "items": _items(kept.records),
    }


def _items(records: Iterable[Metadata]) -> list[dict[str, Any]]:
    return [
        {
            "kind": record.item.kind.value,
            "name": record.item.name,
            "removed": record.removed,
            "observed_at": moment(record.observed_at),
            "unobserved_since": moment(record.unobserved_since) if record.unobserved_since != BEGINNING else None,
            "looked_at": moment(record.looked_at),
            "facts": dict(sorted(record.item.facts.items())),
            "content": _content(record.item),
        }
        for record in records
    ]
