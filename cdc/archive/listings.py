"""What a restore set consists of: a sealed JSON object of its own, so that manifests stay small. Pure, but for `write`.

<namespace>/shard-0000/sets/<name>.json     {"listing": {"version", "segments", "beside"}, "sha256"}
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from cdc.archive.manifests import FORMAT_VERSION, RestoreSet, SegmentInfo, seal, sha256, unseal
from cdc.archive.segments import new_name
from cdc.archive.store import Store
from cdc.errors import ObjectDamaged


@dataclass(frozen=True, slots=True)
class Listing:
    """The segments of a restore set, in order of digest and without overlap; and `beside`, segments of changes that
    the set does not stand for and that concern its moment: late ones, and those whose blind interval reaches over it.

    `beside` is complete for offsets below the set's `beside_through`.
    """

    segments: tuple[SegmentInfo, ...] = ()
    beside: tuple[SegmentInfo, ...] = ()

    @property
    def objects(self) -> tuple[SegmentInfo, ...]:
        """All of them."""
        return (*self.segments, *self.beside)


Listed = Callable[[RestoreSet], Listing]
"""Where pure functions learn what a set consists of: `Archive.listing`."""


def encode(listing: Listing) -> bytes:
    """The listing's bytes: canonical JSON, as a manifest's."""
    return seal("listing", {"version": FORMAT_VERSION, **asdict(listing)})


def decode(data: bytes, made: RestoreSet) -> Listing:
    """The listing of a set. Raises ObjectDamaged, also if it is not the one that the manifest names; FormatTooNew."""
    if len(data) != made.listing_size or sha256(data) != made.listing_sha256:
        raise ObjectDamaged(f"{made.listing} does not have the hash that its manifest says")
    inner = unseal("listing", data, made.listing)
    try:
        segments, beside = (tuple(SegmentInfo(**i) for i in inner[part]) for part in ("segments", "beside"))
    except (TypeError, KeyError) as error:
        raise ObjectDamaged(f"{made.listing} does not have the form of a listing") from error
    return Listing(segments, beside)


def write(
    store: Store,
    directory: str,
    listing: Listing,
    *,
    at: int,
    through: int,
    epoch: int,
    made_at: int,
    beside_through: int = 0,
) -> RestoreSet:
    """Write the listing of a set whose objects are written, and give the set. It counts once a manifest names it."""
    data = encode(listing)
    name = new_name(directory, through).removesuffix(".avro") + ".json"
    store.put(name, data)
    return RestoreSet(
        at=at,
        through=through,
        epoch=epoch,
        rows=sum(s.rows for s in listing.segments),
        size=sum(s.size + s.index_size for s in listing.objects),
        listing=name,
        listing_size=len(data),
        listing_sha256=sha256(data),
        made_at=made_at,
        beside_through=beside_through,
    )
