"""Deletes, without tombstones: what may be concluded from counts and counters, and what only a look can tell. Pure.

A delete leaves nothing that a query shows. Two things reveal it: a *digest look* (a query without bins) that does not
show a catalogued record, and a partition's record count, which is cheap and never proves much by itself: an
insert that no sweep has shown yet hides a delete. The argument for what is concluded here:

1. A reading: every node says, in this order, its counters and truncations, then its counts. Let S be a partition's
   records when they are counted, N = |S|, and `at` a moment before the first answer.
2. Then a sweep runs, and a second reading is taken. If no counter of a deletion, expiry, eviction or truncation has
   moved, no node has restarted and nothing has migrated, then no record of S had vanished before the sweep reached the
   partition. Whatever was in S is therefore catalogued after the sweep: it was before, or the sweep has shown it.
   With K the catalogued records after the sweep: S is a subset of K.
3. If then N = |K|, S and K are equal: every record of K lived when S was counted, so every delete before `at` has been
   found.

So a partition is *proven* up to `at`, by one request a node before the sweep and one after it, when the counters stood
still between the two readings and its count is that of the catalog after the sweep. Otherwise nothing is concluded from
its count, and a digest look decides: it names what is gone, and proves the partition up to `at` as well. Not up to the
look's own beginning: a version that came after the sweep may be what the look shows, and may have gone again before the
next sweep. Such a version may even look like the one that is known, created anew in the same generation, while that one
had gone before `at`. So the look asks apart for what was last written before `at` and for what was written since. What
was not written since is there as the sweep has left it in the catalog, or sweeps have overlooked it and nothing is
proven. What was written since is brought by the next sweep, or it has gone again: then the known version ends as if the
look had not shown it, blind since the deletes that were found before.
Inserts since the first reading make N smaller than |K| and only cost a look.

Of a *scope* made of whole sets the server counts each set over all partitions, copies included. The same argument then
holds for all partitions as one, with three things more. The nodes are counted at different moments, so all counters
must have been read before the first count (`counted` is a second reading for that). A record counts once for each copy
(the replication factor in effect: not more than there are nodes), so the sum is divided by it; and where the namespace
does not hold exactly that many objects for each record of a master, or holds tombstones, copies differ and the sum says
nothing. What is inserted meanwhile may be counted at some copies only, which makes N smaller: that costs a look. What a
filter lets through cannot be counted, nor a part of the shards: there a look decides each time.

So it is done for a whole namespace as well, by what its masters hold together, where the last reconcile found nothing
and its sweep had brought nothing: counting each of 4096 partitions costs a server as much as a query of a few hundred
thousand records, the total costs nothing. Such *brief* readings prove everything or nothing, and only while no counter
has moved since the last reading of all. Otherwise all begins anew at once, with the partitions' counts and another
sweep.

What would break step 2, and how it is met:
- A record came without a LUT that the sweep asks for: after migration, a restart, a truncation undone, or a break in
  our own observation. Then (`undisturbed_since` does not hold) every partition is looked at. A restart shows by the
  cluster's key, which every change of members makes anew, by a counter that went down, and by an uptime that lags
  behind the time that passed; a node of the same name that took another's place shows by the same.
- A record has expired or is truncated, and is still counted until the server purges it. A partition in which we have
  told an expiry is *hazy*: it is looked at, until its count equals the number of records that the look shows. So is
  every partition when sweeps were too far apart to show each version (`Doubts.swept`): one that came and expired in
  between counts, and where it took the place of a known one that seems to be there still. But not where the counts
  agree, and nothing has gone since everything was last known to be there, nor was a record's life made shorter
  (`quiet_since`): one that came unseen and is hidden makes N larger than |K|, which only a delete could have made up
  for, and a version that took a known one's place is hidden only once the void time that is known has come too. Where
  one has come the partition is looked at all the same. So it is where the sweep before has glimpsed a version that was
  still to come (`Doubts.glimpsed`): the void time that is known is not the last one's, and the catalog forgets it, so
  that the record's end is told at its detection. A truncation is a disturbance, at every node by itself, until
  the last of its records has been removed.
- A counter moves when a delete is answered, which with replicas is after the record has gone. So the second reading's
  count must not lie below |K| either (it cannot, where the argument holds). What is left: in one partition (by brief
  readings: in the namespace) a record was deleted before `at`, another inserted since the last sweep and deleted again
  before this one, its answer waits for a replica from then until the second reading, and a third was inserted after the
  sweep.
- A node's clock is further behind than the overlap. Steps are noticed at the next sweep (`clocks`); the audit finds
  what they hid. A record created and expired between two sweeps, hiding a delete in its partition until it is
  purged, is assumed not to happen.

While counters move, every reconcile is a look at all digests. Nothing cheaper is sound: the server counts deletes for
the namespace only, and in any partition one insert and one delete since the last sweep hide another delete from its
count. The look asks for digests alone, never for bins.

A look that runs while partitions migrate concludes nothing: the new master may not have everything yet. A truncation
in mid-look does not matter: what the look does not show is gone.

What polling cannot see at all stays unseen: a record that was created and deleted between two sweeps, and a record
that was touched and deleted between two sweeps in the very moment of its void time.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from cdc.collector.entries import ASIDE, Entries, Keys, find
from cdc.model import I32, I64, NEVER, Bool, Op
from cdc.source.facts import NodeStanding
from cdc.source.scope import Scope

UPTIME_SLACK_S: Final = 2.0
"""By so much a node's uptime may lag behind the time that passed here: it is told in whole seconds, and no two clocks
run alike. A restart within it shows by the cluster's key and the counters."""
SECOND_MS: Final = 1_000
"""Nodes tell their time cut to seconds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The cluster at one moment. `at` (milliseconds, nodes' time) lies before the first answer; all answers came
    between `asked_s` and `answered_s` (monotonic seconds). `counts` are the records of each of the 4096 partitions,
    `settled` says that none migrates. `counted` is what nodes said once all of `nodes` had been read. A brief reading
    has no counts, and tells of all partitions as one."""

    at: int
    asked_s: float
    answered_s: float
    nodes: tuple[NodeStanding, ...]
    counts: I64
    settled: bool
    counted: tuple[NodeStanding, ...] = ()

    @property
    def brief(self) -> bool:
        """Whether no partition's records were counted."""
        return not len(self.counts)

    @property
    def truncated_at(self) -> int:
        """The latest truncation of the namespace that a node knows, in milliseconds; 0: none."""
        return max((node.truncations.namespace for node in self.nodes), default=0)

    @property
    def sets_truncated_at(self) -> dict[str, int]:
        """The latest truncation of each set that a node knows, in milliseconds."""
        latest: dict[str, int] = {}
        for node in self.nodes:
            for name, moment in node.truncations.sets.items():
                latest[name] = max(moment, latest.get(name, 0))
        return latest

    def unrest_since(self, earlier: Self) -> str:
        """What of the cluster's own doing forbids to conclude anything, in words; empty: nothing does."""
        before = {node.name: node for node in earlier.nodes}
        if before.keys() != {node.name for node in self.nodes}:
            return "a node came or went"
        # The time that passed at least. Uptimes are cut to seconds.
        passed_s = self.asked_s - earlier.answered_s
        for node in self.nodes:
            old = before[node.name]
            fell = node.deleted < old.deleted or node.expired < old.expired or node.evicted < old.evicted
            lags = node.uptime_s - old.uptime_s < max(passed_s - UPTIME_SLACK_S, 0)
            if fell or lags:
                return f"node {node.name} restarted"
            if node.cluster_key != old.cluster_key:
                return "the cluster's members changed"
        if not (self.settled and earlier.settled):
            return "partitions migrate, or a node does not answer"
        return ""

    def contradicted_by(self, latest: int) -> str:
        """Which node's clock was set since the clocks were measured, in words; empty: none that shows. `latest` is the
        fastest node's time after the last answer. Moments by clocks that are not known any more say nothing."""
        for node in self.nodes:
            if node.now_ms > latest or node.now_ms + SECOND_MS <= self.at:
                return f"the clock of node {node.name} was set"
        return ""

    def undisturbed_since(self, earlier: Self) -> bool:
        """The same nodes, none restarted, nothing migrating then or now, nothing truncated since or still going."""
        before = {node.name: node.truncations for node in earlier.nodes}
        return not self.unrest_since(earlier) and all(
            node.truncations == before[node.name] and not node.truncations.under_way for node in self.nodes
        )

    def nothing_gone_since(self, earlier: Self) -> bool:
        """Undisturbed, and no record went in between."""
        return self.undisturbed_since(earlier) and _gone(self) == _gone(earlier)

    def quiet_since(self, earlier: Self) -> bool:
        """Nothing went in between, and no write made a record's life shorter."""
        before = {node.name: node.shortened for node in earlier.nodes}
        return self.nothing_gone_since(earlier) and all(node.shortened == before[node.name] >= 0 for node in self.nodes)

    def only_evicted_since(self, earlier: Self) -> bool:
        """Undisturbed, some records were evicted in between, and none was deleted. Some may have expired."""
        before = {node.name: node for node in earlier.nodes}
        return (
            self.undisturbed_since(earlier)
            and all(node.deleted == before[node.name].deleted for node in self.nodes)
            and any(node.evicted != before[node.name].evicted for node in self.nodes)
        )

    def records_in(self, scope: Scope) -> int | None:
        """How many records the scope holds, by the server's own counts; None where these do not tell. Of a whole
        namespace the masters' are counted, of sets all copies."""
        nodes = self.counted or self.nodes
        if scope.everything:
            return sum(node.masters for node in nodes)
        copies = nodes[0].copies if nodes else 0
        objects, masters = sum(node.objects for node in nodes), sum(node.masters for node in nodes)
        if not (scope.counted and copies and objects == copies * masters):
            return None
        if any(node.copies != copies or node.tombstones for node in nodes):
            return None
        of: Counter[str] = Counter()
        for node in nodes:
            of.update(node.sets)
        of[""] = objects - of.total()  # the null set, which is not listed
        found = sum(of[name] for name in scope.sets(of))
        return None if found % copies else found // copies


