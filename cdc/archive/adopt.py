"""What an archive can take over of another destination's history of a shard. Pure.

An epoch that stands still here and went on there is *extended*: only changes with offsets that this archive does not
have are taken. One that this archive never had, or of which the other one no longer has all changes since, is taken
whole, beside what is here. Nothing that can be restored here is given up for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cdc.archive import windows
from cdc.archive.manifests import Epoch, Manifest, RestoreSet, SegmentInfo


def same(one: Epoch, other: Epoch) -> bool:
    """Whether two archives' epochs are one history. Numbers count within one archive; a moment and an offset together
    name an epoch in all that read the same topics."""
    return (one.began_at, one.changes_from) == (other.began_at, other.changes_from)


@dataclass(frozen=True, slots=True)
class Taken:
    """What is taken of one epoch, which stands as `epoch` then: whole objects, of others (`cut`) the rows with offsets
    from `since` on, and restore sets."""

    epoch: Epoch
    whole: tuple[SegmentInfo, ...]
    cut: tuple[SegmentInfo, ...] = ()
    since: int = 0
    sets: tuple[RestoreSet, ...] = ()

    @property
    def bytes(self) -> int:
        """What is read for it, without indexes of sets."""
        return sum(s.size + s.index_size for s in (*self.whole, *self.cut)) + sum(s.size for s in self.sets)


@dataclass(frozen=True, slots=True)
class Adoption:
    """`manifest` is this archive's with all that is taken but its objects; `refused`: what is not taken, and why."""

    manifest: Manifest
    taken: tuple[Taken, ...] = ()
    refused: tuple[str, ...] = ()


def adoption(ours: Manifest, theirs: Manifest, *, reread: bool, given_up_before: int, name: str) -> Adoption:
    """What to take of `theirs`, the manifest of the destination `name`.

    `reread`: Kafka still has all that comes after ours, so that the compactor reads it itself. `given_up_before`: older
    moments are not kept by this archive's retention anyway (but by restore sets); 0: all are.
    """
    epochs, taken, refused, place = list(ours.epochs), list[Taken](), list[str](), 0
    sets, current_theirs = list(ours.sets), False
    number = max((e.number for e in epochs), default=0)
    reread = reread and ours.sequence > 0
    for e in theirs.epochs:
        mine = next((i for i, o in enumerate(epochs) if same(o, e)), None)
        newest = e is theirs.epochs[-1]
        if mine is None and not _wanted(ours, theirs, e, newest=newest, reread=reread):
            continue
        if mine is not None:
            place, o = mine + 1, epochs[mine]
            going_on = place == len(epochs) and not o.ended
            if not _ahead(ours, theirs, o, e, going_on=going_on and newest) or (going_on and reread):
                continue
            since = end_of(ours, o, going_on=going_on)
            if _has_all(theirs, e, since):
                got = [s for s in theirs.segments if s.epoch == e.number and s.last_offset >= since]
                epochs[mine] = replace(e, number=o.number)
                # A set made over a gap stands for no more than what was there.
                sets = [replace(s, through=min(s.through, since)) if s.epoch == o.number else s for s in sets]
                taken.append(
                    Taken(
                        epochs[mine],
                        tuple(s for s in got if s.first_offset >= since),
                        tuple(s for s in got if s.first_offset < since),
                        since,
                    )
                )
                current_theirs = place == len(epochs)
                continue
        problem = _giving_up(ours, theirs, e, given_up_before, name)
        if problem:
            refused.append(problem)
            continue
        number += 1
        adopted = replace(e, number=number)
        epochs.insert(place, adopted)
        place += 1
        taken.append(
            Taken(
                adopted,
                tuple(s for s in theirs.segments if s.epoch == e.number),
                sets=tuple(s for s in theirs.sets if s.epoch == e.number),
            )
        )
        current_theirs = place == len(epochs) or all(_idle(ours, o, e) for o in epochs[place:])
        if current_theirs:
            del epochs[place:]
    if not taken:
        return Adoption(ours, refused=tuple(refused))
    ended = [o if o.ended else replace(o, ended=f"its history goes on in what was taken from {name}") for o in epochs]
    manifest = replace(ours, epochs=(*ended[:-1], epochs[-1]), sets=tuple(sets))
    manifest = replace(manifest, changes_kept_from=max(ours.changes_kept_from, _kept_from(theirs, taken)))
    if current_theirs:
        at = ("next_changes", "next_progress", "after_gap", "changes_topic", "progress_topic")
        manifest = replace(manifest, **{field: getattr(theirs, field) for field in at})
    return Adoption(manifest, tuple(taken), tuple(refused))


