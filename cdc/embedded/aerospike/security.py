"""The server's side of the login: users with passwords, session tokens. `wire.login` has the bytes of both sides.

What is kept of a password is what the client sends: its bcrypt hash with a salt that is the same everywhere.
"""

import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cdc.clock import Clock
from cdc.errors import ProtocolError
from cdc.wire.login import AUTHENTICATE, CREDENTIAL, LOGIN, SESSION_TOKEN, SESSION_TTL, USER, Admin, credential
from cdc.wire.messages import Result

SESSION_TTL_S = 86_400


@dataclass(frozen=True, slots=True)
class Session:
    """A user's session, until a moment in milliseconds since 1970."""

    user: bytes
    until_ms: int


class Accounts:
    """Who may log in. Without users there is no security, as in Community Edition."""

    def __init__(self, users: Mapping[str, str], clock: Clock) -> None:
        self._hashes = {name.encode(): credential(password) for name, password in users.items()}
        self._sessions: dict[bytes, Session] = {}
        self._clock = clock

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

    def answer(self, payload: bytes) -> tuple[bytes, bytes | None]:
        """The answer's whole frame, and the token that the connection has from now on (None: as it was)."""
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
        return Admin(result=Result.SECURITY_COMMAND).pack(), None

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
