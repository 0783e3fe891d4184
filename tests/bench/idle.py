"""What a collector costs while nothing changes."""

from tests.bench.bench import Bench
from tests.bench.measure import run_role

SWEEPS = 30
LIMIT_S = 0.1


def measure(bench: Bench, run: str) -> None:
    """A collector goes on after the base snapshot of `run`."""
    settings = bench.settings(run, sweep_every_s=0.25, reconcile_every_s=3600)
    role = run_role("idle", settings=settings.model_dump(mode="json"), sweeps=SWEEPS)
    spread = f"{role.extra['fastest_s'] * 1000:.0f} to {role.extra['slowest_s'] * 1000:.0f} ms in {SWEEPS} sweeps"
    bench.add("idle sweep", "collector, from first request to commit", [role.work], bench.records, spread)
    bench.check("an idle sweep takes less than 100 ms", role.work.wall_s < LIMIT_S, f"{role.work.wall_s * 1000:.0f} ms")
    bench.within_memory("collector that goes on", role.work)
