"""Long-running roles in threads of one process. One that fails for good stops the others, and its error is raised here."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True, slots=True)
class Role:
    """`run(stop)` works until `stop` is set, gets over what passes by itself, and raises what does not."""

    name: str
    run: Callable[[threading.Event], None]


def run_roles(roles: Sequence[Role], stop: threading.Event) -> None:
    """Run all until `stop` is set or one raises; then stop all, wait, and raise the first error."""
    errors: list[BaseException] = []

    def body(role: Role) -> None:
        try:
            role.run(stop)
        except BaseException as error:  # whatever it is, it is raised again below, by the thread that waits
            errors.append(error)
        finally:
            stop.set()  # a role that ends, for whatever reason, ends the service: half a backup is not one

    threads = [threading.Thread(target=body, args=(role,), name=role.name) for role in roles]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=0.5)  # in steps, so that the main thread can take signals
    if errors:
        raise errors[0]


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
