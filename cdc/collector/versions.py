"""Which of the versions that a look showed are new, and what each is published as. Pure, over columns.

The rules of time (design: "Truth about time"). `since` is the moment at which the last look began that would have shown
a change of the record; two looks can have been that last one:

- The sweep before this one, begun at the partition's watermark w. It saw everything with a LUT of at least its own
  lower bound, and that bound lies below w - overlap. So it holds for every version whose LUT is at least w - overlap.
- The last look at the whole partition (base snapshot or audit) otherwise. Such a version was missed: it came by
  migration, by a restart that resurrected it, or from a node whose clock is behind.

A version with a LUT below w is *late*: the sweep that should have shown it did not. Its LUT is then no moment from
which it held for those who read, so it holds from its detection on. The others hold from their LUT on. Where later
sweeps than w may have been, because what they noted was lost, a LUT below the last of them may be late as well, and is
taken to be.
"""

from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np

from cdc.collector.entries import CHECKSUM_MASK, Entries
from cdc.model import BEGINNING, END_OF_TIME, I32, I64, U8, U64, Bool, Columns, Op, Origin

GENERATION_MAX: Final = 65_535
"""A generation has 16 bits, and 1 follows the highest."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Records as a look showed them, as columns of equal length."""

    digest: U8
    lut: I64
    generation: I32
    void_time: I64
    set_hash: U64
    checksum: U64

    def __len__(self) -> int:
        return len(self.digest)

    def take(self, rows: Any) -> Self:
        """The named rows."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True, slots=True)
class Moments:
    """What is known of the time of each row: the watermark of its partition, when the last look at the whole partition
    began, up to when every delete in it had been found, and the row's floor (the `effective_at` published last, where
    that is later than the LUT). Until `unsure_until` the partition may have been looked at after its watermark."""

    watermark: I64
    full: I64
    found: I64
    floor: I64
    unsure_until: int = BEGINNING


def differing(seen: Seen, torn: Bool, known: Bool, entries: Entries) -> Bool:
    """Which rows are not what the catalog has. No pair of LUT and generation proves sameness (a clock step back keeps
    the LUT, a re-creation restarts the generation), so void time and checksum are compared as well. Where the LUT is
    that of a version still to come (`torn`) it says nothing of this one: the next sweep brings that version."""
    same = (
        known
        & (torn | (seen.lut == entries.lut))
        & (seen.generation == entries.generation)
        & (seen.void_time == entries.void_time)
        & ((seen.checksum & CHECKSUM_MASK) == entries.checksum)
    )
    out: Bool = ~same
    return out


def judge(
    seen: Seen, known: Bool, entries: Entries, moments: Moments, kind: Origin, observed_at: int, overlap_ms: int
) -> Columns:
    """The columns under which rows that differ from the catalog are published, row by row.

    `entries` are the catalog's for the rows, where `known`. In a partition that the base snapshot has not finished
    (watermark BEGINNING) a version is of the base, and nothing was known since BEGINNING. `consecutive` also holds for
    a first generation where no record was known: it is presumed to be the only write since.
    """
    n = len(seen)
    base = moments.watermark == BEGINNING
    late = ~base & (seen.lut < np.maximum(moments.watermark, moments.unsure_until))
    missed = ~base & (seen.lut < moments.watermark - overlap_ms)
    effective_at = np.maximum(np.where(late, observed_at, seen.lut), moments.floor)
    before = np.where(known, entries.generation, 0)
    follows = seen.generation == before % GENERATION_MAX + 1
    since = np.where(missed, moments.full, moments.watermark)
    since = np.where(known, np.minimum(since, np.maximum(moments.found, entries.lut - 1)), since)
    found_by = np.where(base, int(Origin.BASE), np.where(missed & (kind == Origin.AUDIT), Origin.AUDIT, Origin.SWEEP))
    return Columns(
        digest=seen.digest,
        op=np.full(n, Op.WRITE, np.uint8),
        origin=found_by.astype(np.uint8),
        lut=seen.lut,
        generation=seen.generation,
        void_time=seen.void_time,
        effective_at=effective_at,
        unobserved_since=np.where(base, BEGINNING, since),
        observed_at=np.full(n, observed_at, np.int64),
        consecutive=~base & ~late & follows,
        set_hash=seen.set_hash,
        checksum=seen.checksum,
    )


def kept_aside(digest: U8, generation: I32, since: I64, observed_at: int, kind: Origin) -> Columns:
    """The columns under which it is said that a record is there in a version that could not be encoded.

    Nothing is known of the record from the last look before (`since`) until its next change, whenever that comes: so it
    takes effect at END_OF_TIME, and every moment until then lies in its blind interval.
    """
    n = len(digest)
    never: I64 = np.zeros(n, np.int64)
    return Columns(
        digest=digest,
        op=np.full(n, Op.ASIDE, np.uint8),
        origin=np.full(n, kind, np.uint8),
        lut=never,
        generation=generation,
        void_time=never,
        effective_at=np.full(n, END_OF_TIME, np.int64),
        unobserved_since=since,
        observed_at=np.full(n, observed_at, np.int64),
        consecutive=np.zeros(n, np.bool_),
        set_hash=never.astype(np.uint64),
        checksum=never.astype(np.uint64),
    )


def ended(
    entries: Entries, op: Op, set_hash: U64, found: I64, effective_at: I64, floor: I64, observed_at: int, origin: Origin
) -> Columns:
    """The columns under which the end of catalogued records is published.

    `found[i]` is the moment up to which every delete of the record's partition had been found: the record was there
    then. It was also there at its LUT, but may have gone in that very millisecond. So its end lies after both, and its
    blind interval begins with the later one. An
    expiry is known to the millisecond from its void time on; before that the record may have been deleted unseen, which
    is what its blind interval says.
    """
    n = len(entries)
    effective = np.maximum(np.maximum(effective_at, entries.lut), floor)
    return Columns(
        digest=entries.digest,
        op=np.full(n, op, np.uint8),
        origin=np.full(n, origin, np.uint8),
        lut=entries.lut,
        generation=entries.generation,
        void_time=entries.void_time,
        effective_at=effective,
        unobserved_since=np.minimum(np.maximum(found, entries.lut - 1), effective),
        observed_at=np.full(n, observed_at, np.int64),
        consecutive=np.zeros(n, np.bool_),
        set_hash=set_hash,
        checksum=np.zeros(n, np.uint64),
    )
