"""What is known of metadata (indexes, UDF modules, sets, settings …) at a moment, from what was told of it. Pure.

The metadata topic tells of every item when it was first seen as it is, and up to when it was known to be otherwise; and
of every kind when it was last looked at. A `Snapshot` is all of it as of a look. Kafka's compaction loses what was told
between two of its readings. So an item is *exact* at a moment only where a snapshot has it that was looked at then or
later; elsewhere it is *presumed*.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cdc.model import BEGINNING, Item, ItemKind

Key = tuple[ItemKind, str]


@dataclass(frozen=True, slots=True)
class Told:
    """An item as it was told, with the moments of `schemas/metadata.avsc`: it came to be as it is, or was removed,
    between `unobserved_since` and `observed_at`."""

    item: Item
    removed: bool
    observed_at: int
    unobserved_since: int

    @property
    def key(self) -> Key:
        """What it is told under."""
        return self.item.kind, self.item.name


@dataclass(frozen=True, slots=True)
class Line:
    """What is said of a snapshot elsewhere: the SHA-256 of its bytes, the last moment it knows of, and its looks."""

    number: int
    sha256: str
    until: int
    looked: Mapping[ItemKind, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All metadata as of a look: every item that ever was, in order of kind and name. `looked` says when the last look
    at each kind began; `earlier` are the snapshots before it that are kept, in order. Number 0: nothing is known."""

    namespace: str
    number: int = 0
    written_at: int = 0
    looked: Mapping[ItemKind, int] = field(default_factory=dict)
    items: tuple[Told, ...] = ()
    earlier: tuple[Line, ...] = ()

    @property
    def until(self) -> int:
        """The last moment that it knows of."""
        return max([BEGINNING, *self.looked.values(), *(told.observed_at for told in self.items)])

    @property
    def looked_at(self) -> int:
        """When the last look began that is in it, at whatever kind; 0: none is."""
        return max(self.looked.values(), default=BEGINNING)

    @property
    def by_key(self) -> dict[Key, Told]:
        """The items by what they are told under."""
        return {told.key: told for told in self.items}


@dataclass(frozen=True, slots=True)
class Known:
    """An item that was there at a moment, or (in `MetadataState.maybe`) may have been."""

    told: Told
    exact: bool


@dataclass(frozen=True, slots=True)
class MetadataState:
    """The metadata at a moment. `looked_at`: of the last look before it (0: none is known). `maybe` are items that were
    not there as far as is known, but may have been."""

    at: int
    looked_at: int
    items: tuple[Known, ...]
    maybe: tuple[Told, ...] = ()

    def of(self, kind: ItemKind) -> tuple[Known, ...]:
        """The items of a kind."""
        return tuple(known for known in self.items if known.told.item.kind == kind)


def after(known: Snapshot, told: Iterable[Told], looked: Mapping[ItemKind, int]) -> Snapshot:
    """What is known once a look, or everything that a topic holds, has been told: `looked` has its kinds.

    An item that is told as it is known keeps its moments, unless it was otherwise in between: a topic that was made
    anew begins with everything once more, and knows of no look before.
    """
    items = known.by_key
    for one in told:
        before = items.get(one.key)
        same = before is not None and (before.item, before.removed) == (one.item, one.removed)
        if before is not None and same and min(one.observed_at, one.unobserved_since) <= before.observed_at:
            continue
        since = max(one.unobserved_since, known.looked.get(one.item.kind, BEGINNING))
        items[one.key] = replace(one, unobserved_since=min(since, one.observed_at))
    later = {kind: max(known.looked.get(kind, BEGINNING), at) for kind, at in looked.items()}
    return replace(known, looked={**known.looked, **later}, items=_sorted(items.values()))


def without(known: Snapshot, told: Iterable[Key], looked: Mapping[ItemKind, int]) -> Snapshot:
    """The same when a topic tells nothing at all of what is there, though it tells of a later look at its kind: what it
    was is gone. (A removal is told; so this is of a topic made anew.)"""
    said = set(told)

    def gone(one: Told) -> Told:
        kind, before = one.item.kind, known.looked.get(one.item.kind, BEGINNING)
        if one.removed or one.key in said or looked.get(kind, BEGINNING) <= before:
            return one
        return Told(one.item, True, looked[kind], before)

    return replace(known, items=tuple(map(gone, known.items)))


def state(snapshots: Sequence[Snapshot], at: int) -> MetadataState | None:
    """The metadata at a moment, by these snapshots (in order); None where they know nothing of it yet."""
    versions: dict[Key, dict[int, tuple[Told, int]]] = {}
    for snapshot in snapshots:
        looked = snapshot.looked
        for told in snapshot.items:
            # Snapshots follow from each other: one look tells one version of an item.
            versions.setdefault(told.key, {})[told.observed_at] = (told, looked.get(told.item.kind, BEGINNING))
    if all(moment > at for found in versions.values() for moment in found):
        return None
    items, maybe = [], []
    for key, found in sorted(versions.items()):
        by_then = [moment for moment in found if moment <= at]
        if not by_then:
            if not _missed(snapshots, key, at):
                maybe.append(_next(found, at))
            continue
        held, sure_until = found[max(by_then)]
        if not held.removed:
            items.append(Known(held, sure_until >= at))
        elif sure_until < at:
            maybe.append(_next(found, at))
    looks = [look for snapshot in snapshots for look in snapshot.looked.values()]
    return MetadataState(at, max((look for look in looks if look <= at), default=BEGINNING), tuple(items), tuple(maybe))


def _next(found: Mapping[int, tuple[Told, int]], at: int) -> Told:
    """What an item became after a moment at which it was not there, as far as is known; else what it was."""
    later = [moment for moment, (told, _) in found.items() if moment > at and not told.removed]
    return found[min(later) if later else max(found)][0]


def _missed(snapshots: Sequence[Snapshot], key: Key, at: int) -> bool:
    """Whether a look at a moment or later shows that an item was not there before."""
    return any(s.looked.get(key[0], BEGINNING) >= at and key not in s.by_key for s in snapshots)


def needed(lines: Sequence[Line], at: int) -> set[int]:
    """The numbers of the snapshots, of those that are there (in order), from which `state` of a moment follows as from
    all of them: the last that ends by then, the next, of each kind the first that was looked at then or later, and the
    last of all, which has every item that ever was."""
    before = [line.number for line in lines if line.until <= at]
    later = [line.number for line in lines if line.until > at]
    firsts: dict[ItemKind, int] = {}
    for line in lines:
        for kind, looked in line.looked.items():
            if looked >= at:
                firsts.setdefault(kind, line.number)
    return {*before[-1:], *later[:1], *firsts.values(), *(line.number for line in lines[-1:])}


def kept(lines: Sequence[Line], since: int, moments: Iterable[int]) -> set[int]:
    """The numbers of the snapshots that every moment from `since` on, and some before it, need."""
    first = max((line.number for line in lines if line.until <= since), default=0)
    named = {line.number for line in lines if line.number >= first}
    return named.union(*(needed(lines, at) for at in moments))


def _sorted(items: Iterable[Told]) -> tuple[Told, ...]:
    return tuple(sorted(items, key=lambda one: one.key))
