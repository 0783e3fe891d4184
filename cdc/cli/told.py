"""A restore in words: what was planned, what is asked, what was done."""

import json
import sys
from typing import TextIO

import typer

from cdc.cli import common
from cdc.clock import rfc3339
from cdc.errors import UsageError
from cdc.replayer.place import Place
from cdc.replayer.plan import Plan
from cdc.replayer.report import Report


def print_plan(made: Plan, as_json: bool, out: TextIO) -> None:
    """What a restore would do."""
    out.write((json.dumps(common.plain(made.to_dict()), indent=2) if as_json else made.to_text()) + "\n")


def ask(made: Plan, place: Place) -> None:
    """Ask whether to do it. Raises Abort for a no, UsageError where nobody can be asked."""
    counts = made.counts
    touched = "records changed"
    if counts:
        removed = counts.remove + (counts.spare if made.wanted.overwrite else 0)
        bins = made.wanted.part.bins if place.in_place else ()
        touched = f"{counts.write:,} records written and {_removed(removed, bins)}"
    if not sys.stdin.isatty():
        raise UsageError(f"{touched} in {place.namespace}: this needs a yes", "Give --yes, or --dry-run to look first.")
    where = f"{place.namespace} at {', '.join(place.aerospike.hosts)}"
    typer.confirm(f"{touched} in {where}. Go on?", abort=True, err=True)  # standard output may be a program's


def print_report(report: Report, as_json: bool, command: str) -> None:
    """What it did; `command` restores by the same settings."""
    if as_json:
        common.print_json(report.to_dict())
        return
    what = f"{report.kind} {'of' if report.kind == 'rewind' else 'into'} {report.namespace} to {rfc3339(report.at)}"
    rate = (report.written + report.removed) / report.seconds if report.seconds else 0
    lines = [
        f"done: {what}" if report.complete else f"not finished: {what}; to go on: {command} --resume {report.id}",
        f"  {report.written:,} written, {_removed(report.removed, report.bins)}, {report.left:,} left as they were, "
        f"{report.expired:,} expired since",
        f"  {report.exact:,} exact, {report.presumed:,} presumed, {report.fuzzy:,} fuzzy",
        f"  {report.seconds:.2f} s, {rate:,.0f} records/s",
    ]
    if report.refused:
        lines.append(f"  {report.refused:,} refused by the target")
    if report.conflicts:
        lines.append(
            f"  {report.conflicts:,} were not touched, for the reason named in {report.named_file}: most often "
            "they changed again after their last capture; --overwrite takes them too"
        )
    if report.metadata is not None:
        lines += [f"  {line}" for line in report.metadata.to_text().splitlines()]
    if report.verification is not None:
        lines.append(f"  verified in {report.verification.seconds:.2f} s: {report.verification.to_text()}")
        if report.verification.unseen:
            lines.append(
                f"  {report.verification.unseen:,} changed before the restore, which nobody had captured yet; they are "
                f"named in {report.verification.named_file}: let them be captured, and restore again"
            )
    elif report.complete:
        lines.append("  not verified")
    sys.stdout.write("\n".join(lines) + "\n")


def _removed(records: int, bins: tuple[str, ...]) -> str:
    return f"{records:,} relieved of {', '.join(bins)}" if bins else f"{records:,} removed"
