"""Finding what is gone: the rules of `deletes`, applied to one namespace.

`read` takes the counts and counters; the collector sweeps between two readings; `reconcile` then looks at the
partitions that are not proven, and makes parcels of every end it has found (`ends`). How far `reconciled_at` may
advance, and why, is argued in `deletes`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cdc.collector.catalog import Catalog
from cdc.collector.deletes import Reading, Shown, agreeing, cleared, otherwise, proven, unknown
from cdc.collector.ends import Telling, ends_parcel, shard_ends, span
from cdc.collector.entries import Entries, Keys, digests_of, find, key_order, keys_of
from cdc.collector.publish import Parcel
from cdc.model import BEGINNING, DIGEST_SIZE, END_OF_TIME, I64, PARTITIONS, U8, Bool, partition_of
from cdc.source import Source

LOOK_RECORDS = 1_000_000
"""About so many digests are asked for at a time."""
ENDS = 200_000
"""Ends that one transaction tells of at the most, of all shards: a truncation may end millions at once."""


@dataclass(frozen=True, slots=True)
class Times:
    """The nodes' time: `earliest()` of the slowest, `latest()` of the fastest; milliseconds since 1970. `measure()`
    measures their clocks anew. Raises SourceError."""

    earliest: Callable[[], int]
    latest: Callable[[], int]
    skew_ms: int
    measure: Callable[[], None]


@dataclass(slots=True)
class Doubts:
    """What is remembered from one reconciling to the next; all of it is doubted at the start.

    `hazy[p]`: partition p's count proves nothing until a look has shown as many records; `apart`: sweeps since the
    last reconcile were too far apart to show every version. `suspects`: digests that a look has shown and the catalog
    did not have, `altered`: what it had of those that were shown as other versions. A sweep that does not bring them
    has missed them: a node that came back may have brought an older version, and it stands where the cluster takes the
    higher generation for the newer one. `glimpsed[p]`: the last look has torn records of partition p. `last` is the
    last reading of all, `sure` the one after which every record then catalogued has been shown or proven to be there.
    `calm`: the last sweep brought nothing, and nothing had gone, so that totals may do the next time.
    """

    hazy: Bool
    suspects: U8
    altered: Entries = field(default_factory=Entries.empty)
    glimpsed: Bool = field(default_factory=lambda: np.zeros(PARTITIONS, np.bool_))
    apart: bool = False
    calm: bool = False
    last: Reading | None = None
    sure: Reading | None = None

    @classmethod
    def begin(cls) -> "Doubts":
        """Everything is doubted."""
        return cls(np.ones(PARTITIONS, np.bool_), np.empty((0, DIGEST_SIZE), np.uint8))

    def swept(self, partitions: I64, before: I64, until: int, torn: I64) -> None:
        """A sweep of some partitions was over at `until`, the one before it had begun at `before`, for each of them
        (nodes' time; the end of time: that is not known). It has `torn` records of these partitions: a version was
        glimpsed that is still to come. When the next sweep is too late for it, a look decides whether it went unseen.

        A record shows from its write to the end of the following second at least: TTLs are whole seconds, and a server
        hides a record only when the second of its void time is over (`as_record_is_expired`). Of two sweeps that are
        further apart the second may miss what was written after the first with a short TTL. Until it is purged such a
        record counts, and seems to be there as it was known before.
        """
        late = int(before.max()) == END_OF_TIME or until // 1000 - int(before.min()) // 1000 > 1
        if late:
            self.apart = True
            self.hazy[partitions] |= self.glimpsed[partitions]
        self.glimpsed[partitions] = False
        self.glimpsed[torn] = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many partitions were proven and looked at. `unrest` says why nothing was concluded; empty: every delete
    before the first reading has been found and delivered."""

    proven: int
    looked: int
    unrest: str = ""


def read(source: Source, times: Times, *, brief: bool = False) -> Reading:
    """What the cluster's nodes say now, by one request to each. Raises SourceError."""
    at, asked_s = times.earliest(), time.monotonic()
    standing = source.standing(brief=brief)
    return Reading(
        at, asked_s, time.monotonic(), standing.nodes, standing.counts.records, standing.counts.settled
    )  # fmt: skip


def read_before(source: Source, times: Times, *, brief: bool = False) -> Reading:
    """The reading before a sweep. Totals and sets are counted over all nodes and copies, so there each count must
    follow every node's counters: a second request a node. Raises SourceError."""
    reading = read(source, times, brief=brief)
    if not source.scope.counted or (source.scope.everything and not brief):
        return reading
    return replace(reading, counted=read(source, times, brief=True).nodes)


def reconcile(
    source: Source,
    catalogs: Mapping[int, Catalog],
    before: Reading,
    after: Reading,
    doubts: Doubts,
    times: Times,
    sweep: Callable[[], None],
    deliver: Callable[[list[Parcel]], None],
    held: Sequence[Parcel] = (),
) -> Outcome:
    """Decide by the two readings (a sweep over all the shards lies between them), look where that is needed, and
    deliver what has ended, one transaction after the other. While the cluster is not settled nothing is concluded.
    `held` are the sweep's parcels where it brought nothing and they were not delivered yet: they are delivered first,
    or tell of what is proven as well; where nothing is concluded they are left to the caller.

    A record that went before the sweep and came again before the look seems never to have gone. So `sweep`, over all
    the shards once more, follows a look before anything is concluded from it: it brings such a record, blind since the
    deletes that were found before. What it does not bring has gone once more, though the look may have shown it. So
    the look tells apart (`deletes.otherwise`) what was not written since `before` was read, and proves no more than
    counts do: what was there then. What it shows as no sweep has brought it, though it was not written since, sweeps
    have overlooked: of that partition nothing is proven. Raises SourceError, and what `sweep` and `deliver` raise.
    """
    still = doubts.last is not None and after.nothing_gone_since(doubts.last)
    if doubts.last is None or not after.undisturbed_since(doubts.last):
        doubts.hazy[:], doubts.sure = True, None
    doubts.last, doubts.calm = after, False
    ready = {shard: c for shard, c in catalogs.items() if c.state.based}
    unrest = after.unrest_since(before)
    if not after.settled or not ready:
        return Outcome(0, 0, unrest)
    catalogued = np.full(PARTITIONS, -1, np.int64)
    for catalog in ready.values():
        catalogued[span(catalog.state)] = catalog.counts()
    if doubts.apart:
        quiet = doubts.sure is not None and after.quiet_since(doubts.sure)
        doubts.hazy |= ~agreeing(before, after, catalogued, source.scope) if quiet else np.True_
        for catalog in ready.values():  # what nobody made shorter may be over all the same, under another version
            doubts.hazy[catalog.expired(times.latest()).partition] = True
        doubts.apart = False
    enough = still or not before.brief
    doubtful = ~(proven(before, after, catalogued, doubts.hazy, source.scope) & enough) & (catalogued >= 0)
    doubted = np.flatnonzero(doubtful)
    up_to = before.at - times.skew_ms
    if (
        not len(doubted)
        and not after.contradicted_by(times.latest())
        and (both := _quiet(held, ready, before.at, up_to))
    ):
        deliver(both)
        doubts.sure = after
        doubts.calm = source.scope.everything and bool((catalogued >= 0).all()) and not doubts.hazy.any()
        return Outcome(int((catalogued >= 0).sum()), 0)
    if held:
        deliver(list(held))
    if before.brief and len(doubted):
        before = read_before(source, times)
        sweep()
        return reconcile(source, catalogs, before, read(source, times), doubts, times, sweep, deliver)
    found = np.full(PARTITIONS, up_to, np.int64)
    gone: list[Entries] = []
    anew: list[Entries] = []
    others: list[Entries] = []
    strangers: list[U8] = []
    shown = np.zeros(PARTITIONS, np.int64)
    for part in _portions(doubted, after.counts):
        digests, seen = _shown(source, part, up_to)
        np.add.at(shown, partition_of(digests), 1)
        present = keys_of(digests)
        for catalog in ready.values():
            for entries, there in _known(catalog, part, present):
                within = present.take(there)
                row = find(within, entries.key, entries.tail_high, entries.tail_low)
                rewritten, overlooked = otherwise(entries, row, seen.take(there), up_to)
                gone.append(entries.take(row < 0))
                anew.append(entries.take(rewritten))
                others.append(entries.take(overlooked))
                strangers.append(_digests(within, unknown(entries, within)))
    # Kept at once: whatever ends this, a sweep is to bring them.
    doubts.suspects = np.concatenate([doubts.suspects[:0], *strangers])
    doubts.altered = Entries.concat([*anew, *others]).sort()
    final = after
    if len(doubted):
        final = read(source, times)
        if unrest := final.unrest_since(after):
            return Outcome(0, 0, unrest)
        doubts.hazy &= ~cleared(before, after, final, doubtful, shown, source.scope)
    if unrest := final.contradicted_by(times.latest()):
        return Outcome(0, 0, unrest)
    gone += anew
    if any(map(len, gone)):
        times.measure()  # a clock that was set forward by less than a second may have shown that nowhere
    observed_at = max(catalog.state.seen(times.latest()) for catalog in ready.values())
    if len(doubted):
        sweep()
        gone = [_as_before(Entries.concat(gone).sort(), ready)]
    doubts.altered = _as_before(Entries.concat(others).sort(), ready)
    found[doubts.altered.partition] = BEGINNING
    evicting = doubts.sure is not None and final.only_evicted_since(doubts.sure)
    doubts.sure = after
    all_gone = Entries.concat(gone).sort()
    tell = Telling(found, final, observed_at, before.at, evicting)
    rest = {shard: shard_ends(c, all_gone, doubts.hazy, tell) for shard, c in ready.items()}
    lasts: list[Parcel] = []
    for shard, catalog in ready.items():
        while len(rest[shard]) > ENDS:
            deliver([ends_parcel(catalog, rest[shard].take(slice(ENDS)), tell, last=False)])
            rest[shard] = rest[shard].take(slice(ENDS, None))
        if sum(len(parcel.columns) for parcel in lasts) + len(rest[shard]) > ENDS:
            deliver(lasts)
            lasts = []
        lasts.append(ends_parcel(catalog, rest[shard], tell, last=True))
    deliver(lasts)
    return Outcome(sum(len(c.state.watermark) for c in ready.values()) - len(doubted), len(doubted))


def _quiet(held: Sequence[Parcel], ready: Mapping[int, Catalog], started_at: int, up_to: int) -> list[Parcel]:
    """The parcels of a sweep that brought nothing, which tell as well that every delete up to `up_to` has been found;
    none where they are not those of all shards, or something has expired."""
    if {parcel.state.shard for parcel in held} != ready.keys():
        return []
    if any(len(p.catalog.expired(min(p.state.resolved_at, started_at))) for p in held):
        return []
    return [replace(p, state=replace(p.state, reconciled=np.maximum(p.state.reconciled, up_to))) for p in held]


def _shown(source: Source, part: I64, up_to: int) -> tuple[U8, Shown]:
    """What a look at the partitions shows, by key, and which of it was written since `up_to`."""
    # In this order: what is written in between shows twice, and the later answer holds.
    old = source.digests(part.tolist(), before_ms=up_to)
    new = source.digests(part.tolist(), since_ms=up_to)
    digests = np.concatenate([old.digest, new.digest])
    rows = key_order(digests)
    generation = np.concatenate([old.generation, new.generation])
    void_time = np.concatenate([old.void_time, new.void_time])
    return digests[rows], Shown(generation[rows], void_time[rows], rows >= len(old))


def _as_before(gone: Entries, catalogs: Mapping[int, Catalog]) -> Entries:
    """Those of the entries that the catalogs still have: another version of a record has come since."""
    same = np.zeros(len(gone), np.bool_)
    for catalog in catalogs.values():
        known, now = catalog.lookup(gone.digest)
        same |= (
            known
            & (now.lut == gone.lut)
            & (now.generation == gone.generation)
            & (now.void_time == gone.void_time)
            & (now.checksum == gone.checksum)
        )
    return gone.take(same)


def missed(catalogs: Mapping[int, Catalog], doubts: Doubts) -> I64:
    """The partitions of the suspects that a sweep has not brought since; the suspicion ends with the answer."""
    if not len(doubts.suspects) and not len(doubts.altered):
        return np.empty(0, np.int64)
    suspects, doubts.suspects = doubts.suspects, doubts.suspects[:0]
    same, doubts.altered = _as_before(doubts.altered, catalogs), Entries.empty()
    out: list[I64] = [same.partition]
    where = partition_of(suspects)
    for catalog in catalogs.values():
        mine = span(catalog.state)
        rows = np.flatnonzero((where >= mine.start) & (where < mine.stop))
        known, _ = catalog.lookup(suspects[rows])
        out.append(where[rows[~known]])
    overlooked: I64 = np.unique(np.concatenate(out))
    doubts.hazy[overlooked] = True  # reading them may fail: until a look has shown what is catalogued
    return overlooked


def _known(catalog: Catalog, part: I64, present: Keys) -> Iterator[tuple[Entries, slice]]:
    """For each unbroken run of the partitions in the catalog's shard: its entries, and which of those that the look has
    shown are there."""
    mine = span(catalog.state)
    here = part[(part >= mine.start) & (part < mine.stop)]
    for run in np.split(here, np.flatnonzero(np.diff(here) != 1) + 1):
        if len(run):
            low, high = int(run[0]), int(run[-1])
            start = int(np.searchsorted(present.key, np.uint64(low << 52)))
            stop = int(np.searchsorted(present.key, np.uint64((high << 52) | ((1 << 52) - 1)), side="right"))
            yield catalog.partitions(low, high), slice(start, stop)


def _portions(partitions: I64, counts: I64) -> list[I64]:
    """The partitions in portions of about LOOK_RECORDS records."""
    if not len(partitions):
        return []
    filled = np.cumsum(np.maximum(counts[partitions], 0)) // LOOK_RECORDS
    return np.split(partitions, np.flatnonzero(np.diff(filled)) + 1)


def _digests(keys: Keys, rows: Bool) -> U8:
    return digests_of(*keys.take(rows))
