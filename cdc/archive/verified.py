"""What earlier verifications found good, remembered in the archive itself, so that any machine can go on from there.

    <namespace>/verified/<20-digit number>.json     the tier, when, and up to which manifest of each shard

Objects never change, so "up to this manifest" names all that was looked at. A record stands for no proof: what it names
may have been damaged since. It also shows that a manifest was there which is gone now.
"""

import re
from dataclasses import asdict, dataclass
from typing import Final

from cdc.archive import manifests
from cdc.archive.store import Store
from cdc.errors import ObjectDamaged, ObjectMissing

TIERS: Final = ("presence", "hashes", "decode")
"""Each says all that the one before it says."""

_NUMBERED: Final = re.compile(r"\d{20}\.json")


@dataclass(frozen=True, slots=True)
class Mark:
    """A shard's last manifest when it was found good; `resolved_at`: the end of its last window then."""

    shard: int
    sequence: int
    sha256: str
    resolved_at: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A verification that found nothing damaged. `at`: when it began."""

    tier: str
    at: int
    marks: tuple[Mark, ...]

    def of(self, shard: int) -> Mark | None:
        """A shard's mark."""
        return next((mark for mark in self.marks if mark.shard == shard), None)


def directory(namespace: str) -> str:
    """Where the records of a namespace are."""
    return f"{namespace}/verified"


def is_record(name: str) -> bool:
    """Whether an object is named as a record is."""
    parts = name.rsplit("/", 2)
    return parts[-2:-1] == ["verified"] and _NUMBERED.fullmatch(parts[-1]) is not None


def load(store: Store, namespace: str) -> dict[str, Verified]:
    """Every record, by name, the newest last. Raises ObjectDamaged, FormatTooNew."""
    found = {}
    for name in store.list(directory(namespace)):
        if not is_record(name):
            continue  # garbage
        try:
            data = store.get(name)
        except ObjectMissing:
            continue  # another verification has just made it superfluous
        said = manifests.unseal("verified", data, name)
        try:
            one = Verified(said["tier"], said["at"], tuple(Mark(**mark) for mark in said["marks"]))
        except (KeyError, TypeError) as error:
            raise ObjectDamaged(f"{name} does not have the form of a record of a verification") from error
        if one.tier not in TIERS:
            raise ObjectDamaged(f"{name} names a tier that there is not")
        found[name] = one
    return found


def covering(known: dict[str, Verified], tier: str) -> Verified | None:
    """The newest record of a verification that was at least as thorough."""
    found = [v for v in known.values() if v.tier in TIERS[TIERS.index(tier) :]]
    return found[-1] if found else None


def remember(store: Store, namespace: str, known: dict[str, Verified], done: Verified) -> None:
    """Write the record of a verification, and remove those that it makes superfluous. Raises as the store does."""
    said = {"version": manifests.FORMAT_VERSION, **asdict(done)}
    number = max((int(name[-25:-5]) for name in known), default=0) + 1
    while not store.put_if_absent(f"{directory(namespace)}/{number:020d}.json", manifests.seal("verified", said)):
        number += 1  # another verification ended meanwhile
    for name, old in known.items():
        if TIERS.index(old.tier) <= TIERS.index(done.tier):
            store.delete(name)
