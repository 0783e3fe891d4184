"""A shard's manifests, read newest first: what is wrong with them, and everything that they name."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from cdc.archive.archive import Archive
from cdc.archive.listings import Listing
from cdc.archive.manifests import Manifest, RestoreSet, SegmentInfo
from cdc.archive.verified import Mark
from cdc.clock import rfc3339
from cdc.errors import ArchiveError, KeyRefused, ObjectDamaged, ObjectMissing

AT_ONCE: Final = 8
"""Manifests fetched at a time: a long chain's last ones are large."""
DAMAGES: Final = (ObjectMissing, ObjectDamaged, KeyRefused)
"""What one object may be; every other error is about the whole store, or the program."""

Asked = TypeVar("Asked")
Found = TypeVar("Found")

_NUMBERED = re.compile(r"\d{20}\.json")


@dataclass(frozen=True, slots=True, order=True)
class Damage:
    """One object that is not what was written. `kind`: missing, size, damaged, chain or key. `shard` is -1 for what
    belongs to none."""

    shard: int
    name: str
    kind: str
    text: str

    @classmethod
    def of(cls, shard: int, name: str, error: ArchiveError) -> "Damage":
        """What an error says. Our errors begin with the name of the object; `name` stands for those that do not."""
        said = error.message.split(" ")[0].rstrip(":")
        kind = {ObjectMissing: "missing", KeyRefused: "key"}.get(type(error), "damaged")
        return cls(shard, said if "/" in said else name, kind, error.message)


