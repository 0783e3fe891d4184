"""`run`, `collect` and `compact`: the roles, as services or once."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdc.cli import common
from cdc.cli.common import Destination, Json, Namespace, moment
from cdc.clock import rfc3339, wall_clock
from cdc.config import Settings
from cdc.errors import CaptureIncomplete, CdcError, OffsetsLost
from cdc.service.roles import stop_on_signals
from cdc.service.run import ROLES
from cdc.service.run import run as run_service
from cdc.units import count, size

if TYPE_CHECKING:
    from cdc.collector import Stats
    from cdc.compactor import Stats as Compacted

Once = Annotated[bool, typer.Option("--once", help="Do what there is to do now, and end.")]


def run(context: typer.Context, namespace: Namespace = "") -> None:
    """Collect, compact and verify every namespace until stopped, with /metrics and /healthz."""
    _serve(common.settings(context, namespace), ROLES)


def collect(
    context: typer.Context,
    namespace: Namespace = "",
    once: Once = False,
    audit: Annotated[bool, typer.Option("--audit", help="With --once: look at every record again.")] = False,
    as_json: Json = False,
) -> None:
    """Publish the namespaces' changes to Kafka: a base snapshot first, then sweeps."""
    settings = common.settings(context, namespace)
    if not once:
        _serve(settings, ("collector",))
        return
    from cdc.collector import Collector

    done = []
    for one in settings.each():
        with Collector(one) as collector:
            stats = collector.run_once(audit=audit)
        done.append(_collected(one.aerospike.namespace, stats))
        if not as_json:
            for note in stats.notes:
                sys.stdout.write(f"{note}\n")
            sys.stdout.write(_COLLECTED.format(**done[-1]))
    if as_json:
        common.print_json_each(done)
    aside = sum(one["aside"] for one in done)
    if aside:
        raise CaptureIncomplete(f"{aside:,} records could not be encoded and were kept aside")


_COLLECTED = (
    "{namespace}: {swept:,} records seen, {writes:,} writes and {deletes:,} deletes published, "
    "{duplicates:,} known already; {records:,} live records\n"
    "{namespace}: every write up to {resolved_at} and every delete up to {reconciled_at} is in Kafka\n"
)


def _collected(namespace: str, stats: "Stats") -> dict[str, Any]:
    return {
        "namespace": namespace,
        "swept": stats.swept,
        "writes": sum(count for (op, _), count in stats.changes.items() if op.name == "WRITE"),
        "deletes": sum(count for (op, _), count in stats.changes.items() if op.name not in ("WRITE", "ASIDE")),
        "duplicates": stats.duplicates,
        "aside": stats.aside,
        "drift": stats.drift,
        "records": stats.catalog_records,
        "resolved_at": moment(stats.resolved_at),
        "reconciled_at": moment(stats.reconciled_at),
        "notes": stats.notes,
    }


def compact(
    context: typer.Context,
    namespace: Namespace = "",
    destination: Destination = "",
    once: Once = False,
    as_json: Json = False,
) -> None:
    """Turn changes in Kafka into segments and restore sets of the archive, at every destination."""
    settings = common.settings(context, namespace, destination)
    if not once:
        _serve(settings, ("compactor",))
        return
    from cdc.compactor import Compactor
    from cdc.compactor import Stats as Compacted

    def compacted(at: Settings) -> Compacted:
        compactor = Compactor(at)
        try:
            return compactor.run_once()
        except OffsetsLost as error:  # it has done its work; so shall the others
            lost.append(error)
            return compactor.stats

    done = []
    lost: list[CdcError] = []
    for one in settings.each():
        name = one.aerospike.namespace
        found = common.at_each(one, compacted)
        lost += [at.error for at in found if at.error is not None]
        done.append({"namespace": name, **common.several(name, found, lambda _, stats: common.plain(stats))})
        for at in found if not as_json else ():
            place = f"{name} at {at.destination}" if len(found) > 1 else name
            sys.stdout.write(f"{place}: {_written(at)}\n")
    if as_json:
        common.print_json_each(done)
    if lost:
        raise lost[0]


def _written(at: common.At["Compacted"]) -> str:
    if at.found is None:
        return str(common.wrong(at.error))
    return (
        f"{count(at.found.rows, 'version')} archived in {count(at.found.segments, 'segment')}, "
        f"{count(at.found.sets, 'restore set')} made, "
        f"{size(at.found.bytes)} written"
    )


def _serve(settings: Settings, roles: tuple[str, ...]) -> None:
    def say(text: str) -> None:
        sys.stderr.write(f"{rfc3339(wall_clock())} {text}\n")
        sys.stderr.flush()

    with stop_on_signals() as stop:
        ended = run_service(settings, roles, stop, say)
    if not ended:
        # What was left behind waits for something that does not answer, and the interpreter would wait for it.
        sys.stdout.flush()
        os._exit(0)
