"""`restore`: bring a moment back, in place or elsewhere."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from cdc.archive import Archive
from cdc.cli import INTERRUPTED, common
from cdc.cli.common import Json
from cdc.cli.progress import bars
from cdc.clock import rfc3339, wall_clock
from cdc.config import AerospikeSettings, Settings
from cdc.errors import RecordsRefused, UsageError
from cdc.replayer.at import resolve
from cdc.replayer.plan import Plan, plan
from cdc.replayer.report import Report, Watch

At = Annotated[str, typer.Option("--at", help="RFC 3339 with zone, a duration ago (10m, 1h30m), or latest.")]
Into = Annotated[
    str,
    typer.Option("--into", help="NAMESPACE or NAMESPACE@HOST:PORT[,HOST:PORT]; without it the namespace is rewound."),
]
Existing = Annotated[
    Literal["fail", "keep", "replace"],
    typer.Option("--existing", help="With --into: what becomes of records that are there already."),
]
NamedFile = Annotated[
    Path, typer.Option("--named", help="Where records that were refused or not touched are named, a JSON line each.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a restore goes."""

    namespace: str
    aerospike: AerospikeSettings
    in_place: bool


def restore(
    context: typer.Context,
    at: At,
    into: Into = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="In place: also records that changed after their last capture.")
    ] = False,
    existing: Existing = "fail",
    named: NamedFile = Path("restore-refused.jsonl"),
    as_json: Json = False,
) -> int:
    """Bring the namespace back to a moment: in place (a rewind), or as a clone into another place."""
    settings = common.settings(context)
    place = _place(settings, into)
    archive = common.archive(settings)
    moment = resolve(at, archive.windows(), wall_clock())
    with bars() as shown:
        watch = Watch(progress=shown.update)
        made = plan(
            archive, moment, "rewind" if place.in_place else "clone", now=wall_clock(), into=into or None,
            records_per_s=settings.replayer.records_per_s, watch=watch,
        )  # fmt: skip
    if dry_run or not as_json:
        _print_plan(made, as_json)
    if dry_run:
        return 0
    if not yes and (made.counts is None or made.counts.touched):
        _ask(made, place)
    try:
        report = _carry_out(settings, archive, made, place, overwrite, existing, named)
    except RecordsRefused as error:
        if isinstance(error.report, Report):
            _print_report(error.report, as_json)
        raise
    _print_report(report, as_json)
    if not report.complete:
        return INTERRUPTED
    return RecordsRefused.exit_code if report.conflicts else 0


def _place(settings: Settings, into: str) -> Place:
    if not into:
        return Place(settings.aerospike.namespace, settings.aerospike, in_place=True)
    namespace, at, hosts = into.partition("@")
    if not namespace or (at and not hosts):
        missing = "hosts are" if namespace else "namespace is"
        raise UsageError(f"--into {into}: the {missing} missing", "Write NAMESPACE or NAMESPACE@HOST:PORT.")
    if not hosts and namespace == settings.aerospike.namespace:
        raise UsageError(
            f"--into {into} is the namespace itself", "Leave --into out to rewind it, or name another place."
        )
    values = settings.aerospike.model_dump() | {"namespace": namespace}
    if hosts:
        values["hosts"] = tuple(hosts.split(","))
    try:
        return Place(namespace, AerospikeSettings.model_validate(values), in_place=False)
    except ValueError as error:
        raise UsageError(f"--into {into}: not NAMESPACE or NAMESPACE@HOST:PORT[,HOST:PORT]") from error


def _print_plan(made: Plan, as_json: bool) -> None:
    if as_json:
        common.print_json(made.to_dict())
    else:
        sys.stdout.write(made.to_text() + "\n")


def _ask(made: Plan, place: Place) -> None:
    counts = made.counts
    touched = f"{counts.write:,} records written and {counts.remove:,} removed" if counts else "records changed"
    if not sys.stdin.isatty():
        raise UsageError(f"{touched} in {place.namespace}: this needs a yes", "Give --yes, or --dry-run to look first.")
    typer.confirm(f"{touched} in {place.namespace} at {', '.join(place.aerospike.hosts)}. Go on?", abort=True)


def _carry_out(
    settings: Settings,
    archive: Archive,
    made: Plan,
    place: Place,
    overwrite: bool,
    existing: Literal["fail", "keep", "replace"],
    named: Path,
) -> Report:
    # The kernels' compiler takes a second to import: only who writes waits for it.
    from cdc.replayer.clone import clone
    from cdc.replayer.rewind import rewind
    from cdc.replayer.target import Target
    from cdc.service.roles import stop_on_signals
    from cdc.source import Source
    from cdc.wire import Cluster

    with Cluster(place.aerospike) as cluster, stop_on_signals() as stop, bars() as shown:
        target = Target.of(Source(cluster, place.namespace), settings.replayer)
        watch = Watch(progress=shown.update, cancel=stop)
        if place.in_place:
            return rewind(archive, made, target, overwrite=overwrite, named_file=named, watch=watch)
        return clone(archive, made, target, existing=existing, named_file=named, watch=watch)


def _print_report(report: Report, as_json: bool) -> None:
    if as_json:
        common.print_json(report.to_dict())
        return
    done = "" if report.complete else " (interrupted: run it again to finish)"
    rate = (report.written + report.removed) / report.seconds if report.seconds else 0
    lines = [
        f"{report.kind} {'of' if report.kind == 'rewind' else 'into'} {report.namespace} to {rfc3339(report.at)}{done}",
        f"  {report.written:,} written, {report.removed:,} removed, {report.left:,} left as they were, "
        f"{report.expired:,} expired since",
        f"  {report.exact:,} exact, {report.presumed:,} presumed, {report.fuzzy:,} fuzzy",
        f"  {report.seconds:.2f} s, {rate:,.0f} records/s",
    ]
    if report.conflicts:
        lines.append(
            f"  {report.conflicts:,} changed again after their last capture and were not touched (see "
            f"{report.named_file}); --overwrite takes them too"
        )
    sys.stdout.write("\n".join(lines) + "\n")
