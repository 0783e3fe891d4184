"""One role in a process of its own: `python -m tests.bench.role`, told what to do in a line of JSON on stdin.

Its last line on stdout is JSON: what getting ready took (interpreter, imports, kernels), what the work took, and what
the role said of it. The work includes connecting to servers, as it does for any other program.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cdc.api import Outcome, Replayer
from cdc.collector import Collector
from cdc.compactor import Compactor
from cdc.config import Settings
from cdc.replayer import tail
from cdc.replayer.target import Target
from cdc.replayer.verify import verify
from cdc.replayer.wanted import Part, Wanted
from cdc.source import Source
from cdc.topics.progress import Kind
from cdc.wire import Cluster
from tests.bench import copying, history, live
from tests.bench.measure import Cost, peak_bytes, timed


def load_kernels() -> None:
    """Load (the first time: compile) every kernel that a role may use, so that it is no part of the work."""
    import cdc.codec.batch_kernels
    import cdc.codec.bytes_kernels
    import cdc.codec.change_kernels
    import cdc.codec.framing_kernels
    import cdc.codec.record_kernels
    import cdc.codec.value_kernels
    import cdc.source.join_kernels
    import cdc.wire.scan_kernels  # noqa: F401


def base(settings: Settings) -> tuple[Cost, dict[str, Any]]:
    """A base snapshot from nothing: from connecting to its last commit in Kafka. `run_once`: with the first sweep and
    reconciling after it."""
    marks: list[tuple[float, float]] = []
    began, used = time.perf_counter(), time.process_time()

    def committed() -> None:
        if Kind.BASE not in collector.stats.look_s:
            marks.append((time.perf_counter() - began, time.process_time() - used))

    with Collector(settings, after_commit=committed) as collector:
        whole, stats = timed(collector.run_once)
        return Cost(*marks[-1], whole.peak_bytes), {
            "run_once": asdict(whole),
            "look_s": stats.look_s,
            "transactions": len(marks),
            "captured": sum(stats.changes.values()),
        }


def idle(settings: Settings, sweeps: int) -> tuple[Cost, dict[str, Any]]:
    """A collector that goes on where nothing changes, for so many sweeps; its cost is that of one of them."""
    stop = threading.Event()
    took: list[float] = []
    cpu: list[float] = []

    def swept() -> None:
        # A round that swept leaves a number; one that only waited leaves none.
        if (seconds := collector.stats.look_s.pop(Kind.SWEEP, None)) is not None:
            took.append(seconds)
            cpu.append(time.process_time())
        if len(took) > sweeps:
            stop.set()

    with Collector(settings) as collector:
        collector.run(stop, swept)
    took = sorted(took[1:])  # the first one reconciles, too
    each = (cpu[-1] - cpu[0]) / sweeps
    return Cost(took[len(took) // 2], each, peak_bytes()), {"slowest_s": took[-1], "fastest_s": took[0]}


def sweep(settings: Settings) -> tuple[Cost, dict[str, Any]]:
    """A collector's one round after a stop."""
    with Collector(settings) as collector:
        cost, stats = timed(collector.run_once)
        return cost, {"captured": sum(stats.changes.values()), "look_s": stats.look_s}


def compact(settings: Settings) -> tuple[Cost, dict[str, Any]]:
    """Everything that waits in Kafka, into segments, and restore sets where they are due."""
    compactor = Compactor(settings)
    cost, stats = timed(compactor.run_once)
    return cost, {"rows": stats.rows, "bytes": stats.bytes, "segments": stats.segments, "sets": stats.sets}


def restore(
    settings: Settings, kind: str, at: int, into: str, named: str, digests: Sequence[str] = ()
) -> tuple[Cost, dict[str, Any]]:
    """What `aerospike-cdc restore --yes` does, of all records or of those with these digests (hexadecimal): a rewind
    asks Kafka what it has beyond the archive, and the journal is kept. The verification afterwards is `verified`, by
    itself."""
    wanted = Wanted(Part(digests=tuple(sorted(map(bytes.fromhex, digests)))))
    with Replayer(settings) as replayer:

        def work() -> Outcome:
            made = replayer.plan(at, into if kind == "clone" else "", wanted, count=False)
            return replayer.restore(made, named_file=Path(named), verify=False)

        cost, done = timed(work)
        place = replayer.place(done.plan)
        with Cluster(place.aerospike) as cluster:
            target = Target.of(Source(cluster, place.namespace), settings.replayer)
            beyond = done.plan.tail
            archive = replayer.archive() if beyond is None else tail.opened(settings, beyond)
            checked, found = timed(lambda: verify(archive, done.plan, target, report=done.report))
    told = {name: getattr(done.report, name) for name in ("written", "removed", "left", "conflicts")}
    return cost, {**told, "verified": asdict(checked), "compared": found.expected, "wrong": found.wrong}


ROLES: dict[str, Callable[..., tuple[Cost, dict[str, Any]]]] = {
    "base": base,
    "idle": idle,
    "sweep": sweep,
    "compact": compact,
    "restore": restore,
    "collect": live.collect,
    "quiet": live.quiet,
    "bare": live.bare,
    "load": live.load,
    "watch": live.watch,
    "foreground": live.foreground,
    "publish": copying.publish,
    "compact_stages": copying.compact_stages,
    "write_runs": copying.write_runs,
    "merge_runs": copying.merge_runs,
    "make_set": copying.make_set,
    "write_history": history.write_history,
    "look_up": history.look_up,
}


def main() -> None:
    """Read what is asked, do it, say what it took."""
    asked = json.loads(sys.stdin.readline())
    load_kernels()
    ready = Cost(time.time() - asked.pop("started_at"), time.process_time(), peak_bytes())
    name = asked.pop("role")
    work, extra = ready, dict[str, Any]()
    if name != "ready":
        work, extra = ROLES[name](Settings.model_validate(asked.pop("settings")), **asked)
    told = {"ready": asdict(ready), "work": asdict(work), "extra": extra}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
