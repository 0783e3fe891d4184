"""A shard's records and what to do with each, in slices: ranges of digests that fit in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cdc.archive import SegmentInfo, Store, Versions, View, views
from cdc.archive.versions import first_of_digest
from cdc.model import DIGEST_SIZE, U8
from cdc.replayer.report import Counts
from cdc.replayer.versions import (
    ABSENT,
    Action,
    Certainty,
    Decisions,
    States,
    for_clone,
    for_rewind,
    states,
)

SLICE_BYTES = 4 << 20
"""About how much of uncompressed versions a slice holds. A worker needs up to ten times as much."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some records of a shard: their versions, their states at the moment, what to do. Rows are those of `versions`."""

    versions: Versions
    states: States
    decisions: Decisions

    @property
    def memory(self) -> int:
        """About how many bytes it takes."""
        return len(self.versions.bodies.buffer) + 120 * self.versions.rows + 40 * len(self.states)

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
            leave=int(np.count_nonzero(action == Action.LEAVE)),
            expired=int(np.count_nonzero(self.decisions.expired)),
            exact=int(sure[Certainty.EXACT]),
            presumed=int(sure[Certainty.PRESUMED]),
            fuzzy=int(sure[Certainty.FUZZY]),
            bytes=int((offsets[writes + 1] - offsets[writes]).sum()),
        )


def of_clone(store: Store, view: View, now: int, slice_bytes: int = SLICE_BYTES) -> Iterator[Slice]:
    """Every record that the view knows of, by ascending digest. Raises what `views.stream` raises."""
    for versions in views.stream(store, view, batch_bytes=slice_bytes):
        at_moment = states(versions.columns, view.at, view.epoch.reconciled_at)
        yield Slice(versions, at_moment, for_clone(at_moment, versions.columns, now))


def of_rewind(
    store: Store, view: View, changed: tuple[SegmentInfo, ...], now: int, slice_bytes: int = SLICE_BYTES
) -> Iterator[Slice]:
    """Every record with a change effective after the view's moment.

    `changed` are the segments that hold all such changes, and the view has everything known from its moment on; of it
    only those blocks are read that may hold such a record. Raises what `views.stream` raises.
    """
    later = View(view.shard, view.at, view.epoch, None, changed)
    for batch in views.stream(store, later, batch_bytes=slice_bytes):
        digests = batch.columns.digest[batch.columns.effective_at > view.at]
        if not len(digests):
            continue
        # Of the blocks read only some rows are kept, so more blocks make one slice.
        read_bytes = round(slice_bytes / _kept(digests, view))
        for versions in views.stream(store, view, digests=digests, batch_bytes=read_bytes):
            at_moment = states(versions.columns, view.at, view.epoch.reconciled_at)
            yield Slice(versions, at_moment, for_rewind(at_moment, versions.columns, view.at, now))


def _kept(digests: U8, view: View) -> float:
    """About which share of a view's rows has these digests (sorted, one for each later version), within their span.

    Digests are spread evenly; a record has, beside its later versions, the one that it is brought back to.
    """
    first, last = (int.from_bytes(digests[i].tobytes(), "big") for i in (0, -1))
    span = (last - first) / (1 << 8 * DIGEST_SIZE)
    rows = len(digests) + np.count_nonzero(first_of_digest(digests))
    return min(1.0, rows / max(span * view.rows, 1.0))
