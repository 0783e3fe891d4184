"""What the measurements share: where they run, and what they found."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdc.config import (
    ArchiveSettings,
    CollectorSettings,
    CompactorSettings,
    HttpSettings,
    KafkaSettings,
    ReplayerSettings,
    Settings,
)
from cdc.embedded.kafka import EmbeddedKafka
from tests.bench.measure import Cost, session_cpu_s
from tests.bench.workload import Place, Workload, empty

MEMORY_LIMIT = 400 << 20
"""What no role may need more of."""
YEAR_S = 31_536_000


@dataclass(frozen=True, slots=True)
class Line:
    """One measured thing: what `records` records cost. `rounds` are the single runs of which `cost` is the median."""

    part: str
    what: str
    cost: Cost
    records: int
    note: str = ""
    rounds: tuple[Cost, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something holds that must."""

    what: str
    holds: bool
    found: str


@dataclass(slots=True)
class Bench:
    """One run of the measurements. `folder` holds what they leave to one another; `seconds` is how long a steady load
    lasts, 0 for as long as its targets speak of."""

    place: Place
    workload: Workload
    rounds: int
    folder: Path
    kafka: EmbeddedKafka
    seconds: float = 0.0
    lines: list[Line] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many there are."""
        return self.workload.records

    def settings(self, run: str, *, set_every_s: float = YEAR_S, **collector: Any) -> Settings:
        """The product's defaults, with topics, catalog and archive of their own for each `run`."""
        return Settings(
            aerospike=self.place.settings(self.place.source),
            kafka=KafkaSettings(bootstrap=self.kafka.bootstrap, prefix=run),
            collector=CollectorSettings(catalog=self.folder / run / "catalog", **collector),
            compactor=CompactorSettings(set_every_s=set_every_s),
            archive=ArchiveSettings(path=self.folder / run / "archive"),
            replayer=ReplayerSettings(journal=self.folder / run / "restores"),
            http=HttpSettings(port=0),
        )

    def refill(self, records: int) -> Workload:
        """Have so many records in the source, freshly written, and nothing else."""
        empty(self.place, self.place.source)
        workload = Workload.of(records)
        workload.fill(self.place)
        return workload

    def add(self, part: str, what: str, costs: list[Cost], records: int, note: str = "") -> Line:
        """Note the median of some rounds."""
        line = Line(part, what, Cost.median(costs), records, note, tuple(costs))
        self.lines.append(line)
        return line

    def check(self, what: str, holds: bool, found: str) -> None:
        """Note whether something holds."""
        self.verdicts.append(Verdict(what, bool(holds), found))

    def within_memory(self, role: str, cost: Cost) -> None:
        """Note whether a role kept to its memory."""
        self.check(
            f"the {role} needs less than {MEMORY_LIMIT >> 20} MB at its peak",
            cost.peak_bytes < MEMORY_LIMIT,
            f"{cost.peak_bytes / (1 << 20):.0f} MB",
        )

    def fresh(self, name: str) -> Path:
        """An empty directory."""
        path = self.folder / name
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True)
        return path

    @contextmanager
    def broker_cpu(self) -> Iterator[list[float]]:
        """Gives a list that, after the block, holds the CPU seconds that the broker took (none where unknown)."""
        spent: list[float] = []
        process = self.kafka._process
        before = session_cpu_s(process.pid) if process is not None else None
        yield spent
        if process is not None and before is not None:
            # What the broker writes after the last acknowledgement is part of what this run cost it.
            time.sleep(0.3)
            spent.append((session_cpu_s(process.pid) or before) - before)


def ratio(ours: float, theirs: float) -> str:
    """For people."""
    return f"{ours / theirs:.2f} times" if theirs else "?"
