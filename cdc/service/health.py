"""What the roles of this process are doing, for `/healthz` and the role metrics."""

import threading
from dataclasses import dataclass, replace

from cdc import metrics
from cdc.clock import Clock, rfc3339, wall_clock
from cdc.errors import CdcError


@dataclass(frozen=True, slots=True)
class RoleHealth:
    """One role: whether it works, when it last finished a round, and the error it is trying to get over."""

    role: str
    up: bool = False
    last_success: int | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        moment = None if self.last_success is None else rfc3339(self.last_success)
        return {"role": self.role, "up": self.up, "last_success": moment, "error": self.error}


class Health:
    """The roles' states, written by their threads and read by the HTTP server."""

    def __init__(self, namespace: str, clock: Clock = wall_clock) -> None:
        self._namespace = namespace
        self._clock = clock
        self._lock = threading.Lock()
        self._roles: dict[str, RoleHealth] = {}

    def start(self, role: str) -> None:
        """The role is about to begin: it is not up before its first round is done."""
        self._set(RoleHealth(role))

    def success(self, role: str) -> None:
        """The role finished a round."""
        now = self._clock()
        self._set(RoleHealth(role, up=True, last_success=now))
        metrics.LAST_SUCCESS.labels(self._namespace, role).set(now / 1000)

    def failure(self, role: str, error: CdcError) -> None:
        """The role met an error; it stops or tries again."""
        metrics.ERRORS.labels(self._namespace, role, type(error).__name__).inc()
        with self._lock:
            before = self._roles.get(role, RoleHealth(role))
        self._set(replace(before, up=False, error=f"{type(error).__name__}: {error.message}"))

    def _set(self, state: RoleHealth) -> None:
        with self._lock:
            self._roles[state.role] = state
        metrics.UP.labels(self._namespace, state.role).set(state.up)

    def roles(self) -> tuple[RoleHealth, ...]:
        """All of them, by name."""
        with self._lock:
            return tuple(self._roles[name] for name in sorted(self._roles))

    def healthy(self) -> bool:
        """Whether every role is up."""
        return all(state.up for state in self.roles())
