"""A namespace of a cluster: what its records are now, when they got so, and what its nodes say of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cdc import codec
from cdc.clock import CITRUSLEAF_EPOCH_S, Clock, wall_clock
from cdc.codec.frames import Projections
from cdc.errors import ClusterUnreachable
from cdc.model import I64, U8, partition_of
from cdc.source import expressions, facts
from cdc.source.join_kernels import last_rows
from cdc.source.observed import Look, Observed, once, taken
from cdc.wire import messages as m
from cdc.wire.batch import values
from cdc.wire.cluster import Cluster, Node
from cdc.wire.query import query

PROJECTS_SINCE = (8, 1, 2)
"""The first server that projects an expression in a query."""
ASKED_AGAIN = 2
"""How often records are asked again that changed between the two queries."""
CLOCK_SAMPLES = 3
CLOCK_PARTITIONS = 32
"""Where a record to tell the time by is looked for first."""


@dataclass(frozen=True, slots=True)
class NodeClock:
    """A node's clock against ours: its time is ours plus `offset_ms`, give or take `error_ms`."""

    offset_ms: int
    error_ms: int


class Source:
    """One namespace. `sets` limits it to records of these sets ("" is the null set); none means all."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        *,
        sets: Sequence[str] = (),
        connections: int = 2,
        clock: Clock = wall_clock,
    ) -> None:
        """Raises NamespaceUnknown and ClusterUnreachable."""
        self.cluster = cluster
        self.namespace = namespace
        self._sets = expressions.in_sets(sets) if sets else None
        self._connections = connections
        self._clock = clock
        cluster.owners(namespace)
        self._projects = all(build >= PROJECTS_SINCE for build in cluster.builds().values())

    def observe(
        self, partitions: Iterable[int], since_ms: int | None = None, *, records_per_second: int = 0
    ) -> Observed:
        """Every record of the partitions with a LUT of at least `since_ms` (None: every record).

        Bins first, then LUTs, joined by (digest, generation), for the reason docs/architecture.md gives: a content
        may be older than its LUT says, never newer. What changed in between is asked again, twice at most. Raises
        what `wire.query.query` raises, and CodecError.
        """
        asked = np.unique(np.fromiter(partitions, np.int64))
        parts = [self._look(asked, since_ms, records_per_second)]
        for _ in range(ASKED_AGAIN):
            newest = parts[-1]
            torn = np.flatnonzero(newest.torn)
            if not len(torn):
                break
            digests = newest.records.digest[torn]
            where = np.unique(partition_of(digests))
            again = self._look(where, int(newest.lut[torn].min()), records_per_second)
            keep = last_rows(again.records.digest, digests) >= 0
            parts[-1] = newest.take(np.flatnonzero(~newest.torn))
            parts.append(again.take(np.flatnonzero(keep)))
        whole = parts[0] if len(parts) == 1 else Look.joined(parts)
        return Observed(asked, whole.records, whole.lut)

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

    def digests(self, partitions: Iterable[int]) -> Projections:
        """Digest, generation and void time of every record of the partitions; a record may come twice."""
        frames = query(
            self.cluster, self.namespace, partitions, filter=self._sets, bins=False, connections=self._connections
        )
        return codec.digests(frames)

    def luts(self, digests: U8) -> tuple[I64, I64, I64]:
        """LUT (milliseconds), generation and result code of named records, by batches of expression reads."""
        answers = values(self.cluster, self.namespace, digests, expressions.LUT, connections=self._connections)
        return (
            answers.value // expressions.NS_PER_MS,
            answers.generation.astype(np.int64),
            answers.result.astype(np.int64),
        )

    def _look(self, partitions: I64, since_ms: int | None, records_per_second: int) -> Look:
        since = None if since_ms is None else expressions.lut_at_least(since_ms)
        filter_ = expressions.both(since, self._sets)

        def ask(project: bytes | None) -> Iterator[U8]:
            return query(
                self.cluster, self.namespace, partitions.tolist(), filter=filter_, project=project,
                records_per_second=records_per_second, connections=self._connections,
            )  # fmt: skip

        records = once(codec.records(ask(None)))
        if not len(records):
            return Look(records, np.empty(0, np.int64), np.empty(0, np.int64))
        if self._projects:
            times = codec.projections(ask(expressions.LUT))
            row = last_rows(records.digest, times.digest)
            there = np.flatnonzero(row >= 0)
            lut = times.value[row[there]] // expressions.NS_PER_MS
            generation = times.generation[row[there]].astype(np.int64)
        else:
            lut, generation, result = self.luts(records.digest)
            there = np.flatnonzero(result == m.Result.OK)
            lut, generation = lut[there], generation[there]
        return Look(taken(records, there), lut, generation)

    # What the nodes say

    def clocks(self) -> dict[str, NodeClock]:
        """Every node's clock against ours, by node name; ClusterUnreachable.

        From a record's `LastUpdateTime() + SinceUpdateTime()`, to about the time a request takes; from info
        `current_time`, to a second, where a node holds no record or cannot project.
        """
        owned: dict[Node, list[int]] = {node: [] for node in self.cluster.nodes()}
        for partition, node in self.cluster.owners(self.namespace).items():
            owned.setdefault(node, []).append(partition)
        return {node.name: self._clock_of(node, partitions) for node, partitions in owned.items()}

    def _clock_of(self, node: Node, partitions: list[int]) -> NodeClock:
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
        if best is not None:
            return best
        before = self._clock()
        answer = facts.namespace_facts(self.cluster.info(node, f"namespace/{self.namespace}"), self.namespace)
        now = (facts.number(answer, "current_time") + CITRUSLEAF_EPOCH_S) * 1000
        return _between(now + 500, before, self._clock(), 500)

    def _sample(self, partitions: list[int]) -> NodeClock | None:
        before = self._clock()
        frames = query(
            self.cluster, self.namespace, partitions, filter=expressions.TELLS_TIME, project=expressions.NODE_NOW,
            connections=1, sample_max=1,
        )  # fmt: skip
        times = codec.projections(frames)
        return _between(int(times.value[0]), before, self._clock(), 1) if len(times) else None

    def partition_counts(self) -> facts.PartitionCounts:
        """Records of each partition at its working master, and whether the counts may be relied on."""
        nodes = self.cluster.nodes()
        answers = {}
        for node in nodes:
            try:
                answers[node.name] = self.cluster.info(node, "partition-info")
            except ClusterUnreachable:
                continue  # it is missing from the counts, which are then not settled
        return facts.partition_counts(answers, self.namespace, complete=len(answers) == len(nodes))

    def deletion_counters(self) -> dict[str, facts.DeletionCounters]:
        """By node name; ClusterUnreachable if one does not answer."""
        mine = f"namespace/{self.namespace}"
        return {
            node.name: facts.deletion_counters(
                self.cluster.info(node, mine), self.cluster.info(node, "statistics"), self.namespace
            )
            for node in self.cluster.nodes()
        }

    def truncations(self) -> facts.Truncations:
        """Truncations of the namespace and its sets; ClusterUnreachable if a node does not answer."""
        return facts.truncations(
            self._said(f"namespace/{self.namespace}"), self._said(f"sets/{self.namespace}"), self.namespace
        )

    def sets(self) -> tuple[facts.SetFacts, ...]:
        """The namespace's sets."""
        return facts.set_facts(self._said(f"sets/{self.namespace}"))

    def secondary_indexes(self) -> tuple[facts.SecondaryIndex, ...]:
        """The namespace's secondary indexes."""
        node = self.cluster.nodes()[0]
        return facts.secondary_indexes(self.cluster.info(node, "sindex-list"), self.namespace)

    def udfs(self) -> tuple[facts.Udf, ...]:
        """The cluster's registered modules."""
        node = self.cluster.nodes()[0]
        return tuple(
            facts.Udf(
                filename=word["filename"],
                type=word.get("type", ""),
                hash=word.get("hash", ""),
                content=facts.udf_content(self.cluster.info(node, f"udf-get:filename={word['filename']}")),
            )
            for word in facts.udf_names(self.cluster.info(node, "udf-list"))
        )

    def _said(self, command: str) -> Mapping[str, str]:
        return {node.name: self.cluster.info(node, command) for node in self.cluster.nodes()}


def _between(there: int, before: int, after: int, resolution: int) -> NodeClock:
    return NodeClock(there - (before + after) // 2, (after - before + 1) // 2 + resolution)
