"""`drill`: rehearse a restore in a scratch namespace, and tell what past rehearsals showed."""

import sys
from typing import Annotated, Any

import typer

from cdc.archive import drills
from cdc.archive.drills import Drilled
from cdc.cli import INTERRUPTED, common
from cdc.cli.common import Destination, Json, Namespace, moment
from cdc.cli.progress import bars
from cdc.clock import rfc3339
from cdc.config import Settings
from cdc.errors import CdcError, UsageError
from cdc.model import PARTITIONS
from cdc.replayer.place import place_of
from cdc.replayer.report import Cancelled, Watch
from cdc.replayer.sample import Chosen
from cdc.units import size, span

At = Annotated[
    str,
    typer.Option("--at", help="RFC 3339 with zone, a duration ago (10m), latest, the name of a mark, or random."),
]
Sample = Annotated[str, typer.Option("--sample", help="A share of the partitions, such as 1%, or all.")]
Into = Annotated[
    str, typer.Option("--into", help="The empty scratch namespace: NAMESPACE or NAMESPACE@HOST:PORT[,HOST:PORT].")
]
Listing = Annotated[bool, typer.Option("--list", help="Only tell what past drills showed.")]

SHOWN = 20
"""So many past drills are listed; `--json` has all."""


def drill(
    context: typer.Context,
    at: At = "",
    sample: Sample = "",
    into: Into = "",
    namespace: Namespace = "",
    destination: Destination = "",
    listing: Listing = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> int:
    """Rehearse a restore: into a scratch namespace, compared with the archive and with the live source, timed, and
    removed again. The source is only read."""
    if listing:
        if at or sample or into:
            raise UsageError("--list tells of past drills", "Leave --at, --sample and --into out.")
        _list(common.settings(context, namespace, destination), as_json)
        return 0
    from cdc.service.roles import stop_on_signals  # with the kernels' compiler: only who drills waits for it

    try:
        with common.replayer(context, namespace, destination) as replayer:
            chosen = replayer.rehearsal(at, sample=sample, into=into)
            if not yes:
                _ask(replayer.settings, chosen)
            with stop_on_signals() as stop, bars() as shown:
                done = replayer.drill(chosen, watch=Watch(progress=shown.update, cancel=stop))
    except Cancelled:
        sys.stderr.write(f"interrupted; {chosen.into} is empty again\n")
        return INTERRUPTED
    except CdcError as error:
        if isinstance(error.report, Drilled):
            _print(error.report, as_json)
        raise
    _print(done, as_json)
    return 0


def _ask(settings: Settings, chosen: Chosen) -> None:
    """Raises Abort for a no, UsageError where nobody can be asked."""
    source, place = settings.aerospike.namespace, place_of(settings.aerospike, chosen.into)
    said = f"{_share(len(chosen.partitions))} of {source} as of {rfc3339(chosen.at)}"
    if not sys.stdin.isatty():
        raise UsageError(f"a drill writes {said} into {place.namespace}: this needs a yes", "Give --yes.")
    where = ", ".join(place.aerospike.hosts)
    sys.stderr.write(f"{source} is only read: {said} goes into {place.namespace} at {where},\n")
    typer.confirm("is compared there, and removed again. Go on?", abort=True, err=True)


def _print(done: Drilled, as_json: bool) -> None:
    if as_json:
        common.print_json(done.to_dict())
        return
    out = common.console()
    outcome = "[bold green]passed[/bold green]" if done.passed else "[bold red]FAILED[/bold red]"
    what = f"drill of {_share(done.partitions)} as of {moment(done.at)} into {done.into}"
    out.print(f"[bold]{done.namespace}[/bold]: {what}: {outcome}")
    if done.wrong:
        out.print(f"  {done.wrong}", style="red", markup=False)
    for line in _lines(done):
        out.print(f"  {line}", markup=False)
    sys.stdout.flush()


def summary(done: Drilled) -> str:
    """A drill in a line."""
    took = f"{done.written:,} records in {_seconds(done.recovery_s)}"
    if done.partitions < PARTITIONS:
        took += f", which projects {_seconds(done.projected_s)} for everything"
    outcome = f"passed: {took}" if done.passed else f"FAILED: {done.wrong}"
    return f"last drill, of {_share(done.partitions)}, at {moment(done.began_at)} {outcome}"


def _lines(done: Drilled) -> list[str]:
    found = [
        f"restored   {done.written:,} records, {size(done.bytes)}, in {_seconds(done.recovery_s)}: "
        f"{_seconds(done.read_s)} to read the archive, {_seconds(done.write_s)} to write; "
        f"{done.records_per_s:,.0f} records/s",
        f"certainty  {done.exact:,} exact, {done.presumed:,} presumed, {done.fuzzy:,} fuzzy; "
        f"{done.expired:,} expired since",
        f"archive    {_archive(done)}",
        f"source     {_source(done)}",
    ]
    if done.partitions < PARTITIONS and done.verify_s:
        found.append(f"projected  about {_seconds(done.projected_s)} for everything, by this sample")
    left = f"left       up to {done.left:,} records in {done.into}: the next drill removes them"
    found.append(left if done.left else f"removed    {done.into} is empty again")
    return found


def _archive(done: Drilled) -> str:
    if not done.verify_s:
        return "not compared: the restore came to no end"
    return f"{done.missing:,} missing, {done.different:,} different, {done.extra:,} that should not be there"


def _source(done: Drilled) -> str:
    if done.uncompared or not done.compare_s:
        return f"not compared: {done.uncompared or 'the restore came to no end'}"
    return (
        f"{done.live_same:,} unchanged since and the same, {done.live_different:,} different, "
        f"{done.live_missing:,} missing; not judged: {done.live_changed:,} changed or gone since, "
        f"{done.live_unsure:,} not exact"
    )


def _list(settings: Settings, as_json: bool) -> None:
    common.tell_each(settings.each(), _past, _dict, lambda _, past: _table(past), as_json=as_json)


def _past(settings: Settings) -> list[Drilled]:
    archive = common.archive(settings)
    return drills.load(archive.store, archive.namespace)


def _dict(settings: Settings, past: list[Drilled]) -> dict[str, Any]:
    return {"namespace": settings.aerospike.namespace, "drills": [one.to_dict() for one in past]}


def _table(past: list[Drilled]) -> None:
    out = common.console()
    if not past:
        out.print("no drill yet")
        return
    rows = common.table(
        "drilled at", "moment", ">sample", ">records", ">recovery", ">projected", ">records/s", "result"
    )
    for one in reversed(past[-SHOWN:]):
        rows.add_row(
            moment(one.began_at), moment(one.at), _share(one.partitions), f"{one.written:,}", _seconds(one.recovery_s),
            _seconds(one.projected_s), f"{one.records_per_s:,.0f}",
            "[green]passed[/green]" if one.passed else "[red]FAILED[/red]",
        )  # fmt: skip
    out.print(rows)
    failed = next((one for one in reversed(past) if not one.passed), None)
    if failed is not None:
        out.print(f"the last that failed, at {moment(failed.began_at)}: {failed.wrong}", style="red", markup=False)
    if len(past) > SHOWN:
        out.print(f"and {len(past) - SHOWN:,} more (--json has all)")


def _share(partitions: int) -> str:
    return "everything" if partitions == PARTITIONS else f"{100 * partitions / PARTITIONS:.3g}%"


def _seconds(seconds: float) -> str:
    return span(round(seconds * 1000))
