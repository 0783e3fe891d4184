"""Roles that run beside each other, each in a process of its own: a collector at work, who writes, and who reads.

`roles` are run by `tests.bench.role` until their time is over or their standard input ends.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aerospike
import numpy as np
import numpy.typing as npt
from aerospike_helpers import expressions as exp

from cdc.codec.changes import columns, gather
from cdc.codec.decode import to_python
from cdc.collector import Collector
from cdc.config import Settings
from cdc.model import I32, I64, U8, Bodies, Op, Origin
from cdc.source import source
from cdc.source.expressions import lut_at_least
from cdc.source.join_kernels import last_rows
from cdc.topics import ChangeReader, Topics, end_offsets
from cdc.topics.progress import Kind
from cdc.wire import Cluster
from cdc.wire.batch import write
from cdc.wire.cluster import client_config
from cdc.wire.query import query
from tests.bench.measure import Cost, peak_bytes, resident_bytes, timed
from tests.bench.workload import SET, Workload

F64 = npt.NDArray[np.float64]
STEP_S = 0.05
"""The writer's batches come so often."""
SAMPLE = 8
"""One in so many records is compared by its last value; all are compared by generation."""
SOON_NS = 3_600_000_000_000
FOREGROUND = 10_000
"""Records that the foreground reads and writes."""


def collect(settings: Settings) -> tuple[Cost, dict[str, Any]]:
    """A collector at work. Says `begun` once the base snapshot and two sweeps are done; the cost counts from there."""
    stop = threading.Event()
    sweeps: list[float] = []
    memory: list[tuple[float, int]] = []
    began = [0.0, 0.0]

    def swept() -> None:
        if (seconds := collector.stats.look_s.pop(Kind.SWEEP, None)) is not None:
            sweeps.append(seconds)
            memory.append((time.time(), resident_bytes()))
            if len(sweeps) == 2:
                began[:] = time.perf_counter(), time.process_time()
                say("begun")

    with Collector(settings) as collector, until_stdin_ends(stop):
        collector.run(stop, swept, note=lambda text: say(f"note {text}"))
        notes, errors = collector.stats.notes, dict(collector.stats.errors)
    cost = Cost(time.perf_counter() - began[0], time.process_time() - began[1], peak_bytes())
    return cost, {"sweeps": sweeps[2:], "memory": memory[2:], "notes": notes, "errors": errors}


