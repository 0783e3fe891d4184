"""A rewind: undo in place what changed since a moment, and touch nothing else."""

import threading
from collections.abc import Iterable
from pathlib import Path

from cdc.archive import Archive
from cdc.replayer import slices
from cdc.replayer.pace import Pace
from cdc.replayer.parallel import each
from cdc.replayer.plan import Plan, ShardPlan
from cdc.replayer.report import Meter, Report, Tally, Watch
from cdc.replayer.run import reported, write_all
from cdc.replayer.slices import Slice
from cdc.replayer.target import Target
from cdc.replayer.writer import Writer

KEPT_BYTES = 32 << 20
"""What is read before the first write is kept up to so much; beyond it is read again when it is written."""


def rewind(
    archive: Archive,
    plan: Plan,
    target: Target,
    *,
    overwrite: bool = False,
    named_file: Path | None = None,
    watch: Watch | None = None,
) -> Report:
    """Bring back every record that changed since the plan's moment: rewritten, or removed if it was not there.

    Only blocks that may hold such a record are read, all of them (and so verified) before the first write. A record
    whose content and expiry are as they were is left. A record that changed again since it was captured last (by its
    generation) is not touched unless `overwrite`; it counts as a conflict. Conflicts and refused records are named in
    `named_file`, a JSON line each.

    Raises ObjectMissing, ObjectDamaged, what `wire.batch.write` raises; when all is done, but not all was accepted,
    RecordsRefused, which has the report.
    """
    watch = watch or Watch()

    def work(tally: Tally) -> None:
        now = target.now()
        kept, touched = _read(archive, plan, now, watch)

        def of_shard(shard: ShardPlan) -> Iterable[Slice]:
            again = kept[shard.view.shard]
            return slices.of_rewind(archive.store, shard.view, shard.changed, now) if again is None else again

        pace = Pace(target.settings.records_per_s, watch)
        write_all(plan, of_shard, Writer(target, pace, tally, guarded=not overwrite), watch, touched)

    return reported(plan, target.namespace, named_file, work)


def _read(archive: Archive, plan: Plan, now: int, watch: Watch) -> tuple[dict[int, list[Slice] | None], int]:
    """The slices of each shard, or None where they do not fit into KEPT_BYTES; and how many records they touch."""
    meter = Meter(sum(s.rows for shard in plan.shards for s in shard.changed), "read", watch)
    lock = threading.Lock()
    room, touched = KEPT_BYTES, 0

    def read(shard: ShardPlan) -> list[Slice] | None:
        nonlocal room, touched
        kept: list[Slice] | None = []
        held = 0
        for part in slices.of_rewind(archive.store, shard.view, shard.changed, now):
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
            meter.add(part.versions.rows)
        return kept

    found = each(read, plan.shards, watch)
    return {shard.view.shard: parts for shard, parts in zip(plan.shards, found, strict=True)}, touched
