"""Pruning: what retention no longer keeps goes, and what nothing names any more.

First what takes over is written (restore sets at marked moments, listings that can do without changes), then the
manifest that no longer names what goes, and only then, a grace later, the objects themselves. Killed anywhere, what is
left is an archive that says the truth, and garbage that the next prune collects. Two prunes at once, or one beside a
compactor, are harmless: whoever comes second applies what it means to do to the manifest that came first.

The grace begins when a manifest is followed by another, by the store's clock: a restore, or another reader, that began
before may use what it names for that long. It also allows for the difference between the store's clock and ours, and
for the time that a writer takes from its first object to its manifest; it must be longer than all of that.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from cdc import metrics
from cdc.archive import chain as chains
from cdc.archive import keeps, metadata, retention
from cdc.archive.archive import Archive
from cdc.archive.beside import complete
from cdc.archive.chain import Chain
from cdc.archive.manifests import Manifest, RestoreSet
from cdc.archive.retention import Decision, ShardPlan
from cdc.archive.sets import make
from cdc.archive.store import Entry
from cdc.archive.windows import epoch_at
from cdc.config import Settings

AT_ONCE: Final = 8
"""Objects removed at a time."""

Progress = Callable[[int, int, str], None]

_MANIFEST: Final = re.compile(r".*/manifests/(\d{20})\.json")
_DRAFT: Final = re.compile(r".*#\d+")
"""What `LocalStore` calls a file that is not whole yet."""
METADATA: Final = -1
"""Stands for the namespace's metadata where shards are numbered."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a prune would do: what the namespace keeps, what that means for each shard, and the garbage that is old
    enough to go. `refused` are shards (or METADATA) of which no object is removed because what names it is damaged."""

    decision: Decision
    shards: tuple[ShardPlan, ...]
    garbage: tuple[Entry, ...]
    refused: Mapping[int, str]

    @property
    def dropped_bytes(self) -> int:
        """Of the segments that no manifest will name any more: they are removed by a prune after the grace."""
        return sum(s.size + s.index_size for shard in self.shards for s in shard.segments)

    @property
    def garbage_bytes(self) -> int:
        """Of what is removed at once."""
        return sum(entry.size for entry in self.garbage)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did, by the plan that it followed. `made` restore sets for marks, `completed` listings; `removed`
    objects of `bytes`. `stopped`: it was told to, and the rest is for the next."""

    plan: Plan
    made: int = 0
    completed: int = 0
    removed: int = 0
    bytes: int = 0
    stopped: bool = False


def plan_of(archive: Archive, settings: Settings, now: int) -> Plan:
    """What `prune` would do now. Reads only. Raises ObjectDamaged, also for a damaged mark, FormatTooNew, and as the
    store does."""
    decision, shards = _decided(archive, settings, now)
    garbage, refused = _garbage(archive, settings, now)
    return Plan(decision, tuple(shards), tuple(garbage), refused)


def prune(
    archive: Archive,
    settings: Settings,
    now: int,
    *,
    stop: threading.Event | None = None,
    progress: Progress = lambda done, total, phase: None,
) -> Pruned:
    """Do it. `settings` are those of one namespace and one destination; `now` is this machine's time, in milliseconds.

    Raises ObjectMissing and ObjectDamaged where what takes over cannot be made: then nothing that it needs went.
    """
    stop = stop or threading.Event()
    decision, shards = _decided(archive, settings, now)
    made = completed = 0
    for plan in shards:
        for at in decision.make:
            made += not stop.is_set() and _make(archive, plan.before.shard, at, now, settings)
    if made:
        decision, shards = _decided(archive, settings, now)
    for plan in shards:
        for unfinished in plan.complete:
            completed += not stop.is_set() and _complete(archive, plan.before.shard, unfinished, now, settings)
    if completed:
        decision, shards = _decided(archive, settings, now)
    for plan in shards:
        if not stop.is_set():
            archive.amend(plan.before.shard, partial(_dropped, decision=decision, now=now))
    if not (stop.is_set() or decision.held):
        with suppress(*chains.DAMAGES):  # `_garbage` says so
            metadata.prune(archive.store, archive.namespace, decision.changes_from, decision.sets, now)
    garbage, refused = _garbage(archive, settings, now, committing=True)
    removed = _remove(archive, garbage, stop, progress)
    found = Plan(decision, tuple(shards), tuple(garbage), refused)
    freed = sum(entry.size for entry in removed)
    place = archive.namespace, settings.archive.destination
    metrics.PRUNED_BYTES.labels(*place).inc(freed)
    metrics.GARBAGE.labels(*place).set(found.garbage_bytes - freed)
    if not (stop.is_set() or refused):
        metrics.PRUNED.labels(*place).set(now / 1000)
    return Pruned(found, made, completed, len(removed), freed, stop.is_set())


def part(shard: int) -> str:
    """What a number of `Plan.refused` stands for."""
    return "the metadata" if shard == METADATA else f"shard {shard}"


def _decided(archive: Archive, settings: Settings, now: int) -> tuple[Decision, list[ShardPlan]]:
    marks = {name: keep.at for name, keep in keeps.load(archive.store, archive.namespace).items()}
    shards = archive.all_shards()
    decision = retention.decide(shards, settings.archive.retention, marks, now)
    return decision, [retention.plan(manifest, decision) for manifest in shards if manifest is not None]


