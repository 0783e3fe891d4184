"""Changes at a steady rate: are all of them captured, how late are they, and does memory stay flat?"""

from statistics import median

from tests.bench.bench import Bench
from tests.bench.measure import Cost, Running

PART = "steady changes"
RATE, SECONDS, KEYS = 20_000, 60.0, 300_000
EMULATED_RATE, EMULATED_SECONDS, EMULATED_KEYS = 500, 15.0, 5_000
P50_S, P99_S = 0.8, 1.5
FLAT = 1.10
"""What memory at the end may be of what it was after a third of the time; medians over a sixth of it."""


def measure(bench: Bench) -> None:
    """A writer, a collector that sweeps each second, and a consumer that reads what is committed."""
    real = bench.place.real
    rate, seconds, keys = (RATE, SECONDS, KEYS) if real else (EMULATED_RATE, EMULATED_SECONDS, EMULATED_KEYS)
    seconds = bench.seconds or seconds
    bench.refill(keys)
    settings = bench.settings("steady", sweep_every_s=1.0).model_dump(mode="json")
    file = str(bench.folder / "steady.npz")
    with Running("collect", settings=settings) as collecting:
        collecting.wait_for("begun")
        with Running("watch", settings=settings, records=keys, file=file) as watching:
            watching.wait_for("begun")
            with (
                bench.broker_cpu() as spent,
                Running("load", settings=settings, records=keys, rate=rate, seconds=seconds, file=file) as loading,
            ):
                loaded = loading.result()
            watched = watching.result()
        collected = collecting.result()
    got, changes = watched.extra, loaded.extra["written"]
    sweeps = sorted(collected.extra["sweeps"])
    shown = f"{median(sweeps) * 1000:.0f} ms a sweep, {sweeps[-1] * 1000:.0f} the longest of {len(sweeps)}"
    bench.add(PART, "the writer", [loaded.work], changes, f"late by {loaded.extra['late_s'] * 1000:.0f} ms at most")
    wall_s = loaded.work.wall_s
    into = Cost(wall_s, collected.work.cpu_s, collected.work.peak_bytes)
    bench.add(PART, "collector, into Kafka", [into], changes, shown)
    bench.add(
        PART,
        "a consumer",
        [Cost(wall_s, watched.work.cpu_s)],
        changes,
        f"{got['versions']:,} of {changes:,} versions were observed",
    )
    if spent:
        bench.add(PART, "the broker", [Cost(wall_s, spent[0])], changes)
    whole = loaded.work.wall_s < seconds * 1.02
    bench.check(f"{rate:,} changes/s for {seconds:.0f} s", whole, f"{changes / loaded.work.wall_s:,.0f} changes/s")
    lost = got["missing"] + got["behind"] + got["wrong"]
    bench.check(
        "none lost", not lost and got["keys"] > 0,
        f"of {got['keys']:,} keys {got['missing']} are missing and {got['behind']} older than written; "
        f"{got['wrong']} of {got['sampled']:,} last values are wrong",
    )  # fmt: skip
    tail = f"p99.9 {got['p999_s']:.2f} s, at most {got['max_s']:.2f} s"
    bench.check(f"p50 from write to consumer below {P50_S} s", got["p50_s"] < P50_S, f"{got['p50_s']:.2f} s")
    bench.check(f"p99 below {P99_S} s", got["p99_s"] < P99_S, f"{got['p99_s']:.2f} s; {tail}")
    _memory(bench, collected.extra["memory"], seconds)


def _memory(bench: Bench, samples: list[tuple[float, int]], seconds: float) -> None:
    began = samples[0][0]

    def around(share: float) -> float:
        return median(size for at, size in samples if abs((at - began) / seconds - share) <= 1 / 12)

    early, late = around(1 / 3), around(11 / 12)
    found = f"{early / (1 << 20):.0f} MB after {seconds / 3:.0f} s, {late / (1 << 20):.0f} MB at the end"
    bench.check("the collector's memory stays flat", late <= early * FLAT, found)
