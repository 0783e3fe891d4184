"""Whether an archive is what was written: in tiers, each of which says all that the one before it says.

presence   every object that a manifest names is there with its size; the manifests are there, each following the other;
           the newest metadata is what was written, and what it names is there
hashes     format, metadata, keyring, objects and indexes have the hashes that were written
decode     blocks, order, counts, spans and indexes say what the rows say; restore sets hold what they may

What is gone without having been seen cannot be missed: an archive whose newest manifests were removed looks like one
that was copied earlier, and what it says is true. Only the record of an earlier verification shows it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

from cdc.archive import chain as chains
from cdc.archive import cost, decoded, drills, keeps, keyring, metadata, verified
from cdc.archive import segments as objects
from cdc.archive.archive import Archive
from cdc.archive.chain import DAMAGES, Chain, Damage
from cdc.archive.cost import Cost, Moments
from cdc.archive.listings import Listing
from cdc.archive.manifests import RestoreSet, SegmentInfo
from cdc.archive.store import Store
from cdc.archive.verified import TIERS, Mark, Verified
from cdc.archive.windows import namespace_holes
from cdc.clock import Clock, wall_clock
from cdc.errors import ArchiveError, ObjectDamaged, ObjectMissing, StoreForbidden

WORKERS: Final = 4
"""Objects looked at at a time, a few megabytes of each in memory."""
LOT: Final = 1024
"""Objects handed to the workers at a time."""
COSTED: Final = 256
"""Of so many damaged objects it is told which moments each costs by itself."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What another destination still has of what is damaged here: `objects` are the damaged ones that cost moments all
    of which it can restore, `moments` what it can restore of all that is lost. `problem` says why it could not be
    asked."""

    destination: str
    problem: str = ""
    objects: tuple[str, ...] = ()
    moments: tuple[Moments, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found. `objects` and `bytes` were looked at; `garbage` is what no manifest names (told by a
    whole verification of sound manifests alone); `since` is when the verification began that this one goes on from.
    `remembered`: another one can go on from here. `costs` has the moments that each damaged object costs by itself, of
    the first COSTED that cost any. `elsewhere`: what other destinations have of it (`siblings.asked`). `nowhere`: why
    it leads to no moment at all though nothing is damaged; empty where it does. `forgotten`: why a good result could
    not be remembered: who may read an archive and not write it can still verify it."""

    namespace: str
    tier: str
    began_at: int
    since: int | None = None
    objects: int = 0
    bytes: int = 0
    damage: tuple[Damage, ...] = ()
    garbage: tuple[str, ...] = ()
    cost: Cost = field(default_factory=lambda: Cost((), (), ()))
    remembered: bool = False
    costs: Mapping[str, tuple[Moments, ...]] = field(default_factory=dict)
    elsewhere: tuple[Elsewhere, ...] = ()
    nowhere: tuple[str, ...] = ()
    forgotten: str = ""

    def error(self) -> ArchiveError | None:
        """What to raise for the damage: ObjectDamaged, or ObjectMissing where that is all; None where there is none."""
        if not self.damage:
            return None
        missing = sum(d.kind == "missing" for d in self.damage)
        counts = ((len(self.damage) - missing, "damaged"), (missing, "missing"))
        said = " and ".join(f"{count:,} {word}" for count, word in counts if count)
        kind = ObjectMissing if missing == len(self.damage) else ObjectDamaged
        return kind(
            f"the archive of {self.namespace}: {said}",
            "`repair` brings back what another destination or Kafka still has; a moment that does not need them can "
            "be restored meanwhile.",
        )


