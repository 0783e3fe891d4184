"""What a restore would read and do, before it does anything."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Literal

from cdc.archive import Archive, Manifest, SegmentInfo, View, changed_after, views, windows
from cdc.clock import rfc3339
from cdc.errors import RestoreError
from cdc.replayer import slices
from cdc.replayer.at import require_recoverable
from cdc.replayer.parallel import each
from cdc.replayer.report import Counts, Meter, Watch
from cdc.replayer.slices import Slice

Kind = Literal["clone", "rewind"]

WRITES_PER_S = {"clone": 200_000, "rewind": 100_000}
"""Records a second that a restore is taken to write when nobody says how many it does."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One shard's part: what is read, and what would be done (None when it was not counted).

    `changed` are the segments that tell a rewind which records changed, and its view goes on beyond the moment; a
    clone has none.
    """

    view: View
    changed: tuple[SegmentInfo, ...] = ()
    counts: Counts | None = None

    @property
    def objects(self) -> tuple[SegmentInfo, ...]:
        """All objects that may be read."""
        return self.view.objects


@dataclass(frozen=True, slots=True)
class Plan:
    """A restore of `namespace` to `at`, into `into`. Moments in milliseconds.

    `captured_until`: what changed later is not in the archive yet; a rewind cannot know of it, and its guards keep it.
    `planned_at` is the moment by which records count as expired.
    """

    kind: Kind
    namespace: str
    into: str
    at: int
    planned_at: int
    captured_until: int
    reconciled_at: int
    shards: tuple[ShardPlan, ...]
    records_per_s: int

    @property
    def counts(self) -> Counts | None:
        """Of all shards; None when they were not counted."""
        parts = [s.counts for s in self.shards if s.counts is not None]
        return reduce(add, parts, Counts()) if len(parts) == len(self.shards) else None

    @property
    def objects(self) -> tuple[SegmentInfo, ...]:
        """All archive objects that may be read."""
        return tuple(s for shard in self.shards for s in shard.objects)

    @property
    def rows(self) -> int:
        """Versions to read, at most: the size of the work while nothing was counted."""
        return sum(s.rows for s in self.objects)

    @property
    def estimated_seconds(self) -> float | None:
        """How long writing takes, by the rate assumed; None when it was not counted."""
        counts = self.counts
        return None if counts is None else (counts.write + counts.remove) / self.records_per_s

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        counts = self.counts
        seconds = self.estimated_seconds
        return {
            "kind": self.kind,
            "namespace": self.namespace,
            "into": self.into,
            "at": rfc3339(self.at),
            "planned_at": rfc3339(self.planned_at),
            "captured_until": rfc3339(self.captured_until),
            "reconciled_at": rfc3339(self.reconciled_at),
            "counts": counts.to_dict() if counts else None,
            "estimated_seconds": None if seconds is None else round(seconds, 1),
            "shards": [_shard_dict(s) for s in self.shards],
        }

    def to_text(self) -> str:
        """For people."""
        sets = {s.view.base.at for s in self.shards if s.view.base}
        stored = sum(s.size for s in self.objects)
        what = "reads" if self.kind == "clone" else "reads of"
        lines = [
            f"{self.kind} of {self.namespace} to {rfc3339(self.at)}"
            + (f" into {self.into}" if self.kind == "clone" else ""),
            f"  {what:<10} {len(self.objects)} objects of {len(self.shards)} shards, {_size(stored)}; "
            + (f"restore sets of {', '.join(map(rfc3339, sorted(sets)))}" if sets else "no restore set yet"),
            f"  archive    knows every change up to {rfc3339(self.captured_until)}, "
            f"every delete up to {rfc3339(self.reconciled_at)}",
        ]
        counts = self.counts
        if counts is not None:
            lines.append(f"  writes     {counts.write:,} records, {_size(counts.bytes)}")
            if self.kind == "rewind":
                lines.append(f"  removes    {counts.remove:,} records that were not there")
                lines.append(f"  leaves     {counts.leave:,} records that changed and are as they were")
            lines += [
                f"  expired    {counts.expired:,} records whose time has passed since",
                f"  certainty  {counts.exact:,} exact, {counts.presumed:,} presumed, {counts.fuzzy:,} fuzzy",
                f"  takes      about {max(self.estimated_seconds or 0, 0.1):.1f} s",
            ]
        return "\n".join(lines)


def plan(
    archive: Archive,
    at: int,
    kind: Kind = "clone",
    *,
    now: int,
    into: str | None = None,
    count: bool = True,
    records_per_s: int = 0,
    watch: Watch | None = None,
) -> Plan:
    """Plan a restore to `at`; `now` is the target's time.

    With `count` every version needed is read once to say what would be done with it (and found undamaged on the way).
    `records_per_s` is the throttle, 0: none. Raises NotRecoverable outside the windows, RestoreError where a rewind
    cannot know what changed, ObjectMissing and ObjectDamaged, Cancelled.
    """
    watch = watch or Watch()
    found = archive.all_shards()
    require_recoverable(at, windows.namespace_windows(found), now)
    manifests = [m for m in found if m is not None]
    shards = tuple(_shard_plan(m, at, kind) for m in manifests)
    made = Plan(
        kind=kind,
        namespace=archive.namespace,
        into=into or archive.namespace,
        at=at,
        planned_at=now,
        captured_until=min(m.epochs[-1].resolved_at for m in manifests),
        reconciled_at=min(s.view.epoch.reconciled_at for s in shards),
        shards=shards,
        records_per_s=min(records_per_s or WRITES_PER_S[kind], WRITES_PER_S[kind]),
    )
    return _counted(archive, made, watch) if count else made


def shard_slices(archive: Archive, plan: Plan, shard: ShardPlan, now: int) -> Iterator[Slice]:
    """The records of one shard that a plan is about, with what to do with each by `now`."""
    if plan.kind == "clone":
        return slices.of_clone(archive.store, shard.view, now)
    return slices.of_rewind(archive.store, shard.view, shard.changed, now)


def _shard_plan(manifest: Manifest, at: int, kind: Kind) -> ShardPlan:
    view = views.view(manifest, at)
    if kind == "clone":
        return ShardPlan(view)
    if view.epoch.number != manifest.epochs[-1].number:
        raise RestoreError(
            f"shard {manifest.shard} began a new history at {rfc3339(manifest.epochs[-1].began_at)}, so what changed "
            f"since {rfc3339(at)} is not known record by record",
            "Clone that moment into an empty namespace instead.",
        )
    return ShardPlan(views.everything_beside(manifest, view.epoch, at), changed_after(manifest, at))


def _counted(archive: Archive, made: Plan, watch: Watch) -> Plan:
    done = Meter(made.rows, "count", watch)

    def count(shard: ShardPlan) -> ShardPlan:
        total = Counts()
        for part in shard_slices(archive, made, shard, made.planned_at):
            total += part.counts()
            done.add(part.versions.rows)
        return replace(shard, counts=total)

    return replace(made, shards=tuple(each(count, made.shards, watch)))


def _shard_dict(shard: ShardPlan) -> dict[str, Any]:
    base = shard.view.base
    return {
        "shard": shard.view.shard,
        "epoch": rfc3339(shard.view.epoch.began_at),
        "restore_set": rfc3339(base.at) if base else None,
        "objects": [{"name": s.name, "size": s.size, "rows": s.rows} for s in shard.objects],
        "counts": asdict(shard.counts) if shard.counts else None,
    }


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
