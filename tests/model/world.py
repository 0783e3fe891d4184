"""A small world with known truth: the emulator's stores under one clock, a few records, and everything they ever were.

A step changes the world at once. After each the world notes, for every record, its state and the time that the clock
of its master shows; that is the truth which `claims` compares with.
"""

import struct
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from cdc.clock import CITRUSLEAF_EPOCH_S, Clock
from cdc.embedded.aerospike import Emulator, Node
from cdc.embedded.aerospike.commands import execute
from cdc.embedded.aerospike.record import Record
from cdc.embedded.aerospike.requests import Request
from cdc.embedded.aerospike.store import TTL_KEEP, TTL_NEVER, NamespaceStore, partition_id, seconds_2010
from cdc.model import I64
from cdc.wire.messages import INFO2_DELETE, INFO2_WRITE, FieldType, OpType, Particle

NAMESPACE = "test"
BEGINS = 1_750_000_000_000
SETS = ("s", "t", None)
NODES = 2
OUR_SKEW_MS = 7_100
PLACES = ((3, "s"), (3, "t"), (70, None), (1500, "s"), (1500, None), (2047, "t"), (2048, "s"), (4001, "s"))
"""Partition and set of each record: pairs share a partition or a set, both nodes and both shards have some."""


def digest_of(key: int) -> bytes:
    """The digest of a record of PLACES."""
    partition = PLACES[key][0]
    return bytes([partition & 0xFF, 0x50 | partition >> 8, key]) + bytes(range(17))


DIGESTS = tuple(digest_of(key) for key in range(len(PLACES)))
KEY_OF = {digest: key for key, digest in enumerate(DIGESTS)}
assert all(partition_id(d) == p for d, (p, _) in zip(DIGESTS, PLACES, strict=True))


class State(NamedTuple):
    """What a record holds: its content, and when it expires (milliseconds since 1970, 0: never)."""

    value: int
    void_time: int

    def at(self, moment: int) -> "State | None":
        """What is left of it: a record is over once its void time has come."""
        return None if 0 < self.void_time <= moment else self


@dataclass(frozen=True, slots=True)
class Sample:
    """A record between two changes: `clock` is its master's time when this began, `life` names its incarnation,
    `version` counts its versions, `mark` is its LUT and generation; `seq` orders everything that happens."""

    seq: int
    clock: int
    state: State | None
    life: int
    version: int
    mark: tuple[int, int]


@dataclass(slots=True)
class World:
    """The emulator's stores, one true time (`now`), and what every record has been."""

    now: int = BEGINS
    seq: int = 0
    emulator: Emulator = field(init=False)
    history: list[list[Sample]] = field(init=False)
    shown: dict[tuple[int, int], int] = field(default_factory=dict)
    """(key, version) that the second query of a look has shown, after the first had shown the record; and its `seq`."""
    began_to_show: set[tuple[int, int]] = field(default_factory=set)
    """(key, life) that the first query of a look has shown."""
    moments: set[int] = field(default_factory=set)
    """Times worth asking for: what the clocks showed whenever something happened."""
    _lives: list[int] = field(init=False)
    _records: list[Record | None] = field(init=False)

    def __post_init__(self) -> None:
        self.emulator = _emulator(lambda: self.now)
        self.history = [[] for _ in PLACES]
        self._lives = [0] * len(PLACES)
        self._records = [None] * len(PLACES)
        self.note()

    def node_of(self, key: int) -> Node | None:
        """The record's master."""
        return self.emulator.master(NAMESPACE, PLACES[key][0])

    def store_of(self, key: int) -> NamespaceStore | None:
        """Where the record is, or would be."""
        node = self.node_of(key)
        return None if node is None else node.stores[NAMESPACE]

    def clock(self) -> int:
        """The collector's clock, which nobody sets."""
        return self.now + OUR_SKEW_MS

    def note(self) -> None:
        """Remember what every record is now, and what the clocks say."""
        self.seq += 1
        for key, before in enumerate(self.history):
            node = self.node_of(key)
            if node is None:
                continue
            record = node.stores[NAMESPACE].find(DIGESTS[key])
            if record is not None and node.stores[NAMESPACE]._truncated(record):
                record = None
            last = before[-1] if before else None
            clock = node.now()
            version = len(before)
            if last is not None and record is self._records[key]:
                if clock == last.clock:
                    continue
                version = last.version
            elif record is not None and (self._records[key] is None or record.generation == 1):
                self._lives[key] += 1
            mark = (0, 0) if record is None else (record.lut_ms, record.generation)
            before.append(Sample(self.seq, clock, _state(record), self._lives[key], version, mark))
            self._records[key] = record
            self.moments.add(clock)

    @property
    def ownership(self) -> tuple[str, ...]:
        """Which node each record's partition is at."""
        return tuple(node.id if node is not None else "" for node in map(self.node_of, range(len(PLACES))))

    def show(self, key: int, *, bins: bool = False, lut: bool = False) -> None:
        """A query shows a record: its bins, or its LUT."""
        now = self.history[key][-1]
        if bins:
            self.began_to_show.add((key, now.life))
        elif lut and (key, now.life) in self.began_to_show:
            self.shown.setdefault((key, now.version), self.seq)

    def forget(self, since: int, told: set[tuple[int, tuple[int, int]]]) -> None:
        """What was shown since then is not known any more, but for what has been told (key and mark)."""
        mark_of = {(key, s.version): s.mark for key, samples in enumerate(self.history) for s in samples}
        for (key, version), seq in list(self.shown.items()):
            if seq >= since and (key, mark_of[key, version]) not in told:
                del self.shown[key, version]