def with_objects(manifest: Manifest, segments: Iterable[SegmentInfo], sets: Iterable[RestoreSet]) -> Manifest:
    """The manifest with the objects of what was taken as well."""
    order = sorted((*manifest.segments, *segments), key=lambda s: (s.epoch, s.first_offset))
    return replace(
        manifest,
        segments=tuple(order),
        sets=tuple(sorted((*manifest.sets, *sets), key=lambda s: (s.epoch, s.at))),
    )


def _wanted(ours: Manifest, theirs: Manifest, e: Epoch, *, newest: bool, reread: bool) -> bool:
    """Whether an epoch that is not here leads to moments that are not."""
    if reread and theirs.changes_topic == ours.changes_topic and e.changes_from >= ours.next_changes:
        return False
    if e.recoverable_from is None or e.resolved_at < e.recoverable_from:
        return newest and not e.ended and not reread
    return not any(w.start <= e.recoverable_from and e.resolved_at <= w.end for w in windows.shard_windows(ours))


def _ahead(ours: Manifest, theirs: Manifest, o: Epoch, e: Epoch, *, going_on: bool) -> bool:
    """Whether the other archive has more of an epoch: later moments, or changes of a look that is not complete."""
    if e.resolved_at != o.resolved_at:
        return e.resolved_at > o.resolved_at
    return going_on and theirs.changes_topic == ours.changes_topic and theirs.next_changes > ours.next_changes


def end_of(ours: Manifest, epoch: Epoch, *, going_on: bool) -> int:
    """The offset from which on an archive has nothing of an epoch."""
    ends = [s.last_offset + 1 for s in ours.segments if s.epoch == epoch.number]
    return max([epoch.changes_from, *ends, *([ours.next_changes] if going_on else [])])


def _has_all(theirs: Manifest, epoch: Epoch, since: int) -> bool:
    """Whether every change of an epoch from an offset on is still there: what was pruned lies behind the set that took
    over."""
    if not _pruned(theirs, epoch):
        return True
    took_over = [s for s in theirs.sets if s.epoch == epoch.number and s.at <= theirs.changes_kept_from]
    return bool(took_over) and max(took_over, key=lambda s: s.at).through <= since


def _kept_from(theirs: Manifest, taken: list[Taken]) -> int:
    """From when on changes are kept of what was taken whole."""
    return theirs.changes_kept_from if any(not t.since and _pruned(theirs, t.epoch) for t in taken) else 0


def _pruned(theirs: Manifest, epoch: Epoch) -> bool:
    return epoch.recoverable_from is not None and epoch.recoverable_from < theirs.changes_kept_from


def _giving_up(ours: Manifest, theirs: Manifest, epoch: Epoch, given_up_before: int, name: str) -> str:
    kept = theirs.changes_kept_from if _pruned(theirs, epoch) else 0
    between = [w for w in windows.shard_windows(ours) if w.start < kept and w.start < w.end]
    if not between or kept <= given_up_before:
        return ""
    return (
        f"{name} keeps no changes of shard {ours.shard} from before its restore set of that time, and with its history "
        "moments that can be restored here would be given up"
    )


def _idle(ours: Manifest, old: Epoch, taken: Epoch) -> bool:
    """Whether an epoch holds nothing, and is of the same look as one that was taken."""
    return old.began_at == taken.began_at and not any(s.epoch == old.number for s in ours.segments)
