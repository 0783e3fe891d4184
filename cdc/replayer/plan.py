"""What a restore would read and do, before it does anything."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal

from cdc.archive import Archive, Manifest, Resolution, SegmentInfo, View, Window, changed_after, views, windows
from cdc.archive import metadata as archived
from cdc.clock import rfc3339
from cdc.errors import NotRecoverable, RestoreError
from cdc.replayer import slices, told
from cdc.replayer.at import instead_in_place, require_recoverable
from cdc.replayer.doubts import Doubt, doubts
from cdc.replayer.metadata_plan import MetadataPlan, metadata_plan
from cdc.replayer.parallel import WORKERS, each
from cdc.replayer.rates import ASSUMED, Speed
from cdc.replayer.report import Counts, Course, Meter, Watch
from cdc.replayer.slices import Slice
from cdc.replayer.wanted import WHOLE, Part, Wanted

Kind = Literal["clone", "rewind"]

OPEN_OBJECTS = 120
"""So many objects are read at a time, about: a restore may take 400 MB, of which the kernels are half."""

BLOCK_BYTES = 512 << 10
"""About what a block holds, unless settings say otherwise: what is read for one record of an object."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One shard's part: what is read, and what would be done (None when it was not counted).

    `changed` are the segments that tell a rewind which records changed, and its view goes on beyond the moment; a
    clone has none. `part` is what the shard has of the plan's.
    """

    view: View
    changed: tuple[SegmentInfo, ...] = ()
    counts: Counts | None = None
    part: Part = WHOLE

    @property
    def objects(self) -> tuple[SegmentInfo, ...]:
        """All objects that may be read."""
        return self.view.objects


@dataclass(frozen=True, slots=True)
class Plan:
    """A restore of `namespace` to `at`, into `into`. Moments in milliseconds.

    `captured_until`: what changed later nobody told yet; a rewind cannot know of it, and its guards keep it.
    `planned_at` is the moment by which records count as expired. `resolution` is that of the moment: how long the
    blind intervals are in which it can lie. `manifests` are those that it goes by, of all shards, `tail` the directory
    with what of theirs was taken from Kafka (`cdc.replayer.tail`), if anything was. `speed` is how fast it is taken to
    be; `records_per_s` the most that it writes, 0: as much as can be.
    """

    kind: Kind
    namespace: str
    into: str
    at: int
    planned_at: int
    captured_until: int
    reconciled_at: int
    resolution: Resolution
    shards: tuple[ShardPlan, ...]
    records_per_s: int
    wanted: Wanted
    manifests: tuple[Manifest, ...] = field(repr=False)
    metadata: MetadataPlan | None = None
    tail: Path | None = field(default=None, compare=False)
    speed: Speed = ASSUMED["clone"]

    @property
    def scope(self) -> str:
        """Which records the archive is about at that moment, in words; empty: all of the namespace."""
        return windows.either(shard.view.epoch.scope for shard in self.shards)

    @property
    def shift(self) -> int:
        """How much later records that are written expire than they did at the moment."""
        return self.planned_at - self.at if self.wanted.expired == "shift" else 0

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
    def read_rows(self) -> int:
        """Versions that say what is to be done, at most: for a rewind those that changed; of a part about those in the
        blocks that may hold its records."""
        rewind = self.kind == "rewind"
        found = ((s.part, info) for s in self.shards for info in (s.changed if rewind else s.objects))
        return sum(round(info.rows * _share(part, info)) for part, info in found)

    @property
    def workers(self) -> int:
        """So many shards are worked on at a time: each has a block of every object in memory that it reads, and a
        rewind reads twice, what changed and what it was."""
        most = max((len(shard.objects) + len(shard.changed) for shard in self.shards), default=0)
        return max(1, min(WORKERS, OPEN_OBJECTS // max(most, 1)))

    @property
    def estimated_seconds(self) -> float | None:
        """How long reading and writing take, by `speed`; None when it was not counted."""
        counts = self.counts
        return None if counts is None else self.speed.seconds(self.read_rows, counts.touched, 0, self.records_per_s)

    @property
    def estimated_verify_seconds(self) -> float | None:
        """How long it takes to compare what was restored; None when it was not counted."""
        counts = self.counts
        return None if counts is None else self.speed.seconds(0, 0, counts.touched + counts.leave)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return told.to_dict(self)

    def to_text(self) -> str:
        """For people."""
        return told.to_text(self)


def plan(
    archive: Archive,
    at: int,
    kind: Kind = "clone",
    *,
    now: int,
    into: str | None = None,
    wanted: Wanted | None = None,
    count: bool = True,
    records_per_s: int = 0,
    speed: Speed | None = None,
    manifests: Sequence[Manifest | None] | None = None,
    name: Callable[[Iterable[Doubt]], None] | None = None,
    watch: Watch | None = None,
) -> Plan:
    """Plan a restore to `at`; `now` is the target's time.

    With `count` every version needed is read once to say what would be done with it (and found undamaged on the way).
    `name` is then called with the records whose state is not sure, in portions, in no order and by several threads.
    `wanted` says what it is to do (None: everything, as it was); `records_per_s` is the throttle, 0: none; `speed` is
    how fast it is taken to be (None: as it is assumed).
    `manifests` are every shard's to go by, None: the newest; what was planned before is planned again by its own.
    Raises NotRecoverable outside the windows, and where a rewind cannot know what changed since; ObjectMissing and
    ObjectDamaged, Cancelled.
    """
    watch = watch or Watch()
    found = archive.all_shards() if manifests is None else manifests
    recoverable = windows.namespace_windows(found)
    require_recoverable(at, recoverable, now)
    wanted = wanted or Wanted()
    known = tuple(m for m in found if m is not None)
    concerned = wanted.part.shards(archive.shards)
    if kind == "rewind":
        _require_in_place([m for m in known if m.shard in concerned], at)
    shards = tuple(_shard_plan(archive, m, at, kind, wanted.part) for m in known if m.shard in concerned)
    made = Plan(
        kind=kind,
        namespace=archive.namespace,
        into=into or archive.namespace,
        at=at,
        planned_at=now,
        captured_until=min(m.epochs[-1].resolved_at for m in known),
        reconciled_at=min((s.view.epoch.reconciled_at for s in shards), default=at),
        resolution=_resolution(recoverable, at),
        shards=shards,
        records_per_s=records_per_s,
        speed=speed or ASSUMED[kind],
        wanted=wanted,
        manifests=known,
        metadata=_metadata(archive, at, kind, wanted),
    )
    return _counted(archive, made, name, watch) if count else made


def shard_slices(archive: Archive, plan: Plan, shard: ShardPlan, now: int, low: bytes | None = None) -> Iterator[Slice]:
    """The records of one shard that a plan is about, from the digest `low` on, with what to do with each by `now`."""
    store, part, shift = archive.store, shard.part, plan.shift
    if plan.kind == "clone":
        return slices.of_clone(store, shard.view, now, low, part=part, shift=shift)
    leave = plan.wanted.expired == "leave"
    return slices.of_rewind(store, shard.view, shard.changed, now, low, part=part, leave=leave, shift=shift)


def _shard_plan(archive: Archive, manifest: Manifest, at: int, kind: Kind, part: Part) -> ShardPlan:
    view, mine = views.view(manifest, at, archive.listing), part.of_shard(manifest.shard, archive.shards)
    if kind == "clone":
        return ShardPlan(view, part=mine)
    whole = views.everything_beside(manifest, view.epoch, at, archive.listing)
    return ShardPlan(whole, changed_after(manifest, at), part=mine)


def _require_in_place(manifests: Sequence[Manifest], at: int) -> None:
    """NotRecoverable where some shard does not know what changed since a recoverable moment, record by record."""
    for manifest in manifests:
        epoch, newest = windows.epoch_at(manifest, at), manifest.epochs[-1]
        if epoch is None or epoch.number != newest.number:
            why = f"shard {manifest.shard} began a new history at {rfc3339(newest.began_at)}"
        elif at < manifest.changes_kept_from:
            why = f"changes are kept from {rfc3339(manifest.changes_kept_from)} on"
        else:
            continue
        raise NotRecoverable(
            f"{rfc3339(at)} is recoverable, but not in place: what changed since is not known, because {why}",
            instead_in_place(at, windows.rewindable(manifests)),
        )


def _metadata(archive: Archive, at: int, kind: Kind, wanted: Wanted) -> MetadataPlan | None:
    if kind == "rewind" or wanted.metadata == "none":
        return None
    state = archived.at(archive.store, archive.namespace, at)
    if state is None:
        raise RestoreError(
            f"the archive tells nothing of indexes and modules at {rfc3339(at)}",
            "Leave --metadata out, and make them yourself; `metadata` shows those that Kafka knows.",
        )
    return metadata_plan(state, wanted.part.sets)


def _share(part: Part, info: SegmentInfo) -> float:
    """About which share of an object's blocks may hold records of a part."""
    if part.digests:
        return min(1.0, len(part.digests) * BLOCK_BYTES / max(info.raw_size, 1))
    low, high = part.bounds()
    first, last = low[0] if low else 0, high[0] if high else 256
    return (last - first) / 256


def _resolution(recoverable: list[Window], at: int) -> Resolution:
    """That of the newest window which has the moment: the shards' newest epochs are what is restored from."""
    [*_, newest] = (part for window in recoverable if (part := window.part(at, at)) is not None)
    return newest.resolution()


def _counted(archive: Archive, made: Plan, name: Callable[[Iterable[Doubt]], None] | None, watch: Watch) -> Plan:
    done = Meter(made.rows, "count", watch)

    def count(shard: ShardPlan) -> ShardPlan:
        total, course = Counts(), Course(done, sum(info.rows for info in shard.objects))
        for part in shard_slices(archive, made, shard, made.planned_at):
            total += part.counts()
            if name is not None:
                name(doubts(part, shard.view.epoch.reconciled_at))
            course.reach(part.along)
        course.reach(1)
        return replace(shard, counts=total)

    shards = tuple(each(count, made.shards, watch, made.workers))
    done.finish()
    return replace(made, shards=shards)