@dataclass(slots=True)
class Chain:
    """One shard. `manifest` is its newest sound one (with its SHA-256), `counts` whether that is the one that a restore
    takes; `sets` are those of any that was read, by the names of their listings, `listings` what those that are sound
    say, and `objects` all that manifests and listings name, by name, with the set that it is of. `known` are the
    objects and listings that the manifest of a mark names. `whole`: every manifest was read that is kept."""

    shard: int
    names: dict[int, str] = field(default_factory=dict)
    manifest: Manifest | None = None
    sha256: str = ""
    counts: bool = True
    whole: bool = True
    sets: dict[str, RestoreSet] = field(default_factory=dict)
    listings: dict[str, Listing] = field(default_factory=dict)
    objects: dict[str, tuple[SegmentInfo, RestoreSet | None]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    damage: list[Damage] = field(default_factory=list)

    def note(self, name: str, kind: str, text: str) -> None:
        """Keep a damage of this shard."""
        self.damage.append(Damage(self.shard, name, kind, f"{name} {text}"))

    def listed(self, made: RestoreSet) -> Listing:
        """What a set consists of, as far as it can be known: nothing, where its listing is damaged."""
        return self.listings.get(made.listing, Listing())

    @property
    def named(self) -> set[str]:
        """The names of everything that is kept: manifests, and what they and their listings name."""
        objects = {name for info, _ in self.objects.values() for name in (info.name, info.index_name)}
        return {*self.names.values(), *self.sets, *objects}


def read(archive: Archive, shard: int, names: Collection[str], mark: Mark | None = None, *, first: int = 1) -> Chain:
    """The chain of a shard, of an archive that holds objects with these names: from the last manifest down to the first
    that is kept, or to that of a mark, if one is given and still there. What stands before `first` is taken for pruned.
    Raises what reading raises; damage is noted.
    """
    chain = Chain(shard)
    prefix = archive.directory(shard, "manifests") + "/"
    ending = sorted(n for n in names if n.startswith(prefix) and n.endswith(".json"))
    for name in ending:
        if _NUMBERED.fullmatch(name[len(prefix) :]):
            chain.names[int(name[len(prefix) : -5])] = name
        else:
            chain.note(name, "damaged", "is not named as a manifest is")
    for name in _gaps(chain, prefix, min(chain.names, default=1)):
        if archive.store.exists(name):  # written while the names were listed
            chain.names[int(name[len(prefix) : -5])] = name
    until = mark.sequence if mark is not None and mark.sequence in chain.names else 1
    kept = first
    expected = ""
    for sequence, found in _newest_first(archive, chain, max(first, until)):
        if sequence < kept:
            break
        name = chain.names[sequence]
        if sequence + 1 not in chain.names:
            expected = ""  # nothing says what a manifest before a gap should be
        if isinstance(found, ArchiveError):
            chain.damage.append(Damage.of(shard, name, found))
            expected = ""
            continue
        manifest, digest = found
        if expected and digest != expected:
            chain.note(name, "chain", "is not the manifest that its successor followed")
        expected = manifest.previous
        if mark is not None and sequence == mark.sequence and digest != mark.sha256:
            chain.note(name, "chain", "is not the manifest that an earlier verification saw")
        kept = max(kept, manifest.first_kept)
        _take(chain, manifest, digest, marked=mark is not None and sequence == until == mark.sequence)
    if until == kept == 1 and 1 in chain.names and expected:
        chain.note(chain.names[1], "chain", "follows another manifest, though it is the first")
    chain.names = {sequence: name for sequence, name in chain.names.items() if sequence >= kept}
    for name in _gaps(chain, prefix, kept):
        chain.note(name, "missing", "is not in the archive")
    chain.whole = until <= kept
    _read_listings(archive, chain)
    # Who restores takes the last name of all for the last manifest.
    chain.counts = not ending or (chain.manifest is not None and ending[-1] == chain.names.get(chain.manifest.sequence))
    return chain


def rolled_back(archive: Archive, chain: Chain, mark: Mark) -> None:
    """Note it if a manifest was there once that is newer than all there are."""
    name = f"{archive.directory(chain.shard, 'manifests')}/{mark.sequence:020d}.json"
    if mark.sequence > max(chain.names, default=0) and not archive.store.exists(name):
        until = rfc3339(mark.resolved_at)
        chain.note(name, "missing", f"is not in the archive; an earlier verification saw it, and moments up to {until}")


def _newest_first(
    archive: Archive, chain: Chain, first: int
) -> Iterator[tuple[int, tuple[Manifest, str] | ArchiveError]]:
    wanted = sorted((s for s in chain.names if s >= first), reverse=True)
    return _read_all(wanted, lambda sequence: archive.read(chain.shard, chain.names[sequence]))


def _read_listings(archive: Archive, chain: Chain) -> None:
    """Read the listings of all sets; what the listings of known sets name is known as well."""
    for made, found in _read_all(list(chain.sets.values()), archive.listing):
        if isinstance(found, ArchiveError):
            chain.damage.append(Damage.of(chain.shard, made.listing, found))
            continue
        chain.listings[made.listing] = found
        for info in found.segments:
            chain.objects.setdefault(info.name, (info, made))
        for info in found.beside:
            chain.objects.setdefault(info.name, (info, None))
        if made.listing in chain.known:
            chain.known |= {info.name for info in found.objects}


def _read_all(wanted: Sequence[Asked], read: Callable[[Asked], Found]) -> Iterator[tuple[Asked, Found | ArchiveError]]:
    """Read several at a time, in order; damage is an answer."""

    def one(item: Asked) -> Found | ArchiveError:
        try:
            return read(item)
        except DAMAGES as error:
            return error

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="verify") as pool:
        for start in range(0, len(wanted), AT_ONCE):
            part = wanted[start : start + AT_ONCE]
            yield from zip(part, pool.map(one, part), strict=True)


def _gaps(chain: Chain, prefix: str, first: int) -> list[str]:
    """The names of manifests that should be among those known and are not, from a sequence on."""
    last = max(chain.names, default=0)
    return [f"{prefix}{sequence:020d}.json" for sequence in range(first, last) if sequence not in chain.names]


def _take(chain: Chain, manifest: Manifest, digest: str, *, marked: bool) -> None:
    if chain.manifest is None:
        chain.manifest, chain.sha256 = manifest, digest
    for info in manifest.segments:
        chain.objects.setdefault(info.name, (info, None))
    for made in manifest.sets:
        chain.sets.setdefault(made.listing, made)
    if marked:
        chain.known = {*(info.name for info in manifest.segments), *(made.listing for made in manifest.sets)}
