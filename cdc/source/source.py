"""A namespace of a cluster: what its records are now, when they got so, and what its nodes say of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cdc import codec
from cdc.clock import CITRUSLEAF_EPOCH_S, Clock, wall_clock
from cdc.codec.frames import CONTENT_LIMIT, Projections
from cdc.errors import ClusterUnreachable, PartitionUnavailable, ProtocolError
from cdc.model import I64, U8, partition_of
from cdc.source import expressions, facts
from cdc.source.join_kernels import last_rows
from cdc.source.observed import Look, Observed, once, taken
from cdc.source.scope import Scope, set_indexes
from cdc.wire import messages as m
from cdc.wire.batch import values
from cdc.wire.cluster import Cluster, Node
from cdc.wire.query import OVERLOADED, query

PROJECTS_SINCE = (8, 1, 2)
"""The first server that projects an expression in a query."""
FEW = 1_000
"""So many LUTs are asked for by their digests: a second pass over the index would cost the server more."""
TELLING = frozenset({m.Result.OK, m.Result.NOT_FOUND})
"""Results that say of a record how it stands."""
ASKED_AGAIN = 2
"""How often records are asked again that changed between the two queries."""
CLOCK_SAMPLES = 3
CLOCK_PARTITIONS = 32
"""Where a record to tell the time by is looked for first."""
EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class NodeClock:
    """A node's clock against ours: its time is ours plus `offset_ms`, give or take `error_ms`."""

    offset_ms: int
    error_ms: int


