"""A restore from its plan to what became of it: written, compared, timed."""

from collections.abc import Callable

from cdc.archive import Archive
from cdc.clock import Clock
from cdc.config import ReplayerSettings
from cdc.errors import RecordsRefused, RestoreError
from cdc.replayer import rates
from cdc.replayer.clone import clone
from cdc.replayer.log import Log
from cdc.replayer.place import Place
from cdc.replayer.plan import Plan
from cdc.replayer.rates import Measured
from cdc.replayer.report import Report, Watch
from cdc.replayer.rewind import rewind
from cdc.replayer.target import Target
from cdc.replayer.verify import verified
from cdc.source import Source
from cdc.wire import Cluster


def carry_out(
    archive: Archive,
    plan: Plan,
    place: Place,
    log: Log,
    settings: ReplayerSettings,
    *,
    verify: bool,
    clock: Clock,
    tell: Callable[[str], None],
    watch: Watch | None = None,
) -> Report:
    """Do what a plan says, note in the log how far it is, and, where that is wanted, compare what it left with what it
    was meant to leave. How fast it was is remembered beside the journal; where that fails, `tell` is told.

    Raises what `clone` and `rewind` raise, SourceError, and Differs, which has the report.
    """
    named_file = log.asked.named_file
    with Cluster(place.aerospike) as cluster:
        target = Target.of(Source(cluster, place.namespace), settings, clock)

        def compared(report: Report) -> Report:
            return verified(archive, plan, target, report, named_file, watch) if verify else report

        work = rewind if place.in_place else clone
        try:
            report = work(archive, plan, target, named_file=named_file, watch=watch, log=log)
        except RecordsRefused as error:
            error.report = compared(error.report) if isinstance(error.report, Report) else error.report
            raise
        report = compared(report)
    if report.complete and not (log.resumed or settings.records_per_s):
        try:
            rates.remember(settings.journal, _measured(plan, place, report))
        except RestoreError as error:
            tell(f"{error.message}; the next plan does not know how long this restore took")
    wrong = report.verification.error() if report.verification else None
    if wrong is not None:
        wrong.report = report
        raise wrong
    return report


def _measured(plan: Plan, place: Place, report: Report) -> Measured:
    """How fast a restore was that was done in one go."""
    writing, found = (report.ended_at - report.began_at) / 1000, report.verification
    return Measured(
        plan.kind, rates.place(place.namespace, place.aerospike.hosts), plan.read_rows,
        max(report.seconds - writing, 0.0), report.written + report.removed, writing,
        found.expected if found else 0, found.seconds if found else 0.0,
    )  # fmt: skip
