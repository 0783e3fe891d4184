"""What clones and rewinds have in common: from a plan to a report."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cdc.archive import Archive
from cdc.archive import segments as objects
from cdc.errors import RecordsRefused
from cdc.replayer.parallel import each
from cdc.replayer.plan import Plan, ShardPlan
from cdc.replayer.report import Cancelled, Meter, Report, Tally, Watch
from cdc.replayer.slices import Slice
from cdc.replayer.writer import Writer


def verify_objects(archive: Archive, plan: Plan, watch: Watch) -> None:
    """Compare every object of the plan with its manifest. Raises ObjectMissing, ObjectDamaged, Cancelled."""
    meter = Meter(plan.rows, "verify", watch)

    def verify(number: int) -> None:
        objects.verify(archive.store, plan.objects[number])
        meter.add(plan.objects[number].rows)

    each(verify, range(len(plan.objects)), watch)


def write_all(
    plan: Plan, slices: Callable[[ShardPlan], Iterable[Slice]], writer: Writer, watch: Watch, touched: int | None
) -> None:
    """Write every slice of every shard, shards in parallel. Raises what the writer raises.

    Progress counts records if it is known that `touched` are to be written or removed, else versions read.
    """
    meter = Meter(plan.rows if touched is None else touched, "write", watch)

    def work(shard: ShardPlan) -> None:
        for part in slices(shard):
            writer.apply(part)
            meter.add(part.versions.rows if touched is None else part.counts().touched)

    each(work, plan.shards, watch)
    meter.finish()


def reported(plan: Plan, namespace: str, named_file: Path | None, work: Callable[[Tally], None]) -> Report:
    """Runs the work and reports it; Cancelled makes the report incomplete.

    RecordsRefused when the target refused records; the error has the report.
    """
    began = time.monotonic()
    tally = Tally(named_file)
    complete = True
    try:
        work(tally)
    except Cancelled:
        complete = False
    finally:
        tally.close()
    report = tally.report(plan.kind, namespace, plan.at, complete=complete, seconds=time.monotonic() - began)
    if report.refused:
        where = f"; they are named in {report.named_file}" if report.named_file else ""
        raise RecordsRefused(f"{namespace} refused {report.refused:,} records{where}", report=report)
    return report
