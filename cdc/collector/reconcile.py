"""Finding what is gone: the rules of `deletes`, applied to one namespace.

`read` takes the counts and counters; the collector sweeps between two readings; `reconcile` then looks at the
partitions that are not proven, and makes parcels of every end it has found. How far `reconciled_at` may advance, and
why, is argued in `deletes`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from cdc.collector.catalog import Catalog
from cdc.collector.deletes import NodeCounters, Reading, absent, ends_of, proven, unknown
from cdc.collector.entries import ASIDE, Entries, Keys, digests_of, key_order, keys_of
from cdc.collector.publish import Parcel
from cdc.collector.state import ShardState
from cdc.collector.versions import ended
from cdc.errors import ProtocolError
from cdc.model import (
    DIGEST_SIZE,
    I64,
    PARTITIONS,
    U8,
    U64,
    Bodies,
    Bool,
    Columns,
    Origin,
    partition_of,
    partitions_of,
)
from cdc.source import Source
from cdc.topics.progress import Kind

LOOK_RECORDS = 1_000_000
"""About so many digests are asked for at a time."""


@dataclass(frozen=True, slots=True)
class Times:
    """The nodes' time: `earliest()` of the slowest, `latest()` of the fastest; milliseconds since 1970."""

    earliest: Callable[[], int]
    latest: Callable[[], int]
    skew_ms: int


@dataclass(slots=True)
class Doubts:
    """What is remembered from one reconciling to the next; all of it is doubted at the start.

    `hazy[p]`: partition p's count proves nothing until a look has shown as many records. `suspects`: digests that a
    look has shown and the catalog did not have; a sweep that does not bring them has missed them.
    """

    hazy: Bool
    suspects: U8
    last: Reading | None = None

    @classmethod
    def begin(cls) -> "Doubts":
        """Everything is doubted."""
        return cls(np.ones(PARTITIONS, np.bool_), np.empty((0, DIGEST_SIZE), np.uint8))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to publish, and how many partitions were proven and looked at."""

    parcels: list[Parcel]
    proven: int
    looked: int


def read(source: Source, times: Times) -> Reading:
    """The cluster's counts and counters now."""
    at = times.earliest()
    counters = source.deletion_counters()
    truncations = source.truncations()
    counts = source.partition_counts()
    nodes = tuple(
        NodeCounters(name, c.started_ms, c.deleted + c.expired + c.evicted) for name, c in sorted(counters.items())
    )
    return Reading(at, nodes, counts.records, counts.settled, truncations.namespace, dict(truncations.sets))


def reconcile(
    source: Source, catalogs: Mapping[int, Catalog], before: Reading, after: Reading, doubts: Doubts, times: Times
) -> Outcome:
    """Decide by the two readings (a sweep over all the shards lies between them), look where that is needed, and say
    what has ended. While the cluster is not settled nothing is concluded."""
    if doubts.last is None or not after.undisturbed_since(doubts.last):
        doubts.hazy[:] = True
    doubts.last = after
    ready = {shard: c for shard, c in catalogs.items() if c.state.based}
    if not after.settled or not ready:
        return Outcome([], 0, 0)
    doubtful = np.zeros(PARTITIONS, np.bool_)
    for catalog in ready.values():
        mine = _slice(catalog.state)
        doubtful[mine] = ~proven(before, after, mine, catalog.counts(), doubts.hazy[mine])
    doubted = np.flatnonzero(doubtful)
    found = np.full(PARTITIONS, before.at - times.skew_ms, np.int64)
    gone: list[Entries] = []
    strangers: list[U8] = []
    shown = np.zeros(PARTITIONS, np.int64)
    for part in _portions(doubted, after.counts):
        found[part] = times.earliest() - times.skew_ms
        digests = source.digests(part.tolist()).digest
        digests = digests[key_order(digests)]
        np.add.at(shown, partition_of(digests), 1)
        present = keys_of(digests)
        for catalog in ready.values():
            for entries, within in _known(catalog, part, present):
                gone.append(entries.take(absent(entries, within)))
                strangers.append(_digests(within, unknown(entries, within)))
    observed_at = times.latest()
    if len(doubted):
        final = read(source, times)
        if not final.undisturbed_since(after):
            return Outcome([], 0, 0)
        if final.nothing_gone_since(before):
            same = (after.counts == shown) & (final.counts == shown)
            doubts.hazy[doubted] &= ~same[doubted]
    doubts.suspects = np.concatenate([doubts.suspects[:0], *strangers])
    all_gone = Entries.concat(gone).sort()
    parcels = [_parcel(c, all_gone, found, after, doubts, observed_at, before.at) for c in ready.values()]
    return Outcome(parcels, sum(len(c.state.watermark) for c in ready.values()) - len(doubted), len(doubted))


