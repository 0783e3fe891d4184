"""The live source against a restored moment: what has not changed since must be there as it is now.

A record whose last-update-time is not after the moment is now what it was then, so whoever restored the moment must
have it. This asks no archive and trusts none. What was written since, or has gone, says nothing and is counted.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cdc import codec
from cdc.model import NEVER, U8
from cdc.replayer.report import Meter, Watch
from cdc.replayer.target import EXPIRY_ERROR_MS, Target, same_expiry
from cdc.source import Source
from cdc.source.join_kernels import last_rows
from cdc.source.observed import Observed
from cdc.wire.query import query

SLICE_RECORDS: Final = 100_000
"""So many records of either side are held at a time, with their contents."""
LOOKED_UP: Final = 10_000
"""Of so many that differ at the most it is asked whether the moment was sure."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Records of the live source by what they are in a restored moment: the `same`, `different`, or `missing` there;
    `unsure` differ, but may for a reason that the archive knows; `changed` were written since the moment, or are gone.
    `named`: the digest of one that is different or missing."""

    same: int = 0
    different: int = 0
    missing: int = 0
    unsure: int = 0
    changed: int = 0
    named: str = ""


def compare(
    source: Source,
    restored: Target,
    partitions: Sequence[int],
    at: int,
    unsure: Callable[[list[bytes]], set[bytes]],
    watch: Watch,
    *,
    records_per_s: int = 0,
) -> Unchanged:
    """Compare these partitions. `unsure` tells of digests (ascending) those that may differ.

    Raises what reading both raises, and Cancelled.
    """
    counts = np.maximum(source.partition_counts().records, 0)
    meter = Meter(int(counts[list(partitions)].sum()), "live", watch)
    sums = np.zeros(4, np.int64)
    wrong: dict[bytes, str] = {}
    live = source.observations(partitions, slice_records=SLICE_RECORDS, records_per_second=records_per_s)
    for observed in live:
        found = _slice(observed, restored, at)
        sums += (found.same, len(found.different), len(found.missing), found.changed)
        if len(wrong) <= LOOKED_UP:
            wrong |= dict.fromkeys(found.different, "different") | dict.fromkeys(found.missing, "missing")
        meter.add(len(observed))
    meter.finish()
    digests = sorted(wrong)
    doubtful = unsure(digests) if 0 < len(digests) <= LOOKED_UP else set()
    spared = Counter(wrong[digest] for digest in doubtful)
    same, different, missing, changed = sums.tolist()
    return Unchanged(
        same=same,
        different=different - spared["different"],
        missing=missing - spared["missing"],
        unsure=spared.total(),
        changed=changed,
        named=next((digest.hex() for digest in digests if digest not in doubtful), ""),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    same: int
    changed: int
    different: list[bytes]
    missing: list[bytes]


def _slice(observed: Observed, restored: Target, at: int) -> _Found:
    there = codec.records(query(restored.source.cluster, restored.namespace, observed.partitions.tolist()))
    live, then = observed.records, observed.lut <= at
    row = last_rows(live.digest, there.digest)
    known = row >= 0
    place = row[known]
    alike = np.zeros(len(live), np.bool_)
    alike[known] = (live.checksum[known] == there.checksum[place]) & same_expiry(
        live.void_time[known], there.void_time[place], restored.delay.most_ms
    )
    # What is about to expire may have been so before it was restored.
    due = (live.void_time != NEVER) & (live.void_time <= restored.now() + EXPIRY_ERROR_MS)
    return _Found(
        same=int(np.count_nonzero(then & alike)),
        changed=int(np.count_nonzero(~then) + len(there) - np.count_nonzero(known)),
        different=_named(live.digest[then & known & ~alike]),
        missing=_named(live.digest[then & ~known & ~due]),
    )


def _named(digests: U8) -> list[bytes]:
    return [digest.tobytes() for digest in digests]
