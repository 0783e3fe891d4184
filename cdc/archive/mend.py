"""How each shard is repaired: what is damaged is put back or made again, what is missing is taken over, and one
manifest names it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Final

from cdc.archive import adopt, remake, twins, verified
from cdc.archive import chain as chains
from cdc.archive.adopt import Adoption
from cdc.archive.again import Again
from cdc.archive.archive import Archive
from cdc.archive.chain import DAMAGES, Damage
from cdc.archive.listings import Listing
from cdc.archive.manifests import Manifest, RestoreSet, SegmentInfo, encode
from cdc.archive.remake import How
from cdc.archive.siblings import Sibling
from cdc.archive.twins import Twins, Wanted
from cdc.archive.versions import Versions
from cdc.clock import Clock, rfc3339
from cdc.config import Settings
from cdc.errors import ArchiveError, CodecError, KafkaError
from cdc.units import count

ROUNDS: Final = 3
"""So often a shard is looked at anew because another process committed meanwhile."""
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, or is to be done, with one object or one shard (-1: neither).

    `how`: format, remove, copy (bytes put back), metadata (said anew), index, segment, set (made again), history (taken
    from another destination), manifest. `source` is a destination, `kafka`, or empty: the archive itself. `bytes` are
    read for it.
    """

    shard: int
    name: str
    how: str
    source: str
    bytes: int
    text: str


@dataclass(frozen=True, slots=True)
class Left:
    """What stays as it is, and why."""

    shard: int
    name: str
    why: str


@dataclass(slots=True)
class Mended:
    """What became of all shards."""

    steps: list[Step] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def mended(
    archive: Archive,
    siblings: Sequence[Sibling],
    settings: Settings,
    damage: Sequence[Damage],
    *,
    dry: bool,
    clock: Clock,
    done: Callable[[int], None],
) -> Mended:
    """Repair every shard; with `dry`, only say how. `done` is told of bytes. Raises as the archive's own store does."""
    made = Mended()
    work = _Work(archive, siblings, settings, dry, clock, done, made)
    for shard in range(archive.shards):
        hurt = {d.name for d in damage if d.shard == shard}
        for _ in range(ROUNDS):
            before = len(made.steps), len(made.left)
            try:
                _Shard(work, shard, hurt).mend()
                break
            except _Changed:
                del made.steps[before[0] :], made.left[before[1] :]
        else:
            made.left.append(Left(shard, archive.directory(shard, "manifests"), "other processes change it meanwhile"))
    return made


class _Changed(Exception):
    """Another process committed meanwhile, and what was made does not fit any more."""


class _Work:
    """What is the same for all shards."""

    def __init__(
        self, archive: Archive, siblings: Sequence[Sibling], settings: Settings, dry: bool, clock: Clock,
        done: Callable[[int], None], made: Mended,
    ) -> None:  # fmt: skip
        self.archive, self.store, self.siblings = archive, archive.store, siblings
        self.how = How(settings.archive, settings.compactor)
        self.dry, self.clock, self.done, self.made = dry, clock, done, made
        self.kafka = Again(settings.kafka, archive.namespace, archive.shards)
        try:
            records = list(verified.load(archive.store, archive.namespace).values())
        except DAMAGES:
            records = []  # they are damaged, and named for it
        self.marks = [mark for record in records for mark in record.marks]
        days = settings.archive.retention.changes_days
        self.given_up_before = clock() - round(days * DAY_MS) if days else 0

    @cached_property
    def kafka_problem(self) -> str:
        """Why Kafka cannot be asked; empty if it can."""
        try:
            self.kafka.has_after(self.archive.first(0))
        except KafkaError as error:
            self.made.problems["kafka"] = error.message
            return error.message
        return ""


