"""The collector's two edges, in this process and without threads: the emulator asked without sockets, and a log in
memory that keeps Kafka's promises (transactions, offsets with markers, the last progress of a shard).

Each call over an edge is a *point*, counted from the begin of a round: a program says what else happens there, or that
the process dies there.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

import cdc.collector
from cdc.collector.session import Session
from cdc.embedded.aerospike import Node as EmulatedNode
from cdc.embedded.aerospike import info, query, requests
from cdc.embedded.aerospike.store import seconds_2010
from cdc.errors import BrokerUnreachable, ClusterUnreachable, OffsetsLost, PartitionUnavailable
from cdc.model import I64, U8, Bodies
from cdc.source import expressions
from cdc.source.facts import PartitionCounts, partition_counts
from cdc.topics import Chunk, Progress, ProgressEntry, Topics
from cdc.topics.membership import Assignment
from cdc.wire import messages as m
from cdc.wire.batch import Answers
from cdc.wire.cluster import Node, parse_replicas
from cdc.wire.query import Ask
from tests.model.world import DIGESTS, KEY_OF, NAMESPACE, PLACES, World, partitions_with_records


class Killed(BaseException):
    """The collector's process dies here."""


@dataclass(slots=True)
class Points:
    """What happens at the calls over an edge; see the module."""

    at: Callable[[int], None] = lambda number: None
    number: int = 0

    def __call__(self) -> None:
        self.number += 1
        self.at(self.number)


# The source


class DirectCluster:
    """What `wire.Cluster` offers of an emulated cluster."""

    def __init__(self, world: World, points: Points) -> None:
        self.world = world
        self.points = points
        self._owners: tuple[int, dict[int, Node]] = (-1, {})

    def close(self) -> None:
        pass

    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(n.id, "127.0.0.1", n.server.port) for n in self.world.emulator.nodes if n.alive)

    def builds(self) -> dict[Node, tuple[int, ...]]:
        return dict.fromkeys(self.nodes(), (8, 1, 2, 0))

    def info(self, node: Node, command: str) -> str:
        return self.ask(node, command)[command]

    def ask(self, node: Node, *commands: str) -> dict[str, str]:
        self.points()
        emulated = next(n for n in self.world.emulator.nodes if n.id == node.name)
        if not emulated.alive:
            raise ClusterUnreachable(f"node {node.name} is gone")
        return {command: self._said(emulated, command) for command in commands}

    def ask_all(self, *commands: str) -> dict[Node, dict[str, str] | ClusterUnreachable]:
        said: dict[Node, dict[str, str] | ClusterUnreachable] = {}
        for node in self.nodes():
            try:
                said[node] = self.ask(node, *commands)
            except ClusterUnreachable as error:
                said[node] = error
        return said

    def busy_answers(self) -> Counter[str]:
        return Counter()

    def _said(self, node: EmulatedNode, command: str) -> str:
        if command != "partition-info":
            return _answer(node, command)
        # Four thousand lines, of which a handful ever differ.
        counts = tuple(len(node.stores[NAMESPACE].partitions[p]) for p, _ in PLACES)
        emulator = self.world.emulator
        asked = node.id, self.world.ownership, emulator.cluster_key, counts
        if asked not in _PARTITION_INFO:
            _PARTITION_INFO[asked] = _answer(node, command)
        return _PARTITION_INFO[asked]

    def owners(self, namespace: str) -> Mapping[int, Node]:
        generation = self.world.emulator.rebalance_generation
        if self._owners[0] != generation:
            owners = {}
            by_id = {node.name: node for node in self.nodes()}
            for node in self.world.emulator.nodes:
                if node.alive:
                    claim = parse_replicas(_answer(node, "replicas"))
                    owners |= dict.fromkeys(claim[namespace].partitions, by_id[node.id])
            self._owners = generation, owners
        return self._owners[1]


def _parsed(answers: Mapping[str, str], namespace: str, *, complete: bool) -> PartitionCounts:
    asked = tuple(answers.items()), complete
    if asked not in _COUNTS:
        _COUNTS[asked] = partition_counts(answers, namespace, complete=complete)
    return _COUNTS[asked]


def _answer(node: EmulatedNode, command: str) -> str:
    line = info.answer(node, command.encode()).decode()
    return line.removesuffix("\n").partition("\t")[2]


_PARTITION_INFO: dict[Any, str] = {}
_COUNTS: dict[Any, PartitionCounts] = {}