def _gone(reading: Reading) -> dict[str, tuple[int, int, int]]:
    return {node.name: (node.deleted, node.expired, node.evicted) for node in reading.nodes}


def proven(before: Reading, after: Reading, catalogued: I64, hazy: Bool, scope: Scope) -> Bool:
    """Which partitions are proven up to `before.at`, (4096,). `catalogued` are the catalog's counts of them after a
    sweep that began after `before` was read (-1 for those of another worker); `after` was read after that sweep."""
    none: Bool = np.zeros(len(catalogued), np.bool_)
    as_one = before.brief or not scope.everything
    if not after.nothing_gone_since(before) or (as_one and np.any(hazy)):
        return none
    return agreeing(before, after, catalogued, scope) & ~hazy


def agreeing(before: Reading, after: Reading, catalogued: I64, scope: Scope) -> Bool:
    """Of which partitions counts and catalog agree, (4096,); by brief readings, and of a scope of sets, all do or none.
    See `proven`."""
    if scope.everything and not before.brief:
        out: Bool = (before.counts == catalogued) & (after.counts >= catalogued)
        return out
    known, still = int(catalogued.sum()), after.records_in(scope)
    same = bool((catalogued >= 0).all()) and before.records_in(scope) == known and still is not None and still >= known
    return np.full(len(catalogued), same, np.bool_)