def _make(archive: Archive, shard: int, at: int, now: int, settings: Settings) -> bool:
    """Give a shard a set at a moment, if it can be had and is not there."""
    manifest = archive.shard(shard)
    epoch = epoch_at(manifest, at) if manifest is not None else None
    if manifest is None or epoch is None or at in retention.candidates(manifest):
        return False
    # Of another epoch than the last, so perhaps of a topic before: its offsets end where its segments do.
    ends = [s.last_offset + 1 for s in manifest.segments if s.epoch == epoch.number]
    ends += [s.through for s in manifest.sets if s.epoch == epoch.number]
    through = manifest.next_changes if epoch.number == manifest.epochs[-1].number else max(ends, default=0)
    new = make(archive, replace(manifest, next_changes=through), epoch, at, now, settings.compactor, settings.archive)

    def edit(newest: Manifest) -> Manifest | None:
        if epoch_at(newest, at) is None or at < newest.changes_kept_from or at in retention.candidates(newest):
            return None
        return replace(newest, written_at=now, sets=(*newest.sets, new))

    return archive.amend(shard, edit, manifest, _oldest(archive, new)) is not None


def _complete(archive: Archive, shard: int, unfinished: RestoreSet, now: int, settings: Settings) -> bool:
    """Let a set's listing take in what concerns its moment."""
    manifest = archive.shard(shard)
    if manifest is None or unfinished not in manifest.sets:
        return False
    whole = complete(archive, manifest, unfinished, settings.compactor, settings.archive)

    def edit(newest: Manifest) -> Manifest | None:
        if unfinished not in newest.sets:
            return None
        sets = tuple(whole if made == unfinished else made for made in newest.sets)
        return replace(newest, written_at=now, sets=sets)

    return archive.amend(shard, edit, manifest, _oldest(archive, whole, completed=True)) is not None


def _oldest(archive: Archive, made: RestoreSet, *, completed: bool = False) -> str:
    """Of a new set, or of what completed one, the object that was written first: another prune may have taken it."""
    listing = archive.listing(made)
    written = listing.beside if completed else listing.segments
    return written[0].name if written else made.listing


def _dropped(newest: Manifest, *, decision: Decision, now: int) -> Manifest | None:
    """The manifest without what a decision lets go of, as far as the newest one needs nothing of it."""
    plan = retention.plan(newest, decision)
    return replace(plan.after, written_at=now) if plan.after != newest else None


def _garbage(
    archive: Archive, settings: Settings, now: int, *, committing: bool = False
) -> tuple[list[Entry], dict[int, str]]:
    """What nothing names that is kept, and is older than the grace; and the shards that cannot be judged. When
    `committing`, the manifests that are not kept any more are first said not to be."""
    old = round(now - settings.archive.retention.grace_s * 1000)
    # Objects are listed first: what a manifest names that is committed meanwhile is then named.
    entries = archive.store.entries(archive.namespace)
    found = [e for e in entries if e.modified_at <= old and _DRAFT.fullmatch(e.name)]
    refused: dict[int, str] = {}
    for shard in range(archive.shards):
        prefixes = tuple(archive.directory(shard, kind) + "/" for kind in ("segments", "sets", "manifests"))
        mine = [e for e in entries if e.modified_at <= old and e.name.startswith(prefixes) and "#" not in e.name]
        first = _first_kept(archive, shard, mine)
        if committing and first > 1:
            archive.amend(shard, partial(_raised, first=first, now=now))
        chain = _read(archive, shard, first)
        if any(d.kind == "missing" for d in chain.damage):
            chain = _read(archive, shard, first)  # another prune may have removed it meanwhile, and says so by now
        if chain.damage:
            refused[shard] = min(chain.damage).text
        else:
            named = chain.named
            found += [e for e in mine if e.name not in named]
    told, damage = metadata.garbage(archive.store, archive.namespace, entries, old)
    if damage:
        refused[METADATA] = damage
    return found + told, refused


def _read(archive: Archive, shard: int, first: int) -> Chain:
    return chains.read(archive, shard, archive.store.list(archive.directory(shard, "manifests")), first=first)


def _first_kept(archive: Archive, shard: int, old: Sequence[Entry]) -> int:
    """The first manifest to keep: the last of those older than the grace counted until its successor came. 1 where
    none is to go, or nothing but a manifest would."""
    last = max((int(found[1]) for e in old if (found := _MANIFEST.fullmatch(e.name))), default=1)
    newest = archive.shard(shard)
    if newest is None or last <= newest.first_kept:
        return 1
    if last == newest.first_kept + 1:
        before, after = (archive.manifest(shard, sequence) for sequence in (last - 1, last))
        if (before.segments, before.sets) == (after.segments, after.sets):
            return 1
    return last


def _raised(newest: Manifest, *, first: int, now: int) -> Manifest | None:
    return replace(newest, written_at=now, first_kept=first) if newest.first_kept < first else None


def _remove(archive: Archive, garbage: Sequence[Entry], stop: threading.Event, progress: Progress) -> list[Entry]:
    """Remove objects until told to stop; those that were."""

    def remove(entry: Entry) -> bool:
        if not stop.is_set():
            archive.store.delete(entry.name)
            return True
        return False

    removed = []
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="prune") as pool:
        for done, (entry, gone) in enumerate(zip(garbage, pool.map(remove, garbage), strict=True), 1):
            removed += [entry] if gone else []
            progress(done, len(garbage), "prune objects")
    return removed