def direct_query(cluster: Any, namespace: str, partitions: Iterable[int], **asked: Any) -> Iterator[U8]:
    """`wire.query.query` of an emulated cluster."""
    ask = Ask(namespace, **{k: v for k, v in asked.items() if k in Ask.__dataclass_fields__})
    left = set(np.asarray(list(partitions)).tolist())
    world = cluster.world
    for node in world.emulator.nodes:
        cluster.points()
        mine = [p for p in partitions_with_records(node) if p in left] if node.alive else []
        owned = [p for p in mine if node.owns(namespace, p)]
        if not owned:
            continue
        request = requests.parse(ask.frame(owned)[m.FRAME_HEAD :])
        store = node.stores[namespace]
        for frame in query.answers(store, query.check(request), lambda p, n=node, s=store: n.snapshot(s, p), node.now):
            if len(frame) > m.HEADER_SIZE:
                for digest in DIGESTS:
                    if digest in frame:
                        world.show(
                            KEY_OF[digest], bins=ask.bins and ask.project is None, lut=ask.project == expressions.LUT
                        )
                yield np.frombuffer(frame, np.uint8)
    if not any(node.alive for node in world.emulator.nodes):
        raise PartitionUnavailable(f"{namespace}: no node owns them")


def direct_values(cluster: Any, namespace: str, digests: U8, project: bytes, **_: Any) -> Answers:
    """`wire.batch.values` of an emulated cluster, for LUTs; a point a node."""
    assert project == expressions.LUT
    world, answers = cluster.world, Answers.none(len(digests))
    for node in world.emulator.nodes:
        cluster.points()
        store = node.stores[namespace]
        for row, digest in enumerate(digests):
            if not node.alive or not node.owns(namespace, PLACES[KEY_OF[digest.tobytes()]][0]):
                continue
            record = store.find(digest.tobytes())
            if record is None or store.hidden(record, seconds_2010(node.now())):
                answers.result[row] = m.Result.NOT_FOUND
            else:
                answers.result[row] = m.Result.OK
                answers.generation[row] = record.generation
                answers.value[row] = record.lut_ms * expressions.NS_PER_MS
                world.show(KEY_OF[digest.tobytes()], lut=True)
    return answers


class Inline:
    """An executor that does at once what it is given: a piece is read ahead before the one before is published."""

    def __init__(self, *_: Any) -> None:
        pass

    def submit(self, call: Callable[..., Any], *given: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*given))
        except Exception as error:  # noqa: BLE001 - an executor hands everything on
            future.set_exception(error)
        return future

    def map(self, call: Callable[..., Any], *given: Iterable[Any]) -> Iterator[Any]:
        return map(call, *given)

    def shutdown(self, **_: Any) -> None:
        pass

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None:
        pass


# The log


@dataclass(frozen=True, slots=True)
class Committed:
    """A change as it stands in the log; `seq` is when it was committed."""

    offset: int
    timestamp: int
    body: bytes


@dataclass(slots=True)
class Log:
    """The changes and progress of a namespace: by shard, in order. Every transaction leaves a marker, which has an
    offset too. `fail` decides, at each commit, whether the commit is done and whether its answer is lost."""

    points: Points
    shards: int
    changes: dict[int, list[Committed]] = field(default_factory=dict)
    progress: dict[int, list[Progress]] = field(default_factory=dict)
    end: dict[int, int] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    """What becomes of the next commits: "lost" (done, but the answer is lost), "refused" (not done)."""
    commits: int = 0

    def commit(self, changes: list[tuple[int, int, bytes]], progress: list[Progress]) -> None:
        for shard, at, body in changes:
            offset = self.end.get(shard, 0)
            self.changes.setdefault(shard, []).append(Committed(offset, at, body))
            self.end[shard] = offset + 1
        for shard in {shard for shard, _, _ in changes}:
            self.end[shard] += 1  # the marker
        for one in progress:
            self.progress.setdefault(one.shard, []).append(one)
        self.commits += 1


class MemoryMembership:
    """A group of one worker."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.assignment = Assignment(tuple(range(log.shards)), None)

    def poll(self, timeout_s: float = 0.0) -> tuple[int, ...]:
        return self.assignment.shards

    def last(self, shard: int) -> Progress | None:
        told = self._log.progress.get(shard)
        return told[-1] if told else None

    def ask_again(self) -> None:
        pass

    def close(self) -> None:
        pass


class MemoryPublisher:
    """The producer of one worker."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def close(self) -> None:
        pass

    @contextmanager
    def transaction(self) -> Iterator["MemoryTransaction"]:
        tx = MemoryTransaction(self._log)
        yield tx
        self._log.points()
        answer = self._log.answers.pop(0) if self._log.answers else "done"
        if answer != "refused":
            self._log.commit(tx.written, tx.told)
        if answer != "done":
            raise BrokerUnreachable("the answer to a commit did not come")
        self._log.points()