class Source:
    """One namespace, or what of it is in `scope`: nothing else is observed."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        *,
        scope: Scope = EVERYTHING,
        connections: int = 2,
        clock: Clock = wall_clock,
        content_limit: int = CONTENT_LIMIT,
    ) -> None:
        """A record with a larger encoded content is rejected. Raises NamespaceUnknown and ClusterUnreachable."""
        self.cluster = cluster
        self.namespace = namespace
        self.scope = scope
        self.parts = scope.parts({})
        self.connections = connections
        self._clock = clock
        self._content_limit = content_limit
        cluster.owners(namespace)
        self._projects = all(build >= PROJECTS_SINCE for build in cluster.builds().values())

    def observe(
        self,
        partitions: Iterable[int],
        since_ms: int | None = None,
        *,
        records_per_second: int = 0,
        again: int = ASKED_AGAIN,
    ) -> Observed:
        """Every record of the partitions with a LUT of at least `since_ms` (None: every record).

        Bins first, then LUTs, joined by (digest, generation), for the reason docs/architecture.md gives: a content
        may be older than its LUT says, never newer. What changed in between is asked `again` so often at most. Raises
        what `wire.query.query` raises, and CodecError.
        """
        asked = np.unique(np.fromiter(partitions, np.int64))
        parts = [self._look(asked, since_ms, records_per_second)]
        for _ in range(again):
            newest = parts[-1]
            torn = np.flatnonzero(newest.torn)
            if not len(torn):
                break
            digests = newest.records.digest[torn]
            where = np.unique(partition_of(digests))
            second = self._look(where, int(newest.lut[torn].min()), records_per_second)
            keep = last_rows(second.records.digest, digests) >= 0
            parts[-1] = newest.take(np.flatnonzero(~newest.torn))
            parts.append(second.take(np.flatnonzero(keep)))
        whole = parts[0] if len(parts) == 1 else Look.joined(parts)
        return Observed(asked, whole.records, whole.lut, whole.torn)

    def observations(
        self,
        partitions: Iterable[int],
        since_ms: int | None = None,
        *,
        slice_records: int = 500_000,
        records_per_second: int = 0,
    ) -> Iterator[Observed]:
        """`observe`, for slices of the partitions that hold about `slice_records` records: memory stays bounded."""
        counts = np.maximum(self.partition_counts().records, 0)
        asked = np.unique(np.fromiter(partitions, np.int64))
        if not len(asked):
            return
        slices = np.cumsum(counts[asked]) // slice_records
        for part in np.split(asked, np.flatnonzero(np.diff(slices)) + 1):
            yield self.observe(part.tolist(), since_ms, records_per_second=records_per_second)

    def digests(
        self, partitions: Iterable[int], *, since_ms: int | None = None, before_ms: int | None = None
    ) -> Projections:
        """Digest, generation and void time of every record of the partitions, or of those with a LUT at or after
        `since_ms`, or before `before_ms`; a record may come twice. Raises what `wire.query.query` raises, CodecError,
        and ProtocolError where a record's answer cannot be read: left out it would pass for deleted."""
        return _whole(codec.digests(self._query(list(partitions), since_ms, before_ms=before_ms, bins=False)))

    def threads_a_query(self) -> int:
        """Threads that a node gives to one query at the most: `single-query-threads`, the highest of the nodes'.
        ClusterUnreachable."""
        about = f"namespace/{self.namespace}"  # it tells the namespace's settings as well
        said, _ = self.holders(about)
        return max(facts.number(facts.pairs(answer[about]), "single-query-threads") for answer in said.values())

    def luts(self, digests: U8) -> tuple[I64, I64, I64]:
        """LUT (milliseconds), generation and result code of named records, by batches of expression reads."""
        answers = values(self.cluster, self.namespace, digests, expressions.LUT, connections=self.connections)
        return (
            answers.value // expressions.NS_PER_MS,
            answers.generation.astype(np.int64),
            answers.result.astype(np.int64),
        )

    def _look(self, partitions: I64, since_ms: int | None, records_per_second: int) -> Look:
        asked = partitions.tolist()
        frames = self._query(asked, since_ms, records_per_second=records_per_second)
        records = once(codec.records(frames, limit=self._content_limit))
        if not len(records):
            return Look(records, np.empty(0, np.int64), np.empty(0, np.int64))
        # A batch knows neither the filter, which a record may have left meanwhile, nor a limit on its rate.
        few = len(records) <= FEW and not self.scope.filter and not records_per_second
        if self._projects and not few:
            times = _whole(
                codec.projections(
                    self._query(asked, since_ms, project=expressions.LUT, records_per_second=records_per_second)
                )
            )
            row = last_rows(records.digest, times.digest)
            there = np.flatnonzero(row >= 0)
            lut = times.value[row[there]] // expressions.NS_PER_MS
            generation = times.generation[row[there]].astype(np.int64)
        else:
            lut, generation, result = self.luts(records.digest)
            self._answered(result)
            there = np.flatnonzero(result == m.Result.OK)
            lut, generation = lut[there], generation[there]
            if (without := int((lut <= 0).sum())) > 0:
                raise ProtocolError(f"{self.namespace}: {without:,} records were answered without their update time")
        return Look(taken(records, there), lut, generation)

    def _query(
        self,
        partitions: list[int],
        since_ms: int | None = None,
        *,
        before_ms: int | None = None,
        project: bytes | None = None,
        bins: bool = True,
        records_per_second: int = 0,
    ) -> Iterator[U8]:
        """Frames with every record in scope of the partitions."""
        since = None if since_ms is None else expressions.lut_at_least(since_ms)
        times = expressions.both(since, None if before_ms is None else expressions.lut_before(before_ms))
        # Every connection keeps several of a server's threads busy. A sweep comes each second and finds little: those
        # whom the namespace serves feel a second connection more than the sweep does.
        connections = self.connections if since_ms is None else 1
        for part in self.parts:
            yield from query(
                self.cluster, self.namespace, partitions, filter=expressions.both(times, part.filter), project=project,
                bins=bins, set_name=part.set_name, records_per_second=records_per_second,
                connections=connections,
            )  # fmt: skip

    def _answered(self, result: I64) -> None:
        """Every record is there or gone; PartitionUnavailable where a node would not say, or it would be left out."""
        codes, counts = np.unique(result, return_counts=True)
        unsaid = {code: n for code, n in zip(codes.tolist(), counts.tolist(), strict=True) if code not in TELLING}
        if unsaid:
            for code in unsaid.keys() & OVERLOADED:
                self.cluster.was_busy(m.Result(code).name)
            named = ", ".join(f"result {m.result_name(code)} for {n:,}" for code, n in unsaid.items())
            raise PartitionUnavailable(f"{self.namespace}: update times cannot be read: {named}")

    # What the nodes say

    def learn_sets(self) -> None:
        """Ask, where it matters, which sets the nodes know and have an index of: looks use them from now on. While a
        node does not answer nothing is taken for known, and looks ask as they would of any server."""
        if self.scope.include:
            command = f"sets/{self.namespace}"
            said, all_of_them = self._said_all(command)
            self.parts = self.scope.parts(set_indexes({n: a[command] for n, a in said.items()}) if all_of_them else {})

    def clocks(self) -> dict[str, NodeClock]:
        """Every node's clock against ours, by node name, of those that answer; ClusterUnreachable where none does.

        From a record's `LastUpdateTime() + SinceUpdateTime()`, to about the time a request takes; from info
        `current_time`, to a second, where a node holds no record or cannot project.
        """
        owned: dict[Node, list[int]] = {node: [] for node in self.cluster.nodes()}
        for partition, node in self.cluster.owners(self.namespace).items():
            owned.setdefault(node, []).append(partition)
        seconds = self.seconds()
        sharp = {node.name: self._sharp_clock(partitions) for node, partitions in owned.items() if node.name in seconds}
        if not seconds:
            raise ClusterUnreachable(f"no node tells its time, of {', '.join(node.name for node in owned)}")
        return {name: sharp.get(name) or clock for name, clock in seconds.items()}

    def seconds(self) -> dict[str, NodeClock]:
        """The same from info `current_time` alone: half a second sharp, for one cheap request a node."""
        command = f"namespace/{self.namespace}"
        before = self._clock()
        said, _ = self._said_all(command)
        after = self._clock()
        out = {}
        for name, answer in facts.holding(said, self.namespace).items():
            found = facts.namespace_facts(answer[command], self.namespace)
            now = (facts.number(found, "current_time") + CITRUSLEAF_EPOCH_S) * 1000
            out[name] = _between(now + 500, before, after, 500)
        return out

    def _sharp_clock(self, partitions: list[int]) -> NodeClock | None:
        best: NodeClock | None = None
        samples = CLOCK_SAMPLES if self._projects and partitions else 0
        few = partitions[:CLOCK_PARTITIONS]
        for _ in range(samples):
            seen = self._sample(few)
            if seen is None and len(few) < len(partitions):
                few = partitions  # the answer takes longer, and is less sharp for it
                seen = self._sample(few)
            if seen is None:
                break
            best = seen if best is None or seen.error_ms < best.error_ms else best
        return best

    def _sample(self, partitions: list[int]) -> NodeClock | None:
        before = self._clock()
        frames = query(
            self.cluster, self.namespace, partitions, filter=expressions.TELLS_TIME, project=expressions.NODE_NOW,
            connections=1, sample_max=1, retries=0,
        )  # fmt: skip
        try:
            times = codec.projections(frames)
        except (ClusterUnreachable, PartitionUnavailable):
            return None  # the node goes, or gives its partitions away: not for its clock's sake is that waited for
        return _between(int(times.value[0]), before, self._clock(), 1) if len(times) else None

    def partition_counts(self) -> facts.PartitionCounts:
        """Records of each partition at its working master, and whether the counts may be relied on."""
        said, all_of_them = self._said_all("partition-info")
        answers = {name: answer["partition-info"] for name, answer in said.items()}
        return facts.partition_counts(answers, self.namespace, complete=all_of_them)

    def standing(self, *, brief: bool = False) -> facts.Standing:
        """Counts (not in a brief one), deletion counters, truncations and clocks of all nodes, by one request to each.
        Where one does not answer it is left out, and the counts are not settled; ClusterUnreachable if none does."""
        said, all_of_them = self.holders(*facts.standing_commands(self.namespace, brief=brief))
        return facts.standing(said, self.namespace, complete=all_of_them, brief=brief)

    def holders(self, *commands: str) -> tuple[dict[str, Mapping[str, str]], bool]:
        """What the nodes that have the namespace say, by name, and whether all nodes have answered. `namespace/NAME` is
        among the commands. Raises ClusterUnreachable if no node answers, NamespaceUnknown if none has the namespace."""
        said, all_of_them = self._said_all(*commands)
        if not said:
            raise ClusterUnreachable(f"no node answers, of {', '.join(node.name for node in self.cluster.nodes())}")
        return facts.holding(said, self.namespace), all_of_them

    def _said_all(self, *commands: str) -> tuple[dict[str, Mapping[str, str]], bool]:
        """The answers of the nodes that answer, by name, and whether all of them did."""
        said = self.cluster.ask_all(*commands)
        answers: dict[str, Mapping[str, str]] = {
            node.name: answer for node, answer in said.items() if not isinstance(answer, ClusterUnreachable)
        }
        return answers, len(answers) == len(said)


def _whole(said: Projections) -> Projections:
    """What was said, if all of it could be read: a record left out here would be left out of what is captured."""
    if said.rejected:
        why = said.rejected[0].reason
        raise ProtocolError(f"{len(said.rejected):,} records were answered without what was asked of them: {why}")
    return said


def _between(there: int, before: int, after: int, resolution: int) -> NodeClock:
    return NodeClock(there - (before + after) // 2, (after - before + 1) // 2 + resolution)
