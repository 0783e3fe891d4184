"""Bring an archive back to whole, as far as anything can: from itself, from other destinations, from Kafka.

What has the bytes that its manifest names is put back in its place. What can only be made again (other bytes, the same
versions) gets a new name, and a manifest that names it. Objects first, manifest last, as in every commit: a repair that
is cut off leaves garbage, and what is still damaged.

Where manifests are damaged or gone, the shard goes on from its newest sound one: a manifest with a sequence above all
that there ever were says so (`Manifest.repaired`), and the proof begins anew with it. What came later is read from
Kafka again, or taken from another destination.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from cdc.archive import drills, keeps, metadata_repair, remake, verified
from cdc.archive.archive import Archive
from cdc.archive.chain import DAMAGES, Damage
from cdc.archive.manifests import FORMAT_VERSION, decode, seal
from cdc.archive.mend import Left, Step, mended
from cdc.archive.siblings import Openers, Sibling, opened
from cdc.archive.store import Store
from cdc.archive.verify import Progress, Verification, verify
from cdc.clock import Clock, wall_clock
from cdc.config import Settings
from cdc.errors import ArchiveError, ObjectMissing
from cdc.units import count

RECORDS: Final = {"an earlier verification": verified, "a drill": drills}
"""What is remembered in an archive and stands for nothing that doing it again would not say."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did, or with `dry_run` would do. `problems` are destinations (and `kafka`) that could not be asked.
    `found` is how the archive is afterwards: with `dry_run`, how it is."""

    namespace: str
    dry_run: bool
    steps: tuple[Step, ...] = ()
    left: tuple[Left, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    found: Verification | None = None

    def error(self) -> ArchiveError | None:
        """What to raise: what the archive's damage is, None where there is none."""
        return self.found.error() if self.found is not None else None


def repair(
    store: Store,
    settings: Settings,
    openers: Openers,
    *,
    tier: str = "hashes",
    dry_run: bool = False,
    clock: Clock = wall_clock,
    progress: Progress = lambda done, total, phase: None,
) -> Repaired:
    """Repair the archive of the settings' one namespace in `store`, from the destinations that `openers` open.

    An archive of which nothing is there is begun from them. Raises ObjectMissing where nothing is there and nobody has
    it, FormatTooNew, StoreUnreachable, StoreForbidden; what cannot be repaired is no error.
    """
    namespace = settings.aerospike.namespace
    found = _looked(store, namespace, tier, clock, progress)
    siblings, problems = opened(namespace, openers)
    archive, steps, left = _formatted(store, namespace, siblings, found, dry_run)
    if archive is None:
        return Repaired(namespace, dry_run, (), tuple(left), problems, found)
    if steps and not dry_run:
        found = _looked(store, namespace, tier, clock, progress)
    while found is not None and (records := [d for d in found.damage if _of_records(namespace, d)]):
        steps += list(_without_records(store, namespace, records, dry_run))
        if dry_run:
            break
        found = _looked(store, namespace, tier, clock, progress)
    marks = list(_damaged_marks(store, namespace))
    for name in marks:
        _mark_back(store, name, siblings, dry_run, steps, left)
    if marks and not dry_run:
        found = _looked(store, namespace, tier, clock, progress)
    others = [s for s in siblings if s.archive.shards == archive.shards]
    problems |= {
        s.name: f"it has {count(s.archive.shards, 'shard')}, not {archive.shards}" for s in siblings if s not in others
    }
    described, undescribed = metadata_repair.repair(store, namespace, siblings, clock(), dry=dry_run)
    steps += described
    left += undescribed
    if described and not dry_run:
        found = _looked(store, namespace, tier, clock, progress)
    damage = found.damage if found is not None else ()

    planned = mended(archive, others, settings, damage, dry=True, clock=clock, done=lambda more: None)
    if dry_run:
        return Repaired(
            namespace, True, (*steps, *planned.steps), (*left, *planned.left), problems | planned.problems, found
        )
    total, done = sum(s.bytes for s in planned.steps), 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        progress(min(done, total) >> 20, total >> 20, "repair MiB")

    ended = mended(archive, others, settings, damage, dry=False, clock=clock, done=told)
    after = _looked(store, namespace, tier, clock, progress)
    return Repaired(namespace, False, (*steps, *ended.steps), (*left, *ended.left), problems | ended.problems, after)


def _looked(store: Store, namespace: str, tier: str, clock: Clock, progress: Progress) -> Verification | None:
    """What is damaged; None where nothing is there."""
    if not store.list(namespace):
        return None
    return verify(store, namespace, tier, clock=clock, progress=progress)


def _formatted(
    store: Store, namespace: str, siblings: list[Sibling], found: Verification | None, dry: bool
) -> tuple[Archive | None, list[Step], list[Left]]:
    """The archive, its format written anew where that is damaged or missing: as its manifests say, or other
    destinations where it has none."""
    name = f"{namespace}/format.json"
    if found is not None and not any(d.name == name for d in found.damage):
        return Archive.open(store, namespace), [], []
    said = set(_said_shards(store, namespace)) or {s.archive.shards for s in siblings}
    if len(said) != 1:
        if found is None:
            raise ObjectMissing(
                f"the archive holds nothing of the namespace {namespace}",
                "`compact` creates the archive; a repair begins one where another destination has it.",
            )
        why = "manifests do not agree on the number of shards" if said else "nothing says the number of shards"
        return None, [], [Left(-1, name, why)]
    [shards] = said
    if not dry:
        inner = {"version": FORMAT_VERSION, "namespace": namespace, "shards": shards}
        remake.write_over(store, name, seal("format", inner))
    step = Step(-1, name, "format", "", 0, f"{name} is written anew: {count(shards, 'shard')}")
    return Archive(store, namespace, shards), [step], []


def _said_shards(store: Store, namespace: str) -> Iterator[int]:
    for name in store.list(namespace):
        if "/manifests/" in name:
            try:
                manifest = decode(store.get(name), name)
            except DAMAGES:
                continue
            if manifest.namespace == namespace:
                yield manifest.shards


def _of_records(namespace: str, damage: Damage) -> bool:
    return damage.shard < 0 and damage.name.startswith(tuple(kind.directory(namespace) for kind in RECORDS.values()))


def _without_records(store: Store, namespace: str, damage: list[Damage], dry: bool) -> Iterator[Step]:
    for one in damage:
        [(of, kind)] = ((of, kind) for of, kind in RECORDS.items() if one.name.startswith(kind.directory(namespace)))
        names = [one.name] if kind.is_record(one.name) else store.list(kind.directory(namespace))
        for name in names:
            if not dry:
                store.delete(name)
            yield Step(-1, name, "remove", "", 0, f"{name} is removed: a damaged record of {of}")


def _damaged_marks(store: Store, namespace: str) -> Iterator[str]:
    for name in filter(keeps.is_mark, store.list(keeps.directory(namespace))):
        try:
            keeps.decode(store.get(name), name)
        except DAMAGES:
            yield name


def _mark_back(
    store: Store, name: str, siblings: list[Sibling], dry: bool, steps: list[Step], left: list[Left]
) -> None:
    """A mark is a wish of the same person at every destination where it has the same name."""
    for sibling in siblings:
        try:
            data = sibling.archive.store.get(name)
            keeps.decode(data, name)
        except DAMAGES:
            continue
        if not dry:
            remake.write_over(store, name, data)
        steps.append(Step(-1, name, "copy", sibling.name, len(data), f"{name} is put back from {sibling.name}"))
        return
    left.append(Left(-1, name, "nobody else has this mark; `keep --remove` takes it away, and it can be set again"))
