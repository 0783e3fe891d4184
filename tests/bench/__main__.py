"""Rates, CPU seconds and memory of every role, beside the peers' where they are on the PATH, in one run.

    python -m tests.bench [PART ...] [--records N] [--rounds N] [--seconds S] [--json FILE]

Runs on the emulator, or on the server that AEROSPIKE_HOSTS names. There the namespaces `test` and `restore` (or those
of AEROSPIKE_NAMESPACE and AEROSPIKE_TARGET) are emptied: say --empty, or BENCH_MAY_EMPTY=1, to confirm it.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cdc.embedded.aerospike.process import emulator_process
from cdc.embedded.kafka import EmbeddedKafka
from tests.bench import (
    agree,
    base,
    clone,
    compaction,
    copying,
    damage,
    foreground,
    history,
    idle,
    lag,
    quiet,
    report,
    rewind,
    rounds,
)
from tests.bench.bench import Bench
from tests.bench.measure import run_role
from tests.bench.workload import Place, Workload, confirmed, empty

REAL_RECORDS, EMULATED_RECORDS = 300_000, 10_000


def main() -> int:
    """Measure and print; 1 when something that must hold does not."""
    options = _options()
    with _place(options.empty) as place, tempfile.TemporaryDirectory(prefix="aerospike-cdc-bench-") as folder:
        records = options.records or (REAL_RECORDS if place.real else EMULATED_RECORDS)
        with EmbeddedKafka(Path(folder) / "kafka") as kafka:
            bench = Bench(place, Workload.of(records), options.rounds, Path(folder), kafka, options.seconds)
            _run(bench, options.parts or list(PARTS))
    report.show(bench)
    if options.json:
        report.save(bench, options.json)
    return 0 if all(verdict.holds for verdict in bench.verdicts) else 1


def _run(bench: Bench, parts: list[str]) -> None:
    _say("loading the kernels: the first time compiles them")
    ready = run_role("ready").ready
    _say(f"  {ready.wall_s:.1f} s")
    for part in parts:
        _say(f"part {part}: emptying {bench.place.source} and {bench.place.target}")
        for namespace in (bench.place.source, bench.place.target):
            empty(bench.place, namespace)
        (PARTS | ON_DEMAND)[part](bench)
    for namespace in (bench.place.source, bench.place.target):
        empty(bench.place, namespace)


def _bulk(bench: Bench) -> None:
    _say(f"writing {bench.records:,} records")
    bench.workload.fill(bench.place)
    _say("base snapshots")
    run = base.measure(bench)
    _say("compaction and idle sweeps")
    compaction.segments(bench, run)
    idle.measure(bench, run)
    compaction.sets(bench, run)
    _say("full clones")
    clone.measure(bench, run, rewind.latest(bench, run))
    _say("comparing our reader with the official client")
    agree.measure(bench, bench.place.source)
    agree.measure(bench, bench.place.target)
    _say("a rewind")
    rewind.measure(bench, run)


PARTS: dict[str, Callable[[Bench], None]] = {
    "bulk": _bulk,
    "compaction": copying.measure,
    "quiet": quiet.measure,
    "steady": lag.measure,
    "foreground": foreground.measure,
    "damage": damage.measure,
    "rounds": rounds.measure,
    "history": history.measure,
}
"""What can be measured by itself."""
ON_DEMAND: dict[str, Callable[[Bench], None]] = {"many": copying.many}
"""What takes so long that it is measured only where it is named."""


@contextmanager
def _place(may_empty: bool) -> Iterator[Place]:
    named = os.environ.get("AEROSPIKE_HOSTS")
    if not named:
        with emulator_process("--namespace", "test", "--namespace", "restore") as hosts:
            yield Place(tuple(hosts))
        return
    source, target = os.environ.get("AEROSPIKE_NAMESPACE", "test"), os.environ.get("AEROSPIKE_TARGET", "restore")
    if not may_empty:
        sys.exit(f"{named}: the namespaces {source} and {target} would be EMPTIED. Say --empty or BENCH_MAY_EMPTY=1.")
    yield Place(tuple(named.split(",")), source, target, real=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none is named; or many"
    )
    parser.add_argument("--seconds", type=float, default=0, help="of steady load, instead of each part's own")
    parser.add_argument("--records", type=int, default=0, help="300,000 on a server, 10,000 on the emulator")
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are taken")
    parser.add_argument("--json", type=Path, help="also write everything into this file")
    parser.add_argument("--empty", action="store_true", default=confirmed(), help="yes, empty the server's namespaces")
    options = parser.parse_args()
    if unknown := set(options.parts) - (PARTS | ON_DEMAND).keys():
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS | ON_DEMAND)}")
    return options


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
