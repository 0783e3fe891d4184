"""What is told of records that were found to be gone: of each shard's ends, the columns and the parcels."""

from dataclasses import dataclass, replace

import numpy as np

from cdc.collector.catalog import Catalog
from cdc.collector.deletes import Reading, absent, ends_of
from cdc.collector.entries import ASIDE, Entries, Keys
from cdc.collector.publish import Parcel
from cdc.collector.state import ShardState
from cdc.collector.versions import ended
from cdc.errors import ProtocolError
from cdc.model import I64, PARTITIONS, U64, Bodies, Bool, Columns, Origin, partitions_of
from cdc.topics.progress import Kind


@dataclass(frozen=True, slots=True)
class Telling:
    """What goes for all ends that are found at once. `found[p]`: up to when partition p is proven once all are told;
    `reading` came after the look; `observed_at` and `started_at` are moments of it (milliseconds, nodes' time)."""

    found: I64
    reading: Reading
    observed_at: int
    started_at: int
    evicting: bool


def shard_ends(catalog: Catalog, gone: Entries, hazy: Bool, tell: Telling) -> Entries:
    """The shard's entries that have ended, those included that have expired: they make their partitions `hazy`."""
    state = catalog.state
    mine = span(state)
    partition = gone.partition
    gone = gone.take((partition >= mine.start) & (partition < mine.stop))
    # By the watermark every later write would have been seen, so whatever has expired by then has ended; unless clocks
    # were set back since, and show it again.
    expired = catalog.expired(min(state.resolved_at, tell.started_at))
    expired = expired.take(absent(expired, Keys(gone.key, gone.tail_high, gone.tail_low)))
    hazy[np.unique(np.concatenate([expired.partition, _expiring(gone, tell.observed_at)]))] = True
    return Entries.concat([gone, expired])


def ends_parcel(catalog: Catalog, ends: Entries, tell: Telling, *, last: bool) -> Parcel:
    """Some of a shard's ends; only with the last of them is anything proven."""
    state = catalog.state
    columns, sets = _told(state, ends, tell)
    known = np.maximum(state.reconciled, tell.found[span(state)]) if last else state.reconciled
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
        complete=last,
        partitions=(),
        started_at=tell.started_at,
        observed_at=tell.observed_at,
        unobserved_since=state.resolved_at,
    )


def _told(state: ShardState, ends: Entries, tell: Telling) -> tuple[Columns, I64]:
    """Columns of what has ended, and where each one's set stands in the state's sets, as `codec.changes` wants it."""
    number = (ends.set_number & ~np.uint16(ASIDE)).astype(np.int64)
    whole, sets_cut = tell.reading.truncated_at, tell.reading.sets_truncated_at
    by_set = np.array([max(whole, sets_cut.get(name or "", 0)) for name in state.sets], np.int64)
    hashes: U64 = np.array(state.set_hashes, np.uint64)
    found = state.reconciled[ends.partition - span(state).start]
    rows_of, effective_at = ends_of(ends, by_set[number], found, tell.observed_at, tell.evicting)
    floor = state.floors.of(ends.digest)
    parts, sets = [], [np.empty(0, np.int64)]
    for op, rows in rows_of.items():
        some = ends.take(rows)
        parts.append(
            ended(
                some, op, hashes[number[rows]], found[rows], effective_at[rows], floor[rows], tell.observed_at,
                Origin.RECONCILE,
            )
        )  # fmt: skip
        sets.append(-1 - number[rows])
    return Columns.concat(parts), np.concatenate(sets)


def _expiring(gone: Entries, observed_at: int) -> I64:
    void_time = gone.void_time
    return gone.partition[(void_time > 0) & (void_time <= observed_at)]


def span(state: ShardState) -> slice:
    """The shard's partitions, as rows of what has one for each of the 4096. Raises ProtocolError."""
    shard = partitions_of(state.shard, state.shards)
    if shard.stop > PARTITIONS:
        raise ProtocolError(f"shard {state.shard} of {state.shards} lies outside the partitions")
    return slice(shard.start, shard.stop)
