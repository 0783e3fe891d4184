"""Runs a program: the collector's own `run` over the edges in this process, with the world's steps between and within
its rounds."""

import shutil
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdc.codec.changes import columns
from cdc.collector import Collector
from cdc.config import AerospikeSettings, CollectorSettings, KafkaSettings, Settings
from cdc.errors import CdcError
from cdc.model import Columns
from tests.model.edges import Killed, Log, Points, bodies_of, patched
from tests.model.programs import Event, LoseCatalog, Program, Round, Stop
from tests.model.world import KEY_OF, NAMESPACE, Pass, Put, Step, World

SHARDS = 2
PROLOGUE: tuple[Event, ...] = (Put(0, 1), Put(2, 1), Put(6, 1, 20), Pass(1_000), *(Round() for _ in range(6)))
"""The base snapshot is done, piece by piece."""
EPILOGUE: tuple[Event, ...] = (
    Pass(3_000), Round(), Pass(11_000), Round(), Pass(61_000), Round(), Pass(1_000), Round(),
)  # fmt: skip
"""What was found late comes out, the clocks are measured once more, and one that was set back passes again what it had
passed."""


@dataclass(slots=True)
class Mark:
    """A finished round: when (`seq`) it began and ended, the time at its end, how long it took (milliseconds), and how
    much progress each shard had."""

    began: int
    ended: int
    clock: int
    took: int
    progress: dict[int, int]


@dataclass(slots=True)
class Drive:
    """A run of one program."""

    program: Program
    directory: Path
    monkeypatch: Any
    world: World = field(default_factory=World)
    points: Points = field(default_factory=Points)
    log: Log = field(init=False)
    marks: list[Mark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    calm: bool = False
    """Nothing disturbs clocks, nodes or processes."""
    _events: deque[Event] = field(init=False)
    _collector: Collector | None = None
    _leaving: bool = False
    _round_began: int = 0
    _round_began_at: int = 0
    _tears: int = 0

    def __post_init__(self) -> None:
        self.log = Log(self.points, SHARDS)
        self._events = deque([*(PROLOGUE if self.program.based else ()), *self.program.events, *EPILOGUE])
        patched(self.monkeypatch, self.world, self.log, self.points, self._sleep, self.program.few)

    def run(self) -> None:
        """All of it. What the collector raises ends its process; the next round begins another."""
        own = CollectorSettings(
            shards=SHARDS, catalog=self.directory, sweep_every_s=0.001,
            reconcile_every_s=self.program.reconcile_every_s, base_every_s=self.program.base_every_s,
        )  # fmt: skip
        settings = Settings(
            aerospike=AerospikeSettings(hosts=("127.0.0.1:1",), namespaces=(NAMESPACE,)),
            kafka=KafkaSettings(prefix="model"), collector=own,
        )  # fmt: skip
        while self._go_on():
            collector = self._collector = Collector(settings, clock=self.world.clock, after_commit=self.points)
            self._leaving = False
            try:
                collector.run(self, failure=self._failed, note=self.notes.append)  # type: ignore[arg-type]
            except Killed as error:
                self._failed(error)
                self.notes.append("killed")
            except CdcError as error:
                self._failed(error)
                self.notes.append(f"ended: {error}")
            finally:
                self.points.at = lambda number: None
                self.log.answers.clear()
                collector.close()
                self._tear()
            self._leaving = False
            self._mark()

    def _failed(self, error: BaseException) -> None:
        """What this round has looked at, or the one before it ahead of time, is lost with what it could not commit."""
        rows = [one for told in self.log.changes.values() for one in told]
        c = columns(bodies_of([one.body for one in rows])) if rows else Columns.empty()
        keys = [KEY_OF[digest.tobytes()] for digest in c.digest]
        marks = zip(c.lut.tolist(), c.generation.tolist(), strict=True)
        since = self.marks[-2].began if len(self.marks) > 1 else 0
        self.world.forget(since, set(zip(keys, marks, strict=True)))

    def _tear(self) -> None:
        """Cut what the killed process wrote last out of its catalogs' journals."""
        size, self._tears = self._tears, 0
        for journal in self.directory.rglob("journal-*.log") if size else ():
            with journal.open("r+b") as file:
                file.truncate(max(0, journal.stat().st_size - size))

    # The event that the collector waits on

    def is_set(self) -> bool:
        return self._leaving

    def wait(self, timeout: float | None = None) -> bool:
        if self._collector is not None and self._collector._sweeping is not None:  # the round rests
            self._happen(Pass(1))
            return False
        self._mark()
        self._leaving = not self._go_on()
        return self._leaving

    def _mark(self) -> None:
        self.world.note()
        self.marks.append(
            Mark(
                self._round_began,
                self.world.seq,
                self.world.now,
                self.world.now - self._round_began_at,
                {k: len(told) for k, told in self.log.progress.items()},
            )
        )

    def _go_on(self) -> bool:
        """Let things happen until the next round, and prepare it; False when there is none, or not in this process."""
        self.points.at = lambda number: None
        self.log.answers.clear()
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Round):
                self._prepare(event)
                return True
            if isinstance(event, Stop | LoseCatalog):
                if isinstance(event, LoseCatalog):
                    shutil.rmtree(self.directory / NAMESPACE, ignore_errors=True)
                if not self._leaving:
                    self._leaving = True
                    self._events.appendleft(Pass(0))
                    return False
            else:
                self._happen(event)
        return False

    def _prepare(self, event: Round) -> None:
        self._round_began, self._round_began_at = self.world.seq, self.world.now
        self._tears = event.tears if event.dies else 0
        if event.commit != "done":
            self.log.answers.append(event.commit)

        def at(number: int) -> None:
            for where, step in event.during:
                if where == number:
                    self._happen(step)
            if number == event.dies:
                raise Killed

        self.points.number = 0
        self.points.at = at

    def _happen(self, step: Step) -> None:
        self.world.note()
        step.happen(self.world)
        self.world.note()

    def _sleep(self, seconds: float) -> None:
        self._happen(Pass(max(0, round(seconds * 1000))))