class MemoryTransaction:
    """One open transaction."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.written: list[tuple[int, int, bytes]] = []
        self.told: list[Progress] = []
        self._spans: dict[int, tuple[int, int]] = {}

    def changes(self, shard: int, bodies: Bodies, digests: U8, observed_at: int) -> None:
        first, through = self._spans.get(shard, (self._log.end.get(shard, 0),) * 2)
        self._spans[shard] = first, through + len(bodies)
        self.written += [(shard, observed_at, body) for body in bodies]

    def aside(self, shard: int, digest: bytes, message: bytes, reason: str, observed_at: int) -> None:
        raise AssertionError(f"nothing in the model is kept aside: {reason}")

    def flush(self) -> dict[int, tuple[int, int]]:
        return dict(self._spans)

    def progress(self, progress: Progress) -> None:
        self.told.append(progress)


class MemoryReader:
    """Committed changes from given offsets on."""

    def __init__(self, log: Log, positions: Mapping[int, int]) -> None:
        self._log = log
        self._positions = dict(positions)

    def __enter__(self) -> "MemoryReader":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    @property
    def positions(self) -> dict[int, int]:
        return dict(self._positions)

    @property
    def ends(self) -> dict[int, int]:
        return {shard: self._log.end.get(shard, 0) for shard in self._positions}

    def read(self, timeout_s: float, *_: Any, **__: Any) -> list[Chunk]:
        chunks = []
        for shard, at in self._positions.items():
            told = self._log.changes.get(shard, [])
            if at < (told[0].offset if told else 0):
                raise OffsetsLost(f"changes, partition {shard}: offset {at} is not there (any more)")
            rows = [one for one in told if one.offset >= at]
            if rows:
                self._positions[shard] = rows[-1].offset + 1
                offsets: I64 = np.array([one.offset for one in rows], np.int64)
                times: I64 = np.array([one.timestamp for one in rows], np.int64)
                chunks.append(Chunk(shard, offsets, times, bodies_of([one.body for one in rows])))
        return chunks


class MemoryProgressReader(MemoryReader):
    """Committed progress from given offsets on: the n-th record has the offset n."""

    def read(self, timeout_s: float, *_: Any, **__: Any) -> list[Any]:
        out = []
        for shard, at in self._positions.items():
            told = self._log.progress.get(shard, [])
            out += [ProgressEntry(shard, n, one) for n, one in enumerate(told) if n >= at]
            self._positions[shard] = max(at, len(told))
        return out


def bodies_of(encoded: list[bytes]) -> Bodies:
    """Bodies end to end."""
    ends = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    return Bodies(np.frombuffer(b"".join(encoded), np.uint8), ends)


def patched(monkeypatch: Any, world: World, log: Log, points: Points, sleep: Callable[[float], None], few: int) -> None:
    """Put these edges, and the world's time, under a collector. Up to `few` LUTs are read by their digests; where there
    are any, each end is told in a transaction of its own, and sweeps are spread."""

    def ends(settings: Any, topic: str, shards: Iterable[int], **asked: bool) -> dict[int, int]:
        if asked.get("earliest"):
            return dict.fromkeys(shards, 0)
        changes = topic.endswith(".changes")
        return {k: log.end.get(k, 0) if changes else len(log.progress.get(k, [])) for k in shards}

    def last(settings: Any, topics: Any, spans: Mapping[int, tuple[int, int]], _: str) -> dict[int, Progress | None]:
        found = {k: log.progress.get(k, [])[low:high] for k, (low, high) in spans.items()}
        return {k: told[-1] if told else None for k, told in found.items()}

    edges = {
        "time": SimpleNamespace(
            monotonic=lambda: world.now / 1000, perf_counter=lambda: world.now / 1000, sleep=sleep
        ),
        "ThreadPoolExecutor": Inline,
        "ENDS": 1 if few else 200_000,
        "portions": lambda records: 3 if few else 1,
        "OVERDUE": 1e9,  # rounds are as far apart as a program has it
        "Membership": lambda *_: MemoryMembership(log),
        "Publisher": lambda *_: MemoryPublisher(log),
        "Cluster": lambda *_: DirectCluster(world, points),
        "end_offsets": ends,
        "list_offsets": ends,
        "last_between": last,
        "ChangeReader": lambda settings, topics, positions: MemoryReader(log, positions),
        "ProgressReader": lambda settings, topics, positions: MemoryProgressReader(log, positions),
    }  # fmt: skip
    for info_ in pkgutil.iter_modules(cdc.collector.__path__):
        module = importlib.import_module(f"cdc.collector.{info_.name}")
        for name, value in edges.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(Topics, "ensure", lambda *_: None)
    monkeypatch.setattr("cdc.source.source.query", direct_query)
    monkeypatch.setattr("cdc.source.source.values", direct_values)
    monkeypatch.setattr("cdc.source.source.FEW", few)
    monkeypatch.setattr("cdc.source.facts.partition_counts", _parsed)
    if hasattr(Session, "look_at_metadata"):
        monkeypatch.setattr(Session, "look_at_metadata", lambda *_, **__: None)
