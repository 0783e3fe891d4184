"""Which version of each record holds at a moment, and how sure that is. Pure, vectorised over columns.

The rule is "Which version holds at T" of docs/architecture.md. Rows stand in the archive's order, by (digest, offset),
and hold whole digests (all relevant changes of each); so a shard may be worked through in ranges of digests.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np

from cdc.archive.versions import first_of_digest
from cdc.codec import NO_GUARD
from cdc.model import I32, I64, NEVER, U8, Bool, Columns, Op

ABSENT = -1
"""In a column of rows: there is none."""


class Certainty(IntEnum):
    """How sure the state of a record at a moment is."""

    EXACT = 0
    PRESUMED = 1
    FUZZY = 2


@dataclass(frozen=True, slots=True)
class States:
    """The states of m digests at a moment, by ascending digest. Rows are those of the columns it was made from.

    `chosen` is the row that says what the record was, ABSENT where none took effect by then; `held` is the same where
    that leaves the record there, and ABSENT where it ended the record or had expired. `last` is the row captured last,
    of whatever time: what the record was when capture last looked. `certainty` holds numbers of Certainty; `blind` is
    the first row in whose blind interval the moment lies, ABSENT where it lies in none.
    """

    digest: U8  # (m, 20)
    chosen: I64
    held: I64
    last: I64
    certainty: U8
    blind: I64

    def __len__(self) -> int:
        return len(self.digest)

    @property
    def sizes(self) -> I64:
        """How many rows each follows from."""
        return np.diff(self.last, prepend=-1)

    @property
    def judged(self) -> I64:
        """The row by which it is told what kind of record each is: what held, else what was captured last."""
        return np.where(self.held != ABSENT, self.held, self.last)

    def only(self, which: Bool) -> tuple[Self, Bool]:
        """Some of them, and a mask of the rows that they follow from: theirs are of those rows alone."""
        rows = np.repeat(which, self.sizes)
        place = np.cumsum(rows) - 1

        def moved(of: I64) -> I64:
            return np.where(of == ABSENT, ABSENT, place[of])[which].astype(np.int64)

        digest, certainty = self.digest[which], self.certainty[which]
        held, last, blind = moved(self.held), moved(self.last), moved(self.blind)
        return type(self)(digest, moved(self.chosen), held, last, certainty, blind), rows


class Action(IntEnum):
    """What a restore does with a record."""

    NOTHING = 0  # it did not hold, or has expired since
    WRITE = 1
    REMOVE = 2
    LEAVE = 3  # it is as it was
    SPARE = 4  # it came into scope after the moment, and may have been there before


@dataclass(frozen=True, slots=True)
class Decisions:
    """What to do with each of m states, in their order.

    `guard` is the generation that the record must have for it to be done, 0 if it must not be there, or NO_GUARD.
    `expired`: the record held, but its time has passed since.
    """

    action: U8
    guard: I32
    expired: Bool


def for_clone(states: States, columns: Columns, now: int, shift: int = 0) -> Decisions:
    """To fill an empty place: write what held and, with every expiry later by `shift`, has not expired by `now`."""
    held = states.held != ABSENT
    due = held & _due(columns, now)[states.held]
    live = held & ~_due(columns, now - shift)[states.held]
    guard = np.full(len(states), NO_GUARD, np.int32)
    return Decisions(np.where(live, Action.WRITE, Action.NOTHING).astype(np.uint8), guard, due)


def for_rewind(
    states: States,
    columns: Columns,
    at: int,
    now: int,
    *,
    filtered: bool = False,
    leave: bool = False,
    shift: int = 0,
    having: Bool | None = None,
) -> Decisions:
    """To undo in place what came after `at`: write what is not as it was, remove what was not there or, with every
    expiry later by `shift`, has expired by `now`. What has expired by `now` is no part of it if `leave`.

    What is there now is taken to be the version captured last; the guards hold every write to that. So is a version
    that could only be kept aside: it is undone if it came after `at`, and left if it had been seen by then.

    Where the scope is `filtered`, a record that did not hold is spared: it may have been there without matching.

    `having`, one a row, is given where some bins alone are brought back: which versions have any of them. `checksum` is
    then of these bins alone; to write is to give a record those that it had and take the others of them, to remove is
    to take all of them; its expiry counts only where it is made anew.
    """
    held, last = states.held, states.last
    some = np.ones(len(columns), np.bool_) if having is None else having
    unsaid = columns.op[last] == Op.ASIDE
    there = alive(columns, now)[last] | unsaid
    was = held != ABSENT
    due = was & _due(columns, now)[held]
    if having is None:
        wanted = was & ~_due(columns, now - shift)[held]
        equal = later(columns.void_time, shift)[held] == columns.void_time[last]
    else:
        due &= ~there | leave
        wanted = was & some[held] & (there | ~_due(columns, now - shift)[held])
        equal = ~unsaid
    equal &= wanted & there & (columns.checksum[held] == columns.checksum[last])
    remove = there & ~wanted & (some[last] | unsaid)
    action = np.where(wanted & ~equal, Action.WRITE, np.where(remove, Action.REMOVE, Action.LEAVE))
    action[due & ~wanted & ~there] = Action.NOTHING
    if filtered:
        action[remove & ~was] = Action.SPARE
    if leave:
        action[due] = np.where(there, Action.LEAVE, Action.NOTHING)[due]
    stays = unsaid & (columns.observed_at[last] <= at)
    action[stays] = Action.LEAVE
    guard = np.where(there, columns.generation[last], 0)
    return Decisions(action.astype(np.uint8), guard.astype(np.int32), due & ~stays)


def states(columns: Columns, at: int, reconciled_at: int) -> States:
    """The state at `at` of every digest in `columns`, whose rows stand in order of (digest, offset).

    A row may be given twice (a restore set and a segment may both have it). Only changes of one epoch may be given.
    `reconciled_at` is the shard's: beyond it a delete may still be unfound, so that no record is there for certain.
    Between the moment that a truncation names and the look that found it, its records are gone, but not for certain.
    """
    count = len(columns)
    if not count:
        nothing = np.empty(0, np.int64)
        return States(columns.digest, nothing, nothing, nothing, np.empty(0, np.uint8), nothing)
    starts = np.flatnonzero(first_of_digest(columns.digest))
    ends = np.append(starts[1:], count)
    rows = np.arange(count)
    chosen = np.maximum.reduceat(np.where(columns.effective_at <= at, rows, ABSENT), starts)

    # All changes after the chosen one by offset are effective after `at`. Not only the next may have been blind to it:
    # an audit finds a version late, and says that nothing is known of the record since the last look at everything.
    blind = (rows > np.repeat(chosen, ends - starts)) & (columns.unobserved_since < at)
    first_blind = np.minimum.reduceat(np.where(blind, rows, count), starts)
    fuzzy = np.logical_or.reduceat(blind & ~columns.consecutive, starts)
    certainty = np.where(fuzzy, Certainty.FUZZY, np.where(first_blind < count, Certainty.PRESUMED, Certainty.EXACT))

    held = np.where((chosen != ABSENT) & alive(columns, at)[chosen], chosen, ABSENT)
    # A truncation may name a moment before its own time, which shows nowhere. It was over when it was seen.
    unsure = (chosen != ABSENT) & (columns.op[chosen] == Op.TRUNCATION) & (at < columns.observed_at[chosen])
    if at > reconciled_at:
        unsure |= held != ABSENT
    certainty = np.where(unsure & (certainty == Certainty.EXACT), Certainty.PRESUMED, certainty)
    first_blind = np.where(first_blind < count, first_blind, ABSENT)
    return States(columns.digest[starts], chosen, held, ends - 1, certainty.astype(np.uint8), first_blind)


def alive(columns: Columns, at: int) -> Bool:
    """Which rows, taken as the newest of their record, leave it there at `at`: written and not expired."""
    return np.asarray((columns.op == Op.WRITE) & ~_due(columns, at))


def _due(columns: Columns, at: int) -> Bool:
    """Which rows have expired by `at`."""
    return np.asarray((columns.void_time != NEVER) & (columns.void_time <= at))


def later(void_time: I64, shift: int) -> I64:
    """Void times that are later by so many milliseconds; never is never."""
    return np.where(void_time == NEVER, NEVER, void_time + shift)
