"""One piece of a look: the records of some partitions since a lower bound, as parcels to be published.

Base snapshot, sweep and audit are the same look. They differ in the lower bound: none for base and audit, the lowest
watermark less the overlap for a sweep. A piece is a look of its own as to time: its partitions' watermark becomes the
moment at which it began, less the skew allowed for. That moment is the slowest node's time, so that it holds at every
node.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from cdc.codec.frames import Rejected
from cdc.collector.catalog import Catalog
from cdc.collector.entries import ASIDE, Entries, key_order
from cdc.collector.publish import Parcel
from cdc.collector.state import ShardState
from cdc.collector.stats import Stats
from cdc.collector.versions import Moments, Seen, differing, judge, kept_aside
from cdc.errors import ProtocolError
from cdc.model import (
    BEGINNING,
    DIGEST_SIZE,
    END_OF_TIME,
    I32,
    I64,
    NEVER,
    U8,
    U64,
    Bodies,
    Bool,
    Columns,
    Origin,
    partition_of,
    partitions_of,
)
from cdc.source import Observed
from cdc.topics.progress import Kind
from cdc.wire import messages as m

ORIGINS = {Kind.BASE: Origin.BASE, Kind.SWEEP: Origin.SWEEP, Kind.AUDIT: Origin.AUDIT}


@dataclass(frozen=True, slots=True)
class Piece:
    """What to look at and what came of it. Moments in the nodes' time: `started_at` that of the slowest node before the
    first request, `observed_at` that of the fastest after the last answer; `look_started_at` that of the look's first
    piece. `last` names the shards that this piece completes. `since` is the lowest LUT that was asked for (None: every
    record)."""

    kind: Kind
    partitions: I64
    last: frozenset[int]
    look_started_at: int
    started_at: int
    observed_at: int
    observed: Observed
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """The overlap between sweeps and the skew between clocks, in milliseconds."""

    overlap_ms: int
    skew_ms: int


def lower_bound(
    kind: Kind, catalogs: Mapping[int, Catalog], partitions: I64, allowance: Allowance, swept_at: int = END_OF_TIME
) -> int | None:
    """The lowest LUT to ask for; None: every record.

    `swept_at` is when the last sweep of them began, by the nodes' clocks as they are now (the end of time: not known).
    Watermarks never go back; where clocks did, what was written since that sweep has a LUT below them.
    """
    if kind != Kind.SWEEP:
        return None
    lowest = min(int(_of(c.state, c.state.watermark, partitions).min()) for c in touched(catalogs, partitions))
    return max(BEGINNING, min(lowest, swept_at - allowance.skew_ms) - allowance.overlap_ms)


def touched(catalogs: Mapping[int, Catalog], partitions: I64) -> list[Catalog]:
    """The catalogs of the shards that the partitions belong to."""
    return [c for c in catalogs.values() if len(_of(c.state, c.state.watermark, partitions))]


def parcels(piece: Piece, catalogs: Mapping[int, Catalog], allowance: Allowance, stats: Stats) -> list[Parcel]:
    """A parcel for every shard that the piece touches, with what is new in it."""
    records = piece.observed.records
    order = key_order(records.digest)
    partition = partition_of(records.digest)[order]
    asides = _asides_by_partition(records.rejected, int(piece.partitions[0]))
    out = []
    for catalog in touched(catalogs, piece.partitions):
        shard = partitions_of(catalog.state.shard, catalog.state.shards)
        low, high = np.searchsorted(partition, (shard.start, shard.stop))  # key order is partition order
        mine = [one for p, one in asides if p in shard]
        out.append(_parcel(piece, catalog, order[low:high], mine, allowance, stats))
    return out


def _parcel(
    piece: Piece, catalog: Catalog, rows: I64, asides: list[Rejected], allowance: Allowance, stats: Stats
) -> Parcel:
    state, records = catalog.state, piece.observed.records
    if not len(rows) and not asides:  # as in most sweeps
        stats.saw(0, 0, 0)
        none = Columns.empty()
        return _made(piece, catalog, _after(piece, state, none, 0, allowance), none, rows, Entries.empty(), [])
    first = partitions_of(state.shard, state.shards).start
    seen = Seen(
        records.digest[rows], piece.observed.lut[rows], records.generation[rows], records.void_time[rows],
        records.set_hash[rows], records.checksum[rows],
    )  # fmt: skip
    known, entries = catalog.lookup(seen.digest)
    torn = piece.observed.torn[rows]
    differs = differing(seen, torn, known, entries)
    fresh, glimpsed = np.flatnonzero(differs), np.flatnonzero(torn & ~differs & (entries.void_time != NEVER))
    seen, rows, torn = seen.take(fresh), rows[fresh], torn[fresh]
    where = partition_of(seen.digest) - first
    moments = Moments(
        state.watermark[where], state.full[where], state.reconciled[where], state.floors.of(seen.digest),
        state.unsure_until,
    )  # fmt: skip
    columns = judge(
        seen, known[fresh], entries.take(fresh), moments, ORIGINS[piece.kind], piece.observed_at, allowance.overlap_ms
    )
    names = {int(h): _set_name(records.contents, int(rows[i])) for h, i in _first_rows(seen.set_hash)}
    named, numbers = state.numbers_of(seen.set_hash, names)
    # A version was glimpsed that is still to come: should it be over before the next sweep, the record has not ended by
    # the void time of the version before.
    void_time = np.where(torn, NEVER, seen.void_time)
    put = Entries.of(seen.digest, seen.lut, seen.generation, void_time, seen.checksum, numbers)
    outlived = entries.take(glimpsed).unending()
    asides, unsaid, generation, again = _new_asides(catalog, asides, seen.digest)
    # Of a record that was kept aside before nothing has been known since then: saying so once more must not reach back
    # further (a catalog that was rebuilt has never looked at anything in full).
    where = unsaid.partition - first
    # Of others a look that reaches further back than the sweep before it does not tell which one has missed them.
    watermark, full = state.watermark[where], state.full[where]
    further = piece.kind == Kind.AUDIT or (piece.since is not None and piece.since < watermark - allowance.overlap_ms)
    since = np.where(again | ~np.asarray(further), watermark, full)
    told = kept_aside(unsaid.digest, generation, since, piece.observed_at, ORIGINS[piece.kind])
    stats.saw(len(known) + len(asides), len(known) - len(fresh), len(asides))
    rows = np.concatenate([rows, np.full(len(told), -1, np.int64)])
    return _made(
        piece, catalog, _after(piece, named, columns, len(asides), allowance), Columns.concat([columns, told]), rows,
        Entries.concat([put, outlived, unsaid]), asides,
    )  # fmt: skip


def _made(
    piece: Piece, catalog: Catalog, state: ShardState, columns: Columns, rows: I64, put: Entries, asides: list[Rejected]
) -> Parcel:
    return Parcel(
        catalog=catalog,
        state=state,
        columns=columns,
        contents=piece.observed.records.contents,
        rows=rows,
        sets=(None,),
        put=put,
        out=np.empty((0, DIGEST_SIZE), np.uint8),
        asides=tuple(asides),
        kind=piece.kind,
        complete=state.shard in piece.last,
        partitions=tuple(_mine(state, piece.partitions).tolist()),
        started_at=piece.look_started_at,
        observed_at=piece.observed_at,
        unobserved_since=int(_of(catalog.state, catalog.state.watermark, piece.partitions).min()),
    )


def _after(piece: Piece, state: ShardState, columns: Columns, asides: int, allowance: Allowance) -> ShardState:
    """The state once the piece is committed."""
    at = _mine(state, piece.partitions) - partitions_of(state.shard, state.shards).start
    moment = piece.started_at - allowance.skew_ms
    # A node's clock that was set back must not take a moment back: what was captured up to it stays captured.
    watermark = state.watermark.copy()
    watermark[at] = np.maximum(watermark[at], moment)
    full, reconciled = state.full, state.reconciled
    if piece.kind != Kind.SWEEP:
        full = full.copy()
        full[at] = np.maximum(full[at], moment)
    if piece.kind == Kind.BASE:
        # A record that had gone before was never catalogued, so there is no delete to be found.
        reconciled = reconciled.copy()
        reconciled[at] = np.maximum(reconciled[at], moment)
    raised = np.flatnonzero(columns.effective_at > columns.lut)
    floors = state.floors.after(columns.digest[raised], columns.effective_at[raised], int(watermark.min()))
    counted = piece.kind != Kind.BASE and state.shard in piece.last
    return replace(
        state, watermark=watermark, full=full, reconciled=reconciled, floors=floors, asides=state.asides + asides,
        sweep=state.sweep + counted,
    )  # fmt: skip


def _new_asides(catalog: Catalog, asides: list[Rejected], taken: U8) -> tuple[list[Rejected], Entries, I32, Bool]:
    """Those not kept aside before; the entries by which they will be known, their generations, and whether another
    version of the record was kept aside last. The catalog remembers the set under which a version was published, so
    that the record's end can be told."""
    if not asides:
        return [], Entries.empty(), np.empty(0, np.int32), np.empty(0, np.bool_)
    named = [one for one in asides if one.digest]
    digest = np.frombuffer(b"".join(one.digest for one in named), np.uint8).reshape(-1, DIGEST_SIZE)
    checksum: U64 = np.array([_checksum(one.message) for one in named], np.uint64)
    generation: I32 = np.array([_generation(one.message) for one in named], np.int32)
    known, before = catalog.lookup(digest)
    entries = Entries.aside(digest, known, before, checksum)
    again = known & ((before.set_number & ASIDE) != 0)
    fresh = ~(again & (before.checksum == entries.checksum))
    published = {d.tobytes() for d in taken}
    rows = np.array([i for i in np.flatnonzero(fresh).tolist() if named[i].digest not in published], np.int64)
    kept = [named[i] for i in np.flatnonzero(fresh).tolist()] + [one for one in asides if not one.digest]
    return kept, entries.take(rows), generation[rows], again[rows]


