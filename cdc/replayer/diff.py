"""What differs between the states of a namespace at two moments, found by what changed between them.

Within one history of a shard (its epoch), as long as changes are kept, only records can differ of which a change took
effect between the moments: an expiry is one too. So of most objects only the blocks are read that may hold those. Where
one of the moments stands alone, or a new history began between them, both states are read whole.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from cdc.archive import Archive, Epoch, Manifest, SegmentInfo, Versions, View, merged, views, windows
from cdc.archive.versions import Facts, Rows, concat
from cdc.archive.windows import epoch_at
from cdc.clock import rfc3339
from cdc.errors import NotRecoverable
from cdc.model import U8, Bool, digest_order
from cdc.replayer.at import require_recoverable
from cdc.replayer.differences import Difference, Kind, Pair, Side, Tally, tallies
from cdc.replayer.parallel import each
from cdc.replayer.report import Meter, Watch
from cdc.replayer.slices import SLICE_BYTES, of_changes
from cdc.replayer.wanted import WHOLE, Part

WORKERS: Final = 2
"""Threads: each may hold a block of every object of its shard, twice, and there is no target to wait for."""
Named = Callable[[Iterable[Difference]], None]
"""Is given the records that differ, in portions, in no order and by several threads."""


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs in `namespace` between `since` and `until` (milliseconds; either may be the later one).

    `sets` has a tally for each set of which there is anything to tell; None is the null set. What was deleted or
    expired after `reconciled_at` may not have been found yet. Of the shards in `whole` both states were compared whole,
    for the reason `why`; of the others, what changed between. `scopes`: which records the archive is about, in words;
    empty: all.
    """

    namespace: str
    since: int
    until: int
    reconciled_at: int
    sets: Mapping[str | None, Tally] = field(default_factory=dict)
    whole: tuple[int, ...] = ()
    why: str = ""
    scope: str = ""

    @property
    def total(self) -> Tally:
        """Of all sets."""
        return sum(self.sets.values(), Tally())

    def to_dict(self) -> dict[str, Any]:
        """For JSON; moments are RFC 3339."""
        return {
            "namespace": self.namespace,
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "reconciled_at": rfc3339(self.reconciled_at),
            "scope": self.scope,
            "compared_whole": {"shards": list(self.whole), "reason": self.why} if self.whole else None,
            "different": self.total.different,
            "total": self.total.to_dict(),
            "sets": [{"set": name, **self.sets[name].to_dict()} for name in sorted(self.sets, key=lambda n: n or "")],
        }


@dataclass(frozen=True, slots=True)
class _Shard:
    """How one shard is compared. `between` are the segments that say which records may differ, and `both` says what
    they were at either moment. Where `apart`, there is nothing between to go by, for the reason `why`: those are the
    views of either moment, to be read whole."""

    number: int
    epochs: tuple[Epoch, Epoch]  # of the earlier moment, and of the later one
    both: View
    between: tuple[SegmentInfo, ...]
    apart: tuple[View, View] | None = None
    why: str = ""

    @property
    def rows(self) -> int:
        """Versions to read, about."""
        return sum(one.rows for one in (self.apart or self.between))


def diff(
    archive: Archive,
    since: int,
    until: int,
    *,
    now: int,
    part: Part = WHOLE,
    name: Named | None = None,
    watch: Watch | None = None,
) -> Diff:
    """Compare the states at two recoverable moments. `name` gets each record that differs.

    A difference is as sure as the less sure of its two states. A record is within a part by what it was at either
    moment; with `bins`, only what differs in these counts. Memory is bounded. Raises NotRecoverable, ObjectMissing,
    ObjectDamaged, FormatTooNew; Cancelled when the caller wants no more.
    """
    watch = watch or Watch()
    found = [archive.shard(number) for number in part.shards(archive.shards)]
    for at in (since, until):
        require_recoverable(at, windows.namespace_windows(found), now)
    shards = [_shard(archive, m, since, until) for m in found if m is not None]
    meter = Meter(sum(shard.rows for shard in shards), "compare", watch)
    sets = _Sets()

    def work(shard: _Shard) -> None:
        mine = part.of_shard(shard.number, archive.shards)
        for every in _pairs(archive, shard, since, until, mine, meter.add):
            pair, kinds = _within(every, mine)
            sets.add(pair, kinds)
            if name is not None:
                name(one.only(part.bins) if part.bins else one for _, one in pair.differences(kinds))

    # Nothing differs from itself, however unsure it is.
    each(work, shards if since != until else (), watch, WORKERS)
    meter.finish()
    whole = [shard for shard in shards if shard.apart is not None]
    return Diff(
        namespace=archive.namespace,
        since=since,
        until=until,
        reconciled_at=min(shard.epochs[1].reconciled_at for shard in shards),
        sets=sets.tallies,
        whole=tuple(shard.number for shard in whole),
        why="; ".join(dict.fromkeys(shard.why for shard in whole)),
        scope=windows.either(epoch.scope for shard in shards for epoch in shard.epochs),
    )


def recoverable(archive: Archive, part: Part = WHOLE) -> list[windows.Window]:
    """The windows of those shards that a part is of."""
    return windows.namespace_windows([archive.shard(number) for number in part.shards(archive.shards)])