class Timed(Collector):
    """A collector that tells how long its sweeps take, from the first reading to the last proof."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.took: list[float] = []
        self.cpu: list[float] = []

    def _sweep_on(self, *, reconciling: bool, sharp: bool = False, spread: bool = False) -> Iterator[float]:
        began, used = time.perf_counter(), time.process_time()
        yield from super()._sweep_on(reconciling=reconciling, sharp=sharp, spread=spread)
        self.took.append(time.perf_counter() - began)
        self.cpu.append(time.process_time() - used)


def quiet(settings: Settings, sweeps: int, deletes: int) -> tuple[Cost, dict[str, Any]]:
    """A collector where nothing changes, for so many sweeps with the detection of deletes: the cost is that of one.
    Then it says `begun`; once it has told of so many deletes it says `found`, and goes on until its input ends.
    """
    stop = threading.Event()
    asked: Counter[str] = Counter()
    idle: Counter[str] = Counter()
    received: Counter[str] = Counter()
    found_at, warm = 0.0, 0
    before: tuple[list[float], list[float]] = ([], [])

    def counted(*arguments: Any, **named: Any) -> Iterator[U8]:
        kind = "times" if named.get("project") else "bins" if named.get("bins", True) else "digests"
        asked[kind] += 1
        for frame in query(*arguments, **named):
            received[kind] += len(frame)
            yield frame

    def swept() -> None:
        nonlocal before, found_at, warm
        # Each shard that the base snapshot has finished is looked at once.
        if not warm:
            warm = len(collector.took) if collector._session.doubts.calm else 0
            asked.clear()
        elif warm and len(collector.took) >= sweeps + warm and not before[0]:
            before = collector.took[warm:], collector.cpu[warm:]
            idle.update(asked)
            asked.clear()
            received.clear()
            say("begun")
        gone = sum(count for (op, _), count in collector.stats.changes.items() if op != Op.WRITE)
        if gone >= deletes and not found_at:
            found_at = time.time()
            say("found")

    with Timed(settings) as collector, until_stdin_ends(stop):
        source.query = counted  # type: ignore[assignment]
        collector.run(stop, swept)
    cost = Cost(median(before[0]), median(before[1]), peak_bytes())
    return cost, {
        "longest_s": max(before[0]), "found_at": found_at, "idle": idle, "asked": asked, "received": received,
        "told": sum(count for (op, _), count in collector.stats.changes.items() if op == Op.DELETE),
    }  # fmt: skip


def bare(settings: Settings, runs: int) -> tuple[Cost, dict[str, Any]]:
    """What it takes to ask for what changed from now on, where nothing does: by our own query, and (`official`) by the
    official client's."""
    namespace = settings.aerospike.namespace
    policy = {"expressions": exp.GE(exp.LastUpdateTime(), time.time_ns() + SOON_NS).compile()}
    filter_ = lut_at_least((time.time_ns() + SOON_NS) // 1_000_000)
    ours: list[Cost] = []
    theirs: list[Cost] = []
    with Cluster(settings.aerospike) as cluster:
        official = cluster.client.query(namespace, None)

        def ask() -> int:
            frames = query(cluster, namespace, range(4096), filter=filter_, connections=settings.collector.connections)
            return sum(len(frame) for frame in frames)

        for _ in range(runs):
            ours.append(timed(ask)[0])
            theirs.append(timed(lambda: official.foreach(lambda record: None, policy, {"nobins": True}))[0])
    return Cost.median(ours), {"official": asdict(Cost.median(theirs))}


def load(settings: Settings, records: int, rate: int, seconds: float, file: str) -> tuple[Cost, dict[str, Any]]:
    """Writes `rate` records a second, chosen at random from `records`, and saves what each was last given."""
    workload, random = Workload.of(records), np.random.default_rng(2)
    last: I64 = np.full(records, -1, np.int64)
    writes: I64 = np.zeros(records, np.int64)
    number, late = records, 0.0
    namespace = settings.aerospike.namespace
    used = time.process_time()
    with Cluster(settings.aerospike) as cluster:
        began = time.perf_counter()
        for step in range(1, round(seconds / STEP_S) + 1):
            due = round(rate * STEP_S * step) - (number - records)
            rows = np.unique(random.integers(0, records, due))
            rows = np.unique(np.append(rows, random.integers(0, records, due - len(rows))))
            values = np.arange(number, number + len(rows))
            result = write(cluster, namespace, workload.digest[rows], workload.encoder(namespace, rows, values))
            assert not result.any(), np.unique(result)
            last[rows] = values
            writes[rows] += 1
            number += len(rows)
            ahead = began + step * STEP_S - time.perf_counter()
            late = max(late, -ahead)
            time.sleep(max(0.0, ahead))
        took = time.perf_counter() - began
    np.savez(file, last=last, writes=writes)
    return Cost(took, time.process_time() - used), {"written": number - records, "late_s": late}


def watch(settings: Settings, records: int, file: str) -> tuple[Cost, dict[str, Any]]:
    """A consumer of committed changes, from now on. Says `begun` when it reads. When its input ends, and no more comes,
    it compares what it got with what the writer saved in `file`.

    The lag is from a write's LUT to the moment at which this consumer had it in its hands.
    """
    stop = threading.Event()
    topics = Topics(settings.kafka.prefix, settings.aerospike.namespace)
    starts = end_offsets(settings.kafka, topics.changes, range(settings.collector.shards))
    got = Got()
    silence_s = 5 * settings.collector.sweep_every_s
    used, began = time.process_time(), time.perf_counter()
    with ChangeReader(settings.kafka, topics, starts) as reader, until_stdin_ends(stop):
        say("begun")
        arrived = time.monotonic()
        while not stop.is_set() or time.monotonic() < arrived + silence_s:
            chunks = reader.read(0.05)
            now = time.time() * 1000
            if chunks or not stop.is_set():
                arrived = time.monotonic()
            for chunk in chunks:
                got.add(chunk.bodies, now)
    cost = Cost(time.perf_counter() - began, time.process_time() - used)
    return cost, got.proof(Workload.of(records), Path(file)) | got.spread()


@dataclass(slots=True)
class Got:
    """What a consumer was given: columns of all versions, bodies of a sample's, and the sweeps' lags in seconds."""

    digest: list[U8] = field(default_factory=list)
    generation: list[I32] = field(default_factory=list)
    sampled: list[Bodies] = field(default_factory=list)
    lag: list[F64] = field(default_factory=list)

    def add(self, bodies: Bodies, now_ms: float) -> None:
        """These came at this moment."""
        found = columns(bodies)
        self.digest.append(found.digest)
        self.generation.append(found.generation)
        self.sampled.append(gather(bodies, np.flatnonzero(found.digest[:, 19] % SAMPLE == 0)))
        self.lag.append((now_ms - found.lut[(found.op == Op.WRITE) & (found.origin == Origin.SWEEP)]) / 1000)

    def proof(self, workload: Workload, file: Path) -> dict[str, int]:
        """How many records' last version is missing or another than the last that was written."""
        with np.load(file) as saved:
            last, writes = saved["last"], saved["writes"]
        written = np.flatnonzero(writes)
        digest, generation = np.concatenate(self.digest), np.concatenate(self.generation)
        row = last_rows(workload.digest[written], digest)
        there = row >= 0
        # Filling gave each record its first generation.
        behind = np.count_nonzero(generation[row[there]] < 1 + writes[written][there])
        values = {
            change["digest"]: change["bins"]["number"] for part in self.sampled for change in map(to_python, part)
        }
        sample = written[workload.digest[written, 19] % SAMPLE == 0].tolist()
        wrong = sum(values.get(workload.digest[i].tobytes()) != int(last[i]) for i in sample)
        return {
            "versions": len(digest), "keys": len(written), "missing": int(np.count_nonzero(~there)),
            "behind": int(behind), "sampled": len(sample), "wrong": wrong,
        }  # fmt: skip

    def spread(self) -> dict[str, float]:
        """Of the lags."""
        lag = np.concatenate(self.lag)
        p50, p99, p999 = np.percentile(lag, (50, 99, 99.9)).tolist()
        return {"p50_s": p50, "p99_s": p99, "p999_s": p999, "max_s": float(lag.max())}


def foreground(settings: Settings, records: int, rate: int, seconds: float, file: str) -> tuple[Cost, dict[str, Any]]:
    """One read and one write in turn by the official client, at a steady rate; saves the latencies in milliseconds.

    Each counts from when it was due: one that had to wait for a slow one before it was late for whoever asked.
    """
    workload, random = Workload.of(records), np.random.default_rng(3)
    keys = [(settings.aerospike.namespace, SET, None, bytearray(d.tobytes())) for d in workload.digest[:FOREGROUND]]
    chosen = random.integers(0, len(keys), round(rate * seconds)).tolist()
    client = aerospike.client(client_config(settings.aerospike)).connect()
    latency: F64 = np.zeros(len(chosen))
    used, began = time.process_time(), time.perf_counter()
    for i, number in enumerate(chosen):
        due = began + i / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        if i % 2:
            client.put(keys[number], {"seen": i})
        else:
            client.get(keys[number])
        latency[i] = (time.perf_counter() - due) * 1000
    took = time.perf_counter() - began
    client.close()
    np.save(file, latency)
    return Cost(took, time.process_time() - used), {}


def say(text: str) -> None:
    """A line to whoever started this role."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def until_stdin_ends(stop: threading.Event) -> Iterator[None]:
    """Sets `stop` once nobody can write to this process any more."""

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    yield
