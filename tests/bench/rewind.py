"""Undoing the damage of some records among all, in place."""

import time

from cdc.archive import Archive, LocalStore
from tests.bench import peers
from tests.bench.bench import Bench
from tests.bench.clone import arguments
from tests.bench.measure import run_role

PART = "rewind"
DAMAGED = 1_000


def measure(bench: Bench, run: str) -> None:
    """Damage records, capture that, and rewind to the moment before."""
    at = latest(bench, run)
    time.sleep(0.01)  # what is damaged must be damaged after that moment
    damaged = min(DAMAGED, bench.records // 10)
    bench.workload.damage(bench.place, damaged)
    settings = bench.settings(run).model_dump(mode="json")
    captured = run_role("sweep", settings=settings).extra["captured"]
    bench.check("a sweep has every damaged record", captured == damaged, str(captured))
    run_role("compact", settings=settings)
    role = run_role("restore", **arguments(bench, run, "rewind", at, bench.place.source))
    bench.add(
        PART, f"replayer, {damaged:,} damaged", [role.work], damaged, f"{role.extra['written']:,} records written"
    )
    written = role.extra["written"] + role.extra["removed"]
    bench.check("a rewind writes what was damaged and nothing else", written == damaged, str(written))
    bench.within_memory("replayer rewinding", role.work)
    if peers.there(bench.place):
        cost = peers.restore(bench.place, bench.folder / "backup-ZSTD", bench.place.source, "--no-generation")
        bench.add(PART, "asrestore of the full backup over it", [cost], damaged, f"{bench.records:,} records written")


def latest(bench: Bench, run: str) -> int:
    """The last moment that the archive of `run` restores."""
    archive = Archive.open(LocalStore(bench.settings(run).archive.path), bench.place.source)
    return max(window.end for window in archive.windows())
