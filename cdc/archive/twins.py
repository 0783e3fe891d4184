"""Bytes that can still be had of a damaged object: its own, those of the segment that it is the index of, or those that
another destination has under whatever name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cdc.archive import remake
from cdc.archive.chain import DAMAGES
from cdc.archive.reindex import index_of
from cdc.archive.siblings import Sibling
from cdc.archive.store import Store
from cdc.errors import ArchiveError

Twins = Mapping[str, tuple[Sibling, str]]
"""By a SHA-256 a destination that names an object with it, and the object's name there."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A damaged object: what its manifest says of it, and the segment that it is the index of, if it is one and the
    segment is sound."""

    name: str
    size: int
    sha256: str
    segment: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The object's bytes. `source` is a destination, or empty: the archive itself; `how` is copy or index."""

    source: str
    how: str
    data: bytes


def of_shard(siblings: Sequence[Sibling], shard: int) -> Twins:
    """What other destinations have of a shard. Listings that are damaged there are passed over."""
    found: dict[str, tuple[Sibling, str]] = {}
    for sibling in siblings:
        manifest = sibling.manifests[shard]
        for made in manifest.sets if manifest else ():
            found.setdefault(made.listing_sha256, (sibling, made.listing))
            try:
                infos = sibling.archive.listing(made).objects
            except DAMAGES:
                continue
            for info in infos:
                found.setdefault(info.sha256, (sibling, info.name))
                found.setdefault(info.index_sha256, (sibling, info.index_name))
        for info in manifest.segments if manifest else ():
            found.setdefault(info.sha256, (sibling, info.name))
            found.setdefault(info.index_sha256, (sibling, info.index_name))
    return found


def look(store: Store, twins: Twins, wanted: Wanted) -> Found | None:
    """The bytes that the manifest names, from the nearest place that has them; None where nobody has."""
    for source, how, get in _ways(store, twins, wanted):
        try:
            data = get()
        except ArchiveError:
            continue  # it is damaged there as well
        if remake.matching(data, wanted.size, wanted.sha256):
            return Found(source, how, data)
    return None


def _ways(store: Store, twins: Twins, wanted: Wanted) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    yield "", "copy", lambda: store.get(wanted.name)[: wanted.size]  # it may only have become longer
    if wanted.segment:
        yield "", "index", lambda: index_of(store.get(wanted.segment), wanted.segment)
    twin = twins.get(wanted.sha256)
    if twin is not None:
        sibling, there = twin
        yield sibling.name, "copy", lambda: sibling.archive.store.get(there)
