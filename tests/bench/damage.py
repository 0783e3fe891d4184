"""Undoing the damage of a thousand records in namespaces of two sizes, while others go on writing.

Somebody overwrites records by mistake. Then good writes come to others, some of them to damaged ones after their last
capture. The damaged keys are brought back by name; and then everything that changed since.
"""

import time

import numpy as np

from tests.bench import peers
from tests.bench.bench import Bench, ratio
from tests.bench.clone import arguments
from tests.bench.measure import Cost, Role, run_role
from tests.bench.truth import read

PART = "damage"
SIZES, EMULATED_SIZES = (100_000, 1_000_000), (5_000, 20_000)
DAMAGED, GOOD, AGAIN = 1_000, 1_000, 50
SECONDS = 1.5
GROWTH = 1.5
"""So many times as long the larger namespace may take: noise, and the larger indexes that are read."""
BAD, BETTER, LATE = 3_000_000, 5_000_000, 7_000_000
"""Which number a record holds tells who wrote it."""


def measure(bench: Bench) -> None:
    """Both sizes."""
    took = []
    for records in SIZES if bench.place.real else EMULATED_SIZES:
        took.append(_of_size(bench, records))
    if bench.place.real:
        bench.check(
            f"a rewind of {DAMAGED:,} takes less than {SECONDS} s",
            max(took) < SECONDS,
            f"{max(took):.2f} s the slowest",
        )
        bench.check(
            "whatever the namespace's size", took[-1] < GROWTH * took[0],
            f"{ratio(took[-1], took[0])}: {took[-1]:.2f} s of {SIZES[-1]:,}, {took[0]:.2f} s of {SIZES[0]:,}",
        )  # fmt: skip


def _of_size(bench: Bench, records: int) -> float:
    """The median seconds of undoing by name."""
    run = f"{PART}-{records}"
    settings = bench.settings(run).model_dump(mode="json")
    workload = bench.refill(records)
    run_role("sweep", settings=settings)
    run_role("compact", settings=bench.settings(run, set_every_s=1).model_dump(mode="json"))
    damaged, good = np.arange(DAMAGED), np.arange(DAMAGED, DAMAGED + GOOD)
    named: list[Role] = []
    whole: list[Role] = []
    wrong = 0
    for number in range(bench.rounds):
        then = read(bench.place, bench.place.source)
        at = round(time.time() * 1000)
        time.sleep(0.01)  # what is damaged must be damaged after that moment
        workload.write(bench.place, damaged, damaged + BAD + number)
        workload.write(bench.place, good, good + BETTER + number)
        run_role("sweep", settings=settings)
        run_role("compact", settings=settings)
        workload.write(bench.place, damaged[:AGAIN], damaged[:AGAIN] + LATE + number)
        expected = read(bench.place, bench.place.source).taking(then, workload.digest[damaged[AGAIN:]])
        digests = [workload.digest[i].tobytes().hex() for i in damaged]
        asked = arguments(bench, run, "rewind", at, bench.place.source)
        named.append(run_role("restore", **asked, digests=digests))
        wrong += expected.wrong(read(bench.place, bench.place.source))
        expected = expected.taking(then, workload.digest[good])
        whole.append(run_role("restore", **asked))
        wrong += expected.wrong(read(bench.place, bench.place.source))
        run_role("sweep", settings=settings)
        run_role("compact", settings=settings)
    by_name = bench.add(
        PART, f"replayer, {DAMAGED:,} keys by name of {records:,}", [role.work for role in named], DAMAGED,
        f"{named[-1].extra['written']:,} written, {named[-1].extra['conflicts']} kept that others wrote since",
    )  # fmt: skip
    bench.add(
        PART, "  after it: comparing them", [Cost(**role.extra["verified"]) for role in named], DAMAGED,
        f"{sum(role.extra['wrong'] for role in named)} wrong",
    )  # fmt: skip
    since = bench.add(
        PART, f"replayer, everything since, of {records:,}", [role.work for role in whole], DAMAGED + GOOD,
        f"{whole[-1].extra['written']:,} written, {whole[-1].extra['left']:,} as they were",
    )  # fmt: skip
    counts = {(role.extra["written"], role.extra["conflicts"]) for role in named}
    bench.check(
        f"of {records:,}: what was damaged is written, what others wrote since is kept, nothing else is touched",
        counts == {(DAMAGED - AGAIN, AGAIN)} and wrong == 0, f"{wrong} records wrong",
    )  # fmt: skip
    for line in (by_name, since):
        bench.within_memory(line.what, line.cost)
    if peers.there(bench.place):
        peers.backup(bench.place, bench.fresh(run), "ZSTD")
        cost = peers.restore(bench.place, bench.folder / run, bench.place.source, "--no-generation")
        bench.add(PART, f"asrestore of a full backup over {records:,}", [cost], DAMAGED, f"{records:,} written")
    return by_name.cost.wall_s
