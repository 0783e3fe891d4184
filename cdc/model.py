"""What everything else speaks of: digests, partitions, shards, versions as columns, and metadata. Pure; no I/O.

A *column* is a numpy array with one entry a version; a set of columns of equal length says of many versions what
`schemas/change.avsc` says of one. Moments are int64 milliseconds since 1970.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

PARTITIONS = 4096
"""Every Aerospike namespace has this many partitions."""
DIGEST_SIZE = 20
NEVER = 0
"""In a void time column: the record does not expire."""
BEGINNING = 0
"""The beginning of time, where the first base snapshot's blind intervals start."""
END_OF_TIME = 253_402_300_799_999
"""When an ASIDE takes effect, so that its blind interval lasts until the record's next change: the end of 9999."""


class Op(IntEnum):
    """What a change says; the numbers are the schema's enum order."""

    WRITE = 0
    DELETE = 1
    EXPIRY = 2
    EVICTION = 3
    TRUNCATION = 4
    ASIDE = 5


class Origin(IntEnum):
    """What found a change; the numbers are the schema's enum order."""

    BASE = 0
    SWEEP = 1
    RECONCILE = 2
    AUDIT = 3


class ItemKind(StrEnum):
    """What a piece of metadata is; `schemas/metadata.avsc` says more of each."""

    INDEX = "INDEX"
    UDF = "UDF"
    SET = "SET"
    NAMESPACE = "NAMESPACE"
    ROLE = "ROLE"
    USER = "USER"
    TRUNCATION = "TRUNCATION"


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of metadata as the cluster has it: its facts in the server's words; `content` is a UDF's source."""

    kind: ItemKind
    name: str
    facts: Mapping[str, str]
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Bodies:
    """Encoded things end to end: the i-th is `buffer[offsets[i]:offsets[i + 1]]`."""

    buffer: U8
    offsets: I64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> bytes:
        return self.buffer[self.offsets[i] : self.offsets[i + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, slots=True)
class Columns:
    """Versions as columns, each of length n.

    `checksum` is a 64-bit hash of the content, that is of the encoded body from the field `set` to its end: equal
    content has an equal checksum, in the collector, in Kafka and in the archive. `set_hash` names the set (0: the
    null set) without its text.
    """

    digest: U8  # (n, 20)
    op: U8
    origin: U8
    lut: I64
    generation: I32
    void_time: I64  # NEVER: does not expire
    effective_at: I64
    unobserved_since: I64
    observed_at: I64
    consecutive: Bool
    set_hash: U64
    checksum: U64

    def __len__(self) -> int:
        return len(self.digest)

    def take(self, rows: I64 | Bool) -> Self:
        """The named rows, in their order (or those of a mask)."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def concat(cls, parts: "list[Columns]") -> "Columns":
        """All rows of all parts, in order."""
        if not parts:
            return cls.empty()
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    @classmethod
    def empty(cls) -> "Columns":
        """No rows."""
        dtypes: dict[str, Any] = {
            "digest": np.uint8, "op": np.uint8, "origin": np.uint8, "generation": np.int32,
            "consecutive": np.bool_, "set_hash": np.uint64, "checksum": np.uint64,
        }  # fmt: skip
        shape = {"digest": (0, DIGEST_SIZE)}
        return cls(**{f.name: np.empty(shape.get(f.name, 0), dtypes.get(f.name, np.int64)) for f in fields(cls)})


def partition_of(digests: U8) -> I64:
    """The partition of each digest, (n, 20) to (n,): its first 12 bits, little-endian (the server's `partition.h`)."""
    low = digests[:, 0].astype(np.int64)
    return low | ((digests[:, 1].astype(np.int64) & 0x0F) << 8)


def shard_of(partitions: I64, shards: int) -> I64:
    """The shard of each partition when the namespace is divided into `shards` (a power of two up to 4096)."""
    return partitions * shards // PARTITIONS


def partitions_of(shard: int, shards: int) -> range:
    """The partitions of one shard."""
    size = PARTITIONS // shards
    return range(shard * size, (shard + 1) * size)


def digest_order(digests: U8) -> npt.NDArray[np.void]:
    """The digests as one sortable value each: comparing them compares bytes."""
    return np.ascontiguousarray(digests).view("V20").reshape(-1)
