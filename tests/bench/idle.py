"""What a collector costs while nothing changes."""

import time
from typing import Any

from aerospike_helpers import expressions as exp

from tests.bench.bench import Bench
from tests.bench.measure import Cost, run_role, timed

SWEEPS = 30
LIMIT_S = 0.1


def measure(bench: Bench, run: str) -> None:
    """A collector goes on after the base snapshot of `run`; beside it, how long the server takes to find nothing."""
    settings = bench.settings(run, sweep_every_s=0.25, reconcile_every_s=3600)
    role = run_role("idle", settings=settings.model_dump(mode="json"), sweeps=SWEEPS)
    spread = f"{role.extra['fastest_s'] * 1000:.0f} to {role.extra['slowest_s'] * 1000:.0f} ms in {SWEEPS} sweeps"
    bench.add("idle sweep", "collector, from first request to commit", [role.work], bench.records, spread)
    bench.add("idle sweep", "official client, the same query alone", _bare(bench), bench.records)
    bench.check("an idle sweep takes less than 100 ms", role.work.wall_s < LIMIT_S, f"{role.work.wall_s * 1000:.0f} ms")
    bench.within_memory("collector that goes on", role.work)


def _bare(bench: Bench) -> list[Cost]:
    client = bench.place.client()
    policy = {"expressions": exp.GE(exp.LastUpdateTime(), time.time_ns()).compile()}
    found: list[Any] = []

    def ask() -> None:
        client.query(bench.place.source, None).foreach(found.append, policy, {"nobins": True})

    costs = [Cost(cost.wall_s, cost.cpu_s) for cost in (timed(ask)[0] for _ in range(SWEEPS))]
    client.close()
    bench.check("nothing changed while sweeps were idle", not found, str(len(found)))
    return costs
