"""Long-running roles in threads of one process. One that fails for good stops the others; its error is raised here."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True, slots=True)
class Role:
    """`run(stop)` works until `stop` is set, gets over what passes by itself, and raises what does not."""

    name: str
    run: Callable[[threading.Event], None]


def run_roles(roles: Sequence[Role], stop: threading.Event) -> None:
    """Run all until `stop` is set or one ends; then stop all, wait, and raise the first error.

    A role that ends, for whatever reason, ends the service: half a backup is not one.
    """
    with ThreadPoolExecutor(max_workers=len(roles), thread_name_prefix="role") as pool:
        running = [pool.submit(role.run, stop) for role in roles]
        try:
            while not wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                pass  # in steps, so that the main thread can take signals
        finally:
            stop.set()
        wait(running)
    for role in running:
        role.result()


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
