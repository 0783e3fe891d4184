"""What an archive keeps: which moments stay recoverable, and what no kept moment needs. Pure.

Changes are kept for the last `changes_days`; before that restore sets stand for their moments, fewer the older they
are. It is decided for all shards of a namespace together, because a moment that one shard lacks is worth nothing. Of
each shard a segment goes when

- no moment of the span for which changes are kept reads it: it stands beside no set from the newest at or before the
  beginning of that span on, or its epoch ended before;
- and no kept set needs it: what of it concerns the set's moment stands in the set's listing (`cdc.archive.beside`).

A history that has not come so far is kept whole: an epoch without a set leads back to its base snapshot only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cdc.archive.manifests import Epoch, Manifest, RestoreSet, SegmentInfo
from cdc.archive.views import concerns, is_beside
from cdc.archive.windows import epoch_at
from cdc.config import RetentionSettings

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Decision:
    """What a namespace keeps: every moment from `changes_from` on, and before it the moments of `sets`, each with the
    reason in words. `make` are those among them for which not every shard has a restore set yet. `held` says why
    nothing may go now; empty: it may. `lost` are names of marks whose moments cannot be restored any more."""

    changes_from: int = 0
    sets: Mapping[int, str] = field(default_factory=dict)
    make: tuple[int, ...] = ()
    held: str = ""
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What a decision means for a shard: `after` is its manifest when all is done but for what is to be completed
    first; `complete` are sets whose listings must take in what concerns their moments before the segments go."""

    before: Manifest
    after: Manifest
    complete: tuple[RestoreSet, ...]

    @property
    def sets(self) -> tuple[RestoreSet, ...]:
        """Sets that go."""
        stays = {made.listing for made in self.after.sets}
        return tuple(made for made in self.before.sets if made.listing not in stays)

    @property
    def segments(self) -> tuple[SegmentInfo, ...]:
        """Segments that go."""
        stays = {s.name for s in self.after.segments}
        return tuple(s for s in self.before.segments if s.name not in stays)

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """Epochs of which nothing is left."""
        stays = {e.number for e in self.after.epochs}
        return tuple(e for e in self.before.epochs if e.number not in stays)


def decide(
    shards: Sequence[Manifest | None], policy: RetentionSettings, keeps: Mapping[str, int], now: int
) -> Decision:
    """What a namespace keeps, by its policy and its marks (name to moment). All moments are milliseconds."""
    if not policy.changes_days:
        return Decision(held="every moment is kept for ever (archive.retention.changes_days is 0)")
    known = [m for m in shards if m is not None]
    if len(known) < len(shards) or not known:
        return Decision(held="a shard has nothing in the archive")
    young = [m.shard for m in known if not m.epochs or _window(m.epochs[-1]) is None]
    if young:
        return Decision(held=f"shard {young[0]} has no window since its last base snapshot began")
    horizon = min(
        round(now - policy.changes_days * DAY_MS),
        *(min(m.epochs[-1].resolved_at, m.epochs[-1].reconciled_at) for m in known),
    )
    begun = max(m.changes_kept_from for m in known)
    changes_from = max(begun, min([horizon, *(at for m in known for at in _floors(m, horizon))]))
    common = sorted(set.intersection(*(set(candidates(m)) for m in known)))
    lost = tuple(name for name, at in sorted(keeps.items()) if any(epoch_at(m, at) is None for m in known))
    marked = {at: f"kept as {name}" for name, at in sorted(keeps.items(), reverse=True) if name not in lost}
    others = [at for at in common if at not in marked]
    last = dict.fromkeys(others[-policy.minimum_sets :], f"one of the last {policy.minimum_sets}")
    kept = {**last, **_thinned(common, policy, now), **marked}
    kept = {at: why for at, why in sorted(kept.items()) if at < changes_from}
    return Decision(changes_from, kept, tuple(at for at in kept if at not in common), lost=lost)


