"""Which version of each record holds at a moment, and how sure that is. Pure, vectorised over columns.

The rule is "Which version holds at T" of docs/architecture.md. All functions take any set of rows that holds whole
digests (all relevant changes of each digest in it), so a shard may be worked through in ranges of digests.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from cdc.model import DIGEST_SIZE, I64, NEVER, U8, U64, Bool, Columns, Op

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

    def take(self, rows: I64 | Bool) -> "States":
        """The named states, in their order (or those of a mask)."""
        return States(self.digest[rows], self.held[rows], self.last[rows], self.certainty[rows])


def states(columns: Columns, offsets: I64, at: int, reconciled_at: int) -> States:
    """The state at `at` of every digest in `columns`, whose i-th row stands at `offsets[i]`; rows in any order.

    A row may be given twice (a restore set and a segment may both have it). Only changes of one epoch may be given.
    `reconciled_at` is the shard's: beyond it a delete may still be unfound, so that no record is there for certain.
    """
    order = digest_offset_order(columns.digest, offsets)
    starts = group_starts(columns.digest, order)
    if not len(order):
        nothing = np.empty(0, np.int64)
        return States(np.empty((0, DIGEST_SIZE), np.uint8), nothing, nothing, np.empty(0, np.uint8))
    ends = np.append(starts[1:], len(order))
    place = np.arange(len(order))
    until = columns.effective_at[order] <= at
    latest = np.maximum.reduceat(np.where(until, place, ABSENT), starts)

    # All changes after the chosen one by offset are effective after `at`, so the next is simply its neighbour.
    following = np.where(latest == ABSENT, starts, latest + 1)
    has_next = following < ends
    next_row = order[np.minimum(following, len(order) - 1)]
    blind = has_next & (columns.unobserved_since[next_row] < at)  # its effective_at > at is given
    certainty = np.where(blind, np.where(columns.consecutive[next_row], Certainty.PRESUMED, Certainty.FUZZY), 0)

    held = np.where(latest == ABSENT, ABSENT, order[latest])
    held = np.where((held != ABSENT) & alive(columns, at)[held], held, ABSENT)
    if at > reconciled_at:
        certainty = np.where((held != ABSENT) & (certainty == Certainty.EXACT), Certainty.PRESUMED, certainty)
    return States(columns.digest[order[starts]], held, order[ends - 1], certainty.astype(np.uint8))


def alive(columns: Columns, at: int) -> Bool:
    """Which rows, taken as the newest of their record, leave it there at `at`: written and not expired."""
    unexpired = (columns.void_time == NEVER) | (columns.void_time > at)
    return np.asarray((columns.op == Op.WRITE) & unexpired)


def same_content(columns: Columns, left: I64, right: I64) -> Bool:
    """Which pairs of rows have equal content (by checksum, which covers set, user key and bins) and equal expiry."""
    equal = columns.checksum[left] == columns.checksum[right]
    return np.asarray(equal & (columns.void_time[left] == columns.void_time[right]))


def digest_offset_order(digests: U8, offsets: I64) -> I64:
    """The row numbers sorted by (digest, offset). Fast where the rows are a few sorted runs, one after another."""
    first, second, third = _words(digests)
    order = np.argsort(first, kind="stable")
    if len(order) > 1:
        left, right = order[:-1], order[1:]
        # Only digests that agree in their first eight bytes can be out of order now: mostly versions of one record.
        tied = np.flatnonzero(first[left] == first[right])
        left, right = left[tied], right[tied]
        same = (second[left] == second[right]) & (third[left] == third[right])
        if not np.all(same & (offsets[left] <= offsets[right])):
            order = np.lexsort((offsets, third, second, first))
    return order


def group_starts(digests: U8, order: I64) -> I64:
    """Where each digest's rows start in `order`, which brings equal digests together."""
    if not len(order):
        return np.empty(0, np.int64)
    first, second, third = _words(digests)
    left, right = order[:-1], order[1:]
    differs = (first[left] != first[right]) | (second[left] != second[right]) | (third[left] != third[right])
    return np.flatnonzero(np.concatenate([np.ones(1, np.bool_), differs]))


def in_digests(digests: U8, wanted: U8) -> Bool:
    """Which of `digests` are among `wanted`, which is sorted."""
    if not len(wanted) or not len(digests):
        return np.zeros(len(digests), np.bool_)
    first, second, third = _words(digests)
    w_first, w_second, w_third = _words(wanted)
    near = np.minimum(np.searchsorted(w_first, first), len(w_first) - 1)
    found = (w_first[near] == first) & (w_second[near] == second) & (w_third[near] == third)
    # Two wanted digests that share their first eight bytes: settle those few by whole comparison.
    doubled = np.unique(w_first[1:][w_first[1:] == w_first[:-1]])
    if len(doubled):
        whole = {w.tobytes() for w in wanted[np.isin(w_first, doubled)]}
        for i in np.flatnonzero(np.isin(first, doubled)):
            found[i] = digests[i].tobytes() in whole
    return np.asarray(found)


def _words(digests: U8) -> tuple[U64, U64, U64]:
    """Three numbers a digest that compare as its bytes do."""
    padded = np.zeros((len(digests), 24), np.uint8)
    padded[:, :DIGEST_SIZE] = digests
    words = padded.view(">u8").astype(np.uint64)
    return words[:, 0].copy(), words[:, 1].copy(), words[:, 2].copy()
