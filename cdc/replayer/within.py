"""Which records a part of a restore has, and the bins that it is limited to. Over columns and encoded bodies."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cdc.archive import Versions
from cdc.codec import bins, columns
from cdc.codec.bins import Absent
from cdc.codec.decode import encode_python
from cdc.model import BEGINNING, DIGEST_SIZE, I64, U64, Bodies, Bool, Op, Origin
from cdc.replayer.versions import States
from cdc.replayer.wanted import Part
from cdc.replayer.where import Condition


def hashes(sets: Sequence[str]) -> U64:
    """What the column `set_hash` has for these sets; "" is the null set."""
    bodies = [encode_python(_ended(name)) for name in sets]
    ends = np.cumsum([0, *map(len, bodies)]).astype(np.int64)
    return columns(Bodies(np.frombuffer(b"".join(bodies), np.uint8), ends)).set_hash


def within(part: Part, versions: Versions, found: States) -> Bool:
    """Which states are those of the part's records, of those that have one of its digests."""
    which = part.in_partitions(found.digest)
    judged = found.judged
    if part.sets:
        which &= np.isin(versions.columns.set_hash[judged], hashes(part.sets))
    if part.where:
        candidates = np.flatnonzero(which)
        which[candidates] = meets(part.where, versions, judged[candidates])
    return which


def meets(conditions: Sequence[Condition], versions: Versions, rows: I64) -> Bool:
    """Which of the named rows meet all conditions; what is no write meets none."""
    said = versions.take(rows)
    met: Bool = np.asarray(said.columns.op == Op.WRITE)
    names = sorted({one.bin for one in conditions})
    spans = bins.find(said.bodies, names)
    for one in conditions:
        starts, ends = spans[:, names.index(one.bin)].T.tolist()
        for row in np.flatnonzero(met).tolist():
            there = starts[row] >= 0
            value = bins.value(said.bodies, starts[row], ends[row]) if there and one.value is not None else None
            met[row] = one.met(there, value)
    return met


def only(versions: Versions, names: Sequence[str], absent: Absent) -> tuple[Versions, Bool]:
    """The same versions with some bins alone, and which of them have any of these.

    `checksum` is that of their content then; unless `absent` is `found`, of these bins alone.
    """
    chosen = bins.choose(versions.bodies, names, absent)
    checksum = columns(chosen.bodies).checksum if absent == "found" else chosen.checksum
    there = Versions(replace(versions.columns, checksum=checksum), chosen.bodies, versions.offsets)
    return there, chosen.found > 0


def _ended(name: str) -> dict[str, object]:
    times = dict.fromkeys(("lut", "effective_at", "unobserved_since", "observed_at"), BEGINNING)
    return {
        "digest": bytes(DIGEST_SIZE), "op": Op.DELETE.name, "origin": Origin.SWEEP.name, "generation": 1,
        "void_time": None, "consecutive": False, "set": name or None, "user_key": None, "bins": {}, **times,
    }  # fmt: skip
