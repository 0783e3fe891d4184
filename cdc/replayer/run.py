"""What clones and rewinds have in common: from a plan to a report."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from cdc.archive import Archive
from cdc.archive import segments as objects
from cdc.errors import CdcError, RecordsRefused, RestoreError
from cdc.replayer import refusals
from cdc.replayer.log import Log
from cdc.replayer.parallel import each
from cdc.replayer.plan import Plan, ShardPlan
from cdc.replayer.report import Cancelled, Course, GaveUp, Meter, Report, Tally, Watch
from cdc.replayer.slices import Slice
from cdc.replayer.standing import LAST, Standing
from cdc.replayer.writer import Writer

NOWHERE = Standing()
KEPT_BYTES = 32 << 20
"""What is read before the first write is kept up to so much; beyond it is read again when it is written."""

Slices = Callable[[ShardPlan], Iterable[Slice]]
"""A shard's slices that are still to be written, by ascending digest."""


def standing(log: Log | None) -> Standing:
    """How far a restore is as this run begins."""
    return NOWHERE if log is None else log.standing


def verify_objects(archive: Archive, plan: Plan, watch: Watch, log: Log | None) -> None:
    """Compare every object that is still read with its manifest. Raises ObjectMissing, ObjectDamaged, Cancelled."""
    before = standing(log)
    left = [
        info
        for shard in plan.shards
        if not before.whole(shard.view.shard)
        for info in shard.objects
        if bytes.fromhex(info.last_digest) >= (before.low(shard.view.shard) or b"")
    ]
    meter = Meter(sum(info.rows for info in left), "verify", watch)

    def verify(number: int) -> None:
        objects.verify(archive.store, left[number])
        meter.add(left[number].rows)

    each(verify, range(len(left)), watch)


def read_first(plan: Plan, slices: Slices, watch: Watch, log: Log | None) -> tuple[Slices, int]:
    """Read, and so verify, everything that is still to be written; the same slices again, and how many records all runs
    together write or remove. Raises what reading raises."""
    before = standing(log)
    shards = [shard for shard in plan.shards if not before.whole(shard.view.shard)]
    meter = Meter(sum(s.rows for shard in shards for s in shard.changed or shard.objects), "read", watch)
    lock = threading.Lock()
    room, touched = KEPT_BYTES, before.touched

    def read(shard: ShardPlan) -> list[Slice] | None:
        nonlocal room, touched
        kept: list[Slice] | None = []
        held, course = 0, Course(meter, sum(info.rows for info in shard.changed or shard.objects))
        for part in slices(shard):
            size = part.memory
            with lock:
                touched += part.counts().touched
                fits = kept is not None and room >= size
                room -= size if fits else 0
                if not fits and kept is not None:
                    room, held, kept = room + held, 0, None
            if kept is not None:
                kept.append(part)
                held += size
            course.reach(part.along)
        course.reach(1)
        return kept

    found = each(read, shards, watch, plan.workers)
    kept = {shard.view.shard: parts for shard, parts in zip(shards, found, strict=True)}

    def again(shard: ShardPlan) -> Iterable[Slice]:
        parts = kept[shard.view.shard]
        return slices(shard) if parts is None else parts

    return again, touched


def write_all(
    plan: Plan,
    slices: Slices,
    writer: Writer,
    watch: Watch,
    touched: int | None,
    log: Log | None,
) -> None:
    """Write the slices of every shard that is not done, shards in parallel; those of a shard come by ascending digest.
    Raises what the writer raises, and RestoreError where the log fails.

    Progress counts records if it is known that all runs together write or remove `touched`, else versions read.
    """
    before, tally, lock = standing(log), writer.tally, threading.Lock()
    meter = Meter(plan.rows if touched is None else touched, "write", watch)
    meter.add(0 if touched is None else before.touched)

    def work(shard: ShardPlan) -> None:
        number, sound = shard.view.shard, True
        if before.whole(number):
            return
        course = Course(meter, 0 if touched is not None else sum(info.rows for info in shard.objects))
        for part in slices(shard):
            apart, changes = tally.apart(), part.counts().touched
            replace(writer, tally=apart).apply(part)
            with lock:
                tally.take(apart)
                # What was refused is not done: whoever goes on tries it again, and what comes after it in the shard.
                sound = sound and not apart.counts["refused"]
                if log is not None and sound and len(part.states):
                    log.done(number, part.states.digest[-1].tobytes(), apart.counts, changes)
            course.reach(part.along)
            meter.add(0 if touched is None else changes)
        with lock:
            if log is not None and sound:
                log.done(number, LAST)

    tally.writing = True
    if log is not None:
        log.writing(touched or 0)
    each(work, plan.shards, watch, plan.workers)
    meter.finish()


def reported(
    plan: Plan, namespace: str, named_file: Path | None, log: Log | None, work: Callable[[Tally], None]
) -> Report:
    """Runs the work and reports it together with what earlier runs did; Cancelled makes the report incomplete. When
    this returns or raises, the log has how it ended.

    Raises what the work raises: then the message tells how much was done before, the hint how to go on, and `report`
    has the numbers. RecordsRefused when the target refused records.
    """
    began, before = time.monotonic(), standing(log)
    shards = plan.manifests[0].shards
    again = log is not None and log.resumed
    name = "" if log is None else log.id
    tally = Tally(named_file, (lambda digest: before.has(digest, shards)) if again else None, name)
    tally.add(**before.counts)
    tally.writing = before.writing
    if log is not None and log.resumed:
        tally.wrote(log.asked.begun_at, log.asked.begun_at)
    complete, gave_up, wrong = True, False, None
    try:
        try:
            work(tally)
        except Cancelled as end:
            complete, gave_up = False, isinstance(end, GaveUp)
        except CdcError as error:
            complete, wrong = False, error
        try:
            tally.settle()
        except RestoreError as error:
            wrong = wrong or error
    finally:
        tally.close()
    seconds = before.seconds + time.monotonic() - began
    report = tally.report(plan.kind, namespace, plan.at, complete=complete, seconds=seconds, id=name)
    if plan.kind == "rewind":
        report = replace(report, bins=plan.wanted.part.bins)
    if wrong is None and report.refused:
        wrong = refusals.error(report, gave_up=gave_up)
    if wrong is not None:
        _telling(wrong, report, plan, tally, log)
    if log is not None:
        try:
            log.end(complete=complete, error=wrong)
        except RestoreError as error:  # where there is another error, that tells more
            error.message += "; the restore itself was done" if complete else ""
            wrong = wrong or _telling(error, report, plan, tally, log)
    if wrong is not None:
        raise wrong
    return report


def _telling(error: CdcError, report: Report, plan: Plan, tally: Tally, log: Log | None) -> CdcError:
    """The error with what was done before, and how to go on."""
    error.report = report
    if not report.complete and not isinstance(error, RecordsRefused):
        # Of what was sent last the answers are not known.
        done, of = report.written + report.removed, f" of {plan.counts.touched:,}" if plan.counts else ""
        told = f"at least {done:,}{of} records were written or removed" if tally.writing else "nothing was written"
        error.message += f"; {told}"
    return error if log is None else log.hint(error)
