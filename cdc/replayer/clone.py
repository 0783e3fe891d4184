"""A clone: the state at a moment, written into another place."""

from collections.abc import Iterator
from pathlib import Path

from cdc.archive import Archive
from cdc.errors import TargetNotEmpty
from cdc.replayer import metadata
from cdc.replayer.log import Log
from cdc.replayer.pace import Pace
from cdc.replayer.plan import Plan, ShardPlan, shard_slices
from cdc.replayer.report import Report, Tally, Watch
from cdc.replayer.run import Slices, read_first, reported, standing, verify_objects, write_all
from cdc.replayer.slices import Slice
from cdc.replayer.target import Target
from cdc.replayer.wanted import WithMetadata
from cdc.replayer.writer import Writer


def clone(
    archive: Archive,
    plan: Plan,
    target: Target,
    *,
    named_file: Path | None = None,
    watch: Watch | None = None,
    log: Log | None = None,
) -> Report:
    """Write every record that held at the plan's moment and has not expired since, once each, with its absolute expiry.

    All objects are verified before the first write; where records are named by digest or partition, the blocks that may
    hold them. `plan.wanted.existing` says what becomes of records that are there already; those that stay count as
    left; with `plan.wanted.into_set` that is about this set, and who has no known digest there is refused. Indexes and
    modules of `plan.metadata` are made before or after the records, as `plan.wanted.metadata` says. Refused records are
    named in `named_file`, a JSON line each. With a `log` it goes on where that stands: what was written and is not
    known to be is written again, or left.

    Raises TargetNotEmpty, ObjectMissing, ObjectDamaged, what `wire.batch.write` raises, RestoreError where the log or
    the named file fails; when all is done, but not all was accepted, RecordsRefused. Errors have the report.
    """
    watch, before = watch or Watch(), standing(log)

    def of_shard(shard: ShardPlan) -> Iterator[Slice]:
        return shard_slices(archive, plan, shard, target.now(), before.low(shard.view.shard))

    def make(when: WithMetadata, tally: Tally) -> None:
        if plan.metadata is not None and plan.wanted.metadata == when:
            tally.metadata = metadata.restore(plan.metadata, target.source.cluster, target.namespace, watch=watch)

    def work(tally: Tally) -> None:
        parts: Slices
        touched: int | None
        existing = plan.wanted.existing
        if existing == "fail" and before.writing:
            existing = "keep"  # it was empty; what is there now an earlier run wrote, or somebody since
        into_set = plan.wanted.into_set
        if existing == "fail" and target.holds_records(into_set):
            where = f"the set {into_set} of {target.namespace}" if into_set else f"the namespace {target.namespace}"
            raise TargetNotEmpty(f"{where} holds records")
        if plan.wanted.part.seeks:  # a few blocks of objects of any size
            parts, touched = read_first(plan, of_shard, watch, log)
        else:
            verify_objects(archive, plan, watch, log)
            parts, touched = of_shard, plan.counts.touched if plan.counts else None
        make("before", tally)
        pace = Pace(target.settings.records_per_s, watch)
        write_all(plan, parts, Writer(target, pace, tally, existing=existing, into_set=into_set), watch, touched, log)
        make("after", tally)

    return reported(plan, target.namespace, named_file, log, work)
