"""The server's side of the login: users with passwords, session tokens (the client's `as_admin.c` is the other side).

The client sends a bcrypt hash of the password with a salt that is the same everywhere; so what is kept is that hash.
"""

import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import bcrypt

from cdc.clock import Clock
from cdc.wire.messages import Result

LOGIN = 20
AUTHENTICATE = 0
_USER, _CREDENTIAL, _SESSION_TOKEN, _SESSION_TTL = 0, 3, 5, 6
_SALT = b"$2a$10$7EqJtq98hPqEX7fNZaFWoO"
SESSION_TTL_S = 86_400


@dataclass(frozen=True, slots=True)
class Answer:
    """The payload of a security frame, and the user who is logged in by it, if any."""

    payload: bytes
    user: bytes | None = None


class Accounts:
    """Who may log in. Without users there is no security, as in Community Edition."""

    def __init__(self, users: Mapping[str, str], clock: Clock) -> None:
        self._hashes = {
            name.encode(): bcrypt.hashpw(password.encode(), _SALT) for name, password in users.items()
        }  # fmt: skip
        self._sessions: dict[bytes, tuple[bytes, int]] = {}
        self._clock = clock

    @property
    def enabled(self) -> bool:
        """Whether requests need a login."""
        return bool(self._hashes)

    def expire_sessions(self) -> None:
        """Make every session token worthless, as after a server's restart."""
        self._sessions.clear()

    def answer(self, payload: bytes) -> Answer:
        """Answer a security request."""
        if not self.enabled:
            return _result(Result.SECURITY_NOT_SUPPORTED)
        if len(payload) < 16:
            return _result(Result.SECURITY_FIELD)
        command, count = payload[2], payload[3]
        fields = _fields(payload, count)
        if fields is None:
            return _result(Result.SECURITY_FIELD)
        user = fields.get(_USER, b"")
        if command == LOGIN:
            return self._login(user, fields.get(_CREDENTIAL))
        if command == AUTHENTICATE:
            return self._authenticate(user, fields.get(_SESSION_TOKEN))
        return _result(Result.SECURITY_COMMAND)

    def _login(self, user: bytes, credential: bytes | None) -> Answer:
        stored = self._hashes.get(user)
        if stored is None:
            return _result(Result.USER)
        if credential is None or not secrets.compare_digest(stored, credential):
            return _result(Result.PASSWORD)
        token = secrets.token_bytes(32)
        self._sessions[token] = (user, self._clock() + SESSION_TTL_S * 1000)
        fields = _field(_SESSION_TOKEN, token) + _field(_SESSION_TTL, struct.pack(">I", SESSION_TTL_S))
        return Answer(bytes([0, Result.OK, LOGIN, 2]) + bytes(12) + fields, user)

    def _authenticate(self, user: bytes, token: bytes | None) -> Answer:
        session = self._sessions.get(token or b"")
        if session is None or session[0] != user:
            return _result(Result.CREDENTIAL)
        if session[1] <= self._clock():
            return _result(Result.EXPIRED_SESSION)
        return Answer(bytes([0, Result.OK, AUTHENTICATE, 0]) + bytes(12), user)


def _result(code: int) -> Answer:
    return Answer(bytes([0, code]) + bytes(14))


def _field(kind: int, data: bytes) -> bytes:
    return struct.pack(">IB", len(data) + 1, kind) + data


def _fields(payload: bytes, count: int) -> dict[int, bytes] | None:
    at, fields = 16, {}
    for _ in range(count):
        if at + 5 > len(payload):
            return None
        size, kind = struct.unpack_from(">IB", payload, at)
        end = at + 4 + size
        if size < 1 or end > len(payload):
            return None
        fields[kind] = payload[at + 5 : end]
        at = end
    return fields