class _Shard:
    """One shard: `manifest` becomes the one that is to be committed, `hurt` what is still damaged."""

    def __init__(self, work: _Work, shard: int, hurt: set[str]) -> None:
        self._work, self._shard, self._archive = work, shard, work.archive
        self._directory = self._archive.directory(shard, "manifests")
        self._names = self._archive.store.list(self._directory)
        self._chain = chains.read(self._archive, shard, self._names)
        self._hurt = {*hurt, *(d.name for d in self._chain.damage)}
        self._base = self._manifest = self._chain.manifest or self._archive.first(shard)
        self._listings = dict(self._chain.listings)
        self._again: list[str] = []  # what was made again, so that the older manifests name what is damaged
        self._segments: dict[str, tuple[SegmentInfo, ...]] = {}
        self._sets: dict[str, RestoreSet] = {}
        self._taken: list[str] = []

    def mend(self) -> None:
        """Do all that can be done. Raises _Changed."""
        self._remove_odd_names()
        for made in self._base.sets:
            self._put_back(made.listing, made.listing_size, made.listing_sha256)
        for info in self._objects():
            self._put_back(info.name, info.size, info.sha256)
            self._put_back(info.index_name, info.index_size, info.index_sha256, info)
        self._make_segments()
        self._make_sets()
        for sibling in self._work.siblings:
            self._take_history(sibling)
        self._commit()

    def _step(self, name: str, how: str, source: str, size: int, text: str) -> None:
        self._work.made.steps.append(Step(self._shard, name, how, source, size, text))

    def _leave(self, name: str, why: str) -> None:
        self._work.made.left.append(Left(self._shard, name, why))

    def _listed(self, made: RestoreSet) -> Listing:
        return self._listings.get(made.listing, Listing())

    def _objects(self) -> Iterator[SegmentInfo]:
        """What the newest sound manifest leads to, as far as it can be known."""
        yield from self._base.segments
        for made in self._base.sets:
            yield from self._listed(made).objects

    def _remove_odd_names(self) -> None:
        for damage in self._chain.damage:
            if damage.name in self._names and damage.name not in self._chain.names.values() and self._odd(damage.name):
                self._step(damage.name, "remove", "", 0, f"{damage.name} is removed: it is no manifest's name")
                self._hurt.discard(damage.name)
                if not self._work.dry:
                    self._work.store.delete(damage.name)

    def _odd(self, name: str) -> bool:
        digits = name.removeprefix(f"{self._directory}/").removesuffix(".json")
        return not (len(digits) == 20 and digits.isdigit())

    # Bytes that are known

    @cached_property
    def _twins(self) -> Twins:
        return twins.of_shard(self._work.siblings, self._shard)

    def _put_back(self, name: str, size: int, digest: str, of: SegmentInfo | None = None) -> None:
        """Bring back a damaged object whose bytes can still be had; `of` is the segment that it is the index of."""
        if name not in self._hurt:
            return
        segment = of.name if of is not None and of.name not in self._hurt else ""
        found = twins.look(self._work.store, self._twins, Wanted(name, size, digest, segment))
        if found is None:
            return
        where = found.source or ("its own segment" if found.how == "index" else "its own bytes")
        self._step(name, found.how, found.source, size, f"{name} is put back from {where}")
        if not self._work.dry:
            remake.write_over(self._work.store, name, found.data)
            self._work.done(size)
        self._hurt.discard(name)
        if name.endswith(".json"):
            self._relist(name)

    def _relist(self, name: str) -> None:
        made = next(s for s in self._base.sets if s.listing == name)
        sibling, there = self._twins.get(made.listing_sha256, (None, ""))
        if not self._work.dry:
            self._listings[name] = self._archive.listing(made)
        elif sibling is not None:
            self._listings[name] = sibling.archive.listing(replace(made, listing=there))

    # Versions that are known

    def _make_segments(self) -> None:
        bad = [s for s in self._manifest.segments if s.name in self._hurt or s.index_name in self._hurt]
        for group in remake.grouped(bad):
            epoch = self._manifest.epoch(group[0].epoch)
            reasons = []
            if epoch is not None:
                for source, versions in self._sources(group):
                    try:
                        made = [] if self._work.dry else remake.rebuilt(
                            self._archive, self._manifest, group, versions(), self._work.how
                        )  # fmt: skip
                    except (ArchiveError, KafkaError, CodecError) as error:
                        reasons.append(f"{source}: {error.message}")
                        continue
                    self._swap_segments(group, made, source)
                    break
                else:
                    for info in group:
                        self._leave(info.name, "; ".join(reasons) or "nobody else has its versions")

    def _sources(self, group: list[SegmentInfo]) -> Iterator[tuple[str, Callable[[], Iterator[Versions]]]]:
        first, last = min(s.first_offset for s in group), max(s.last_offset for s in group)
        epoch = self._manifest.epoch(group[0].epoch)
        assert epoch is not None  # a manifest names the epoch of whatever it names
        for sibling in self._work.siblings:
            theirs = sibling.segments(self._shard, epoch)
            if any(s.first_offset <= last and s.last_offset >= first for s in theirs):
                yield sibling.name, partial(remake.from_sibling, sibling, self._shard, epoch, group)
        if not self._work.kafka_problem:
            again = self._work.kafka
            if again.has(self._manifest, first):
                yield "kafka", lambda: iter([remake.sorted_lot(again.rows(self._manifest, first, last))])

    def _swap_segments(self, group: list[SegmentInfo], made: list[SegmentInfo], source: str) -> None:
        names = {s.name for s in group}
        for info in group:
            self._hurt -= {info.name, info.index_name}
            text = f"{info.name} is made again from {source}: {count(info.rows, 'version')}"
            self._step(info.name, "segment", source, info.size + info.index_size, text)
            self._again.append(info.name)
            self._work.done(0 if self._work.dry else info.size + info.index_size)
        if not self._work.dry:
            self._segments[group[0].name] = tuple(made)
            self._segments |= {s.name: () for s in group[1:]}
            kept = [s for s in self._manifest.segments if s.name not in names]
            self._manifest = replace(self._manifest, segments=_in_order((*kept, *made)))

    def _make_sets(self) -> None:
        bad = [s for s in self._manifest.sets if self._is_hurt(s)]
        for made in sorted(bad, key=lambda s: s.at):
            still = [s for s in self._manifest.sets if self._is_hurt(s)]
            without = replace(self._manifest, sets=tuple(s for s in self._manifest.sets if s not in still))
            for source, make in self._set_ways(without, made):
                try:
                    again = make()
                except ArchiveError as error:
                    self._leave(made.listing, f"{source or 'from what is here'}: {error.message}")
                    continue
                if again is not None:
                    self._swap_set(made, again, source)
                    break
            else:
                self._leave(made.listing, f"nothing leads to {rfc3339(made.at)} but this set")

    def _set_ways(self, without: Manifest, made: RestoreSet) -> Iterator[tuple[str, Callable[[], RestoreSet | None]]]:
        work, archive = self._work, self._archive
        epoch = without.epoch(made.epoch)
        if epoch is not None and remake.own_way(archive, without, epoch, made, self._hurt):
            yield "", lambda: made if work.dry else remake.remade(archive, without, made, self._hurt, work.how)
        for sibling in work.siblings:
            if remake.set_source(without, made, sibling) is not None:
                way = partial(remake.set_from_sibling, archive, without, made, sibling, work.how)
                yield sibling.name, (lambda: made) if work.dry else way

    def _is_hurt(self, made: RestoreSet) -> bool:
        names = (name for s in self._listed(made).objects for name in (s.name, s.index_name))
        return made.listing in self._hurt or any(name in self._hurt for name in names)

    def _swap_set(self, made: RestoreSet, again: RestoreSet, source: str) -> None:
        self._hurt -= {made.listing, *(n for s in self._listed(made).objects for n in (s.name, s.index_name))}
        where = source or "what else is here"
        text = f"the restore set at {rfc3339(made.at)} ({made.listing}) is made again from {where}"
        self._step(made.listing, "set", source, made.size, text)
        self._again.append(made.listing)
        if not self._work.dry:
            self._work.done(made.size)
            self._listings[again.listing] = self._archive.listing(again)
            self._sets[made.listing] = again
            sets = tuple(again if s.listing == made.listing else s for s in self._manifest.sets)
            self._manifest = replace(self._manifest, sets=sets)

    # What is not here at all

    def _take_history(self, sibling: Sibling) -> None:
        theirs = sibling.manifests[self._shard]
        if theirs is None:
            return
        found = self._adoption(sibling, theirs, reread=False)
        if found.taken and self._manifest.sequence:
            found = self._adoption(sibling, theirs, reread=self._is_reread())
        for why in found.refused:
            self._leave(self._directory, why)
        if not found.taken:
            return
        segments: list[SegmentInfo] = []
        sets: list[RestoreSet] = []
        if not self._work.dry:
            try:
                for taken in found.taken:
                    more = remake.history(
                        self._archive, self._shard, taken, sibling, self._work.how, self._work.done
                    )  # fmt: skip
                    segments += more[0]
                    sets += more[1]
            except DAMAGES as error:
                self._leave(self._directory, f"the history of {sibling.name} cannot be taken over: {error.message}")
                return
        for taken in found.taken:
            e = taken.epoch
            span = f"{rfc3339(e.recoverable_from)} to {rfc3339(e.resolved_at)}" if e.recoverable_from else "its base"
            self._step(
                self._directory, "history", sibling.name, taken.bytes,
                f"shard {self._shard}: what is missing of {span} is taken from {sibling.name}",
            )  # fmt: skip
        self._manifest = adopt.with_objects(found.manifest, segments, sets)
        for made in sets:
            self._listings[made.listing] = self._archive.listing(made)
        self._taken.append(sibling.name)

    def _adoption(self, sibling: Sibling, theirs: Manifest, *, reread: bool) -> Adoption:
        return adopt.adoption(
            self._manifest, theirs, reread=reread, given_up_before=self._work.given_up_before, name=sibling.name
        )

    def _is_reread(self) -> bool:
        """Whether the compactor will read what came later. Where Kafka cannot be asked and nothing is wrong here, it is
        taken to have it: nothing says that anything was lost."""
        if self._work.kafka_problem:
            return self._chain.counts and not self._beyond()
        return self._work.kafka.has_after(self._base)

    # The manifest

    def _beyond(self) -> bool:
        """Whether there were manifests once that are newer than all that are sound."""
        return any(m.shard == self._shard and m.sequence > self._base.sequence for m in self._work.marks)

    def _commit(self) -> None:
        reach = {n for s in self._objects() for n in (s.name, s.index_name)} | {s.listing for s in self._base.sets}
        older = sorted(self._hurt - reach)
        if not self._again and not self._taken and not older:
            return
        if not self._base.sequence and not self._taken:
            for name in older:
                self._leave(name, "no manifest of the shard is sound, and no other destination has it")
            return
        what = [f"{count(len(self._again), 'object')} made again"] if self._again else []
        what += [f"history was taken from {name}" for name in self._taken]
        if older:
            what.append(f"older manifests, or what only they name, were damaged: {older[0]}")
        if not self._chain.counts or self._beyond():
            what.append(f"what came after {self._base.sequence} is not here" + ("" if self._taken else self._later()))
        reason = "; ".join(what)
        self._hurt -= set(older)
        self._step(self._directory, "manifest", "", 0, f"shard {self._shard}: a manifest says so: {reason}")
        if not self._work.dry:
            self._write(reason, anew=bool(older or self._again))

    def _later(self) -> str:
        """What becomes of what a last manifest had that is gone."""
        if self._work.kafka_problem:
            return "; the compactor reads it again if Kafka has it"
        if self._work.kafka.has_after(self._base):
            return "; the compactor reads it from Kafka again"
        return ", and no longer in Kafka"

    def _write(self, reason: str, *, anew: bool) -> None:
        store, manifest, newest = self._work.store, self._manifest, self._chain.sha256
        while True:
            names = store.list(self._directory)
            if set(names) - set(self._names):
                manifest, newest = self._onto_newest(names[-1])
                self._names = names
            numbers = [int(n[-25:-5]) for n in names if not self._odd(n)]
            marks = [m.sequence for m in self._work.marks if m.shard == self._shard]
            sequence = max([0, *numbers, *marks]) + 1
            made = replace(
                manifest, sequence=sequence, previous=newest if sequence > 1 else "", repaired=reason,
                written_at=self._work.clock(), first_kept=sequence if anew else manifest.first_kept,
            )  # fmt: skip
            name = f"{self._directory}/{sequence:020d}.json"
            if store.put_if_absent(name, encode(made)):
                self._archive.read(self._shard, name)
                return

    def _onto_newest(self, name: str) -> tuple[Manifest, str]:
        """What was made again, in a manifest that was committed meanwhile, and that manifest's SHA-256."""
        try:
            newest, digest = self._archive.read(self._shard, name)
        except DAMAGES:
            raise _Changed from None
        names = {s.name for s in newest.segments}
        listings = {s.listing for s in newest.sets}
        if self._taken or not (names >= set(self._segments) and listings >= set(self._sets)):
            raise _Changed
        kept = [s for s in newest.segments if s.name not in self._segments]
        made = [s for infos in self._segments.values() for s in infos]
        return replace(
            newest,
            segments=_in_order((*kept, *made)),
            sets=tuple(self._sets.get(s.listing, s) for s in newest.sets),
        ), digest


def _in_order(infos: Sequence[SegmentInfo]) -> tuple[SegmentInfo, ...]:
    return tuple(sorted(infos, key=lambda s: (s.epoch, s.first_offset, s.first_digest)))
