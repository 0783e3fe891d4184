"""The server's side of security: users with passwords, session tokens, and who is told of users and roles. `wire.login`
has the bytes of a login's both sides; those of the queries are as the C client's `as_admin.c` reads them.

What is kept of a password is what the client sends: its bcrypt hash with a salt that is the same everywhere.
"""

import secrets
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cdc.clock import Clock
from cdc.errors import ProtocolError
from cdc.wire.login import AUTHENTICATE, CREDENTIAL, LOGIN, SESSION_TOKEN, SESSION_TTL, USER, Admin, credential
from cdc.wire.messages import Result

SESSION_TTL_S = 86_400

QUERY_USERS = 9
QUERY_ROLES = 16
QUERY_END = 50
ROLES, ROLE, PRIVILEGES, WHITELIST, READ_QUOTA, WRITE_QUOTA, READ_INFO, WRITE_INFO, CONNECTIONS = range(10, 19)
SCOPED = 10
"""From this code on a privilege has a namespace and a set, which may be empty."""


@dataclass(frozen=True, slots=True)
class Session:
    """A user's session, until a moment in milliseconds since 1970."""

    user: bytes
    until_ms: int


@dataclass(frozen=True, slots=True)
class Role:
    """A role: privileges as (code, namespace, set), addresses with commas between them, records a second (0: any)."""

    privileges: tuple[tuple[int, str, str], ...] = ()
    whitelist: str = ""
    read_quota: int = 0
    write_quota: int = 0


class Accounts:
    """Who may log in. Without users there is no security, as in Community Edition.

    `roles` and `granted` (user to names of roles) are told and have no effect, and may be changed at any time;
    `administrators` are told of them, everybody else is refused (None: everybody is told).
    """

    def __init__(self, users: Mapping[str, str], clock: Clock) -> None:
        self._hashes = {name.encode(): credential(password) for name, password in users.items()}
        self._sessions: dict[bytes, Session] = {}
        self._clock = clock
        self.roles: dict[str, Role] = {}
        self.granted: dict[str, tuple[str, ...]] = {}
        self.administrators: tuple[str, ...] | None = None

    @property
    def enabled(self) -> bool:
        """Whether requests need a login."""
        return bool(self._hashes)

    def expire_sessions(self) -> None:
        """Make every session token worthless, for records and queries on open connections too."""
        self._sessions.clear()

    def standing(self, token: bytes | None) -> int:
        """What a request on a connection with this token (None: it never logged in) gets: OK, or why not."""
        if not self.enabled:
            return Result.OK
        if token is None:
            return Result.NOT_AUTHENTICATED
        session = self._sessions.get(token)
        expired = session is None or session.until_ms <= self._clock()
        return Result.EXPIRED_SESSION if expired else Result.OK

    def answer(self, payload: bytes, token: bytes | None = None) -> tuple[bytes, bytes | None]:
        """The answer's whole frames, and the token that the connection has from now on (None: as it was). `token` is
        the one it has."""
        if not self.enabled:
            return Admin(result=Result.SECURITY_NOT_SUPPORTED).pack(), None
        try:
            asked = Admin.parse(payload)
        except ProtocolError:
            return Admin(result=Result.SECURITY_FIELD).pack(), None
        user = asked.field(USER) or b""
        if asked.command == LOGIN:
            return self._login(user, asked.field(CREDENTIAL))
        if asked.command == AUTHENTICATE:
            return self._authenticate(user, asked.field(SESSION_TOKEN))
        if asked.command in (QUERY_USERS, QUERY_ROLES):
            return self._told(asked.command, token), None
        return Admin(result=Result.SECURITY_COMMAND).pack(), None

    def _told(self, command: int, token: bytes | None) -> bytes:
        standing = self.standing(token)
        if standing == Result.OK and self.administrators is not None:
            user = self._sessions[token or b""].user.decode()
            standing = Result.OK if user in self.administrators else Result.ROLE_VIOLATION
        if standing != Result.OK:
            return Admin(result=standing).pack()
        told = self._users() if command == QUERY_USERS else self._roles()
        return b"".join(told) + Admin(result=QUERY_END).pack()

    def _users(self) -> Iterator[bytes]:
        for name in self._hashes:
            granted = self.granted.get(name.decode(), ())
            counts = bytes([4]) + struct.pack(">4I", 0, 0, 0, 0)  # quota, records a second, two kinds of queries
            yield Admin(
                fields=((USER, name), (ROLES, bytes([len(granted)]) + b"".join(_short(role) for role in granted)),
                        (READ_INFO, counts), (WRITE_INFO, counts), (CONNECTIONS, struct.pack(">I", 1)))
            ).pack()  # fmt: skip

    def _roles(self) -> Iterator[bytes]:
        for name, role in self.roles.items():
            granted = b"".join(
                bytes([code]) + (_short(namespace) + _short(set_name) if code >= SCOPED else b"")
                for code, namespace, set_name in role.privileges
            )
            yield Admin(
                fields=((ROLE, name.encode()), (PRIVILEGES, bytes([len(role.privileges)]) + granted),
                        (WHITELIST, role.whitelist.encode()), (READ_QUOTA, struct.pack(">I", role.read_quota)),
                        (WRITE_QUOTA, struct.pack(">I", role.write_quota)))
            ).pack()  # fmt: skip

    def _login(self, user: bytes, given: bytes | None) -> tuple[bytes, bytes | None]:
        stored = self._hashes.get(user)
        if stored is None:
            return Admin(result=Result.USER).pack(), None
        if given is None or not secrets.compare_digest(stored, given):
            return Admin(result=Result.PASSWORD).pack(), None
        token = secrets.token_bytes(32)
        self._sessions[token] = Session(user, self._clock() + SESSION_TTL_S * 1000)
        fields = ((SESSION_TOKEN, token), (SESSION_TTL, struct.pack(">I", SESSION_TTL_S)))
        return Admin(LOGIN, fields=fields).pack(), token

    def _authenticate(self, user: bytes, token: bytes | None) -> tuple[bytes, bytes | None]:
        session = self._sessions.get(token or b"")
        if session is None or session.user != user:
            return Admin(result=Result.EXPIRED_SESSION if token else Result.CREDENTIAL).pack(), None
        if session.until_ms <= self._clock():
            return Admin(result=Result.EXPIRED_SESSION).pack(), None
        return Admin(AUTHENTICATE).pack(), token


def _short(text: str) -> bytes:
    """A text behind its length in one byte."""
    return bytes([len(text.encode())]) + text.encode()
