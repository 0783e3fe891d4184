"""Work on several shards at once, which ends as one."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from cdc.replayer.report import Cancelled, Watch

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 3
"""Threads: while some wait for the target's answers, another reads and decides."""


def each(work: Callable[[T], R], items: Iterable[T], watch: Watch, workers: int = WORKERS) -> list[R]:
    """`work(item)` for every item, in threads; the results in the items' order.

    As soon as one raises, or the caller cancels, the others are told to stop at their next `watch.step()`, and the
    first error (or Cancelled) is raised when all have.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="restore") as pool:
        futures = [pool.submit(_unless_stopped, work, item, watch) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(f.done() and f.exception() is None for f in futures):
                watch.stop.set()
    errors = [e for f in futures if (e := f.exception()) is not None]
    # The others were cancelled because of the first real error.
    for error in sorted(errors, key=lambda e: (isinstance(e, Cancelled), type(e) is Cancelled)):
        raise error
    return [f.result() for f in futures]


def _unless_stopped(work: Callable[[T], R], item: T, watch: Watch) -> R:
    watch.step()
    return work(item)
