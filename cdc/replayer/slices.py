"""A shard's records and what to do with each, in slices: ranges of digests that fit in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cdc.archive import SegmentInfo, Store, Versions, View, merged
from cdc.archive.versions import first_of_digest
from cdc.model import DIGEST_SIZE, U8, Bool
from cdc.replayer.report import Counts
from cdc.replayer.versions import (
    ABSENT,
    Action,
    Certainty,
    Decisions,
    States,
    for_clone,
    for_rewind,
    later,
    states,
)
from cdc.replayer.wanted import WHOLE, Part
from cdc.replayer.within import only, within

SLICE_BYTES = 2 << 20
"""About how much of uncompressed versions a slice holds. A worker needs up to ten times as much."""
VERSIONS = 4
"""So many versions a record that is named is taken to have."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some records of a shard: their versions, their states at the moment, what to do. Rows are those of `versions`.

    Expiries to write are later by `shift` than in the bodies, and in the column `void_time` are as they are to be.

    `bins`, of a rewind: these alone are brought back. The versions have no others, but nulls for those that they had
    not, and the column `checksum` is of these alone; to remove is to take these bins off a record.
    """

    versions: Versions
    states: States
    decisions: Decisions
    shift: int = 0
    bins: tuple[str, ...] = ()

    @property
    def memory(self) -> int:
        """About how many bytes it takes."""
        return len(self.versions.bodies.buffer) + 120 * self.versions.rows + 40 * len(self.states)

    @property
    def along(self) -> float:
        """Which share of all digests lies before its end. A shard's are spread evenly, and slices in their order."""
        return int.from_bytes(self.states.digest[-1, :4].tobytes()) / (1 << 32) if len(self.states) else 0.0

    def counts(self) -> Counts:
        """What is to be done, and how sure it is."""
        action, certainty = self.decisions.action, self.states.certainty
        told = (self.states.held != ABSENT) | (certainty != Certainty.EXACT)
        sure = np.bincount(certainty[told], minlength=3)
        writes = self.states.held[action == Action.WRITE]
        offsets = self.versions.bodies.offsets
        return Counts(
            write=len(writes),
            remove=int(np.count_nonzero(action == Action.REMOVE)),
            spare=int(np.count_nonzero(action == Action.SPARE)),
            leave=int(np.count_nonzero(action == Action.LEAVE)),
            expired=int(np.count_nonzero(self.decisions.expired)),
            exact=int(sure[Certainty.EXACT]),
            presumed=int(sure[Certainty.PRESUMED]),
            fuzzy=int(sure[Certainty.FUZZY]),
            bytes=int((offsets[writes + 1] - offsets[writes]).sum()),
        )


def of_clone(
    store: Store,
    view: View,
    now: int,
    low: bytes | None = None,
    slice_bytes: int = SLICE_BYTES,
    *,
    part: Part = WHOLE,
    shift: int = 0,
) -> Iterator[Slice]:
    """Every record of a part that the view knows of, by ascending digest, from `low` on; expiries are later by `shift`.

    Only blocks are read that may hold a digest of the part. Raises what `merged.stream` raises.
    """
    low, high = _bounds(part, low)
    digests = part.digest_column() if part.digests else None
    read_bytes = slice_bytes if digests is None else round(slice_bytes / _kept(digests, VERSIONS * len(digests), view))
    for versions in merged.stream(store, view, low, high, digests=digests, batch_bytes=read_bytes):
        versions, at_moment = _limited(part, versions, view)
        if part.bins:
            versions, having = only(versions, part.bins, "found")
            versions, at_moment = _those(having[at_moment.judged], versions, at_moment)
        decisions = for_clone(at_moment, versions.columns, now, shift)
        yield Slice(_shifted(versions, at_moment, shift), at_moment, decisions, shift)


def of_rewind(
    store: Store,
    view: View,
    changed: tuple[SegmentInfo, ...],
    now: int,
    low: bytes | None = None,
    slice_bytes: int = SLICE_BYTES,
    *,
    part: Part = WHOLE,
    leave: bool = False,
    shift: int = 0,
) -> Iterator[Slice]:
    """Every record of a part with a change effective after the view's moment, by ascending digest, from `low` on.

    `changed` are the segments that hold all such changes, and the view has everything known from its moment on; of it
    only those blocks are read that may hold such a record. `leave` and `shift` are those of `for_rewind`. Raises what
    `merged.stream` raises.
    """
    low, high = _bounds(part, low)
    since = View(view.shard, view.at, view.epoch, None, changed)
    digests = part.digest_column() if part.digests else None
    for batch in merged.rows(
        store, since, low, high, digests=digests, effective_after=view.at, batch_bytes=slice_bytes
    ):
        found = batch.columns.digest[batch.columns.effective_at > view.at]
        found = found[part.in_partitions(found)]
        if not len(found):
            continue
        for versions in of_changes(store, view, found, slice_bytes):
            versions, at_moment = _limited(part, versions, view)
            having = None
            if part.bins:
                versions, having = only(versions, part.bins, "nulls")
            decisions = for_rewind(
                at_moment, versions.columns, view.at, now, filtered=view.epoch.filtered, leave=leave, shift=shift,
                having=having,
            )  # fmt: skip
            yield Slice(_shifted(versions, at_moment, shift), at_moment, decisions, shift, part.bins)


def of_changes(store: Store, view: View, digests: U8, slice_bytes: int = SLICE_BYTES) -> Iterator[Versions]:
    """A view's versions of the records that some changes are about, whose digests these are (sorted, one for each
    change), in slices. Raises what `merged.stream` raises."""
    # Of the blocks read only some rows are kept, so more blocks make one slice. A record has, beside the versions that
    # changed it, the one before them.
    kept = _kept(digests, len(digests) + int(np.count_nonzero(first_of_digest(digests))), view)
    return merged.stream(store, view, digests=digests, batch_bytes=round(slice_bytes / kept))


def _bounds(part: Part, low: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Digests between which all of a part's records lie that are still to come."""
    first, high = part.bounds()
    return max(filter(None, (first, low)), default=None), high


def _limited(part: Part, versions: Versions, view: View) -> tuple[Versions, States]:
    """The records of the part among whole records, and their states."""
    at_moment = states(versions.columns, view.at, view.epoch.reconciled_at)
    return _those(within(part, versions, at_moment), versions, at_moment)


def _those(which: Bool, versions: Versions, at_moment: States) -> tuple[Versions, States]:
    if which.all():
        return versions, at_moment
    those, rows = at_moment.only(which)
    return versions.take(rows), those


def _shifted(versions: Versions, at_moment: States, shift: int) -> Versions:
    """The versions with the expiries that records are to have in place of those that they had at the moment."""
    if not shift:
        return versions
    void_time = versions.columns.void_time.copy()
    held = at_moment.held[at_moment.held != ABSENT]
    void_time[held] = later(void_time[held], shift)
    return versions._replace(columns=replace(versions.columns, void_time=void_time))


def _kept(digests: U8, rows: int, view: View) -> float:
    """About which share of a view's rows these are, of some digests (sorted), within their span.

    Digests are spread evenly.
    """
    first, last = (int.from_bytes(digests[i].tobytes(), "big") for i in (0, -1))
    span = (last - first) / (1 << 8 * DIGEST_SIZE)
    return min(1.0, rows / max(span * view.rows, 1.0))
