"""A node's sockets and threads: accepting, framing, dispatch, injected failures."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cdc.embedded.aerospike import batch, info, query
from cdc.embedded.aerospike.commands import execute
from cdc.embedded.aerospike.record import Refused
from cdc.embedded.aerospike.requests import Reply, Request, pack_last, pack_reply, parse
from cdc.embedded.aerospike.store import NamespaceStore, partition_id
from cdc.errors import ProtocolError
from cdc.model import DIGEST_SIZE
from cdc.wire.messages import (
    FRAME_HEAD,
    INFO1_BATCH,
    TYPE_COMPRESSED,
    TYPE_INFO,
    TYPE_MESSAGE,
    TYPE_SECURITY,
    FieldType,
    Result,
    decompress,
    frame_head,
    parse_frame_head,
)

if TYPE_CHECKING:
    from cdc.embedded.aerospike.cluster import Node


class _Hangup(Exception):
    """Ends a connection."""


class NodeServer:
    """Listens on loopback for one node; a thread accepts, and one serves each connection."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.port = 0
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}

    def start(self, port: int) -> None:
        """Listen on a port, 0 for a free one; `port` says which afterwards."""
        listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener,), name=f"accept-{self.port}", daemon=True
        )  # fmt: skip
        self._acceptor.start()

    def stop(self) -> None:
        """Close the listener and every connection, and wait for their threads. Does nothing when stopped."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        _shut(listener)
        if self._acceptor is not None:
            self._acceptor.join()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            _shut(connection)
        for thread in connections.values():
            if thread is not threading.current_thread():
                thread.join()

    @property
    def connections(self) -> int:
        """Open connections."""
        with self._lock:
            return len(self._connections)

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                connection, _ = listener.accept()
            except OSError:  # stop() shut the listener
                break
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(
                target=self._serve, args=(connection,), name=f"serve-{self.port}", daemon=True
            )  # fmt: skip
            with self._lock:
                self._connections[connection] = thread
            thread.start()
        listener.close()

    def _serve(self, connection: socket.socket) -> None:
        served = connection
        try:
            if self.node.emulator.tls is not None:
                served = self.node.emulator.tls.wrap_socket(connection, server_side=True)
            Connection(self.node, served).run()
        except (_Hangup, ProtocolError, OSError):  # the other side's doing, or a failure that was asked for
            pass
        except BaseException as error:  # noqa: BLE001 - close() raises it again
            self.node.emulator.failures.append(error)
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            served.close()
            connection.close()


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        sock.shutdown(socket.SHUT_RDWR)


class Connection:
    """One client's connection."""

    def __init__(self, node: "Node", sock: socket.socket) -> None:
        self._node = node
        self._emulator = node.emulator
        self._sock = sock
        self._token: bytes | None = None

    def run(self) -> None:
        """Serve until the client goes, or breaks the protocol (ProtocolError)."""
        while True:
            head = self._receive(FRAME_HEAD)
            kind, size = parse_frame_head(head)
            payload = self._receive(size)
            if kind == TYPE_COMPRESSED:
                whole = decompress(payload)
                kind, size = parse_frame_head(whole[:FRAME_HEAD])
                payload = whole[FRAME_HEAD:]
                if size != len(payload):
                    raise ProtocolError("a compressed frame within holds another size")
            self._dispatch(kind, payload)

    def _receive(self, size: int) -> bytes:
        if size <= 1 << 16:
            data = self._sock.recv(size, socket.MSG_WAITALL) if self._emulator.tls is None else b""
            if len(data) == size:
                return data
        else:
            data = b""
        buffer = bytearray(size)
        buffer[: len(data)] = data
        view, got = memoryview(buffer), len(data)
        while got < size:
            n = self._sock.recv_into(view[got:])
            if not n:
                raise _Hangup
            got += n
        return bytes(buffer)

    def _dispatch(self, kind: int, payload: bytes) -> None:
        accounts = self._emulator.accounts
        standing = accounts.standing(self._token) if kind != TYPE_SECURITY else Result.OK
        if kind == TYPE_SECURITY:
            answer, token = accounts.answer(payload, self._token)
            self._token = token or self._token
            self._sock.sendall(answer)
        elif kind == TYPE_INFO:
            refused = standing == Result.NOT_AUTHENTICATED
            self._send(TYPE_INFO, info.refuse(payload) if refused else info.answer(self._node, payload))
        elif kind == TYPE_MESSAGE and standing:
            self._send(TYPE_MESSAGE, pack_reply((standing, 0, 0, 0, b"")))
        elif kind == TYPE_MESSAGE:
            self._message(payload)
        else:
            raise ProtocolError(f"a request of type {kind}")

    def _message(self, payload: bytes) -> None:
        try:
            request = parse(payload)
        except ProtocolError:
            self._send(TYPE_MESSAGE, pack_reply((Result.PARAMETER, 0, 0, 0, b"")))
            return
        if request.info1 & INFO1_BATCH:
            self._stream(batch.answers(request, self._batch_row))
        elif FieldType.DIGEST in request.fields:
            reply = self._single(request)
            self._send(TYPE_MESSAGE, pack_reply(reply), cuttable=True)
        else:
            self._query(request)

    def _stream(self, payloads: Iterable[bytes]) -> None:
        try:
            for payload in payloads:
                self._send(TYPE_MESSAGE, payload, cuttable=True)
        except Refused as failure:
            self._send(TYPE_MESSAGE, pack_last(failure.code))

    def _query(self, request: Request) -> None:
        faults = self._node.faults
        store = self._store(request)
        try:
            if faults.refuse_queries:
                raise Refused(faults.refuse_queries.popleft())
            if store is None:
                raise Refused(Result.NAMESPACE)
            checked = query.check(request)
        except Refused as failure:
            self._send(TYPE_MESSAGE, pack_reply((failure.code, 0, 0, 0, b"")))
            return
        node = self._node
        self._stream(query.answers(store, checked, lambda partition: node.snapshot(store, partition), node.now))
        with self._emulator.lock:
            store.counters["pi_query_long_basic_complete"] += 1

    def _store(self, request: Request) -> NamespaceStore | None:
        name = request.fields.get(FieldType.NAMESPACE, b"")
        return self._node.stores.get(name.decode("latin-1"))

    def _single(self, request: Request) -> Reply:
        digest = request.fields[FieldType.DIGEST]
        store = self._store(request)
        if store is None:
            return (Result.NAMESPACE, 0, 0, 0, b"")
        if len(digest) != DIGEST_SIZE:
            store.counters["client_tsvc_error"] += 1
            return (Result.PARAMETER, 0, 0, 0, b"")
        return self._record(store, request, digest, "client")

    def _batch_row(self, request: Request, digest: bytes) -> Reply:
        store = self._store(request)
        if store is None:
            raise Refused(Result.NAMESPACE)
        return self._record(store, request, digest, "batch_sub")

    def _record(self, store: NamespaceStore, request: Request, digest: bytes, origin: str) -> Reply:
        node, emulator = self._node, self._emulator
        if node.faults.refuse_records:
            return (node.faults.refuse_records.popleft(), 0, 0, 0, b"")
        partition = partition_id(digest)
        with emulator.lock:
            master = emulator.master(store.name, partition)
            if master is not node:
                if master is None or not node.faults.proxy:
                    return (Result.UNAVAILABLE, 0, 0, 0, b"")
                store.counters[f"{origin}_proxy_complete"] += 1
                origin = "from_proxy" if origin == "client" else "from_proxy_batch_sub"
                store = master.stores[store.name]
            reply = execute(store, request, digest, master.now(), origin)
            if emulator.replication > 1 and request.info2 & 1:
                self._replicate(store, digest)
            return reply

    def _replicate(self, store: NamespaceStore, digest: bytes) -> None:
        record = store.find(digest)
        for replica in self._emulator.replicas(store.name, partition_id(digest)):
            copy = replica.stores[store.name]
            if record is not None:
                copy.put(record)
            elif copy.find(digest) is not None:
                copy.drop(digest)

    def _send(self, kind: int, payload: bytes, *, cuttable: bool = False) -> None:
        faults = self._node.faults
        if faults.delay_s:
            time.sleep(faults.delay_s)
        head = frame_head(kind, len(payload))
        if cuttable and faults.cut_frames > 0:
            faults.cut_frames -= 1
            self._sock.sendall((head + payload)[: FRAME_HEAD + len(payload) // 2])
            raise _Hangup
        if len(payload) < 1 << 16:
            self._sock.sendall(head + payload)
        else:
            self._sock.sendall(head)
            self._sock.sendall(payload)