def cleared(before: Reading, after: Reading, final: Reading, looked: Bool, shown: I64, scope: Scope) -> Bool:
    """Which partitions a look has freed of haze, (4096,): where the counts before and after it (`after`, `final`) are
    those of the records that it has shown. `looked` are the partitions that it went through."""
    none: Bool = np.zeros(len(shown), np.bool_)
    if not final.nothing_gone_since(before):
        return none
    if scope.everything:
        out: Bool = looked & (after.counts == shown) & (final.counts == shown)
        return out
    whole = bool(looked.all()) and after.records_in(scope) == int(shown.sum()) == final.records_in(scope)
    return ~none if whole else none


def absent(entries: Entries, present: Keys) -> Bool:
    """Which of the entries are not among the digests that a look has shown (ordered by key)."""
    out: Bool = find(present, entries.key, entries.tail_high, entries.tail_low) < 0
    return out


@dataclass(frozen=True, slots=True)
class Shown:
    """What a look has shown of n records, by key. `fresh`: written at or after the moment up to which it is to prove
    deletes."""

    generation: I32
    void_time: I64
    fresh: Bool

    def take(self, rows: slice) -> Self:
        """Some of them."""
        return type(self)(self.generation[rows], self.void_time[rows], self.fresh[rows])


def otherwise(entries: Entries, row: I64, shown: Shown, up_to: int) -> tuple[Bool, Bool]:
    """Which of the entries a look has shown as other versions: those that were written since the moment `up_to`, which
    the next sweep brings unless they have gone again; and those that were not, which sweeps have overlooked. Of those
    kept aside no version is known. `row` says where each stands in what was shown, -1 where it does not.

    Deletes are to be found up to `up_to`. A record that was not written since has not gone and come again since; one
    that was may have, in the very generation and with the void time that are known. What is catalogued with a LUT from
    then on began then.
    """
    known: I64 = np.flatnonzero((row >= 0) & ((entries.set_number & ASIDE) == 0))
    at, had = row[known], entries.take(known)
    fresh, late = shown.fresh[at], had.lut >= up_to
    other = (had.generation != shown.generation[at]) | (had.void_time != shown.void_time[at]) | (fresh != late)
    rewritten: Bool = np.zeros(len(row), np.bool_)
    overlooked: Bool = np.zeros(len(row), np.bool_)
    rewritten[known], overlooked[known] = other & fresh, other & ~fresh
    return rewritten, overlooked


