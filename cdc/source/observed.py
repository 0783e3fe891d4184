"""What a pair of queries showed, bins and LUTs, as rows that belong together. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cdc.codec.changes import concat, gather
from cdc.codec.frames import Records, Rejected
from cdc.model import I64, Bool
from cdc.source.join_kernels import last_rows


@dataclass(frozen=True, slots=True)
class Observed:
    """Records with their LUTs (`lut[i]` of record i, milliseconds since 1970), each digest once.

    `torn[i]`: record i changed between the two queries, and the LUT is that of a newer version than its content.
    `records.rejected` are those that cannot be said in the schema, each digest once as well. `partitions` is what was
    asked, all of it finished.
    """

    partitions: I64
    records: Records
    lut: I64
    torn: Bool

    def __len__(self) -> int:
        return len(self.lut)


@dataclass(frozen=True, slots=True)
class Look:
    """One pair of queries: records that have a LUT, and the generation that stood beside it."""

    records: Records
    lut: I64
    lut_generation: I64

    @property
    def torn(self) -> Bool:
        """Mask of the records that changed between the two queries."""
        torn: Bool = self.lut_generation != self.records.generation
        return torn

    def take(self, rows: I64) -> "Look":
        """The named rows."""
        return Look(taken(self.records, rows), self.lut[rows], self.lut_generation[rows])

    @classmethod
    def joined(cls, parts: "list[Look]") -> "Look":
        """All rows of all parts."""
        all_records = [part.records for part in parts]
        records = Records(
            digest=np.concatenate([r.digest for r in all_records]),
            generation=np.concatenate([r.generation for r in all_records]),
            void_time=np.concatenate([r.void_time for r in all_records]),
            set_hash=np.concatenate([r.set_hash for r in all_records]),
            checksum=np.concatenate([r.checksum for r in all_records]),
            contents=concat([r.contents for r in all_records]),
            rejected=last_rejected([x for r in all_records for x in r.rejected]),
            row=np.concatenate([r.row for r in all_records]),
        )
        return cls(records, np.concatenate([p.lut for p in parts]), np.concatenate([p.lut_generation for p in parts]))


def once(records: Records) -> Records:
    """Each digest once, as it came last."""
    last = last_rows(records.digest, records.digest)
    rows = np.flatnonzero(last == np.arange(len(last)))
    return replace(taken(records, rows), rejected=last_rejected(records.rejected))


def taken(records: Records, rows: I64) -> Records:
    """Some of the records; what was rejected stays."""
    if len(rows) == len(records):
        return records
    return Records(
        records.digest[rows], records.generation[rows], records.void_time[rows], records.set_hash[rows],
        records.checksum[rows], gather(records.contents, rows), records.rejected, records.row[rows],
    )  # fmt: skip


def last_rejected(rejected: Sequence[Rejected]) -> tuple[Rejected, ...]:
    """Each digest once, as it came last; those without a digest all."""
    named = {one.digest: one for one in rejected if one.digest}
    return (*named.values(), *(one for one in rejected if not one.digest))
