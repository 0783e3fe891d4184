"""Workers that give items to one consumer: a queue bounded in bytes, and an end that leaves nothing behind."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

from cdc.wire.connection import Connection, ConnectionLost

T = TypeVar("T")
R = TypeVar("R")


class Flow(Generic[T]):
    """What workers share with their consumer. `give` waits while what is under way weighs more than the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._weight = 0
        self._connections: set[Connection] = set()
        self._condition = threading.Condition()
        self.closed = False

    def give(self, item: T, weight: int) -> None:
        """Hand an item to the consumer; one always fits. ConnectionLost when the consumer has gone."""
        with self._condition:
            while self._weight and self._weight + weight > self._limit and not self.closed:
                self._condition.wait()
            if self.closed:
                raise ConnectionLost("the consumer has gone")
            self._items.append((item, weight))
            self._weight += weight
            self._condition.notify_all()

    @contextmanager
    def holding(self, connection: Connection) -> Iterator[Connection]:
        """Have the connection aborted should the consumer go while the block uses it."""
        with self._condition:
            if self.closed:
                raise ConnectionLost("the consumer has gone")
            self._connections.add(connection)
        try:
            yield connection
        finally:
            with self._condition:
                self._connections.discard(connection)

    def _take(self, futures: Sequence[Future[R]]) -> tuple[T, int] | None:
        """The next item; None when all workers have ended. Raises what a worker raised, as soon as it did."""
        with self._condition:
            while True:
                for future in futures:
                    if future.done():
                        future.result()
                if self._items:
                    item, weight = self._items.popleft()
                    self._weight -= weight
                    self._condition.notify_all()
                    return item, weight
                if all(future.done() for future in futures):
                    return None
                self._condition.wait()

    def _wake(self, _: object) -> None:
        with self._condition:
            self._condition.notify_all()

    def _close(self) -> None:
        with self._condition:
            self.closed = True
            self._items.clear()
            self._weight = 0
            connections = list(self._connections)
            self._condition.notify_all()
        for connection in connections:
            connection.abort()

    def run(self, workers: Sequence[Callable[[], R]]) -> Generator[T, None, list[R]]:
        """Run the workers, each in a thread, and yield what they give. Its value (`yield from`) are their results.

        A worker's exception is raised here. However this ends, no thread is left and no worker holds a connection.
        """
        if not workers:
            return []
        with ThreadPoolExecutor(len(workers), thread_name_prefix="wire") as pool:
            futures = [pool.submit(worker) for worker in workers]
            for future in futures:
                future.add_done_callback(self._wake)
            try:
                while (taken := self._take(futures)) is not None:
                    yield taken[0]
            finally:
                self._close()
        return [future.result() for future in futures]
