"""Runs a live program: the collector with real Kafka and a real server, the compactor, and an archive of it all."""

import shutil
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from cdc.archive import Archive, LocalStore
from cdc.collector import Collector
from cdc.compactor import Compactor
from cdc.config import (
    AerospikeSettings,
    ArchiveSettings,
    CollectorSettings,
    CompactorSettings,
    KafkaSettings,
    Settings,
)
from cdc.topics import Topics, end_offsets
from tests.model.edges import Killed
from tests.model.live import Program, Stretch, Truth

SHARDS = 2
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Mark:
    """At `clock`, in the node's time, the collector had told of writes up to `resolved` and of deletes up to
    `reconciled`."""

    clock: int
    resolved: int
    reconciled: int


def settings_for(hosts: list[tuple[str, int]], namespace: str, bootstrap: str, directory: Path) -> Settings:
    """Of a collector and a compactor that nobody else knows of, with short periods."""
    return Settings(
        aerospike=AerospikeSettings(hosts=tuple(f"{host}:{port}" for host, port in hosts), namespaces=(namespace,)),
        kafka=KafkaSettings(
            bootstrap=bootstrap, prefix=f"live-{uuid.uuid4().hex[:12]}", session_timeout_s=1.5, timeout_s=20.0
        ),
        collector=CollectorSettings(
            shards=SHARDS, catalog=directory / "catalog", sweep_every_s=0.1, reconcile_every_s=0.3
        ),
        archive=ArchiveSettings(path=directory / "archive"),
        compactor=CompactorSettings(segment_every_s=3600, set_every_s=0.001, merge_segments=2),
    )  # fmt: skip


@dataclass(slots=True)
class LiveDrive:
    """A run of one program."""

    program: Program
    truth: Truth
    settings: Settings
    marks: list[Mark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _collector: Collector | None = None
    _left: int = 0
    """Commits of changes until the collector dies; 0: it does not."""
    _told: int = 0
    """Where the changes ended when that was last looked at."""

    def run(self) -> Archive:
        """All of it, and a last round without which the end could not be asked for; what it left."""
        try:
            for step in self.program.opening:
                step.happen(self.truth)
            for stretch in self.program.stretches:
                self._stretch(stretch)
            self._stretch(Stretch("round", (), compacts=True))
        finally:
            self._part()
        return Archive.open(LocalStore(self.settings.archive.path), self.settings.aerospike.namespace)

    def _stretch(self, stretch: Stretch) -> None:
        if stretch.loses:
            self._part()
            shutil.rmtree(self.settings.collector.catalog, ignore_errors=True)
        if stretch.how == "away":
            self._happen(stretch)
        else:
            self._beside(stretch)
        if stretch.compacts:
            Compactor(self.settings).run_once()

    def _happen(self, stretch: Stretch) -> None:
        for step in stretch.steps:
            step.happen(self.truth)

    def _beside(self, stretch: Stretch) -> None:
        """The steps, while the collector works in a thread of its own."""
        collector = self._collector = self._collector or Collector(self.settings, after_commit=self._committed)
        self._left = stretch.dies
        stop = Event()
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(self._work, collector, stretch, stop)
            try:
                self._await_shards(collector, work)
                self._happen(stretch)
            finally:
                stop.set()
            try:
                work.result(DEADLINE_S)
            except Killed:
                self.notes.append("killed")
                self._part()
        self._left = 0

    def _work(self, collector: Collector, stretch: Stretch, stop: Event) -> None:
        if stretch.how == "serve":
            collector.run(stop, success=self._mark, note=self.notes.append)
        else:
            collector.run_once(audit=stretch.how == "audit")
            self._mark()

    def _await_shards(self, collector: Collector, work: "Future[None]") -> None:
        """Joining takes seconds, in which nothing would be looked at."""
        deadline = time.monotonic() + DEADLINE_S
        while not work.done() and len(collector._session.catalogs) < SHARDS:
            assert time.monotonic() < deadline, self.notes
            time.sleep(0.005)

    def _committed(self) -> None:
        """After a commit. One without changes leaves the catalogs nothing to miss, so it does not count."""
        if self._left and (end := self._changes_end()) > self._told:
            self._told, self._left = end, self._left - 1
            if not self._left:
                raise Killed

    def _changes_end(self) -> int:
        topics = Topics(self.settings.kafka.prefix, self.settings.aerospike.namespace)
        return sum(end_offsets(self.settings.kafka, topics.changes, range(SHARDS)).values())

    def _mark(self) -> None:
        assert self._collector is not None
        stats: Any = self._collector.stats
        resolved, reconciled = stats.resolved_at, stats.reconciled_at
        self.marks.append(Mark(self.truth.now(), resolved, reconciled))

    def _part(self) -> None:
        collector, self._collector = self._collector, None
        if collector is not None:
            collector.close()
