"""The service: chosen roles of every namespace and destination, each in a thread, with health and metrics, until a
signal or an error that does not pass."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from cdc.config import Settings
from cdc.errors import ArchiveError, CdcError, ConfigError
from cdc.service.drill import Driller
from cdc.service.health import Health
from cdc.service.http import HttpServer
from cdc.service.roles import LEAVE_S, Role, run_roles
from cdc.service.verifier import Verifier
from cdc.topics.client import asking_s

ROLES = ("collector", "compactor", "verifier", "drill")
REPAIR_S = 10.0
"""A destination that a person must repair is tried again this often."""

Say = Callable[[str], None]


def run(settings: Settings, roles: Sequence[str], stop: threading.Event, say: Say) -> bool:
    """Run the roles of all namespaces until `stop` is set: a collector each, and for every destination a compactor,
    where its `verify_every_s` says so a verifier, and drills where a scratch namespace is named. `say` is told, a line
    each, where metrics are and what passes or is over. Whether all ended by themselves: a role that was in trouble may
    have been left behind (`run_roles`).

    Raises the first error that a role could not get over, and ConfigError when the HTTP address is taken. What is wrong
    with a destination only counts once no destination of its namespace can be written: until then it is tried again.
    """
    # The kernels' compiler takes a second to import; commands that only look at something need not wait for it.
    from cdc.compactor import Compactor

    names = settings.destination_names
    verified = {one.archive.destination for one in settings.each_destination() if one.archive.verify_every_s}
    unasked = {"verifier" if not verified else "", "drill" if not settings.drill.into else ""}
    roles = [role for role in roles if role not in unasked]
    health = Health()
    with HttpServer(settings.http, health) as server:
        places = f" at {', '.join(names)}" if len(names) > 1 and set(roles) != {"collector"} else ""
        of = ", ".join(settings.aerospike.namespaces)
        say(f"{', '.join(roles)} of {of}{places}; metrics at {server.url}/metrics")
        running = []
        for one in settings.each():
            namespace = one.aerospike.namespace
            if "collector" in roles:
                running.append(_role(("collector", namespace, ""), "", _collecting(one), health, say, noting=True))
            wrong = _Wrong(names)
            for at in one.each_destination():
                name = at.archive.destination
                place = f" at {name}" if len(names) > 1 else ""
                if "compactor" in roles:
                    compact = wrong.trying_again(name, Compactor(at).run)
                    running.append(_role(("compactor", namespace, name), place, compact, health, say))
                if "verifier" in roles and name in verified:
                    running.append(_role(("verifier", namespace, name), place, Verifier(at).run, health, say))
                if "drill" in roles:
                    running.append(_role(("drill", namespace, name), place, Driller(at).run, health, say, noting=True))
        left = run_roles(running, stop)
    say(f"stopped, leaving what did not answer: {', '.join(left)}" if left else "stopped")
    return not left


def _collecting(settings: Settings) -> Callable[..., None]:
    # As above.
    from cdc.collector import Collector

    def work(*arguments: Any) -> None:
        with Collector(settings) as collector:
            collector.run(*arguments)

    return work


class _Wrong:
    """The destinations of a namespace with something wrong that does not pass: each is tried again for as long as
    another can be written. What is wrong with all of them ends the program."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._errors: dict[str, CdcError] = {}
        self._lock = threading.Lock()

    def trying_again(self, name: str, body: Callable[..., None]) -> Callable[..., None]:
        """What works at the destination of this name, again and again while another works."""

        def work(stop: threading.Event, success: Callable[[], None], failure: Callable[[CdcError], None]) -> None:
            def well() -> None:
                with self._lock:
                    self._errors.pop(name, None)
                success()

            while not stop.is_set():
                try:
                    body(stop, well, failure)
                except (ArchiveError, ConfigError) as error:
                    self._add(name, error)
                    failure(error)
                    stop.wait(REPAIR_S)

        return work

    def _add(self, name: str, error: CdcError) -> None:
        with self._lock:
            self._errors[name] = error
            if len(self._errors) == len(self._names):
                raise self._errors[self._names[0]]


def _role(
    role: tuple[str, str, str], place: str, body: Callable[..., None], health: Health, say: Say, *, noting: bool = False
) -> Role:
    """One role, as (role, namespace, destination); a person is told of it by `place`. A body that is `noting` has a
    fourth argument: to whom it tells what a person should know."""
    kind, namespace, destination = role
    name = f"{kind} {namespace}{place}"
    troubled: set[type[CdcError]] = set()
    begun = threading.Event()
    threads: list[int] = []

    def tell(text: str) -> None:
        say(f"{name}: {text}")

    def success() -> None:
        if troubled:
            tell("goes on")
            troubled.clear()
        begun.set()
        health.success(namespace, kind, destination)

    def failure(error: CdcError) -> None:
        health.failure(namespace, kind, error, destination)
        if type(error) not in troubled:  # once an outage, not once a retry, each of which fails in words of its own
            troubled.add(type(error))
            tell(f"{type(error).__name__}: {error.message}; trying again")

    def work(stop: threading.Event) -> None:
        threads.append(threading.get_ident())
        try:
            body(stop, success, failure, *([tell] if noting else []))
        except CdcError as error:
            health.failure(namespace, kind, error, destination)
            raise

    def idle() -> bool:
        return bool(troubled) or not begun.is_set() or any(asking_s(thread) > LEAVE_S for thread in threads)

    health.start(namespace, kind, destination)
    return Role(name, work, idle)
