"""The emulated cluster: nodes, who owns which partition, clocks, metadata that all nodes share, death and return."""

import ssl
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from cdc.clock import Clock, wall_clock
from cdc.embedded.aerospike.faults import Faults
from cdc.embedded.aerospike.record import Record
from cdc.embedded.aerospike.security import Accounts
from cdc.embedded.aerospike.server import NodeServer
from cdc.embedded.aerospike.shared import Shared
from cdc.embedded.aerospike.store import NamespaceStore
from cdc.model import PARTITIONS


class Node:
    """One node: its clock, its stores, its failures. `faults` and `skew_ms` may be changed at any time."""

    def __init__(self, emulator: "Emulator", index: int, stores: dict[str, NamespaceStore]) -> None:
        self.emulator: Emulator = emulator
        self.index: int = index
        self.id: str = f"E{index:X}"
        self.stores: dict[str, NamespaceStore] = stores
        self.faults: Faults = Faults()
        self.skew_ms: int = 0
        self.alive: bool = False
        self.partition_generation: int = 0
        self.started_ms: int = 0
        self.server: NodeServer = NodeServer(self)

    def now(self) -> int:
        """The node's time in milliseconds since 1970."""
        return self.emulator.clock() + self.skew_ms

    def step_clock(self, ms: int) -> None:
        """Move the node's clock forwards or (negative) back."""
        self.skew_ms += ms

    @property
    def host(self) -> str:
        """Where the node listens: 127.0.0.1:port."""
        return f"127.0.0.1:{self.server.port}"

    def owns(self, namespace: str, partition: int) -> bool:
        """Whether the node is the working master of a partition."""
        return self.emulator.master(namespace, partition) is self

    def snapshot(self, store: NamespaceStore, partition: int) -> list[Record] | None:
        """The index entries of a partition for a query; None if the node does not own it (any more)."""
        hook = self.faults.before_partition
        if hook is not None:
            hook(partition)
        with self.emulator.lock:
            if not self.owns(store.name, partition):
                return None
            return list(store.partitions[partition].values())


