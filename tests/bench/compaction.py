"""From Kafka into segments, and from segments into restore sets; and how large they are."""

from cdc.archive import Archive, LocalStore
from tests.bench.bench import Bench
from tests.bench.measure import run_role, size_of

PART = "compaction"


def segments(bench: Bench, run: str) -> None:
    """Archive what the base snapshot of `run` has put into Kafka."""
    role = run_role("compact", settings=bench.settings(run).model_dump(mode="json"))
    made = role.extra
    bench.add(PART, "compactor, Kafka to segments", [role.work], made["rows"], _each(made["bytes"], made["rows"]))
    bench.check("the archive has every record", made["rows"] == bench.records, str(made["rows"]))
    bench.within_memory("compactor", role.work)


def sets(bench: Bench, run: str) -> None:
    """Make a restore set of every shard, once sweeps have moved the resolved timestamp on."""
    role = run_role("compact", settings=bench.settings(run, set_every_s=1).model_dump(mode="json"))
    archive = Archive.open(LocalStore(bench.settings(run).archive.path), bench.place.source)
    made = [manifest.sets[-1] for manifest in archive.all_shards() if manifest is not None and manifest.sets]
    rows, size = sum(one.rows for one in made), sum(one.size + one.listing_size for one in made)
    bench.add(PART, "compactor, segments to restore sets", [role.work], rows, _each(size, rows))
    bench.check("the restore sets have every record", rows == bench.records, f"{rows} in {len(made)} sets")
    bench.within_memory("compactor making sets", role.work)
    for compress in ("ZSTD", "NONE"):
        folder = bench.folder / f"backup-{compress}"
        if folder.exists():
            cost = next(line.cost for line in bench.lines if line.what.startswith("asbackup"))
            theirs = size_of(folder)
            bench.add(PART, f"asbackup's files, {compress}", [type(cost)(0, 0)], 0, _each(theirs, bench.records))
            if compress == "ZSTD":
                found = f"{_each(size, rows)}, {_each(theirs, bench.records)}"
                bench.check("restore sets are no larger than asbackup's files, ZSTD", size <= theirs, found)


def _each(size: int, rows: int) -> str:
    return f"{size / max(rows, 1):.1f} bytes a record"
