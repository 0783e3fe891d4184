"""A cluster: its members and owners by the official client, and authenticated connections of our own to its nodes."""

import base64
import binascii
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import aerospike
from aerospike import exception as refusals

from cdc.config import AerospikeSettings
from cdc.errors import (
    ClusterUnreachable,
    LoginRefused,
    NamespaceUnknown,
    ProtocolError,
    ServerRefused,
    SourceError,
)
from cdc.model import PARTITIONS
from cdc.wire import messages as m
from cdc.wire.connection import Address, Connection, ConnectionLost, tls_context
from cdc.wire.login import Sessions

IDLE_CONNECTIONS = 8
"""Kept for the next query, a node."""
ASKED_AT_ONCE = 16
"""Nodes that are asked at the same time."""
_SESSION_OVER = tuple(f"ERROR:{int(code)}:" for code in (m.Result.EXPIRED_SESSION, m.Result.NOT_AUTHENTICATED))


@dataclass(frozen=True, slots=True)
class Node:
    """A member of a cluster."""

    name: str
    host: str
    port: int


class Cluster:
    """A connection to a cluster; a context manager, and safe to share between threads.

    Raises ClusterUnreachable and LoginRefused when it is made and whenever the cluster goes away.
    """

    def __init__(self, settings: AerospikeSettings) -> None:
        self.settings = settings
        self._context = tls_context(settings.tls)
        self._sessions = Sessions(settings)
        self._idle: dict[str, list[Connection]] = {}
        self._owned: dict[str, tuple[list[tuple[Node, str]], Mapping[int, Node]]] = {}
        self._busy: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closed = False
        self.client: Any = self._connected()

    def _connected(self) -> Any:
        """The official client. It refuses when any of the hosts it is given does not answer, so it is given those that
        do: one node that is down must not keep us from the others."""
        hosts = self.settings.hosts
        try:
            try:
                return aerospike.client(client_config(self.settings))
            except refusals.ClientError:
                answering = tuple(host for host in hosts if self._answers(host))
                if not answering or answering == hosts:
                    raise
                return aerospike.client(client_config(self.settings.model_copy(update={"hosts": answering})))
        except refusals.AerospikeError as error:
            raise translated(error, f"cannot connect to {', '.join(hosts)}") from error

    def _answers(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        address = Address(name.strip("[]"), int(port), self.settings.tls.name)
        try:
            Connection.open(address, self.settings.timeout_s, self._context).close()
        except ConnectionLost:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; a second time does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()
        self.client.close()

    def nodes(self) -> tuple[Node, ...]:
        """The members that the official client sees now, by name. ClusterUnreachable when there is none."""
        found = tuple(
            Node(str(n["node_name"]), str(n["address"]), int(n["port"]))
            for n in sorted(self.client.get_node_names(), key=lambda n: str(n["node_name"]))
        )
        if not found:
            raise ClusterUnreachable(f"no node of {', '.join(self.settings.hosts)} answers")
        return found

    def info(self, node: Node, command: str) -> str:
        """A node's answer to an info command, without the echoed command and the line's end.

        ClusterUnreachable: the node has gone or does not answer. ServerRefused: the official client takes its answer
        for an error ("error=not_found"); "type=unknown" is an answer like any other.
        """
        try:
            line: str = self.client.info_single_node(command, node.name)
        except refusals.AerospikeError as error:
            raise translated(error, f"node {node.name} does not answer {command!r}") from error
        return line.removesuffix("\n").partition("\t")[2] if "\t" in line else line.removesuffix("\n")

    def ask(self, node: Node, *commands: str) -> dict[str, str]:
        """A node's answers to info commands, by command: asked in one message, answered in their order.

        ClusterUnreachable: the node has gone or does not answer. An error is an answer like any other.
        """
        try:
            said = self._said(node, commands)
            if any(answer.startswith(_SESSION_OVER) for answer in said.values()):
                self.session_expired(node)
                said = self._said(node, commands)
        except ConnectionLost as error:
            raise ClusterUnreachable(f"node {node.name} does not answer {commands[0]!r}: {error}") from error
        return said

    def ask_all(self, *commands: str) -> dict[Node, dict[str, str] | ClusterUnreachable]:
        """`ask` of all nodes at once; in place of its answers, the error of a node that did not answer."""

        def one(node: Node) -> dict[str, str] | ClusterUnreachable:
            try:
                return self.ask(node, *commands)
            except ClusterUnreachable as error:
                return error

        nodes = self.nodes()
        if len(nodes) == 1:
            return {nodes[0]: one(nodes[0])}
        with ThreadPoolExecutor(min(len(nodes), ASKED_AT_ONCE), thread_name_prefix="info") as pool:
            return dict(zip(nodes, pool.map(one, nodes), strict=True))

    def _said(self, node: Node, commands: tuple[str, ...]) -> dict[str, str]:
        with self.connection(node) as connection:
            connection.send(m.frame(m.TYPE_INFO, "".join(f"{command}\n" for command in commands).encode()))
            answer = connection.receive(self.settings.timeout_s, kind=m.TYPE_INFO).tobytes()
        lines = answer.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        said = {asked: value for asked, _, value in (line.partition("\t") for line in lines)}
        if said.keys() != set(commands):
            raise ProtocolError(f"node {node.name} was asked {commands!r} and answered {sorted(said)!r}"[:400])
        return said

    def namespaces(self) -> tuple[str, ...]:
        """The namespaces of the cluster, sorted."""
        return tuple(sorted({n for node in self.nodes() for n in self.info(node, "namespaces").split(";") if n}))

    def builds(self) -> dict[Node, tuple[int, ...]]:
        """The server version of each node that answers, as numbers: (8, 1, 2, 0). ClusterUnreachable if none does."""
        said = self.ask_all("build")
        found = {node: _numbers(a["build"]) for node, a in said.items() if not isinstance(a, ClusterUnreachable)}
        if not found:
            raise ClusterUnreachable(f"no node of {', '.join(self.settings.hosts)} answers")
        return found

    def owners(self, namespace: str) -> Mapping[int, Node]:
        """Partition to the node that is its working master now. Partitions that nobody serves are missing.

        NamespaceUnknown when no node has the namespace. Nodes that do not answer are left out; where two claim a
        partition the newer regime holds, and its true owner answers the other's requests with result 11 anyway.
        """
        said = self.ask_all("replicas")
        answers = [(node, a["replicas"]) for node, a in said.items() if not isinstance(a, ClusterUnreachable)]
        # Told anew with every query, the same again almost always: thousands of partitions are not parsed for nothing.
        before = self._owned.get(namespace)
        if before is not None and before[0] == answers:
            return before[1]
        claims = [(node, parse_replicas(answer).get(namespace)) for node, answer in answers]
        if all(claim is None for _, claim in claims) and namespace not in self.namespaces():
            raise NamespaceUnknown(f"the cluster has no namespace {namespace!r}; it has {', '.join(self.namespaces())}")
        owner = strongest((node, claim) for node, claim in claims if claim is not None)
        self._owned[namespace] = (answers, owner)
        return owner

    @contextmanager
    def connection(self, node: Node) -> Iterator[Connection]:
        """An authenticated connection to a node, for one exchange; kept for the next one unless the block raises.

        ConnectionLost and LoginRefused.
        """
        connection = self._take(node) or self._open(node)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            idle = self._idle.setdefault(node.name, [])
            if not self._closed and len(idle) < IDLE_CONNECTIONS:
                idle.append(connection)
                return
        connection.close()

    def was_busy(self, result: str) -> None:
        """A node answered a query with this result because it has too much to do."""
        with self._lock:
            self._busy[result] += 1

    def busy_answers(self) -> Counter[str]:
        """How often nodes were busy since the last call, by the result's name."""
        with self._lock:
            said, self._busy = self._busy, Counter()
        return said

    def session_expired(self, node: Node) -> None:
        """The node answered that the session is over: log in again with the next connection."""
        self._sessions.forget(node.name)
        with self._lock:
            idle = self._idle.pop(node.name, [])
        for connection in idle:
            connection.close()

    def _take(self, node: Node) -> Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(node.name)
                if not idle:
                    return None
                connection = idle.pop()
            if not connection.stale:
                return connection
            connection.close()

    def _open(self, node: Node) -> Connection:
        address = Address(node.host, node.port, self.settings.tls.name)
        connection = Connection.open(address, self.settings.timeout_s, self._context)
        try:
            self._sessions.authenticate(node.name, connection)
        except BaseException:
            connection.close()
            raise
        return connection


@dataclass(frozen=True, slots=True)
class Claim:
    """The partitions of a namespace that a node says it is the working master of."""

    regime: int
    partitions: tuple[int, ...]


def strongest(claims: Iterable[tuple[Node, Claim]]) -> dict[int, Node]:
    """Partition to owner: of several nodes that claim one, the one with the highest regime, the last of equal ones."""
    owner: dict[int, Node] = {}
    for node, claim in sorted(claims, key=lambda each: each[1].regime):  # stable
        owner |= dict.fromkeys(claim.partitions, node)
    return owner


def parse_replicas(answer: str) -> dict[str, Claim]:
    """By namespace, from the info command `replicas`: `ns:regime,count,bitmap of masters,bitmap…;…` in base 64.

    ProtocolError if it is not that.
    """
    claims = {}
    for entry in filter(None, answer.split(";")):
        name, colon, rest = entry.partition(":")
        parts = rest.split(",")
        if not colon or len(parts) < 3:
            raise ProtocolError(f"the answer to replicas holds {entry[:60]!r}")
        try:
            regime = int(parts[0])
            bits = base64.b64decode(parts[2], validate=True)
        except (ValueError, binascii.Error) as error:
            raise ProtocolError(f"the answer to replicas for {name!r} cannot be read: {error}") from error
        if len(bits) != PARTITIONS // 8:
            raise ProtocolError(f"the answer to replicas for {name!r} has {len(bits) * 8} partitions")
        claims[name] = Claim(regime, tuple(p for p in range(PARTITIONS) if bits[p >> 3] & 0x80 >> (p & 7)))
    return claims


def client_config(settings: AerospikeSettings) -> dict[str, Any]:
    """The official client's configuration for our settings."""
    tls = settings.tls
    milliseconds = round(settings.timeout_s * 1000)
    hosts = []
    for text in settings.hosts:
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        hosts.append((host, int(port), tls.name or host) if tls.enabled else (host, int(port)))
    config: dict[str, Any] = {
        "hosts": hosts,
        "use_services_alternate": settings.services_alternate,
        "connect_timeout": milliseconds,
        "policies": {"auth_mode": aerospike.AUTH_EXTERNAL if settings.auth == "external" else aerospike.AUTH_INTERNAL},
    }
    if settings.user:
        config |= {"user": settings.user, "password": settings.password.get_secret_value()}
    if tls.enabled:
        files = {"cafile": tls.ca_file, "certfile": tls.cert_file, "keyfile": tls.key_file}
        config["tls"] = {"enable": True} | {key: str(path) for key, path in files.items() if path}
    return config


def translated(error: Any, doing: str) -> SourceError:
    """An error of the official client as one of ours, with what was being done."""
    said = f"{doing}: {error.msg} (client code {error.code})"
    if isinstance(error, refusals.SecurityNotSupported):
        return LoginRefused(said, "The server has no security: leave aerospike.user empty.")
    if isinstance(error, refusals.AdminError):
        return LoginRefused(said)
    if isinstance(error, refusals.NamespaceNotFound):
        return NamespaceUnknown(said)
    if isinstance(error, refusals.ClientError | refusals.TimeoutError):
        return ClusterUnreachable(said)
    return ServerRefused(said)


def _numbers(build: str) -> tuple[int, ...]:
    """The leading numbers of a build such as 8.1.2.0-rc1; ProtocolError if there is none."""
    numbers = []
    for part in build.split("-")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    if not numbers:
        raise ProtocolError(f"a server's build is {build!r}")
    return tuple(numbers)