def verify(
    store: Store,
    namespace: str,
    tier: str = "hashes",
    *,
    only_new: bool = False,
    remembering: bool = True,
    clock: Clock = wall_clock,
    progress: Progress = lambda done, total, phase: None,
    stop: threading.Event | None = None,
) -> Verification:
    """Look at a namespace's archive. Damage is an answer and no error: see `Verification.error`.

    With `only_new`, what a verification as thorough has covered before is only looked for. A good result is remembered
    in the archive (`cdc.archive.verified`), unless `remembering` is off. `stop` ends it early; then nothing is.
    `progress` is told of MiB.

    Raises ObjectMissing where nothing is there, FormatTooNew, StoreUnreachable and StoreForbidden.
    """
    began = clock()
    stop = stop or threading.Event()
    found = Verification(namespace, tier, began)
    names = set(store.list(namespace))
    if not names:
        raise ObjectMissing(
            f"the archive holds nothing of the namespace {namespace}",
            "Check archive.path and aerospike.namespace; `compact` creates the archive.",
        )
    try:
        archive = Archive.open(store, namespace)
    except DAMAGES as error:  # without its format nothing of an archive is read, here as in a restore
        name = f"{namespace}/format.json"
        gone = Damage(-1, name, "missing", f"{name} is not in the archive")
        return replace(found, damage=(Damage.of(-1, name, error) if store.exists(name) else gone,))
    damage: list[Damage] = []
    known: dict[str, Verified] = {}
    try:
        known = verified.load(store, namespace)
    except DAMAGES as error:
        damage.append(Damage.of(-1, verified.directory(namespace), error))
    try:
        keeps.load(store, namespace)
    except DAMAGES as error:
        damage.append(Damage.of(-1, keeps.directory(namespace), error))
    try:
        drills.load(store, namespace)
    except DAMAGES as error:
        damage.append(Damage.of(-1, drills.directory(namespace), error))
    described, hurt, kept = metadata.check(store, namespace, content=tier != TIERS[0])
    damage += [Damage.of(-1, name, error) for name, error in hurt.items()]
    base = verified.covering(known, tier) if only_new else None
    read = [chains.read(archive, k, names, base.of(k) if base else None) for k in range(archive.shards)]
    for mark in {mark for record in known.values() for mark in record.marks if mark.shard < archive.shards}:
        chains.rolled_back(archive, read[mark.shard], mark)
    manifests_sound = not any(c.damage for c in read)
    looked = _Look(store, tier, names, progress, stop)
    looked.at(read)
    damage = sorted({*damage, *looked.damage, *(d for c in read for d in c.damage)})
    if any(d.kind == "missing" for d in damage):
        damage = _not_pruned(archive, read, damage)
    names_hurt = {d.name for d in damage}

    def listed(made: RestoreSet) -> Listing:
        return next((c.listings[made.listing] for c in read if made.listing in c.listings), Listing())

    found = replace(
        found,
        since=base.at if base else None,
        objects=looked.objects + described + sum(len(c.names) + len(c.sets) for c in read),
        bytes=looked.bytes,
        damage=tuple(damage),
        garbage=_garbage(store, namespace, read, names - kept) if manifests_sound else (),
        cost=cost.namespace_cost([(c.manifest, c.counts) for c in read], names_hurt, listed),
        costs=_costs(read, names_hurt),
    )
    if not damage and not found.cost.left:
        found = replace(found, nowhere=tuple(h.reason for h in namespace_holes([c.manifest for c in read])))
    if damage or stop.is_set() or not remembering:
        return found
    marks = tuple(last for chain in read if (last := _mark(chain)))
    try:
        verified.remember(store, namespace, known, Verified(tier, began, marks))
    except StoreForbidden as error:
        return replace(found, forgotten=error.message)
    return replace(found, remembered=True)


def _costs(read: Sequence[Chain], hurt: set[str]) -> dict[str, tuple[Moments, ...]]:
    """What each of the damaged objects costs its shard by itself."""
    found: dict[str, tuple[Moments, ...]] = {}
    for chain in read:
        if chain.manifest is None:
            continue
        last = () if chain.counts else (d.name for d in chain.damage)
        found |= {name: tuple(cost.shard_lost(chain.manifest, chain.named, chain.listed)) for name in last}
        for name in sorted(chain.named & hurt)[: max(0, COSTED - len(found))]:
            spans = cost.shard_lost(chain.manifest, {name}, chain.listed)
            if spans:
                found[name] = tuple(spans)
    return found


def _mark(chain: Chain) -> Mark | None:
    manifest = chain.manifest
    if manifest is None:
        return None
    resolved_at = manifest.epochs[-1].resolved_at if manifest.epochs else 0
    return Mark(chain.shard, manifest.sequence, chain.sha256, resolved_at)


def _garbage(store: Store, namespace: str, read: Sequence[Chain], names: set[str]) -> tuple[str, ...]:
    """What no manifest that is kept names; of a compactor that runs, also what it has yet to name."""
    if not all(c.whole for c in read):
        return ()
    named = {f"{namespace}/format.json", *(name for c in read for name in c.named)}
    known = (verified.is_record, keeps.is_mark, drills.is_record)
    unnamed = sorted(name for name in names - named if not any(of(name) for of in known))
    counts = keyring.names(store)[-1:]
    return (*unnamed, *(name for name in store.list(keyring.DIRECTORY) if name not in counts))


