"""A clone: the state at a moment, written into another place."""

from pathlib import Path
from typing import Literal

from cdc.archive import Archive
from cdc.errors import TargetNotEmpty
from cdc.replayer import slices
from cdc.replayer.pace import Pace
from cdc.replayer.plan import Plan
from cdc.replayer.report import Report, Tally, Watch
from cdc.replayer.run import reported, verify_objects, write_all
from cdc.replayer.target import Target
from cdc.replayer.writer import Writer

Existing = Literal["fail", "keep", "replace"]


def clone(
    archive: Archive,
    plan: Plan,
    target: Target,
    *,
    existing: Existing = "fail",
    named_file: Path | None = None,
    watch: Watch | None = None,
) -> Report:
    """Write every record that held at the plan's moment and has not expired since, once each, with its absolute expiry.

    All objects are verified before the first write. `existing` says what becomes of records that are there already:
    `fail` refuses a target that holds any, `keep` leaves them (counted as left), `replace` overwrites those that are
    in the clone. Refused records are named in `named_file`, a JSON line each.

    Raises TargetNotEmpty, ObjectMissing, ObjectDamaged, what `wire.batch.write` raises; when all is done, but not all
    was accepted, RecordsRefused, which has the report.
    """
    watch = watch or Watch()

    def work(tally: Tally) -> None:
        if existing == "fail" and target.holds_records():
            raise TargetNotEmpty(f"the namespace {target.namespace} holds records")
        verify_objects(archive, plan, watch)
        pace = Pace(target.settings.records_per_s, watch)
        writer = Writer(target, pace, tally, create_only=existing == "keep")
        touched = plan.counts.touched if plan.counts else None
        write_all(plan, lambda shard: slices.of_clone(archive.store, shard.view, target.now()), writer, watch, touched)

    return reported(plan, target.namespace, named_file, work)
