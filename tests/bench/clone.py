"""A full clone into an empty namespace beside asrestore of the same records."""

from typing import Any

from tests.bench import peers
from tests.bench.bench import Bench, ratio
from tests.bench.measure import Cost, Role, run_role
from tests.bench.workload import empty

PART = "full clone"


def measure(bench: Bench, run: str, at: int) -> None:
    """Clone the archive of `run` at a moment, round by round, and leave the last clone there."""
    ours: list[Role] = []
    theirs: list[Cost] = []
    for _ in range(bench.rounds):
        if peers.there(bench.place):
            empty(bench.place, bench.place.target)
            theirs.append(peers.restore(bench.place, bench.folder / "backup-ZSTD", bench.place.target))
        empty(bench.place, bench.place.target)
        ours.append(run_role("restore", **arguments(bench, run, "clone", at, bench.place.target)))
    written = {role.extra["written"] for role in ours}
    bench.check("a clone writes every record once", written == {bench.records}, str(sorted(written)))
    wrong = {role.extra["wrong"] for role in ours}
    bench.check("and nothing is wrong afterwards", wrong == {0}, str(sorted(wrong)))
    clone = bench.add(PART, "replayer, from the archive", [role.work for role in ours], bench.records)
    checked = [Cost(**role.extra["verified"]) for role in ours]
    bench.add(PART, "  after it: comparing every record", checked, bench.records)
    bench.add(PART, "  before it: interpreter and imports", [role.ready for role in ours], 0)
    if theirs:
        restore = bench.add(PART, "asrestore, of the ZSTD files", theirs, bench.records)
        bench.check(
            "a full clone is no slower than asrestore", clone.cost.wall_s <= restore.cost.wall_s,
            f"{ratio(restore.cost.wall_s, clone.cost.wall_s)} the speed, "
            f"{ratio(clone.cost.cpu_s, restore.cost.cpu_s)} its CPU",
        )  # fmt: skip
    bench.within_memory("replayer", clone.cost)


def arguments(bench: Bench, run: str, kind: str, at: int, into: str) -> dict[str, Any]:
    """Of the role `restore`."""
    settings = bench.settings(run).model_dump(mode="json")
    return {"settings": settings, "kind": kind, "at": at, "into": into, "named": str(bench.folder / "named.jsonl")}