def _not_pruned(archive: Archive, read: Sequence[Chain], damage: Sequence[Damage]) -> list[Damage]:
    """Damage without what is missing because it was pruned while it was looked for."""
    still: set[str] = set()
    moved: set[int] = set()
    for chain in read:
        try:
            newest = archive.shard(chain.shard)
        except DAMAGES:
            continue  # it is told of already
        if newest is None or chain.manifest is None or newest.first_kept == chain.manifest.first_kept:
            continue
        now = chains.read(archive, chain.shard, archive.store.list(archive.directory(chain.shard, "manifests")))
        moved.add(chain.shard)
        still |= {*now.named, *(d.name for d in now.damage)}
    return [d for d in damage if d.kind != "missing" or d.shard not in moved or d.name in still]


class _Look:
    """Looks at objects, several at once."""

    def __init__(self, store: Store, tier: str, names: set[str], progress: Progress, stop: threading.Event) -> None:
        self.damage: set[Damage] = set()
        self.objects = self.bytes = 0
        self._store, self._depth, self._names = store, TIERS.index(tier), names
        self._progress, self._stop = progress, stop
        self._lock = threading.Lock()
        self._total = 0

    def at(self, read: Sequence[Chain]) -> None:
        """Everything that the manifests of these chains name; what is known is only looked for."""
        wanted = [(c, info, made) for c in read for info, made in c.objects.values()]
        self._total = sum(info.size + info.index_size for c, info, _ in wanted if info.name not in c.known)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="verify") as pool:
            for start in range(0, len(wanted), LOT):
                try:
                    list(pool.map(self._one, wanted[start : start + LOT]))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        if self._depth == TIERS.index("decode"):
            for c in read:
                self._sets(c)

    def _one(self, item: tuple[Chain, SegmentInfo, RestoreSet | None]) -> None:
        chain, info, made = item
        if self._stop.is_set():
            return
        there = [self._there(chain.shard, name) for name in (info.name, info.index_name)]
        if info.name in chain.known:
            return
        if all(there):
            self._noting(chain.shard, info.name, lambda: self._content(chain, info, made))
        with self._lock:
            self.objects += 2
            self.bytes += info.size + info.index_size
            self._progress(self.bytes >> 20, self._total >> 20, "verify MiB")

    def _there(self, shard: int, name: str) -> bool:
        # What was written while the names were listed may not be among them.
        if name in self._names or self._store.exists(name):
            return True
        self._note(Damage(shard, name, "missing", f"{name} is not in the archive"))
        return False

    def _content(self, chain: Chain, info: SegmentInfo, made: RestoreSet | None) -> None:
        sized = [
            self._sized(chain.shard, name, size)
            for name, size in ((info.name, info.size), (info.index_name, info.index_size))
        ]
        if self._depth == TIERS.index("presence") or not all(sized):
            return
        if self._depth == TIERS.index("hashes"):
            objects.verify(self._store, info)
        elif chain.manifest is not None:
            decoded.check(self._store, info, chain.manifest, made)

    def _sized(self, shard: int, name: str, size: int) -> bool:
        found: list[int] = []
        self._noting(shard, name, lambda: found.append(self._store.size(name)))
        if found and found[0] != size:
            self._note(Damage(shard, name, "size", f"{name} has {found[0]:,} bytes, its manifest says {size:,}"))
        return found == [size]

    def _sets(self, chain: Chain) -> None:
        for made in chain.sets.values():
            for info, text in decoded.check_set(chain.listed(made)):
                self._note(Damage(chain.shard, info.name, "damaged", f"{info.name} {text}"))

    def _noting(self, shard: int, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except DAMAGES as error:
            self._note(Damage.of(shard, name, error))

    def _note(self, damage: Damage) -> None:
        with self._lock:
            self.damage.add(damage)


def told(found: Verification) -> list[dict[str, object]]:
    """Damage for JSON; `elsewhere` are the destinations that can restore all that an object costs."""
    return [
        {
            "object": d.name,
            "shard": d.shard if d.shard >= 0 else None,
            "kind": d.kind,
            "detail": d.text,
            "elsewhere": [other.destination for other in found.elsewhere if d.name in other.objects],
        }
        for d in found.damage
    ]
