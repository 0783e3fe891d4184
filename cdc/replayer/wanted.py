"""What a restore is to do: which records and bins, and what becomes of what is there or has expired. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from cdc.errors import UsageError
from cdc.model import DIGEST_SIZE, PARTITIONS, U8, Bool, partition_of, shard_of
from cdc.replayer.where import Condition, condition

Expired = Literal["keep", "leave", "shift"]
"""What becomes of records whose time has passed since the moment. `keep`: expiries are absolute, so they are gone, and
removed where they are in the way of it. `leave`: they are no part of the restore, and what is there stays. `shift`:
every expiry is later by the time that passed from the moment to the plan, so that each record that is written has the
life left that it had then; what a rewind does not write keeps the expiry that it has."""
Existing = Literal["fail", "keep", "newer", "replace"]
"""What a clone does where a record is already. `fail`: a target that holds any is refused. `keep`: what is there stays.
`newer`: it stays if it was written after the version that the clone would write. `replace`: it is overwritten."""
WithMetadata = Literal["none", "before", "after"]
"""Whether a clone makes indexes and UDF modules too, and whether before or after the records."""

SET_NAME_MOST = 63
"""So many bytes a set's name has at most."""
SPANS = 8
"""So many runs of partitions are told one by one."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which records a restore is about, and which of their bins. What is empty sets no limit; a record must be within
    all limits, by any of the values of each, and meet every condition.

    `sets`: by name, "" is the null set. `digests` and `partitions` are kept ascending, each once. `where`: conditions
    on bins. A record's set and bins are those of the version that held at the moment; where none did (a rewind would
    remove the record), those of the version captured last. A version without bins, the end of a record or one that
    could only be kept aside, meets no condition.

    `bins`: only these are brought back. In place a record keeps its other bins, its expiry and its user key: of these
    bins it gets those that it had, and loses those that it had not, so that a record that was not there at all loses
    just these. It is brought back so however its expiry stood then; one that is gone now is made with these bins alone,
    and expires when it was to. (A record that loses its last bin is gone: there are none without bins.) A clone writes
    records of these bins; those that had none of them are no part of it.

    ValueError for what is no digest or partition, and for a bin that is named twice.
    """

    sets: tuple[str, ...] = ()
    digests: tuple[bytes, ...] = ()
    partitions: tuple[int, ...] = ()
    bins: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        for name in ("digests", "partitions"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
        if any(len(digest) != DIGEST_SIZE for digest in self.digests):
            raise ValueError(f"a digest has {DIGEST_SIZE} bytes")
        if self.partitions and not 0 <= self.partitions[0] <= self.partitions[-1] < PARTITIONS:
            raise ValueError(f"partitions are 0 to {PARTITIONS - 1}")
        if len(set(self.bins)) < len(self.bins):
            raise ValueError("a bin is named twice")

    @property
    def whole(self) -> bool:
        """Whether it is everything."""
        return self == WHOLE

    @property
    def seeks(self) -> bool:
        """Whether it names records by digest or partition, so that not all of the archive need be read."""
        return bool(self.digests or self.partitions)

    @property
    def told(self) -> str:
        """In words; empty: everything."""
        sets = [f"set {name}" if name else "the null set" for name in self.sets]
        spans = self.spans
        keys = f"{len(self.digests):,} records by name" if len(self.digests) > 1 else "one record by name"
        numbers = f"partition{'s' if len(self.partitions) > 1 else ''} {', '.join(spans)}"
        if len(spans) > SPANS:
            numbers = f"{len(self.partitions):,} partitions"
        parts = [
            " or ".join(sets),
            keys if self.digests else "",
            numbers if spans else "",
            f"where {' and '.join(map(str, self.where))}" if self.where else "",
            f"of each only the bin{'s' if len(self.bins) > 1 else ''} {', '.join(self.bins)}" if self.bins else "",
        ]
        return "; ".join(part for part in parts if part)

    @property
    def spans(self) -> list[str]:
        """Its partitions as runs, A-B or A."""
        return [f"{a}-{b}" if a < b else str(a) for a, b in _spans(self.partitions)]

    def shards(self, shards: int) -> tuple[int, ...]:
        """Those of so many shards that may have any of it."""
        here = self._partitions()
        return tuple(range(shards)) if here is None else tuple(np.unique(shard_of(here, shards)).tolist())

    def of_shard(self, shard: int, shards: int) -> Self:
        """The same part of one shard: only digests and partitions that it has."""
        digests, partitions = self.digests, self.partitions
        if digests:
            column = self.digest_column()
            mine = (shard_of(partition_of(column), shards) == shard) & self.in_partitions(column)
            digests = tuple(d for d, one in zip(digests, mine.tolist(), strict=True) if one)
            partitions = ()
        elif partitions:
            mine = shard_of(np.array(partitions, np.int64), shards) == shard
            partitions = tuple(p for p, one in zip(partitions, mine.tolist(), strict=True) if one)
        return replace(self, digests=digests, partitions=partitions)

    def digest_column(self) -> U8:
        """Its digests, (n, 20)."""
        return np.frombuffer(b"".join(self.digests), np.uint8).reshape(-1, DIGEST_SIZE)

    def in_partitions(self, digests: U8) -> Bool:
        """Which digests, (n, 20), are in its partitions."""
        if not self.partitions:
            return np.ones(len(digests), np.bool_)
        wanted = np.zeros(PARTITIONS, np.bool_)
        wanted[list(self.partitions)] = True
        return np.asarray(wanted[partition_of(digests)])

    def bounds(self) -> tuple[bytes | None, bytes | None]:
        """Digests between which all of its records lie, the upper one excluded; None is no bound."""
        if self.digests:
            return self.digests[0], _after(self.digests[-1])
        if self.partitions:
            # A digest begins with the lower eight of its partition's twelve bits.
            heads = [partition & 0xFF for partition in self.partitions]
            return bytes([min(heads)]).ljust(DIGEST_SIZE, b"\0"), _after(bytes([max(heads)]))
        return None, None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: digests as hexadecimal, conditions as they are written."""
        return {
            "sets": list(self.sets),
            "digests": [digest.hex() for digest in self.digests],
            "partitions": list(self.partitions),
            "bins": list(self.bins),
            "where": [str(one) for one in self.where],
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Self:
        """The inverse. Raises ValueError, KeyError, TypeError or UsageError for what `to_dict` does not say."""
        return cls(
            sets=tuple(said["sets"]),
            digests=tuple(bytes.fromhex(digest) for digest in said["digests"]),
            partitions=tuple(said["partitions"]),
            bins=tuple(said["bins"]),
            where=tuple(condition(text) for text in said["where"]),
        )

    def _partitions(self) -> Any:
        """Of its records; None: of all."""
        if self.digests:
            column = self.digest_column()
            return partition_of(column[self.in_partitions(column)])
        return np.array(self.partitions, np.int64) if self.partitions else None


WHOLE = Part()


@dataclass(frozen=True, slots=True)
class Wanted:
    """`overwrite` is a rewind's: also records that changed after their last capture. `existing`, `metadata` and
    `into_set` are a clone's: the records of the part's one set are written into this one (empty: into their own), of
    which `existing` speaks then. They need a stored user key for that; those without one are refused."""

    part: Part = WHOLE
    expired: Expired = "keep"
    existing: Existing = "fail"
    overwrite: bool = False
    metadata: WithMetadata = "none"
    into_set: str = ""


def require_one_set(wanted: Wanted, *, in_itself: bool) -> None:
    """UsageError where `into_set` cannot be: records of several sets might get one digest there, and one would be lost.
    `in_itself`: it is a set of the very namespace that is restored."""
    into, sets = wanted.into_set, wanted.part.sets
    if not into:
        return
    if len(into.encode()) > SET_NAME_MOST or ":" in into or ";" in into:
        raise UsageError(f"{into!r} is no set's name", "It has at most 63 bytes, and neither : nor ;.")
    if len(sets) != 1:
        raise UsageError("--into-set takes the records of one set: keys of several may be the same", "Name it: --set.")
    if in_itself and sets[0] == into:
        raise UsageError(
            f"the set {into} is restored itself", "Name another one, or leave --into-set out to rewind it."
        )
    if wanted.metadata != "none":
        raise UsageError("--metadata goes with a namespace, and not with --into-set", "Leave it out.")


def _after(prefix: bytes) -> bytes | None:
    """The first digest beyond all that begin with these bytes; None: there is none."""
    number = int.from_bytes(prefix, "big") + 1
    if number >> 8 * len(prefix):
        return None
    return number.to_bytes(len(prefix), "big").ljust(DIGEST_SIZE, b"\0")


def _spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as runs, first and last."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found