def unknown(entries: Entries, present: Keys) -> Bool:
    """Which of the digests that a look has shown have no entry."""
    out: Bool = find(entries, *present) < 0
    return out


def ends_of(
    entries: Entries, truncated_at: I64, found: I64, observed_at: int, evicting: bool = False
) -> tuple[dict[Op, I64], I64]:
    """For entries that are gone: rows by op, and for every row from when on its end holds.

    `truncated_at` is the last truncation of each row's set, `found` the moment at which the record was last known to be
    there. A record was truncated if its LUT lies before a truncation that is later than `found`: a truncation may name
    an earlier LUT than its own time (`lut` of the info command), and then does not say when the record went. One whose
    void time had passed has expired then. Any other was deleted, and counts as deleted from its detection on; so does a
    record that was kept aside, whose LUT and void time are not known. `evicting` says that since all of them were there
    records were evicted and none was deleted: what had a void time to come was evicted then. Where both went on, an
    eviction is called a delete.
    """
    void_time = entries.void_time
    aside = (entries.set_number & ASIDE) != 0
    truncated = ~aside & (entries.lut < truncated_at) & (found < truncated_at)
    expired = ~aside & ~truncated & (void_time != NEVER) & (void_time <= observed_at)
    evicted = ~aside & ~truncated & ~expired & (void_time != NEVER) & evicting
    # A truncation's moment is that of a clock which may have been ahead, or set back since: it has happened by now.
    cut_at = np.minimum(truncated_at, observed_at)
    effective_at = np.where(truncated, cut_at, np.where(expired, void_time, observed_at))
    rows = {
        Op.DELETE: np.flatnonzero(~truncated & ~expired & ~evicted),
        Op.EXPIRY: np.flatnonzero(expired),
        Op.EVICTION: np.flatnonzero(evicted),
        Op.TRUNCATION: np.flatnonzero(truncated),
    }
    return rows, effective_at
