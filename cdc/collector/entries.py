"""What the catalog remembers of a live record, as columns: forty bytes a record, on disk and in memory. Pure.

Entries are ordered by *key*: the partition in the highest 12 bits, then the digest's other bits up to its eighth byte.
So a partition's entries are one slice, a shard's partitions follow each other, and a batch of digests is found by one
binary search over 64-bit numbers. The digest's other twelve bytes decide between equal keys.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from cdc.clock import CITRUSLEAF_EPOCH_S
from cdc.model import DIGEST_SIZE, I32, I64, NEVER, U8, U64, Bool

U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]

ASIDE: Final = 0x8000
"""Stands in the set number of a record whose present version could not be encoded and was kept aside. Of such an entry
LUT and set are those of the version published before (0 where there was none), and the checksum is the message's."""
CHECKSUM_BITS: Final = 48
CHECKSUM_MASK: Final = np.uint64((1 << CHECKSUM_BITS) - 1)
"""What the catalog keeps of a checksum. A change of content under an unchanged LUT, generation and void time (rare in
itself) stays unseen once in 2**48."""
_VOID_BASE_MS: Final = CITRUSLEAF_EPOCH_S * 1000
_LOW48: Final = np.uint64((1 << 48) - 1)

DTYPES: Final[dict[str, Any]] = {
    "key": np.uint64, "tail_high": np.uint64, "tail_low": np.uint32, "lut_low": np.uint32, "void_s": np.uint32,
    "sum_low": np.uint32, "lut_high": np.uint16, "sum_high": np.uint16, "generation16": np.uint16,
    "set_number": np.uint16,
}  # fmt: skip
"""The stored columns in their order in a file, the widest first, so that each is aligned."""
ENTRY_SIZE: Final = sum(np.dtype(dtype).itemsize for dtype in DTYPES.values())


class Keys(NamedTuple):
    """Digests as numbers: the key, and the other twelve bytes."""

    key: U64
    tail_high: U64
    tail_low: U32

    def take(self, rows: Any) -> "Keys":
        """The named rows (positions, a mask or a slice)."""
        return Keys(self.key[rows], self.tail_high[rows], self.tail_low[rows])


