"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY_S = 5.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Bars:
    """One bar a phase. `update` may be called by any thread."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._lock = Lock()

    def update(self, done: int, total: int, phase: str) -> None:
        """`done` of `total` records in this phase."""
        with self._lock:
            if self._progress is None:
                self._line(done, total, phase)
                return
            if phase not in self._tasks:
                self._tasks[phase] = self._progress.add_task(phase, total=total)
            self._progress.update(self._tasks[phase], completed=done, total=total)

    def _line(self, done: int, total: int, phase: str) -> None:
        now = time.monotonic()
        began = self._began.setdefault(phase, now)
        if now - self._said.setdefault(phase, now) < LINE_EVERY_S:
            return
        self._said[phase] = now
        rate = done / (now - began)
        left = f", {(total - done) / rate:.0f} s left" if rate else ""
        sys.stderr.write(f"{phase}: {done:,} of {total:,}, {rate:,.0f}/s{left}\n")


@contextmanager
def bars() -> Iterator[Bars]:
    """Bars on standard error while the block lasts."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bars(None)
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        yield Bars(progress)