def missed(catalogs: Mapping[int, Catalog], doubts: Doubts) -> I64:
    """The partitions of the suspects that a sweep has not brought since; the suspicion ends with the answer."""
    suspects, doubts.suspects = doubts.suspects, doubts.suspects[:0]
    out: list[I64] = [np.empty(0, np.int64)]
    where = partition_of(suspects)
    for catalog in catalogs.values():
        mine = _slice(catalog.state)
        rows = np.flatnonzero((where >= mine.start) & (where < mine.stop))
        known, _ = catalog.lookup(suspects[rows])
        out.append(where[rows[~known]])
    return np.unique(np.concatenate(out))


def _parcel(
    catalog: Catalog, gone: Entries, found: I64, reading: Reading, doubts: Doubts, observed_at: int, started_at: int
) -> Parcel:
    state = catalog.state
    mine = _slice(state)
    partition = gone.partition
    gone = gone.take((partition >= mine.start) & (partition < mine.stop))
    # By the watermark every later write would have been seen, so whatever has expired by then has ended.
    expired = catalog.expired(state.resolved_at)
    expired = expired.take(absent(expired, Keys(gone.key, gone.tail_high, gone.tail_low)))
    doubts.hazy[np.unique(np.concatenate([expired.partition, _expiring(gone, observed_at)]))] = True
    ends = Entries.concat([gone, expired])
    columns, sets = _told(state, ends, reading, observed_at)
    known = state.reconciled.copy()
    np.maximum(known, found[mine], out=known)
    floors = state.floors.after(columns.digest, columns.effective_at, state.resolved_at)
    return Parcel(
        catalog=catalog,
        state=replace(state, reconciled=known, floors=floors),
        columns=columns,
        contents=Bodies(np.empty(0, np.uint8), np.zeros(1, np.int64)),
        rows=sets,
        sets=tuple(None if name is None else name.encode() for name in state.sets),
        put=Entries.empty(),
        out=ends.digest,
        asides=(),
        kind=Kind.RECONCILE,
        complete=True,
        partitions=(),
        started_at=started_at,
        observed_at=observed_at,
        unobserved_since=state.resolved_at,
    )


def _told(state: ShardState, ends: Entries, reading: Reading, observed_at: int) -> tuple[Columns, I64]:
    """Columns of what has ended, and where each one's set stands in the state's sets, as `codec.changes` wants it."""
    number = (ends.set_number & ~np.uint16(ASIDE)).astype(np.int64)
    by_set = np.array(
        [max(reading.truncated_at, reading.sets_truncated_at.get(name or "", 0)) for name in state.sets], np.int64
    )
    hashes: U64 = np.array(state.set_hashes, np.uint64)
    found = state.reconciled[ends.partition - _slice(state).start]
    rows_of, effective_at = ends_of(ends, by_set[number], found, observed_at)
    floor = state.floors.of(ends.digest)
    parts, sets = [], [np.empty(0, np.int64)]
    for op, rows in rows_of.items():
        some = ends.take(rows)
        parts.append(
            ended(
                some, op, hashes[number[rows]], found[rows], effective_at[rows], floor[rows], observed_at,
                Origin.RECONCILE,
            )
        )  # fmt: skip
        sets.append(-1 - number[rows])
    return Columns.concat(parts), np.concatenate(sets)


def _expiring(gone: Entries, observed_at: int) -> I64:
    void_time = gone.void_time
    return gone.partition[(void_time > 0) & (void_time <= observed_at)]


def _known(catalog: Catalog, part: I64, present: Keys) -> Iterator[tuple[Entries, Keys]]:
    """For each unbroken run of the partitions in the catalog's shard: its entries, and what the look has shown
    there."""
    mine = _slice(catalog.state)
    here = part[(part >= mine.start) & (part < mine.stop)]
    for run in np.split(here, np.flatnonzero(np.diff(here) != 1) + 1):
        if len(run):
            low, high = int(run[0]), int(run[-1])
            start = int(np.searchsorted(present.key, np.uint64(low << 52)))
            stop = int(np.searchsorted(present.key, np.uint64((high << 52) | ((1 << 52) - 1)), side="right"))
            yield catalog.partitions(low, high), present.take(slice(start, stop))


def _portions(partitions: I64, counts: I64) -> list[I64]:
    """The partitions in portions of about LOOK_RECORDS records."""
    if not len(partitions):
        return []
    filled = np.cumsum(np.maximum(counts[partitions], 0)) // LOOK_RECORDS
    return np.split(partitions, np.flatnonzero(np.diff(filled)) + 1)


def _digests(keys: Keys, rows: Bool) -> U8:
    return digests_of(*keys.take(rows))


def _slice(state: ShardState) -> slice:
    shard = partitions_of(state.shard, state.shards)
    if shard.stop > PARTITIONS:
        raise ProtocolError(f"shard {state.shard} of {state.shards} lies outside the partitions")
    return slice(shard.start, shard.stop)
