"""Security: logging in for a session token, and showing it on each connection. Both sides' bytes are here.

An admin frame (type 2) is 16 bytes (0, result, command, field count, 12 zeros) and fields of size u32, id, data, as in
the C client's `as_admin.c`. The password goes over the wire as its bcrypt hash with a fixed salt (`as_password.c`);
external authentication (LDAP) sends it in clear too, which is why it should go with TLS.
"""

import struct
import threading
import time
from dataclasses import dataclass

import bcrypt

from cdc.config import AerospikeSettings
from cdc.errors import LoginRefused, ProtocolError
from cdc.wire import messages as m
from cdc.wire.connection import Connection

AUTHENTICATE = 0
LOGIN = 20
USER = 0
CREDENTIAL = 3
CLEAR_PASSWORD = 4
SESSION_TOKEN = 5
SESSION_TTL = 6

_SALT = b"$2a$10$7EqJtq98hPqEX7fNZaFWoO"
_RENEW_BEFORE_S = 60
_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Admin:
    """An admin message of either direction."""

    command: int = 0
    result: int = 0
    fields: tuple[tuple[int, bytes], ...] = ()

    def pack(self) -> bytes:
        """The whole frame."""
        body = bytes([0, self.result, self.command, len(self.fields)]) + bytes(12)
        return m.frame(m.TYPE_SECURITY, body + b"".join(m.field(kind, data) for kind, data in self.fields))

    @classmethod
    def parse(cls, payload: m.Buffer) -> "Admin":
        """From a frame's payload; ProtocolError if it is cut or wrong."""
        if len(payload) < 16:
            raise ProtocolError(f"an admin message of {len(payload)} bytes")
        fields, _ = m.parse_fields(payload, 16, payload[3])
        return cls(command=payload[2], result=payload[1], fields=fields)

    def field(self, kind: int) -> bytes | None:
        """The data of the first field of an id; None if there is none."""
        return next((data for k, data in self.fields if k == kind), None)


@dataclass(frozen=True, slots=True)
class Session:
    """What a login gave: a token, and until when (monotonic seconds) it is used. An empty token: security is off."""

    token: bytes
    until: float


def credential(password: str) -> bytes:
    """A password as it goes over the wire. bcrypt reads 72 bytes of it at most, and none after a NUL."""
    return bcrypt.hashpw(password.encode().split(b"\0")[0][:72], _SALT)


class Sessions:
    """The sessions of one user with a cluster's nodes; each node has its own. Threads may share it."""

    def __init__(self, settings: AerospikeSettings) -> None:
        self._user = settings.user.encode()
        self._password = settings.password.get_secret_value()
        self._external = settings.auth == "external"
        self._timeout_s = settings.timeout_s
        self._hash = credential(self._password) if settings.user else b""
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def authenticate(self, node: str, connection: Connection) -> None:
        """Make a new connection to a node usable: log in if need be, then show the token. Nothing without a user.

        LoginRefused: the node does not accept user, password or token.
        """
        if not self._user:
            return
        with self._lock:
            session = self._sessions.get(node)
        if session is not None and time.monotonic() < session.until:
            result = self._show(connection, session)
            if result != m.Result.EXPIRED_SESSION:
                _check(node, result)
                return
        session = self._login(node, connection)
        with self._lock:
            self._sessions[node] = session  # and the connection that logged in is authenticated by it

    def forget(self, node: str) -> None:
        """The node says the session has expired: the next connection logs in again."""
        with self._lock:
            self._sessions.pop(node, None)

    def _login(self, node: str, connection: Connection) -> Session:
        fields = [(USER, self._user), (CREDENTIAL, self._hash)]
        if self._external:
            fields.append((CLEAR_PASSWORD, self._password.encode()))
        answer = self._ask(connection, Admin(LOGIN, fields=tuple(fields)))
        if answer.result == m.Result.SECURITY_NOT_CONFIGURED:
            return Session(b"", float("inf"))
        _check(node, answer.result)
        token, ttl = answer.field(SESSION_TOKEN), answer.field(SESSION_TTL)
        if not token:
            raise ProtocolError("a login's answer has no session token")
        if ttl is None:
            return Session(token, float("inf"))
        if len(ttl) != 4:
            raise ProtocolError(f"a session's TTL of {len(ttl)} bytes")
        (seconds,) = struct.unpack(">I", ttl)
        return Session(token, time.monotonic() + seconds - min(_RENEW_BEFORE_S, seconds / 2))

    def _show(self, connection: Connection, session: Session) -> int:
        if not session.token:
            return m.Result.OK
        fields = ((USER, self._user), (SESSION_TOKEN, session.token))
        result = self._ask(connection, Admin(AUTHENTICATE, fields=fields)).result
        return m.Result.OK if result == m.Result.SECURITY_NOT_CONFIGURED else result

    def _ask(self, connection: Connection, request: Admin) -> Admin:
        connection.send(request.pack())
        payload = connection.receive(self._timeout_s, kind=m.TYPE_SECURITY, limit=_LIMIT)
        return Admin.parse(payload.tobytes())


def _check(node: str, result: int) -> None:
    if result != m.Result.OK:
        raise LoginRefused(f"node {node} refused the login: result {m.result_name(result)}")