def _generation(message: bytes) -> int:
    """The generation that a record's message names; 0 where it names none."""
    try:
        return m.Header.parse(message).generation
    except ProtocolError:
        return 0


def _asides_by_partition(rejected: tuple[Rejected, ...], otherwise: int) -> list[tuple[int, Rejected]]:
    out = []
    for one in rejected:
        digest = np.frombuffer(one.digest, np.uint8).reshape(-1, DIGEST_SIZE)
        out.append((int(partition_of(digest)[0]) if len(digest) else otherwise, one))
    return out


def _checksum(message: bytes) -> int:
    from hashlib import blake2b

    return int.from_bytes(blake2b(message, digest_size=8).digest(), "little")


def _first_rows(set_hash: U64) -> list[tuple[int, int]]:
    values, rows = np.unique(set_hash, return_index=True)
    return list(zip(values.tolist(), rows.tolist(), strict=True))


def _set_name(contents: Bodies, row: int) -> str | None:
    """The set, with which every encoded content begins: Avro's union of null and string."""
    raw = contents.buffer[contents.offsets[row] : contents.offsets[row + 1]].tobytes()
    if raw[0] == 0:
        return None
    size = shift = 0
    at = 1
    while True:
        size |= (raw[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not raw[at - 1] & 0x80:
            return raw[at : at + (size >> 1)].decode()


def _mine(state: ShardState, partitions: I64) -> I64:
    shard = partitions_of(state.shard, state.shards)
    return partitions[(partitions >= shard.start) & (partitions < shard.stop)]


def _of(state: ShardState, moments: I64, partitions: I64) -> I64:
    return moments[_mine(state, partitions) - partitions_of(state.shard, state.shards).start]
