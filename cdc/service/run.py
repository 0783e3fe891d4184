"""The service: chosen roles in threads, with health and metrics, until a signal or an error that does not pass."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from cdc.config import Settings
from cdc.errors import CdcError
from cdc.service.health import Health
from cdc.service.http import HttpServer
from cdc.service.roles import Role, run_roles

ROLES = ("collector", "compactor")

Say = Callable[[str], None]


def run(settings: Settings, roles: Sequence[str], stop: threading.Event, say: Say) -> None:
    """Run the roles until `stop` is set. `say` is told, a line each, where metrics are and what passes or is over.

    Raises the first error that a role could not get over, and ConfigError when the HTTP address is taken.
    """
    # The kernels' compiler takes a second to import; commands that only look at something need not wait for it.
    from cdc.collector import Collector
    from cdc.compactor import Compactor

    health = Health(settings.aerospike.namespace)
    with ExitStack() as stack:
        server = stack.enter_context(HttpServer(settings.http, health))
        say(f"{', '.join(roles)} of {settings.aerospike.namespace}; metrics at {server.url}/metrics")
        bodies: dict[str, Callable[..., None]] = {}
        if "collector" in roles:
            collector = stack.enter_context(Collector(settings))
            bodies["collector"] = partial(collector.run, note=lambda text: say(f"collector: {text}"))
        if "compactor" in roles:
            bodies["compactor"] = Compactor(settings).run
        running = []
        for name, body in bodies.items():
            health.start(name)
            running.append(Role(name, _role(name, body, health, say)))
        run_roles(running, stop)
    say("stopped")


def _role(name: str, body: Callable[..., None], health: Health, say: Say) -> Callable[[threading.Event], None]:
    troubled: set[type[CdcError]] = set()

    def success() -> None:
        if troubled:
            say(f"{name}: goes on")
            troubled.clear()
        health.success(name)

    def failure(error: CdcError) -> None:
        health.failure(name, error)
        if type(error) not in troubled:  # once an outage, not once a retry, each of which fails in words of its own
            troubled.add(type(error))
            say(f"{name}: {type(error).__name__}: {error.message}; trying again")

    def work(stop: threading.Event) -> None:
        try:
            body(stop, success, failure)
        except CdcError as error:
            health.failure(name, error)
            raise

    return work
