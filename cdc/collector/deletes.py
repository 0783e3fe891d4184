"""Deletes, without tombstones: what may be concluded from counts and counters, and what only a look can tell. Pure.

A delete leaves nothing that a query shows. Two things reveal it: a *digest look* (a query without bins) that does not
show a catalogued record, and a partition's record count, which is cheap and never proves much by itself: an
insert that no sweep has shown yet hides a delete. The argument for what is concluded here:

1. At the moment c the counts and the deletion counters are read. Let S be a partition's records at c, N = |S|.
2. Then a sweep runs, and the counters are read again. If no counter of a deletion, expiry, eviction or truncation has
   moved, no node has restarted and nothing has migrated, then no record of S had vanished before the sweep reached the
   partition. Whatever was in S is therefore catalogued after the sweep: it was before, or the sweep has shown it.
   With K the catalogued records after the sweep: S is a subset of K.
3. If then N = |K|, S and K are equal: every record of K lived at c, so every delete before c has been found.

So a partition is *proven* up to c, by one info call a node, when the counters stood still between the two readings and
its count is that of the catalog after the sweep. Otherwise nothing is concluded from its count, and a digest look
decides: it names what is gone, and proves the partition up to the look's own beginning. Inserts since c make N smaller
than |K| and only cost a look.

What would break step 2, and how it is met:
- A record came without a LUT that the sweep asks for: after migration, a restart, or a break in our own observation.
  Then (`disturbed`) every partition is looked at.
- A record has expired, and is still counted until the server purges it. A partition in which we have told an expiry is
  *hazy*: it is looked at, until its count equals the number of records that the look shows.
- A node's clock is further behind than the overlap. This is assumed not to happen; the audit finds what it hid. So is
  a record created and expired between two sweeps, hiding a delete in its partition until it is purged.

A look that runs while partitions migrate concludes nothing: the new master may not have everything yet.

What polling cannot see at all stays unseen: a record that was created and deleted between two sweeps, and a record
that was touched and deleted between two sweeps in the very moment of its void time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from cdc.collector.entries import ASIDE, Entries, Keys, find
from cdc.model import I64, NEVER, Bool, Op

RESTARTED_MS: Final = 5_000
"""A node whose start lies so much later than it did has restarted; less is the resolution of its uptime."""


@dataclass(frozen=True, slots=True)
class NodeCounters:
    """What one node says of itself: when it started, to two seconds; the sum of its counters that move when a record
    goes."""

    name: str
    started_ms: int
    gone: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The cluster at one moment: `at` (milliseconds, nodes' time) lies before the first answer. `counts` are the
    records of each of the 4096 partitions, `settled` says that none migrates; truncations are in milliseconds."""

    at: int
    nodes: tuple[NodeCounters, ...]
    counts: I64
    settled: bool
    truncated_at: int
    sets_truncated_at: Mapping[str, int]

    def undisturbed_since(self, earlier: Self) -> bool:
        """The same nodes, none restarted, nothing migrating then or now, nothing truncated since."""
        before = {node.name: node.started_ms for node in earlier.nodes}
        return (
            self.settled
            and earlier.settled
            and (self.truncated_at, self.sets_truncated_at) == (earlier.truncated_at, earlier.sets_truncated_at)
            and before.keys() == {node.name for node in self.nodes}
            and all(node.started_ms - before[node.name] < RESTARTED_MS for node in self.nodes)
        )

    def nothing_gone_since(self, earlier: Self) -> bool:
        """Undisturbed, and no record went in between."""
        before = {node.name: node.gone for node in earlier.nodes}
        return self.undisturbed_since(earlier) and all(node.gone == before[node.name] for node in self.nodes)


def proven(before: Reading, after: Reading, partitions: slice, catalogued: I64, hazy: Bool) -> Bool:
    """Which of the partitions are proven up to `before.at`. `catalogued` are the catalog's counts of them after a sweep
    that began after `before` was read, and `after` was read after that sweep. A disturbance makes all hazy."""
    if not after.nothing_gone_since(before):
        return np.zeros(len(catalogued), np.bool_)
    out: Bool = (before.counts[partitions] == catalogued) & ~hazy
    return out


def absent(entries: Entries, present: Keys) -> Bool:
    """Which of the entries are not among the digests that a look has shown (ordered by key)."""
    out: Bool = find(present, entries.key, entries.tail_high, entries.tail_low) < 0
    return out


def unknown(entries: Entries, present: Keys) -> Bool:
    """Which of the digests that a look has shown have no entry."""
    out: Bool = find(entries, *present) < 0
    return out


def ends_of(entries: Entries, truncated_at: I64, found: I64, observed_at: int) -> tuple[dict[Op, I64], I64]:
    """For entries that are gone: rows by op, and for every row from when on its end holds.

    `truncated_at` is the last truncation of each row's set, `found` the moment at which the record was last known to be
    there. A record was truncated if its LUT lies before a truncation that is later than `found`: a truncation may name
    an earlier LUT than its own time (`lut` of the info command), and then does not say when the record went. One whose
    void time had passed has expired then. Any other was deleted, and counts as deleted from its detection on; so does a
    record that was kept aside, whose LUT and void time are not known.
    """
    void_time = entries.void_time
    aside = (entries.set_number & ASIDE) != 0
    truncated = ~aside & (entries.lut < truncated_at) & (found < truncated_at)
    expired = ~aside & ~truncated & (void_time != NEVER) & (void_time <= observed_at)
    effective_at = np.where(truncated, truncated_at, np.where(expired, void_time, observed_at))
    rows = {
        Op.DELETE: np.flatnonzero(~truncated & ~expired),
        Op.EXPIRY: np.flatnonzero(expired),
        Op.TRUNCATION: np.flatnonzero(truncated),
    }
    return rows, effective_at
