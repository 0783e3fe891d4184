"""Long-running roles in threads of one process. One that fails for good stops the others; its error is raised here."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

LEAVE_S = 1.5
"""So long a role that has nothing to finish may take to end before it is left behind."""


@dataclass(frozen=True, slots=True)
class Role:
    """`run(stop)` works until `stop` is set, gets over what passes by itself, and raises what does not. `idle` says
    whether it has nothing to finish: it has not begun, is trying to get over something, or waits for an answer."""

    name: str
    run: Callable[[threading.Event], None]
    idle: Callable[[], bool] = lambda: False


def run_roles(roles: Sequence[Role], stop: threading.Event) -> list[str]:
    """Run all until `stop` is set or one ends; then stop all, wait, and raise the first error.

    A role that ends, for whatever reason, ends the service: half a backup is not one. One that is idle may be waiting
    for a broker or a store that does not answer: after LEAVE_S it is left behind, as if it had been killed. Returns the
    names of those.
    """
    errors: dict[str, BaseException] = {}

    def work(role: Role) -> None:
        try:
            role.run(stop)
        except BaseException as error:  # noqa: BLE001 - raised again below, by whoever waits
            errors[role.name] = error
        finally:
            stop.set()

    threads = {role: threading.Thread(target=work, args=(role,), name=role.name, daemon=True) for role in roles}
    try:
        for thread in threads.values():
            thread.start()
        while not stop.wait(0.5):
            pass  # in steps, so that the main thread can take signals
    finally:
        stop.set()
    stopped_at = time.monotonic()
    left = []
    for role, thread in threads.items():
        while thread.is_alive() and not (role.idle() and time.monotonic() > stopped_at + LEAVE_S):
            thread.join(0.1)
        if thread.is_alive():
            left.append(role.name)
    for role in roles:
        if role.name in errors:
            raise errors[role.name]
    return left


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that roles end at a clean point."""
    stop = threading.Event()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