_EMULATORS: list[Emulator] = []


def _emulator(clock: Clock) -> Emulator:
    """The emulator, empty, never serving a socket. It is made once: four thousand partitions take a while."""
    if not _EMULATORS:
        made = Emulator(NODES, (NAMESPACE,), persisted=True, nsup_period_s=0, cluster_name="model")
        for index, node in enumerate(made.nodes):
            node.server.port = 1 + index
            node.server.start = lambda port: None  # type: ignore[method-assign]
            node.alive = True
        made._rebalance()
        _EMULATORS.append(made)
    emulator = _EMULATORS[0]
    emulator.clock = clock
    for node in emulator.nodes:
        node.skew_ms = 0
        node.started_ms = clock() - 1_000_000
        store = node.stores[NAMESPACE]
        partitions = store.partitions
        for partition, _ in PLACES:
            partitions[partition].clear()
        store.__init__(NAMESPACE, persisted=True)  # type: ignore[misc]
        store.partitions = partitions
    if emulator._pinned or not all(node.alive for node in emulator.nodes):
        emulator._pinned.clear()
        for node in emulator.nodes:
            node.alive = True
        emulator._rebalance()
    emulator.cluster_key = 0xE000
    return emulator


def _state(record: Record | None) -> State | None:
    if record is None:
        return None
    void = record.void_time_s
    value = struct.unpack(">q", record.bins[b"v"][1])[0]
    return State(value, (void + CITRUSLEAF_EPOCH_S) * 1000 if void else 0)


# Steps


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens in the world. Its repr is how a failing program reads."""

    def happen(self, world: World) -> None:
        """Change the world; nothing where it makes no sense now."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Put(Step):
    """A write of new content; ttl in seconds, 0: never expires."""

    key: int
    value: int
    ttl: int = 0

    def happen(self, world: World) -> None:
        _write(
            world, self.key, (int(OpType.WRITE), int(Particle.INTEGER), b"v", _long(self.value)), self.ttl or TTL_NEVER
        )


@dataclass(frozen=True, slots=True)
class Rewrite(Step):
    """A write of the content that is there already."""

    key: int

    def happen(self, world: World) -> None:
        state = world.history[self.key][-1].state
        if state is not None:
            _write(world, self.key, (int(OpType.WRITE), int(Particle.INTEGER), b"v", _long(state.value)), TTL_KEEP)


@dataclass(frozen=True, slots=True)
class Touch(Step):
    """A touch, which moves LUT, generation and void time."""

    key: int
    ttl: int = 0

    def happen(self, world: World) -> None:
        _write(world, self.key, (int(OpType.TOUCH), 0, b"", b""), self.ttl or TTL_NEVER)


@dataclass(frozen=True, slots=True)
class ReadTouch(Step):
    """A read that prolongs the record: LUT and void time move, the generation does not. It never makes a life shorter
    (the server's `read_touch_master`)."""

    key: int
    ttl: int

    def happen(self, world: World) -> None:
        node, store = world.node_of(self.key), world.store_of(self.key)
        record = store.find(DIGESTS[self.key]) if store else None
        if node is None or store is None or record is None or store.hidden(record, seconds_2010(node.now())):
            return
        if record.void_time_s:
            void = store.void_time(record, self.ttl, node.now())
            if void > record.void_time_s:
                store.put(replace(record, lut_ms=max(record.lut_ms, node.now()), void_time_s=void, row=None))


