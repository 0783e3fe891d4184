"""Many records of which none changes: what a sweep with the detection of deletes takes, and finding a few of them."""

import time

from tests.bench.bench import Bench, ratio
from tests.bench.measure import Cost, Running, run_role

PART = "nothing changes"
RECORDS, EMULATED_RECORDS = 1_000_000, 20_000
SWEEPS, DELETES = 12, 1_000
RECONCILE_S = 5.0
TIMES = 1.5


def measure(bench: Bench) -> None:
    """Idle sweeps that each detect deletes, beside the query alone; then deletes all over the namespace."""
    records = RECORDS if bench.place.real else EMULATED_RECORDS
    deletes = min(DELETES, records // 20)
    workload = bench.refill(records)
    asking = bench.settings("quiet").model_dump(mode="json")
    settings = bench.settings("quiet", sweep_every_s=1.0, reconcile_every_s=0.1).model_dump(mode="json")
    with Running("quiet", settings=settings, sweeps=SWEEPS, deletes=deletes) as running:
        running.wait_for("begun")
        idle = running.result()
    alone = run_role("bare", settings=asking, runs=SWEEPS)
    official = Cost(**alone.extra["official"])
    longest = f"{idle.extra['longest_s'] * 1000:.0f} ms the longest of {SWEEPS}"
    bench.add(PART, "collector, a sweep with detection of deletes", [idle.work], records, longest)
    bench.add(PART, "our query alone", [Cost(alone.work.wall_s, alone.work.cpu_s)], records)
    bench.add(PART, "official client, the same query alone", [official], records)
    # Of few records the query takes no time, and the ratio says nothing.
    for what, cost in (("our own", alone.work), ("the official client's", official)) if bench.place.real else ():
        bench.check(
            f"a sweep of {records:,} idle records takes less than {TIMES} times {what} bare query",
            idle.work.wall_s < TIMES * cost.wall_s,
            f"{ratio(idle.work.wall_s, cost.wall_s)}: {idle.work.wall_s * 1000:.0f} and {cost.wall_s * 1000:.0f} ms",
        )
    asked = idle.extra["idle"]
    bench.check(
        "where nothing is to be found, no digest is read", not asked.get("digests"),
        f"{asked['bins']} queries for changes, {asked.get('digests', 0)} for digests in {SWEEPS} sweeps",
    )  # fmt: skip
    settings = bench.settings("quiet", sweep_every_s=1.0, reconcile_every_s=RECONCILE_S).model_dump(mode="json")
    with Running("quiet", settings=settings, sweeps=1, deletes=deletes) as running:
        running.wait_for("begun")
        workload.remove(bench.place, range(0, records, records // deletes)[:deletes])
        gone_at = time.time()
        running.wait_for("found")
        found = running.result()
    after = found.extra["found_at"] - gone_at
    asked, received = found.extra["asked"], found.extra["received"]
    bench.check(
        f"{deletes:,} deletes among them are told within a reconcile_every_s of {RECONCILE_S:g} s",
        found.extra["told"] == deletes and after < RECONCILE_S, f"all after {after:.1f} s",
    )  # fmt: skip
    bench.check(
        "and detection reads digests alone", asked["digests"] > 0 and received.get("bins", 0) < records,
        f"{asked['digests']} queries brought {received['digests'] / (1 << 20):.1f} MB of digests; the sweeps' "
        f"{asked['bins']} queries {received.get('bins', 0)} bytes",
    )  # fmt: skip