@dataclass(frozen=True, slots=True)
class Entries:
    """Stored columns of equal length; every number is little-endian. The moments come out as properties."""

    key: U64
    tail_high: U64
    tail_low: U32
    lut_low: U32
    void_s: U32
    sum_low: U32
    lut_high: U16
    sum_high: U16
    generation16: U16
    set_number: U16

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def of(cls, digest: U8, lut: I64, generation: I32, void_time: I64, checksum: U64, set_number: U16) -> Self:
        """Entries of records, in their order. Moments in milliseconds; void times are whole seconds after 2010."""
        key, tail_high, tail_low = keys_of(digest)
        short = checksum & CHECKSUM_MASK
        void_s = np.where(void_time == NEVER, 0, (void_time - _VOID_BASE_MS) // 1000)
        return cls(
            key, tail_high, tail_low,
            (lut & 0xFFFFFFFF).astype(np.uint32), void_s.astype(np.uint32),
            (short & np.uint64(0xFFFFFFFF)).astype(np.uint32), (lut >> 32).astype(np.uint16),
            (short >> np.uint64(32)).astype(np.uint16), generation.astype(np.uint16), set_number.astype(np.uint16),
        )  # fmt: skip

    @classmethod
    def aside(cls, digest: U8, known: Bool, before: "Entries", checksum: U64) -> Self:
        """Entries of records whose present version was kept aside; `before` are those that the catalog has, where
        `known`."""
        numbers = (np.where(known, before.set_number, 0) | ASIDE).astype(np.uint16)
        nothing: I64 = np.zeros(len(digest), np.int64)
        lut: I64 = np.where(known, before.lut, nothing)
        return cls.of(digest, lut, nothing.astype(np.int32), nothing, checksum, numbers)

    def unending(self) -> Self:
        """The same, whose void times are not known."""
        return replace(self, void_s=np.zeros(len(self), np.uint32))

    @classmethod
    def empty(cls) -> Self:
        """None."""
        return cls(**{name: np.empty(0, dtype) for name, dtype in DTYPES.items()})

    @classmethod
    def concat(cls, parts: "list[Entries]") -> Self:
        """All of all parts, in order."""
        if not parts:
            return cls.empty()
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def take(self, rows: Any) -> Self:
        """The named rows (positions, a mask or a slice)."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def sort(self) -> Self:
        """The same, by key."""
        if len(self) < 2 or bool(np.all(self.key[:-1] <= self.key[1:])):
            return self
        return self.take(np.argsort(self.key, kind="stable"))

    @property
    def digest(self) -> U8:
        """The digests, (n, 20)."""
        return digests_of(self.key, self.tail_high, self.tail_low)

    @property
    def partition(self) -> I64:
        """The partitions."""
        return (self.key >> np.uint64(52)).astype(np.int64)

    @property
    def lut(self) -> I64:
        """Last-update-times, milliseconds since 1970."""
        return self.lut_low.astype(np.int64) | (self.lut_high.astype(np.int64) << 32)

    @property
    def generation(self) -> I32:
        """Generations."""
        return self.generation16.astype(np.int32)

    @property
    def void_time(self) -> I64:
        """Void times, milliseconds since 1970; NEVER where the record does not expire."""
        return np.where(self.void_s == 0, NEVER, self.void_s.astype(np.int64) * 1000 + _VOID_BASE_MS)

    @property
    def checksum(self) -> U64:
        """The kept part of the checksums."""
        return self.sum_low.astype(np.uint64) | (self.sum_high.astype(np.uint64) << np.uint64(32))


def void_seconds(at: int) -> np.uint32:
    """A moment in milliseconds as void times are stored, rounded down; the nearest that can be stored."""
    return np.uint32(min(max((at - _VOID_BASE_MS) // 1000, 0), 0xFFFFFFFF))


def keys_of(digest: U8) -> Keys:
    """Key, and the other twelve bytes as two numbers, of each digest of an (n, 20) array."""
    digest = np.ascontiguousarray(digest)
    head = digest[:, :8].copy().view(">u8").reshape(-1).astype(np.uint64)
    first, second = digest[:, 0].astype(np.uint64), digest[:, 1].astype(np.uint64)
    key = (
        ((second & np.uint64(15)) << np.uint64(60))
        | (first << np.uint64(52))
        | ((second >> np.uint64(4)) << np.uint64(48))
        | (head & _LOW48)
    )
    tail_high = digest[:, 8:16].copy().view(">u8").reshape(-1).astype(np.uint64)
    return Keys(key, tail_high, digest[:, 16:].copy().view(">u4").reshape(-1).astype(np.uint32))


def digests_of(key: U64, tail_high: U64, tail_low: U32) -> U8:
    """The digests whose `keys_of` these are."""
    out = np.empty((len(key), DIGEST_SIZE), np.uint8)
    out[:, :8] = key.astype(">u8").view(np.uint8).reshape(-1, 8)
    out[:, 0] = (key >> np.uint64(52)) & np.uint64(255)
    out[:, 1] = ((key >> np.uint64(60)) & np.uint64(15)) | (((key >> np.uint64(48)) & np.uint64(15)) << np.uint64(4))
    out[:, 8:16] = tail_high.astype(">u8").view(np.uint8).reshape(-1, 8)
    out[:, 16:] = tail_low.astype(">u4").view(np.uint8).reshape(-1, 4)
    return out


def key_order(digest: U8) -> I64:
    """The rows ordered by key; of a digest that stands in several rows only the last one. A look can show a record
    twice when a partition was asked again, and the later answer is the newer."""
    key, high, low = keys_of(digest)
    order: I64 = np.argsort(key, kind="stable")
    if len(order) < 2 or not (repeated := key[order[1:]] == key[order[:-1]]).any():
        return order
    order = np.lexsort((low, high, key))  # stable too: equal digests stay in the order they came
    key, high, low = key[order], high[order], low[order]
    repeated = (key[1:] == key[:-1]) & (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    out: I64 = order[np.append(~repeated, True)]
    return out


def find(entries: Entries | Keys, key: U64, tail_high: U64, tail_low: U32) -> I64:
    """Where in `entries` (ordered by key) each digest stands, -1 where it does not."""
    rows = np.full(len(key), -1, np.int64)
    if len(entries.key) == 0 or len(key) == 0:
        return rows
    place = np.searchsorted(entries.key, key)
    asked = np.arange(len(key))
    while len(asked):
        inside = place < len(entries.key)
        asked, place = asked[inside], place[inside]
        same_key = entries.key[place] == key[asked]
        asked, place = asked[same_key], place[same_key]
        hit = (entries.tail_high[place] == tail_high[asked]) & (entries.tail_low[place] == tail_low[asked])
        rows[asked[hit]] = place[hit]
        asked, place = asked[~hit], place[~hit] + 1
    return rows


def merge(old: Entries, new: Entries) -> Entries:
    """Both, by key; where both name a digest, `new` holds. Each is ordered by key and names a digest once."""
    if len(new) == 0:
        return old
    if len(old) == 0:
        return new
    kept = without(old, new.key, new.tail_high, new.tail_low)
    place = np.searchsorted(kept.key, new.key, side="right") + np.arange(len(new))
    fresh = np.zeros(len(kept) + len(new), np.bool_)
    fresh[place] = True
    columns: dict[str, Any] = {}
    for f in fields(Entries):
        column = np.empty(len(fresh), DTYPES[f.name])
        column[fresh] = getattr(new, f.name)
        column[~fresh] = getattr(kept, f.name)
        columns[f.name] = column
    return Entries(**columns)


def without(entries: Entries, key: U64, tail_high: U64, tail_low: U32) -> Entries:
    """`entries` less the named digests."""
    at = find(entries, key, tail_high, tail_low)
    if not (at >= 0).any():
        return entries
    keep: Bool = np.ones(len(entries), np.bool_)
    keep[at[at >= 0]] = False
    return entries.take(keep)
