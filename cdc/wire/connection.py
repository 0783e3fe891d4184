"""One socket to one node: whole frames with deadlines and size limits, over TCP or TLS.

A dead host is noticed by TCP itself (keep-alive, unacknowledged data) within the time-out; a live but silent server
by `patience_s`, which the caller chooses, because a query that filters much says nothing for long.
"""

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass

import numpy as np

from cdc.config import TlsSettings
from cdc.errors import ConfigError, ProtocolError
from cdc.model import U8
from cdc.wire import messages as m

SLOWEST_BYTES_PER_S = 64 << 10
"""A frame that has begun to arrive must go on at least this fast."""


class ConnectionLost(OSError):
    """The connection ended or fell silent. Never leaves the wire: it becomes a retry or a SourceError."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens, and the name its certificate has to show."""

    host: str
    port: int
    tls_name: str = ""


def tls_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """The context for a cluster's TLS settings; None where TLS is off. ConfigError: a file is missing or no PEM."""
    if not settings.enabled:
        return None
    context = ssl.create_default_context()
    try:
        if settings.ca_file:
            context = ssl.create_default_context(cafile=str(settings.ca_file))
        if settings.cert_file:
            context.load_cert_chain(str(settings.cert_file), str(settings.key_file) if settings.key_file else None)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"aerospike.tls: {error}") from error
    return context


class Connection:
    """A connected socket. Methods raise ConnectionLost (ended, silent) or ProtocolError (nonsense); after either the
    connection is of no more use. One thread uses it; `abort` may come from any.
    """

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self.idle_since = time.monotonic()

    @classmethod
    def open(cls, address: Address, timeout_s: float, context: ssl.SSLContext | None) -> "Connection":
        """Connect, and shake hands where there is TLS. ConnectionLost: nobody answers, or the certificate is wrong."""
        try:
            sock = socket.create_connection((address.host, address.port), timeout=timeout_s)
        except OSError as error:
            raise ConnectionLost(f"{address.host}:{address.port}: {error}") from error
        try:
            _watch(sock, timeout_s)
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname=address.tls_name or address.host)
        except OSError as error:
            sock.close()
            raise ConnectionLost(f"{address.host}:{address.port}: {error}") from error
        return cls(sock, timeout_s)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it."""
        try:
            self._sock.settimeout(self._timeout_s + len(data) / SLOWEST_BYTES_PER_S)
            self._sock.sendall(data)
        except (OSError, ValueError) as error:
            raise ConnectionLost(str(error)) from error

    def receive(self, patience_s: float, *, kind: int = m.TYPE_MESSAGE, limit: int = m.FRAME_LIMIT) -> U8:
        """The payload of the next frame, which must be of type `kind` (it may come compressed), decompressed."""
        head = np.empty(m.FRAME_HEAD, np.uint8)
        self._fill(head, patience_s)
        found, size = m.parse_frame_head(head.tobytes(), limit)
        payload = np.empty(size, np.uint8)
        self._fill(payload, self._timeout_s + size / SLOWEST_BYTES_PER_S)
        if found == m.TYPE_COMPRESSED:
            inner = m.decompress(payload.data, limit)
            found, size = m.parse_frame_head(inner[: m.FRAME_HEAD], limit)
            payload = np.frombuffer(inner, np.uint8)[m.FRAME_HEAD :]
            if size != len(payload):
                raise ProtocolError(f"a compressed frame of {len(payload)} bytes says it has {size}")
        if found != kind:
            raise ProtocolError(f"a frame of type {found} where type {kind} was expected")
        self.idle_since = time.monotonic()
        return payload

    def _fill(self, target: U8, within_s: float) -> None:
        view = memoryview(target.data)
        deadline = time.monotonic() + within_s
        got = 0
        try:
            while got < len(view):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ConnectionLost(f"no answer within {within_s:.1f} s")
                self._sock.settimeout(left)
                count = self._sock.recv_into(view[got:])
                if count == 0:
                    raise ConnectionLost("the server closed the connection")
                got += count
        except ConnectionLost:
            raise
        except TimeoutError as error:
            raise ConnectionLost(f"no answer within {within_s:.1f} s") from error
        except (OSError, ValueError) as error:
            raise ConnectionLost(str(error)) from error

    @property
    def stale(self) -> bool:
        """True when the other side has closed an idle connection, or has said something unasked."""
        try:
            self._sock.setblocking(False)
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.recv(1)
            else:
                self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except (OSError, ValueError):
            return True
        return True

    def abort(self) -> None:
        """From another thread: end whatever `receive` or `send` is under way."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self._sock.close()


def _watch(sock: socket.socket, timeout_s: float) -> None:
    """Have TCP notice a host that is gone, and send small requests at once."""
    seconds = max(1, round(timeout_s / 3))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", seconds),
        ("TCP_KEEPINTVL", seconds),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", round(timeout_s * 1000)),
    ):
        option = getattr(socket, name, None)  # not every system has all
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
