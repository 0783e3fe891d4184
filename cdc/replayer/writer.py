"""Slices into a target: batch writes and removes, throttled, and what became of each record."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

import cdc.codec.batch_kernels  # noqa: F401  compiled before a TTL is reckoned from now, not between
from cdc import codec
from cdc.codec import bins
from cdc.codec.contents import heads_of
from cdc.codec.decode import to_python
from cdc.model import I32, I64, NEVER, U8, U64, Bool
from cdc.replayer.pace import Pace
from cdc.replayer.refusals import Limits, Reception, reason
from cdc.replayer.report import Refusal, Tally, printable
from cdc.replayer.resettled import NO_KEY, resettled
from cdc.replayer.slices import Slice
from cdc.replayer.target import Target, same_expiry
from cdc.replayer.versions import ABSENT, Action
from cdc.replayer.wanted import Existing
from cdc.source.expressions import not_after
from cdc.wire.messages import Result

CHANGED_AGAIN = "it changed again since it was captured last"
MAYBE_THERE = "it came into scope after the moment, and may have been there before without matching the filter"
NO_LIMITS = Limits()
FORBIDDEN_AGAIN_S = 1.0
"""After so long a forbidden write is tried once more."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes slices and tallies the result codes.

    `guarded`: a record is written or removed only as long as its generation is the one captured last, and it was not
    updated after that was seen (one that was removed and made anew may have that generation); otherwise it counts as
    a conflict, or as left if it is as it was to be written; what is to be spared counts as a conflict too.
    Where a slice is about some bins these are updated, and taken off; a record that is not there is made of them.
    `existing` says what becomes of a record that is there; if it stays it counts as left. `into_set` is another set to
    write into; who has no digest there that is known counts as refused.
    """

    target: Target
    pace: Pace
    tally: Tally
    guarded: bool = False
    existing: Existing = "replace"
    into_set: str = ""
    reception: Reception = field(default_factory=Reception)

    def apply(self, part: Slice) -> None:
        """Do what the slice's decisions say. Raises what `wire.batch.write` raises, Cancelled, and GaveUp."""
        counts = part.counts()
        self.tally.add(
            left=counts.leave, expired=counts.expired,
            exact=counts.exact, presumed=counts.presumed, fuzzy=counts.fuzzy,
        )  # fmt: skip
        which = np.flatnonzero(part.decisions.action == Action.WRITE)
        expected = part.decisions.guard[which] != 0
        if part.bins and self.guarded:
            self._write(part, which[expected], update=True)
            self._write(part, which[~expected])
        elif part.bins:
            self._write(part, self._alive(part, self._write(part, which, update=True)))
        else:
            self._write(part, which)
        remove = part.decisions.action == Action.REMOVE
        spare = part.decisions.action == Action.SPARE
        if self.guarded:
            which = np.flatnonzero(spare)
            self.tally.name("conflicts", _named(part, which, np.zeros(len(which), np.int32), MAYBE_THERE))
        else:
            remove |= spare
        (self._take_bins if part.bins else self._remove)(part, np.flatnonzero(remove))

    def _write(self, part: Slice, which: I64, *, update: bool = False) -> I64:
        """Write the named records. Those that could not be updated, because they are not there, are given back, unless
        that makes them conflicts."""
        if not len(which):
            return which
        bodies, rows, digests = part.versions.bodies, part.states.held[which], part.states.digest[which]
        if self.into_set:
            bodies, digests, known = resettled(bodies, rows, self.into_set)
            self._tell_unknown(part, which[~known])
            refused, which, rows = len(which), which[known], np.arange(len(bodies))
            if not len(which):
                self.reception.answered(refused, refused)
                return which
        guards, space = part.decisions.guard[which], self.target.namespace.encode()
        keep, newer = self.existing == "keep", self.existing == "newer"
        lut = part.versions.columns.lut[part.states.held[which]]
        filters = not_after(lut) if newer else self._seen(part, which)

        def encode(batch: I64) -> bytes:
            self.pace.take(len(batch))
            return codec.batch_rows(
                bodies, rows[batch], space, self.target.now() - part.shift, guards[batch] if self.guarded else None,
                create_only=keep, update=update, filters=None if filters is None else filters[batch],
            )  # fmt: skip

        results = self._send(digests, encode)
        done, gone = results == Result.OK, (results == Result.NOT_FOUND) & update
        changed = self._failed_guard(results) | (gone & self.guarded)
        there = ((results == Result.RECORD_EXISTS) & keep) | ((results == Result.FILTERED_OUT) & newer)
        already = np.zeros(len(which), np.bool_)
        already[changed] = self._as_wanted(part, which[changed])
        changed &= ~already
        there |= already
        sizes = bodies.offsets[rows + 1] - bodies.offsets[rows]
        self.tally.add(written=_count(done), left=_count(there), bytes=int(sizes[done].sum()))
        self._tell(part, which, results, changed, ~(done | gone | changed | there))
        missing: I64 = which[gone & ~changed & ~already]
        return missing

    def _alive(self, part: Slice, which: I64) -> I64:
        """Those of some records, which turned out to be gone, whose time has not passed: others are not made again."""
        void_time = part.versions.columns.void_time[part.states.held[which]]
        due = (void_time != NEVER) & (void_time <= self.target.now())
        self.tally.add(expired=_count(due))
        left: I64 = which[~due]
        return left

    def _take_bins(self, part: Slice, which: I64) -> None:
        """Take the slice's bins off the named records."""
        if not len(which):
            return
        blank = bins.choose(codec.gather(part.versions.bodies, part.states.last[which]), part.bins, "blank")
        guards, space = part.decisions.guard[which], self.target.namespace.encode()
        filters = self._seen(part, which)

        def encode(batch: I64) -> bytes:
            self.pace.take(len(batch))
            chosen = guards[batch] if self.guarded else None
            among = None if filters is None else filters[batch]
            return codec.batch_rows(blank.bodies, batch, space, self.target.now(), chosen, update=True, filters=among)

        results = self._send(part.states.digest[which], encode)
        done, gone = results == Result.OK, results == Result.NOT_FOUND
        changed = self._failed_guard(results)
        _, checksum, _ = self._there(part, which[changed], part.states.last)
        gone[changed] = checksum == blank.checksum[changed]
        changed &= ~gone
        self.tally.add(removed=_count(done), left=_count(gone))
        self._tell(part, which, results, changed, ~(done | gone | changed))

    def _remove(self, part: Slice, which: I64) -> None:
        if not len(which):
            return
        digests, guards = part.states.digest[which], part.decisions.guard[which]
        space, filters = self.target.namespace.encode(), self._seen(part, which)

        def encode(batch: I64) -> bytes:
            self.pace.take(len(batch))
            if filters is None:
                return codec.batch_removes(digests[batch], space)
            return codec.batch_removes(digests[batch], space, guards[batch], filters[batch])

        results = self._send(digests, encode)
        done, gone = results == Result.OK, results == Result.NOT_FOUND
        changed = self._failed_guard(results)
        self.tally.add(removed=_count(done), left=_count(gone))
        self._tell(part, which, results, changed, ~(done | gone | changed))

    def _seen(self, part: Slice, which: I64) -> U8 | None:
        """Filters that are true for records which were not updated after they were captured last; None without a
        guard. A captured LUT may be too early, but not later than the look."""
        last, columns = part.states.last[which], part.versions.columns
        return not_after(np.maximum(columns.lut[last], columns.observed_at[last])) if self.guarded else None

    def _failed_guard(self, results: I32) -> Bool:
        return np.asarray(((results == Result.GENERATION) | (results == Result.FILTERED_OUT)) & self.guarded)

    def _send(self, digests: U8, encode: Callable[[I64], bytes]) -> I32:
        """The results of rows. What is forbidden is tried once more, as long as that ever helps: just after a
        truncation writes are, until the node's clock has passed its time (`as_truncate_now_is_truncated`)."""
        began_at = self.target.now()
        results = self.target.write(digests, encode)
        again = np.flatnonzero(results == Result.FORBIDDEN)
        if len(again) and not self.reception.forbids:
            self.pace.rest(FORBIDDEN_AGAIN_S)
            results[again] = self.target.write(digests[again], lambda batch: encode(again[batch]))
            self.reception.forbids = bool(np.all(results[again] == Result.FORBIDDEN))
        self.tally.wrote(began_at, self.target.now())
        return results

    def _as_wanted(self, part: Slice, which: I64) -> Bool:
        """Which of some records are there as they are to be written: whose answer was lost, or whom a restore that was
        interrupted had written before."""
        columns, rows = part.versions.columns, part.states.held[which]
        there, checksum, void_time = self._there(part, which, part.states.held)
        same = checksum == columns.checksum[rows]
        if not part.bins:
            same &= same_expiry(columns.void_time[rows], void_time, self.target.delay.most_ms)
        return np.asarray(there & same)

    def _there(self, part: Slice, which: I64, rows: I64) -> tuple[Bool, U64, I64]:
        """What `Target.read` says of some records, whose sets and user keys are those of the versions `rows`."""
        if not len(which):
            return np.zeros(0, np.bool_), np.zeros(0, np.uint64), np.zeros(0, np.int64)
        return self.target.read(part.states.digest[which], heads_of(part.versions.bodies, rows[which]), part.bins)

    def _tell_unknown(self, part: Slice, which: I64) -> None:
        """Name who has no digest in the other set. That says nothing of how the target takes the others."""
        self.tally.name("refused", _named(part, which, np.zeros(len(which), np.int32), NO_KEY))

    def _tell(self, part: Slice, which: I64, results: I32, changed: Bool, refused: Bool) -> None:
        self.tally.name("conflicts", _named(part, which[changed], results[changed], CHANGED_AGAIN))
        forbidden = np.any(results[refused] == Result.FORBIDDEN)
        limits = self.target.limits() if forbidden else NO_LIMITS
        self.tally.name("refused", _named(part, which[refused], results[refused], limits=limits))
        self.reception.answered(len(results), _count(refused))


def _count(mask: Bool) -> int:
    return int(np.count_nonzero(mask))


def _named(
    part: Slice, which: I64, results: I32, why: str = "", limits: Limits = NO_LIMITS
) -> Iterator[Refusal]:  # fmt: skip
    void_time = part.versions.columns.void_time
    for i, code in zip(which.tolist(), results.tolist(), strict=True):
        held, last = int(part.states.held[i]), int(part.states.last[i])
        said = to_python(part.versions.bodies[held if held != ABSENT else last])
        yield Refusal(
            digest=part.states.digest[i].tobytes(),
            set_name=said["set"],
            key=printable(said["user_key"]),
            code=code,
            reason=why or reason(code, said["set"], expires=held != ABSENT and void_time[held] != NEVER, limits=limits),
        )