class Emulator:
    """A cluster in this process, on loopback.

    `nodes` is how many; `namespaces` their names, or names with a default TTL in seconds; `replication` how many
    copies of a partition the nodes keep. `clock` is the time of every node (each may be skewed). `persisted`
    namespaces survive a node's restart, and with them what was deleted. `users` (names with passwords) turns logins
    on. `tls` is a server's context, `tls_name` the name in its certificate. `nsup_period_s` 0: expired records are
    removed only by `nsup()`. `ports`: 0 takes a free one.

    The official client keeps Python's lock during `truncate`, `udf_put` and `udf_remove`, so that an emulator in the
    same process cannot answer those: ask with info commands, or use `process.emulator_process`.
    """

    def __init__(
        self,
        nodes: int = 1,
        namespaces: Iterable[str] | Mapping[str, int] = ("test",),
        *,
        clock: Clock = wall_clock,
        replication: int = 1,
        persisted: bool = False,
        users: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        tls_name: str = "",
        nsup_period_s: float = 1.0,
        ports: Sequence[int] = (),
        cluster_name: str = "emulator",
    ) -> None:
        ttls = dict(namespaces) if isinstance(namespaces, Mapping) else dict.fromkeys(namespaces, 0)
        self.clock = clock
        self.namespaces: tuple[str, ...] = tuple(ttls)
        self.replication = replication
        self.accounts = Accounts(users or {}, clock)
        self.tls = tls
        self.tls_name: str = tls_name
        self.cluster_name: str = cluster_name
        self.shared = Shared()
        self.lock = threading.RLock()
        self.failures: list[BaseException] = []
        self.rebalance_generation: int = 0
        self.peers_generation: int = 0
        self.cluster_key = 0xE000
        self.nodes = [
            Node(self, i, {name: NamespaceStore(name, ttl, persisted=persisted) for name, ttl in ttls.items()})
            for i in range(nodes)
        ]
        self._ports = list(ports) + [0] * (nodes - len(ports))
        self._pinned: dict[tuple[str, int], Node] = {}
        self._owners: dict[str, list[tuple[Node, ...]]] = {name: [()] * PARTITIONS for name in ttls}
        self._nsup_period_s = nsup_period_s
        self._stopping = threading.Event()
        self._nsup_thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Listen and serve. OSError, and nothing left open, when a port is taken."""
        try:
            for node, port in zip(self.nodes, self._ports, strict=True):
                self._bring_up(node, port)
        except OSError:
            self.close()
            raise
        self._rebalance()
        if self._nsup_period_s:
            self._nsup_thread = threading.Thread(target=self._run_nsup, name="nsup", daemon=True)
            self._nsup_thread.start()

    def close(self) -> None:
        """Stop everything. Raises what an emulator's thread failed of, if one did."""
        self._stopping.set()
        for node in self.nodes:
            node.alive = False
            node.server.stop()
        if self._nsup_thread is not None:
            self._nsup_thread.join()
        if self.failures:
            failures, self.failures = self.failures, []
            raise failures[0]

    @property
    def hosts(self) -> list[str]:
        """Where the living nodes listen: 127.0.0.1:port."""
        return [node.host for node in self.nodes if node.alive]

    def master(self, namespace: str, partition: int) -> Node | None:
        """The working master of a partition; None while no node lives."""
        owners = self._owners[namespace][partition]
        return owners[0] if owners else None

    def owners(self, namespace: str) -> list[tuple[Node, ...]]:
        """Of each partition, the nodes that keep it, the master first."""
        return self._owners[namespace]

    def replicas(self, namespace: str, partition: int) -> tuple[Node, ...]:
        """The nodes that keep a copy beside the master."""
        return self._owners[namespace][partition][1:]

    def move(self, namespace: str, partitions: Iterable[int], to: int) -> None:
        """Make node `to` the master of partitions, with their records, at once. Holds until the node dies."""
        with self.lock:
            for partition in partitions:
                self._pinned[namespace, partition] = self.nodes[to]
            self._rebalance()

    def kill(self, index: int) -> None:
        """A node dies: its connections break and its memory is lost. Replicas take over what they have."""
        node = self.nodes[index]
        with self.lock:
            node.alive = False
            self._pinned = {place: pinned for place, pinned in self._pinned.items() if pinned is not node}
            self._membership_changed()
        node.server.stop()

    def restart(self, index: int) -> None:
        """A node comes (back): a persisted namespace returns from its device with all that was ever deleted."""
        node = self.nodes[index]
        if node.alive:
            self.kill(index)
        with self.lock:
            for store in node.stores.values():
                store.cold_restart(node.now())
        self._bring_up(node, node.server.port)
        with self.lock:
            self._membership_changed()

    def nsup(self) -> int:
        """One expiry cycle on every node; the number of records removed."""
        with self.lock:
            return sum(
                store.expire(node.now()) for node in self.nodes if node.alive for store in node.stores.values()
            )  # fmt: skip

    def truncate(self, namespace: str, set_name: bytes | None, lut_ms: int) -> None:
        """Truncate on every living node."""
        with self.lock:
            for node in self.nodes:
                if node.alive:
                    node.stores[namespace].truncate(set_name, lut_ms)

    def _bring_up(self, node: Node, port: int) -> None:
        node.server.start(port)
        node.started_ms = self.clock()
        node.alive = True

    def _membership_changed(self) -> None:
        self.peers_generation += 1
        self.cluster_key += 1
        self._rebalance()

    def _rebalance(self) -> None:
        """Give every partition its owners, and every owner the records that any living node has of it."""
        with self.lock:
            changed: set[Node] = set()
            alive = [node for node in self.nodes if node.alive]
            for name, owners in self._owners.items():
                for partition in range(PARTITIONS):
                    new = self._succession(name, partition, alive)
                    if new != owners[partition]:
                        changed.update(owners[partition], new)
                        owners[partition] = new
                        _gather(name, partition, alive, new)
            for node in changed:
                node.partition_generation += 1
            self.rebalance_generation += bool(changed)

    def _succession(self, namespace: str, partition: int, alive: list[Node]) -> tuple[Node, ...]:
        n = len(self.nodes)
        order = [self.nodes[(partition + k) % n] for k in range(n)]
        pinned = self._pinned.get((namespace, partition))
        if pinned is not None:
            order.sort(key=lambda node: node is not pinned)
        return tuple(node for node in order if node.alive)[: self.replication] if alive else ()

    def _run_nsup(self) -> None:
        while not self._stopping.wait(self._nsup_period_s):
            self.nsup()


def _gather(namespace: str, partition: int, alive: list[Node], owners: tuple[Node, ...]) -> None:
    """Merge a partition's copies (the higher generation wins, then the later LUT) and hand them to the owners."""
    merged: dict[bytes, Record] = {}
    for node in alive:
        for digest, record in node.stores[namespace].take_partition(partition).items():
            other = merged.get(digest)
            if other is None or (record.generation, record.lut_ms) > (other.generation, other.lut_ms):
                merged[digest] = record
    for node in owners:
        store = node.stores[namespace]
        for record in merged.values():
            store.put(record)