def plan(manifest: Manifest, decision: Decision) -> ShardPlan:
    """What a decision means for one shard. What it needs and has not got (a set that is yet to be made, a listing that
    is yet to be completed) keeps its segments."""
    if decision.held:
        return ShardPlan(manifest, manifest, ())
    changes_from = max(manifest.changes_kept_from, decision.changes_from)
    chosen = candidates(manifest)
    wanted = [at for at in decision.sets if at < changes_from]
    if any(at not in chosen and epoch_at(manifest, at) is not None for at in wanted):
        return ShardPlan(manifest, manifest, ())  # nothing goes before what takes over is there
    alone = [chosen[at] for at in wanted if at in chosen]
    bases = {e.number: _bases(manifest, e, chosen.values(), changes_from) for e in manifest.epochs}
    stays = {made.listing for made in (*alone, *(b for found in bases.values() for b in found if b is not None))}
    spanned = {s.name for s in manifest.segments if any(is_beside(s, b) for b in bases.get(s.epoch, ()))}
    needed = {
        s.name: [made for made in alone if _uncovered(s, made)] for s in manifest.segments if s.name not in spanned
    }
    segments = tuple(s for s in manifest.segments if s.name in spanned or needed[s.name])
    sets = tuple(made for made in manifest.sets if made.listing in stays)
    used = {s.epoch for s in segments} | {made.epoch for made in sets}
    last = manifest.epochs[-1].number
    epochs = tuple(e for e in manifest.epochs if e.number in used or e.number == last or _reaches(e, changes_from))
    after = replace(manifest, epochs=epochs, segments=segments, sets=sets, changes_kept_from=changes_from)
    complete = {made.listing: made for found in needed.values() for made in found}
    return ShardPlan(manifest, after, tuple(complete.values()))


def candidates(manifest: Manifest) -> dict[int, RestoreSet]:
    """By moment, the set from which the shard is restored to it. A set of an older epoch is none where a newer epoch
    has the moment as well, nor one that was made again."""
    found: dict[int, RestoreSet] = {}
    for made in sorted(manifest.sets, key=lambda s: (s.epoch, s.at, s.through)):
        epoch = epoch_at(manifest, made.at)
        if epoch is not None and epoch.number == made.epoch:
            found[made.at] = made
    return found


def _thinned(common: Sequence[int], policy: RetentionSettings, now: int) -> dict[int, str]:
    kept: dict[int, str] = {}
    rules: tuple[tuple[float, str, Callable[[datetime], tuple[int, ...]]], ...] = (
        (policy.monthly_days, "month", lambda t: (t.year, t.month)),
        (policy.weekly_days, "week", lambda t: tuple(t.isocalendar())[:2]),
        (policy.daily_days, "day", lambda t: (t.year, t.month, t.day)),
        (policy.hourly_days, "hour", lambda t: (t.year, t.month, t.day, t.hour)),
    )
    for days, word, bucket in rules:
        first: dict[tuple[int, ...], int] = {}
        for at in common if days else ():
            first.setdefault(bucket(datetime.fromtimestamp(at // 1000, UTC)), at)
        for at in first.values():
            if at >= now - days * DAY_MS:
                kept.setdefault(at, f"the first of its {word}")
    return kept


def _floors(manifest: Manifest, horizon: int) -> Iterable[int]:
    """From when on the changes of each epoch must be kept, for all its moments from the horizon on."""
    for epoch in manifest.epochs:
        if _reaches(epoch, horizon):
            base = _base(manifest, epoch, horizon)
            yield base.at if base is not None else _window(epoch) or 0


def _base(manifest: Manifest, epoch: Epoch, at: int) -> RestoreSet | None:
    """The newest set of an epoch up to a moment, as a view of that moment takes it."""
    if not _reaches(epoch, at):
        return None
    sets = [s for s in manifest.sets if s.epoch == epoch.number and s.at <= at]
    return max(sets, key=lambda s: (s.at, s.through), default=None)


def _bases(
    manifest: Manifest, epoch: Epoch, chosen: Iterable[RestoreSet], changes_from: int
) -> list[RestoreSet | None]:
    """The sets from which the moments of an epoch are restored for which changes are kept; None among them says that
    some are from no set at all. A set that was made later may stand for less of what came late than one before it."""
    if epoch.number != manifest.epochs[-1].number and not _reaches(epoch, changes_from):
        return []
    later = [made for made in chosen if made.epoch == epoch.number and made.at > changes_from]
    return [_base(manifest, epoch, changes_from), *later]


def _uncovered(segment: SegmentInfo, made: RestoreSet) -> bool:
    """Whether a set needs a segment besides its listing."""
    return (
        segment.epoch == made.epoch
        and segment.last_offset >= made.beside_through
        and is_beside(segment, made)
        and concerns(segment, made.at)
    )


def _window(epoch: Epoch) -> int | None:
    """Where the window of an epoch begins while all changes are kept; None where it has none."""
    start = epoch.recoverable_from
    return start if start is not None and start <= epoch.resolved_at else None


def _reaches(epoch: Epoch, at: int) -> bool:
    return _window(epoch) is not None and epoch.resolved_at >= at