@dataclass(frozen=True, slots=True)
class Delete(Step):
    """A delete; with `again` the record is created anew in the same millisecond."""

    key: int
    again: int | None = None

    def happen(self, world: World) -> None:
        _execute(world, self.key, INFO2_WRITE | INFO2_DELETE, 0, [])
        if self.again is not None:
            world.note()
            Put(self.key, self.again).happen(world)


@dataclass(frozen=True, slots=True)
class NearWrap(Step):
    """The record's generation is nearly used up."""

    key: int

    def happen(self, world: World) -> None:
        node, store = world.node_of(self.key), world.store_of(self.key)
        record = store.find(DIGESTS[self.key]) if store else None
        if node is not None and store is not None and record is not None:
            store.put(replace(record, generation=65_534, lut_ms=max(record.lut_ms, node.now()), row=None))


@dataclass(frozen=True, slots=True)
class Evict(Step):
    """The server evicts a record that has a void time."""

    key: int

    def happen(self, world: World) -> None:
        store = world.store_of(self.key)
        record = store.find(DIGESTS[self.key]) if store else None
        if store is not None and record is not None and record.void_time_s:
            store.drop(DIGESTS[self.key])
            store.counters["evicted_objects"] += 1


@dataclass(frozen=True, slots=True)
class Nsup(Step):
    """A cycle of the servers' expiry."""

    def happen(self, world: World) -> None:
        world.emulator.nsup()


@dataclass(frozen=True, slots=True)
class Truncate(Step):
    """A truncation of a set, or of the namespace; `back_ms` lets it name an earlier LUT than its own time."""

    of: str | None
    back_ms: int = 0

    def happen(self, world: World) -> None:
        now = min(node.now() for node in world.emulator.nodes if node.alive)
        lut = now - self.back_ms
        world.emulator.truncate(NAMESPACE, None if self.of is None else self.of.encode(), lut)
        world.moments.add(lut)


@dataclass(frozen=True, slots=True)
class Pass(Step):
    """Time goes by."""

    ms: int

    def happen(self, world: World) -> None:
        world.now += self.ms


@dataclass(frozen=True, slots=True)
class StepClock(Step):
    """A node's clock is set forward or back."""

    node: int
    ms: int

    def happen(self, world: World) -> None:
        world.emulator.nodes[self.node].step_clock(self.ms)


@dataclass(frozen=True, slots=True)
class Migrate(Step):
    """A record's partition moves to a node."""

    key: int
    node: int

    def happen(self, world: World) -> None:
        if world.emulator.nodes[self.node].alive:
            world.emulator.move(NAMESPACE, [PLACES[self.key][0]], self.node)


@dataclass(frozen=True, slots=True)
class KillNode(Step):
    """A node dies; what it holds cannot be read any more."""

    node: int

    def happen(self, world: World) -> None:
        if all(node.alive for node in world.emulator.nodes):
            world.emulator.kill(self.node)


@dataclass(frozen=True, slots=True)
class StartNode(Step):
    """A node starts: all that was ever written to its device is back."""

    node: int

    def happen(self, world: World) -> None:
        world.emulator.restart(self.node)


def _long(value: int) -> bytes:
    return struct.pack(">q", value)


def _write(world: World, key: int, op: tuple[int, int, bytes, bytes], ttl: int) -> None:
    _execute(world, key, INFO2_WRITE, ttl, [op])


def _execute(world: World, key: int, info2: int, ttl: int, ops: list[tuple[int, int, bytes, bytes]]) -> None:
    node, store = world.node_of(key), world.store_of(key)
    if node is None or store is None:
        return
    name = PLACES[key][1]
    fields = {} if name is None else {int(FieldType.SET): name.encode()}
    execute(store, Request(0, info2, 0, 0, ttl, fields, ops, 100), DIGESTS[key], node.now(), "client")


def partitions_with_records(node: Node) -> list[int]:
    """Where a node has something."""
    store = node.stores[NAMESPACE]
    return [p for p in sorted({p for p, _ in PLACES}) if store.partitions[p]]


def clocks_of(samples: list[Sample]) -> I64:
    """The clock of each sample."""
    return np.fromiter((s.clock for s in samples), np.int64, len(samples))
