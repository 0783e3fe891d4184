"""A rewind: undo in place what changed since a moment, and touch nothing else."""

from collections.abc import Iterator
from pathlib import Path

from cdc.archive import Archive
from cdc.replayer.log import Log
from cdc.replayer.pace import Pace
from cdc.replayer.plan import Plan, ShardPlan, shard_slices
from cdc.replayer.report import Report, Tally, Watch
from cdc.replayer.run import read_first, reported, standing, write_all
from cdc.replayer.slices import Slice
from cdc.replayer.target import Target
from cdc.replayer.writer import Writer


def rewind(
    archive: Archive,
    plan: Plan,
    target: Target,
    *,
    named_file: Path | None = None,
    watch: Watch | None = None,
    log: Log | None = None,
) -> Report:
    """Bring back every record that changed since the plan's moment: rewritten, or removed if it was not there.

    Only blocks that may hold such a record are read, all of them (and so verified) before the first write. A record
    whose content and expiry are as they were is left. A record that changed again since it was captured last (by its
    generation) is not touched unless `plan.wanted.overwrite`; it counts as a conflict. So does one that was not there,
    where the scope has a filter: it may have been there without matching. Conflicts and refused records are named in
    `named_file`, a JSON line each. With a `log` it goes on where that stands.

    Raises ObjectMissing, ObjectDamaged, what `wire.batch.write` raises, RestoreError where the log or the named file
    fails; when all is done, but not all was accepted, RecordsRefused. Errors have the report.
    """
    watch, before = watch or Watch(), standing(log)

    def work(tally: Tally) -> None:
        now = target.now()

        def of_shard(shard: ShardPlan) -> Iterator[Slice]:
            return shard_slices(archive, plan, shard, now, before.low(shard.view.shard))

        again, touched = read_first(plan, of_shard, watch, log)
        pace = Pace(target.settings.records_per_s, watch)
        writer = Writer(target, pace, tally, guarded=not plan.wanted.overwrite)
        write_all(plan, again, writer, watch, touched, log)

    return reported(plan, target.namespace, named_file, log, work)
