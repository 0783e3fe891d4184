"""What archiving costs a version: Kafka to segments, segments merged, restore sets made; by size of the bodies.

Each step runs in a process of its own, so that its peak of memory is its own. What is counted is the CPU of the
compactor's process; the broker's is not, and the threads in which librdkafka unpacks what it fetched have a line of
their own, as the stages of the rest have.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cdc.archive import Archive, Epoch, LocalStore, Manifest, SegmentInfo, merging, sets
from cdc.archive import segments as objects
from cdc.archive.tiers import Merge
from cdc.archive.versions import order
from cdc.compactor import Compactor
from cdc.compactor import inbox as inboxes
from cdc.compactor import intake as intakes
from cdc.config import Settings
from cdc.topics import Membership, Progress, Publisher, Topics
from cdc.topics.progress import Kind
from cdc.topics.readers import ChangeReader
from tests.bench import made
from tests.bench.bench import Bench
from tests.bench.measure import Cost, run_role, timed

PART = "compaction"
SIZES = (100, 300, 2_000, 100_000)
LEAST, MOST_IN_KAFKA = 400_000, 3_000_000
MANY = 10_000_000
BYTES = 300
"""A size has as many versions as there are records, but no more bytes than so many each would have."""
RUNS = 8
"""So many segments are merged; a set is made of a base and so many segments with a tenth of its versions."""
TRANSACTION = 50 << 20
TARGET = 400_000
SMALL = 300


def measure(bench: Bench) -> None:
    """All sizes."""
    for size in SIZES:
        rows = max(bench.records, LEAST) * min(size, BYTES) // size
        _copy(bench, f"bodies of {size:,} bytes", size, rows, min(rows, MOST_IN_KAFKA))


def many(bench: Bench) -> None:
    """So many small versions that memory would show it if it grew with them: minutes, so only where it is asked for."""
    _copy(bench, f"{MANY:,} bodies of {SIZES[0]} bytes", SIZES[0], MANY, MANY)


def _copy(bench: Bench, what: str, size: int, rows: int, in_kafka: int) -> None:
    run = f"copying-{size}-{in_kafka}"
    settings = bench.settings(run).model_dump(mode="json")
    run_role("publish", settings=settings, rows=in_kafka, size=size)
    done = run_role("compact_stages", settings=settings)
    line = bench.add(PART, f"Kafka to segments, {what}", [done.work], in_kafka, _stages(done.extra["stages"], in_kafka))
    bench.within_memory(f"compactor reading Kafka, {what},", done.work)
    bench.check("every version went through", done.extra["rows"] == in_kafka, str(done.extra["rows"]))
    lines = {"Kafka to segments": line}
    folder = bench.fresh(f"{run}-archive")
    run_role("write_runs", settings=settings, folder=str(folder), rows=rows, size=size)
    for name, title in (("merge_runs", "merging segments"), ("make_set", "restore set of a set and segments")):
        done = run_role(name, settings=settings, folder=str(folder))
        lines[title] = bench.add(PART, f"{title}, {what}", [done.work], done.extra["rows"])
        bench.within_memory(f"compactor {title}, {what},", done.work)
    if size <= SMALL:
        for title, line in lines.items():
            rate = line.records / line.cost.cpu_s
            bench.check(f"{title}, {what}: {TARGET:,} versions per CPU second", rate >= TARGET, f"{rate:,.0f}")


def _stages(stages: dict[str, float], rows: int) -> str:
    return ", ".join(f"{name} {seconds / rows * 1e9:,.0f}" for name, seconds in stages.items()) + " ns a version"


def publish(settings: Settings, rows: int, size: int) -> tuple[Cost, dict[str, Any]]:
    """Put a base snapshot of made versions into Kafka, as a collector does."""
    shards = settings.collector.shards
    topics = Topics(settings.kafka.prefix, settings.aerospike.namespace)
    topics.ensure(settings.kafka, shards)
    now = time.time_ns() // 1_000_000
    began = now - made.SPAN_MS  # moments of long ago would be under Kafka's retention at once
    lot = max(1, TRANSACTION // size // shards)
    with Membership(settings.kafka, topics) as member, Publisher(settings.kafka, topics, member, "made") as publisher:
        deadline = time.monotonic() + 30
        while len(member.poll(1.0)) < shards:
            if time.monotonic() > deadline:
                raise TimeoutError("the shards were not assigned")
        counts = [rows // shards + (k < rows % shards) for k in range(shards)]
        ends = [0] * shards
        for number, start in enumerate(range(0, max(counts), lot)):
            last = start + lot >= max(counts)
            member.poll(0)  # a member that does not poll for a minute is given up
            with publisher.transaction() as transaction:
                for shard, count in enumerate(counts):
                    part = max(0, min(lot, count - start))
                    keys = made.digests(part, number * shards + shard, shard, shards)
                    bodies = made.versions(keys, size, number, began=began).bodies
                    transaction.changes(shard, bodies, keys, now)
                spans = transaction.flush()
                for shard in range(shards):
                    begin, end = spans.get(shard, (ends[shard], ends[shard]))
                    ends[shard] = end
                    transaction.progress(
                        Progress(
                            shard, shards, began, 0, Kind.BASE, last, (), began, now, 0, now if last else 0, now,
                            begin, end, end - begin, 0, 0,
                        )
                    )  # fmt: skip
    return Cost(0, 0), {}


def compact_stages(settings: Settings) -> tuple[Cost, dict[str, Any]]:
    """Kafka to segments, with the CPU of each stage."""
    compactor = Compactor(settings)
    with _stages_of_compacting() as stages:
        began = time.thread_time()
        cost, stats = timed(compactor.run_once)
        own = time.thread_time() - began
    stages |= {"the rest": own - sum(stages.values()), "librdkafka's threads": cost.cpu_s - own}
    return cost, {"rows": stats.rows, "stages": stages}


@contextmanager
def _stages_of_compacting() -> Iterator[dict[str, float]]:
    """The CPU seconds that this thread spends in the parts of the compactor, none counted twice."""
    spent: dict[str, float] = {}
    inner = [0.0]

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            inner.append(0.0)
            began = time.thread_time()
            try:
                return call(*given, **named)
            finally:
                took = time.thread_time() - began
                spent[name] = spent.get(name, 0.0) + took - inner.pop()
                inner[-1] += took

        return run

    parts: list[tuple[Any, str, str]] = [
        (ChangeReader, "_consume", "messages"), (ChangeReader, "read", "bodies of messages"),
        (inboxes.Inbox, "take_changes", "inbox"), (inboxes, "concat", "concatenate"), (inboxes, "columns", "columns"),
        (intakes, "order", "sort"), (objects.SegmentWriter, "add", "gather and blocks"),
        (objects.SegmentWriter, "_end_block", "compress and hash"), (objects.SegmentWriter, "finish", "write"),
        (Archive, "amend", "manifest"),
    ]  # fmt: skip
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in parts if hasattr(owner, name)]
    for owner, name, label in parts:
        if hasattr(owner, name):
            setattr(owner, name, watched(label, getattr(owner, name)))
    try:
        yield spent
    finally:
        for owner, name, call in before:
            setattr(owner, name, call)


def write_runs(settings: Settings, folder: str, rows: int, size: int) -> tuple[Cost, dict[str, Any]]:
    """Segments to merge: runs of all versions one after the other, and a base with runs of changes of a tenth of it."""
    archive = Archive.create(LocalStore(Path(folder), create=True), settings.aerospike.namespace, 1)
    lot = max(1, settings.compactor.segment_bytes // size)
    runs = []
    for run in range(RUNS):
        for start in range(run * rows // RUNS, (run + 1) * rows // RUNS, lot):
            count = min(lot, (run + 1) * rows // RUNS - start)
            runs.append(_written(archive, settings, made.versions(made.digests(count, start), size, start, start)))
    manifest = archive.commit(_manifest(archive, rows, tuple(runs)))
    at = made.T0 + made.SPAN_MS
    base = sets.make(archive, manifest, manifest.epochs[-1], at, at, settings.compactor, settings.archive)
    changed = []
    for run in range(RUNS):
        count = max(1, rows // RUNS // 10)
        keys = made.digests(count, run * rows // RUNS)  # the first ones of that run
        first = rows + run * count
        changed.append(_written(archive, settings, made.versions(keys, size, first, first, at + 1)))
    archive.commit(_manifest(archive, rows, tuple(changed), manifest, (base,)))
    return Cost(0, 0), {}


def _manifest(
    archive: Archive, rows: int, segments: tuple[SegmentInfo, ...], before: Manifest | None = None, made_sets: Any = ()
) -> Manifest:
    end = made.T0 + 3 * made.SPAN_MS
    epoch = Epoch(number=1, began_at=0, changes_from=0, recoverable_from=0, resolved_at=end, reconciled_at=end)
    start = before or archive.first(0)
    through = max(s.last_offset for s in segments) + 1
    return replace(start, epochs=(epoch,), segments=segments, sets=made_sets, next_changes=through)


def _written(archive: Archive, settings: Settings, versions: Any) -> SegmentInfo:
    writer = objects.SegmentWriter(settings.archive, 1)
    writer.add(versions, order(versions.columns.digest, versions.offsets))
    return writer.finish(archive.store, archive.directory(0, "segments"))


def merge_runs(settings: Settings, folder: str) -> tuple[Cost, dict[str, Any]]:
    """The first manifest's segments into one tier up."""
    archive = Archive.open(LocalStore(Path(folder)), settings.aerospike.namespace)
    manifest = list(archive.chain(0))[-1]

    wanted = Merge(1, 1, manifest.segments)
    cost, done = timed(lambda: merging.merge(archive, 0, wanted, settings.compactor, settings.archive))
    return cost, {"rows": sum(s.rows for s in done)}


def make_set(settings: Settings, folder: str) -> tuple[Cost, dict[str, Any]]:
    """A set of the last manifest's set and the segments after it. What counts is what is read."""
    archive = Archive.open(LocalStore(Path(folder)), settings.aerospike.namespace)
    manifest = next(archive.chain(0))
    at = made.T0 + 2 * made.SPAN_MS + 1
    cost, _ = timed(
        lambda: sets.make(archive, manifest, manifest.epochs[-1], at, at, settings.compactor, settings.archive)
    )
    return cost, {"rows": manifest.sets[-1].rows + sum(s.rows for s in manifest.segments)}
