"""What a restore leaves behind, record by record, and how what is there is judged by it. Pure, over columns."""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Self

import numpy as np

from cdc.codec import NO_GUARD
from cdc.model import I32, I64, NEVER, U8, U64, Bool, Op
from cdc.replayer.slices import Slice
from cdc.replayer.target import EXPIRY_ERROR_MS, same_expiry
from cdc.replayer.versions import ABSENT, Action, alive
from cdc.replayer.wanted import Existing

_LAST_GENERATION = 0xFFFF


class Verdict(IntEnum):
    """What a record turned out to be."""

    RIGHT = 0
    MISSING = 1  # is not there, and was to be written
    DIFFERENT = 2  # has another content or expiry
    EXTRA = 3  # is there, and should not be
    KEPT = 4  # was there before a clone, and stays as that was told
    CHANGED = 5  # somebody else wrote or removed it since
    APART = 6  # the restore's own report has it among the refused or untouched
    UNSEEN = 7  # it was left as it was captured last, and somebody wrote or removed it before the restore


@dataclass(frozen=True, slots=True)
class Expected:
    """n records as they should be after a restore, by ascending digest.

    `there`: whether it is; `checksum` is that of its content (or of the bins that were brought back), `void_time` its
    expiry, which counts where it is `timed`. `touched`: the restore wrote or removed it. `generation` is what the
    record had when it was captured last, 0 for one that was not there, NO_GUARD where the restore did not look;
    `lut` that version's time, or of a clone the written version's.
    """

    digest: U8  # (n, 20)
    there: Bool
    checksum: U64
    void_time: I64
    timed: Bool
    touched: Bool
    generation: I32
    lut: I64

    def __len__(self) -> int:
        return len(self.digest)

    def take(self, rows: I64 | Bool) -> Self:
        """The named rows, in their order (or those of a mask)."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def concat(cls, parts: "list[Expected]") -> "Expected":
        """All rows of all parts, in order."""
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    @classmethod
    def nothing(cls, digest: U8) -> "Expected":
        """That these records are not there."""
        n = len(digest)
        no, zero = np.zeros(n, np.bool_), np.zeros(n, np.int64)
        guard = np.full(n, NO_GUARD, np.int32)
        return cls(digest, no, np.zeros(n, np.uint64), zero, no, ~no, guard, zero)


@dataclass(frozen=True, slots=True)
class Found:
    """The same n records as they are: whether there; whether there with any bin that was brought back; checksum and
    void time."""

    there: Bool
    some: Bool
    checksum: U64
    void_time: I64


@dataclass(frozen=True, slots=True)
class Touch:
    """When and how a restore wrote: from `began_at` to `ended_at`, by the target's time; a rewind `guarded` each write
    with the generation captured last."""

    began_at: int
    ended_at: int
    guarded: bool
    existing: Existing = "replace"


def expected(part: Slice, now: int, *, rewind: bool, overwrite: bool = False) -> tuple[Expected, I64]:
    """What the records of a slice should be, and for each the row of the slice that says its set and user key.

    What nobody can say is not among them: records of whom something could only be kept aside and that are left, what
    is spared, and what had expired by `now` and is left for that.
    """
    action, states, columns = part.decisions.action, part.states, part.versions.columns
    last, held = states.last, states.held
    wrote = action == Action.WRITE
    removed = (action == Action.REMOVE) | ((action == Action.SPARE) if overwrite else np.zeros(len(states), np.bool_))
    left = (action == Action.LEAVE) & (columns.op[last] != Op.ASIDE) & rewind
    which = np.flatnonzero(wrote | removed | left)
    wrote, removed, left, held, last = wrote[which], removed[which], left[which], held[which], last[which]
    # What is left is as it was captured last.
    row = np.where(wrote, held, last)
    there = wrote | (left & alive(columns, now)[last])
    guard = part.decisions.guard[which] if rewind else np.full(len(which), NO_GUARD, np.int32)
    timed = np.full(len(which), not part.bins) | (wrote & (guard == 0))
    lut = columns.lut[last if rewind else row]
    told = np.where(held != ABSENT, held, last)
    made = Expected(
        states.digest[which], there, columns.checksum[row], np.where(there, columns.void_time[row], NEVER), timed,
        ~left, guard, lut,
    )  # fmt: skip
    return made, told


def right(wanted: Expected, found: Found, now: int, late_ms: int = 0) -> Bool:
    """Which records are as they should be. What has expired by `now`, or is about to, need not be there; what was
    written may expire `late_ms` later."""
    in_time = same_expiry(wanted.void_time, found.void_time, late_ms) | ~wanted.timed
    as_it_was = found.there & (wanted.checksum == found.checksum) & in_time
    due = (wanted.void_time != NEVER) & (wanted.void_time <= now + EXPIRY_ERROR_MS)
    return np.asarray(np.where(wanted.there, as_it_was | (due & ~found.there), ~found.some))


def judge(wrong: Expected, there: Bool, lut: I64, generation: I32, touch: Touch) -> U8:
    """A Verdict for each record that is not as it should be.

    `there`, `lut` and `generation` are how it stands now. What can be told apart is told apart: a guarded write leaves
    one generation more than was captured, and what nobody touched has the generation and the time that were captured;
    any other was written by somebody else. Where writes were not guarded only the time tells, so what somebody else
    wrote while the restore ran counts as wrong. That a record was removed since cannot be told from its not having been
    written, nor, of one that was left, from its having been removed before: the restore did not know of that.
    """
    untouched = (generation == wrong.generation) & (lut == wrong.lut)
    after = np.where(wrong.generation == _LAST_GENERATION, 1, wrong.generation + 1)
    ours = wrong.touched & wrong.there & (generation == after) & (lut <= touch.ended_at)
    changed = ~(untouched | ours) if touch.guarded else np.where(wrong.touched, lut > touch.ended_at, ~untouched)
    kept = np.zeros(len(wrong), np.bool_)
    if touch.existing in ("keep", "newer"):
        kept = wrong.there & (lut <= touch.began_at)
    if touch.existing == "newer":
        kept &= lut > wrong.lut
    unseen = ~wrong.touched & changed & (lut <= touch.began_at)
    gone = np.where(wrong.touched, Verdict.MISSING, Verdict.UNSEEN)
    present = np.where(wrong.there, Verdict.DIFFERENT, Verdict.EXTRA)
    present = np.where(
        unseen, Verdict.UNSEEN, np.where(changed, Verdict.CHANGED, np.where(kept, Verdict.KEPT, present))
    )
    return np.where(there, present, gone).astype(np.uint8)
