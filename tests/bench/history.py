"""One record out of a million: its history and its state at a moment, in an archive of many segments of several tiers.

What is counted is the work of one look-up: in a process that has done one before, and in one that begins.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cdc.archive import Archive, Epoch, LocalStore
from cdc.archive.segments import SegmentWriter
from cdc.archive.versions import order
from cdc.config import Settings
from cdc.replayer.history import history, show
from tests.bench import made
from tests.bench.bench import Bench
from tests.bench.measure import Cost, run_command, run_role, timed

PART = "history"
RECORDS = 1_000_000
SIZE = 200
BASE = 4
TIERS = ((4, 8, 60_000), (3, 10, 20_000), (2, 11, 6_000), (1, 11, 2_000), (0, 12, 500))
"""Tier, segments of it, versions in each: 52 beside those of the base snapshot."""
TIMES = 9
LIMIT_S = 0.1


def measure(bench: Bench) -> None:
    """Both look-ups, and the command."""
    settings = bench.settings(PART)
    told = settings.model_dump(mode="json")
    digest = run_role("write_history", settings=told).extra["digest"]
    for what in ("history", "show"):
        role = run_role("look_up", settings=told, what=what, digest=digest)
        note = f"{role.extra['versions']:,} of its versions, {role.extra['requests']:,} requests to the store"
        line = bench.add(PART, f"{what} of one record of {RECORDS:,}", [role.work], 1, note)
        bench.check(
            f"{what} of one record takes less than {LIMIT_S * 1000:.0f} ms of work", line.cost.cpu_s < LIMIT_S,
            f"{line.cost.cpu_s * 1000:.0f} ms",
        )  # fmt: skip
        bench.within_memory(what, role.work)
    config = bench.fresh("history-command") / "aerospike-cdc.toml"
    namespace, path = settings.aerospike.namespace, settings.archive.path
    config.write_text(f'aerospike.namespaces = ["{namespace}"]\narchive.path = "{path}"\n', "utf-8")
    program = str(Path(sys.executable).with_name("aerospike-cdc"))
    command = [program, "-c", str(config), "history", "--digest", digest, "--tail", "never"]
    costs = [run_command(command) for _ in range(bench.rounds)]
    bench.add(PART, "the command, from its start to its end", costs, 1, "interpreter, imports, kernels and all")


def write_history(settings: Settings) -> tuple[Cost, dict[str, Any]]:
    """An archive of one shard. Every segment beside the base has a version of the record that is looked up."""
    namespace = settings.aerospike.namespace
    archive = Archive.create(LocalStore(settings.archive.path, create=True), namespace, 1)
    keys = made.digests(RECORDS, 1)
    segments, offset, began = [], 0, made.T0

    def write(rows: Any, tier: int) -> None:
        nonlocal offset
        versions = made.versions(rows, SIZE, offset, offset, began)
        offset += len(rows)
        writer = SegmentWriter(settings.archive, 1)
        writer.add(versions, order(versions.columns.digest, versions.offsets))
        info = writer.finish(archive.store, archive.directory(0, "segments"))
        segments.append(replace(info, tier=tier))

    for part in np.array_split(keys, BASE):
        write(part, len(TIERS))
    for tier, count, rows in TIERS:
        for _ in range(count):
            began += made.SPAN_MS
            others = np.random.default_rng(offset).choice(RECORDS - 1, rows - 1, replace=False) + 1
            write(keys[np.concatenate([[0], others])], tier)
    first, end = made.T0 + made.SPAN_MS, began + 2 * made.SPAN_MS
    epoch = Epoch(1, made.T0 - 1, 0, recoverable_from=first, resolved_at=end, reconciled_at=end)
    archive.commit(replace(archive.first(0), epochs=(epoch,), segments=tuple(segments), next_changes=offset))
    return Cost(0, 0), {"digest": keys[0].tobytes().hex()}


class _Counting(LocalStore):
    """Counts what it is asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.requests = 0

    def get(self, name: str) -> bytes:
        self.requests += 1
        return super().get(name)

    def get_range(self, name: str, start: int, length: int) -> bytes:
        self.requests += 1
        return super().get_range(name, start, length)

    def list(self, prefix: str) -> list[str]:
        self.requests += 1
        return super().list(prefix)


def look_up(settings: Settings, what: str, digest: str) -> tuple[Cost, dict[str, Any]]:
    """The median of some look-ups; the first, which loads the kernels, is not one of them."""
    store = _Counting(settings.archive.path)
    archive = Archive.open(store, settings.aerospike.namespace)
    found = bytes.fromhex(digest)
    [window] = archive.windows()
    asked: dict[str, Callable[[], int]] = {
        "history": lambda: len(history(archive, found).versions),
        "show": lambda: int(show(archive, found, window.end).held is not None),
    }
    versions = asked[what]()
    costs = []
    for _ in range(TIMES):
        store.requests = 0
        cost, again = timed(asked[what])
        assert again == versions
        costs.append(cost)
    return Cost.median(costs), {"versions": versions, "requests": store.requests}
