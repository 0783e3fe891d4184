"""Which versions an export is about. Pure but for the archive that is read; the rules of time are the replayer's."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from cdc.archive import Manifest, Store, Versions, View, merged
from cdc.archive.windows import epoch_window
from cdc.clock import rfc3339
from cdc.errors import NotRecoverable
from cdc.model import I64, Bool, Op
from cdc.replayer.slices import SLICE_BYTES
from cdc.replayer.versions import ABSENT, Certainty, States, states
from cdc.replayer.within import hashes


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a state: `records`, and how sure the state of each is (of those that are not there, only the ones that are not
    sure of it), as a restore counts them. Of a span: `records` that were written, `ends` of records, and `aside`:
    versions that could not be encoded, so that nothing is known of the record from there on."""

    records: int = 0
    exact: int = 0
    presumed: int = 0
    fuzzy: int = 0
    ends: int = 0
    aside: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        mine, others = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + others[name] for name in mine})


@dataclass(frozen=True, slots=True)
class Chosen:
    """Some versions in order of (digest, offset), and those of them that an export is about.

    `rows` are the records of a state, or the changes of a span; `doubts` are the versions because of which some state
    is not exact. For all that `read` versions were looked at.
    """

    versions: Versions
    rows: I64
    doubts: I64
    counts: Counts
    read: int


def state(store: Store, view: View, sets: Sequence[str] = ()) -> Iterator[Chosen]:
    """The records that held at a view's moment, by ascending digest; of the named sets alone, if any is named.

    Memory: about ten times SLICE_BYTES. Raises what `merged.stream` raises.
    """
    for versions in merged.stream(store, view, batch_bytes=SLICE_BYTES):
        found = states(versions.columns, view.at, view.epoch.reconciled_at)
        # By what holds, and not by every version: whoever writes by digest may bring a record back into another set.
        wanted = _within(versions, found.judged, sets)
        told = wanted & ((found.held != ABSENT) | (found.certainty != Certainty.EXACT))
        sure = np.bincount(found.certainty[told], minlength=3)
        rows = found.held[wanted & (found.held != ABSENT)]
        counts = Counts(len(rows), *(int(sure[kind]) for kind in Certainty))
        doubts = np.flatnonzero(doubtful(versions, found, view.at) & np.repeat(wanted, found.sizes))
        yield Chosen(versions, rows, doubts, counts, versions.rows)


def doubtful(versions: Versions, found: States, at: int) -> Bool:
    """Of the rows from which states at a moment follow, those besides the held ones without which they would be called
    more certain: later versions whose blind interval has the moment, and a truncation that was seen only later."""
    columns, rows = versions.columns, np.arange(versions.rows)
    sizes = found.sizes
    before = np.repeat(found.chosen, sizes)
    later = (rows > before) & (columns.unobserved_since < at)
    unsure = (rows == before) & (columns.op == Op.TRUNCATION) & (columns.observed_at > at)
    return np.asarray(later | unsure)


def changes(store: Store, view: View, since: int, until: int, sets: Sequence[str] = ()) -> Iterator[Chosen]:
    """The changes that took effect from `since` to `until`, both included, by (digest, offset), and what was kept aside
    then. Memory and errors as for `state`."""
    for versions in merged.stream(store, view, batch_bytes=SLICE_BYTES):
        told = versions.columns
        aside = told.op == Op.ASIDE
        when = np.where(aside, told.observed_at, told.effective_at)
        within = (when >= since) & (when <= until) & _within(versions, np.arange(versions.rows), sets)
        writes, asides = (int(np.count_nonzero(within & kind)) for kind in (told.op == Op.WRITE, aside))
        rows = np.flatnonzero(within).astype(np.int64)
        counts = Counts(records=writes, aside=asides, ends=len(rows) - writes - asides)
        yield Chosen(versions, rows, np.empty(0, np.int64), counts, versions.rows)


def view_of_span(manifest: Manifest, since: int, until: int) -> View:
    """What to read for the changes of a span. Raises NotRecoverable unless one window of the shard has all of it."""
    for epoch in reversed(manifest.epochs):
        window = epoch_window(epoch)
        if window is not None and since in window and until in window and since > manifest.changes_kept_from:
            found = [s for s in manifest.segments if s.epoch == epoch.number and s.max_effective_at >= since]
            # What was kept aside takes effect at the end of time, but tells when it was observed.
            concerned = tuple(s for s in found if s.min_effective_at <= until or s.max_observed_at >= since)
            return View(manifest.shard, until, epoch, None, concerned)
    raise NotRecoverable(
        f"the changes of shard {manifest.shard} from {rfc3339(since)} to {rfc3339(until)} are not all in the archive",
        f"Changes are kept from {rfc3339(manifest.changes_kept_from + 1)} on." if manifest.changes_kept_from else "",
    )


def _within(versions: Versions, rows: I64, sets: Sequence[str]) -> Bool:
    """Which of the named rows are of one of the sets; all of them if none is named."""
    if not sets:
        return np.ones(len(rows), np.bool_)
    return np.asarray(np.isin(versions.columns.set_hash[rows], hashes(sets)))
