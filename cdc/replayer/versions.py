"""Which version of each record holds at a moment, and how sure that is. Pure, vectorised over columns.

The rule is "Which version holds at T" of docs/architecture.md. Rows stand in the archive's order, by (digest, offset),
and hold whole digests (all relevant changes of each); so a shard may be worked through in ranges of digests.
"""

from dataclasses import dataclass
from enum import IntEnum

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

    `held` is the row that holds, ABSENT where the record was not there; `last` is the row captured last, of whatever
    time: what the record was when capture last looked. `certainty` holds numbers of Certainty.
    """

    digest: U8  # (m, 20)
    held: I64
    last: I64
    certainty: U8

    def __len__(self) -> int:
        return len(self.digest)


class Action(IntEnum):
    """What a restore does with a record."""

    NOTHING = 0  # it did not hold, or has expired since
    WRITE = 1
    REMOVE = 2
    LEAVE = 3  # it is as it was


@dataclass(frozen=True, slots=True)
class Decisions:
    """What to do with each of m states, in their order.

    `guard` is the generation that the record must have for it to be done, 0 if it must not be there, or NO_GUARD.
    `expired`: the record held, but its time has passed since, so it must not come back.
    """

    action: U8
    guard: I32
    expired: Bool


def for_clone(states: States, columns: Columns, now: int) -> Decisions:
    """To fill an empty place: write what held and has not expired by `now`."""
    held = states.held != ABSENT
    live = held & alive(columns, now)[states.held]
    guard = np.full(len(states), NO_GUARD, np.int32)
    return Decisions(np.where(live, Action.WRITE, Action.NOTHING).astype(np.uint8), guard, held & ~live)


def for_rewind(states: States, columns: Columns, at: int, now: int) -> Decisions:
    """To undo in place what came after `at`: write what is not as it was, remove what was not there or has expired by
    `now`.

    What is there now is taken to be the version captured last; the guards hold every write to that. So is a version
    that could only be kept aside: it is undone if it came after `at`, and left if it had been seen by then.
    """
    lives = alive(columns, now)
    held = states.held != ABSENT
    unsaid = columns.op[states.last] == Op.ASIDE
    wanted, there = held & lives[states.held], lives[states.last] | unsaid
    equal = wanted & there & same_content(columns, states.held, states.last)
    stays = unsaid & (columns.observed_at[states.last] <= at)
    action = np.where(wanted & ~equal, Action.WRITE, np.where(there & ~wanted, Action.REMOVE, Action.LEAVE))
    action[held & ~wanted & ~there] = Action.NOTHING
    action[stays] = Action.LEAVE
    guard = np.where(there, columns.generation[states.last], 0)
    return Decisions(action.astype(np.uint8), guard.astype(np.int32), held & ~wanted & ~stays)


def states(columns: Columns, at: int, reconciled_at: int) -> States:
    """The state at `at` of every digest in `columns`, whose rows stand in order of (digest, offset).

    A row may be given twice (a restore set and a segment may both have it). Only changes of one epoch may be given.
    `reconciled_at` is the shard's: beyond it a delete may still be unfound, so that no record is there for certain.
    """
    count = len(columns)
    if not count:
        nothing = np.empty(0, np.int64)
        return States(columns.digest, nothing, nothing, np.empty(0, np.uint8))
    starts = np.flatnonzero(first_of_digest(columns.digest))
    ends = np.append(starts[1:], count)
    rows = np.arange(count)
    chosen = np.maximum.reduceat(np.where(columns.effective_at <= at, rows, ABSENT), starts)

    # All changes after the chosen one by offset are effective after `at`, so the next is simply its neighbour.
    following = np.where(chosen == ABSENT, starts, chosen + 1)
    after = np.minimum(following, count - 1)
    blind = (following < ends) & (columns.unobserved_since[after] < at)  # its effective_at > at is given
    certainty = np.where(blind, np.where(columns.consecutive[after], Certainty.PRESUMED, Certainty.FUZZY), 0)

    held = np.where((chosen != ABSENT) & alive(columns, at)[chosen], chosen, ABSENT)
    if at > reconciled_at:
        certainty = np.where((held != ABSENT) & (certainty == Certainty.EXACT), Certainty.PRESUMED, certainty)
    return States(columns.digest[starts], held, ends - 1, certainty.astype(np.uint8))


def alive(columns: Columns, at: int) -> Bool:
    """Which rows, taken as the newest of their record, leave it there at `at`: written and not expired."""
    unexpired = (columns.void_time == NEVER) | (columns.void_time > at)
    return np.asarray((columns.op == Op.WRITE) & unexpired)


def same_content(columns: Columns, left: I64, right: I64) -> Bool:
    """Which pairs of rows have equal content (by checksum, which covers set, user key and bins) and equal expiry."""
    equal = columns.checksum[left] == columns.checksum[right]
    return np.asarray(equal & (columns.void_time[left] == columns.void_time[right]))