def _within(pair: Pair, part: Part) -> tuple[Pair, U8]:
    """The records within a part of which there is anything to tell, and their kinds."""
    kinds = pair.kinds()
    among = (kinds != Kind.SAME) | pair.blind()
    among &= part.in_partitions(pair.digest)
    if part.sets:
        hashes = pair.set_hash()
        for one in np.unique(hashes[among]):
            if (pair.set_name(int(np.flatnonzero(among & (hashes == one))[0])) or "") not in part.sets:
                among &= hashes != one
    if part.where:
        among &= pair.meeting(part.where, among)
    pair, kinds = pair.take(among), kinds[among]
    if part.bins:
        others = [i for i, one in pair.differences(kinds) if not one.only(part.bins).bins]
        kinds[others] = Kind.SAME
    return pair, kinds


class _Sets:
    """Adds up tallies by the names of sets, for several threads."""

    def __init__(self) -> None:
        self.tallies: dict[str | None, Tally] = {}
        self._lock = threading.Lock()

    def add(self, pair: Pair, kinds: U8) -> None:
        for i, tally in tallies(pair, kinds):
            name = pair.set_name(i)
            with self._lock:
                self.tallies[name] = self.tallies.get(name, Tally()) + tally


def _shard(archive: Archive, manifest: Manifest, since: int, until: int) -> _Shard:
    first, last = min(since, until), max(since, until)
    epochs = epoch_at(manifest, first), epoch_at(manifest, last)
    if epochs[0] is None or epochs[1] is None:
        raise NotRecoverable(f"shard {manifest.shard} has not both of {rfc3339(first)} and {rfc3339(last)}")
    ends = epochs[0], epochs[1]
    both = views.everything_beside(manifest, ends[0], first, archive.listing)
    both = replace(both, segments=tuple(s for s in both.segments if views.concerns(s, last)))
    between = tuple(s for s in views.changed_after(manifest, first) if views.concerns(s, last))
    shard = _Shard(manifest.shard, ends, both, between)
    if ends[0].number != ends[1].number:
        why = "a new history began between the moments"
    elif first < manifest.changes_kept_from:
        why = f"changes are kept from {rfc3339(manifest.changes_kept_from)} on"
    else:
        return shard
    apart = [views.view(manifest, at, archive.listing) for at in (since, until)]
    return replace(shard, apart=(apart[0], apart[1]), why=why)


def _pairs(
    archive: Archive, shard: _Shard, since: int, until: int, part: Part, read: Callable[[int], None]
) -> Iterator[Pair]:
    """A shard's records that may differ, by ranges of digests; `read` is told how many versions were read for them."""
    if shard.apart is not None:
        return _whole(archive, shard.apart, part, read)
    return _changed(archive, shard, since, until, part, read)


def _whole(archive: Archive, apart: tuple[View, View], part: Part, read: Callable[[int], None]) -> Iterator[Pair]:
    streams = [(rows.versions() for rows in _rows(archive, view, part)) for view in apart]
    for parts in _side_by_side(*streams):
        sides = (Side.of(one, view.at, view.epoch.reconciled_at) for one, view in zip(parts, apart, strict=True))
        yield Pair.of(*sides, forward=apart[0].at <= apart[1].at)
        read(sum(one.rows for one in parts))


def _changed(
    archive: Archive, shard: _Shard, since: int, until: int, part: Part, read: Callable[[int], None]
) -> Iterator[Pair]:
    epoch, first, last = shard.epochs[0], min(since, until), max(since, until)
    changes = View(shard.number, first, epoch, None, shard.between)
    for batch in _rows(archive, changes, part, effective_after=first):
        digests = batch.columns.digest[_tells(batch.columns, first, last)]
        digests = digests[part.in_partitions(digests)]
        if len(digests):
            for versions in of_changes(archive.store, shard.both, digests):
                sides = (Side.of(versions, at, epoch.reconciled_at) for at in (since, until))
                yield Pair.of(*sides, forward=since <= until)
        read(batch.rows)


def _rows(archive: Archive, view: View, part: Part, effective_after: int | None = None) -> Iterator[Rows]:
    digests = part.digest_column() if part.digests else None
    return merged.rows(
        archive.store, view, *part.bounds(), digests=digests, effective_after=effective_after, batch_bytes=SLICE_BYTES
    )


def _tells(columns: Facts, first: int, last: int) -> Bool:
    """Which versions say that a record may differ: those that took effect between the moments; and those that took
    effect later, and before which nothing was seen since before the last moment."""
    later = columns.effective_at > first
    return np.asarray(later & ((columns.effective_at <= last) | (columns.unobserved_since < last)))


def _side_by_side(left: Iterator[Versions], right: Iterator[Versions]) -> Iterator[tuple[Versions, Versions]]:
    """Two streams in order of digest, cut where the shorter batch ends: no digest stands in two of the pairs."""
    streams, waiting = (left, right), [next(left, None), next(right, None)]
    while any(versions is not None for versions in waiting):
        last = min(_last(versions) for versions in waiting if versions is not None)
        cut = []
        for side, versions in enumerate(waiting):
            if versions is None:
                cut.append(concat([]))
                continue
            end = int(np.searchsorted(digest_order(versions.columns.digest), np.void(last), "right"))
            cut.append(versions.span(0, end))
            waiting[side] = versions.span(end, versions.rows) if end < versions.rows else next(streams[side], None)
        yield cut[0], cut[1]


def _last(versions: Versions) -> bytes:
    return bytes(versions.columns.digest[-1])
