"""What the roles of this process are doing, for `/healthz` and the role metrics."""

import threading
from dataclasses import dataclass, replace

from cdc import metrics
from cdc.clock import Clock, rfc3339, wall_clock
from cdc.errors import CdcError


@dataclass(frozen=True, slots=True)
class RoleHealth:
    """One role of a namespace, and of a destination where it has one: whether it works, when it last finished a round,
    and the error it is trying to get over."""

    namespace: str
    role: str
    destination: str = ""
    up: bool = False
    last_success: int | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        moment = None if self.last_success is None else rfc3339(self.last_success)
        return {
            "namespace": self.namespace,
            "role": self.role,
            "destination": self.destination or None,
            "up": self.up,
            "last_success": moment,
            "error": self.error,
        }


class Health:
    """The roles' states, written by their threads and read by the HTTP server. A role is named by namespace, role and
    destination, which is empty for a collector."""

    def __init__(self, clock: Clock = wall_clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._roles: dict[tuple[str, str, str], RoleHealth] = {}

    def start(self, namespace: str, role: str, destination: str = "") -> None:
        """The role is about to begin: it is not up before its first round is done."""
        self._set(RoleHealth(namespace, role, destination))

    def success(self, namespace: str, role: str, destination: str = "") -> None:
        """The role finished a round."""
        now = self._clock()
        self._set(RoleHealth(namespace, role, destination, up=True, last_success=now))
        metrics.LAST_SUCCESS.labels(namespace, destination, role).set(now / 1000)

    def failure(self, namespace: str, role: str, error: CdcError, destination: str = "") -> None:
        """The role met an error; it stops or tries again."""
        metrics.ERRORS.labels(namespace, destination, role, type(error).__name__).inc()
        with self._lock:
            before = self._roles.get((namespace, role, destination), RoleHealth(namespace, role, destination))
        self._set(replace(before, up=False, error=f"{type(error).__name__}: {error.message}"))

    def _set(self, state: RoleHealth) -> None:
        with self._lock:
            self._roles[state.namespace, state.role, state.destination] = state
        metrics.UP.labels(state.namespace, state.destination, state.role).set(state.up)

    def roles(self) -> tuple[RoleHealth, ...]:
        """All of them, by namespace, name and destination."""
        with self._lock:
            return tuple(self._roles[name] for name in sorted(self._roles))

    def healthy(self) -> bool:
        """Whether every role is up. While none is known yet nothing is."""
        roles = self.roles()
        return bool(roles) and all(state.up for state in roles)

    def ready(self) -> bool:
        """Whether the backup goes on, even if not everywhere: every role of every namespace is up, for one destination
        at least. While no role is known yet it does not. Drills are no part of it: a restart would help none of them,
        and interrupt the others."""
        ups: dict[tuple[str, str], bool] = {}
        for state in (role for role in self.roles() if role.role != "drill"):
            ups[state.namespace, state.role] = ups.get((state.namespace, state.role), False) or state.up
        return bool(ups) and all(ups.values())
