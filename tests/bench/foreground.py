"""What a foreground client feels: alone under a load of writes, beside the collector, beside incremental backups."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import numpy as np

from tests.bench import peers
from tests.bench.bench import Bench
from tests.bench.measure import Cost, Failed, Running

PART = "foreground"
RATE, CHANGES, KEYS = 500, 20_000, 300_000
EMULATED_RATE, EMULATED_CHANGES, EMULATED_KEYS = 50, 200, 5_000
SECONDS = 12.0
"""Of each round: six thousand requests, of which the p99.9 leaves the slowest six."""
SETTLE_S = 2.0


def measure(bench: Bench) -> None:
    """Rounds in turn of each kind, the same load in all of them; the medians of their p99.9 are compared."""
    real = bench.place.real
    rate, changes, keys = (RATE, CHANGES, KEYS) if real else (EMULATED_RATE, EMULATED_CHANGES, EMULATED_KEYS)
    seconds = bench.seconds or SECONDS
    bench.refill(keys)
    settings = bench.settings("foreground", sweep_every_s=1.0).model_dump(mode="json")
    kinds = {"alone": _alone, "beside the collector": _collector}
    if peers.there(bench.place):
        kinds["beside asbackup, incrementals back to back"] = _backups
    found: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    notes: dict[str, list[str]] = {kind: [] for kind in kinds}
    file = bench.folder / "foreground.npy"
    for _ in range(bench.rounds):
        for kind, beside in kinds.items():
            with (
                beside(bench, settings) as told,
                Running("load", settings=settings, records=keys, rate=changes, seconds=seconds + 2 * SETTLE_S,
                        file=str(bench.folder / "load.npz")) as loading,
            ):  # fmt: skip
                time.sleep(SETTLE_S)
                asked = {"settings": settings, "records": keys, "rate": rate, "seconds": seconds, "file": str(file)}
                with Running("foreground", **asked) as asking:
                    asking.result()
                loading.result()
            found[kind].append(np.percentile(np.load(file), (50, 99, 99.9)).tolist())
            notes[kind] += told
    tails = {}
    for kind, rounds in found.items():
        p50, p99, p999 = (median(column) for column in zip(*rounds, strict=True))
        tails[kind] = p999
        spread = ", ".join(f"{one[2]:.1f}" for one in rounds)
        note = (
            f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms (rounds: {spread}) {' '.join(notes[kind][-1:])}"
        )
        bench.add(PART, kind, [Cost(0, 0)], 0, note)
    if len(kinds) < 3:
        return
    alone, ours, theirs = tails.values()
    bench.check(
        "p99.9 rises less than half as much as under incremental backups", ours - alone < (theirs - alone) / 2,
        f"by {ours - alone:+.2f} ms, under backups by {theirs - alone:+.2f} ms",
    )  # fmt: skip


@contextmanager
def _alone(bench: Bench, settings: object) -> Iterator[list[str]]:
    yield []


@contextmanager
def _collector(bench: Bench, settings: object) -> Iterator[list[str]]:
    told: list[str] = []
    with Running("collect", settings=settings) as collecting:
        collecting.wait_for("begun")
        yield told
        done = collecting.result()
    sweeps = done.extra["sweeps"]
    told.append(f"{len(sweeps)} sweeps of {median(sweeps) * 1000:.0f} ms, {done.work.cpu_s:.1f} s of CPU")


@contextmanager
def _backups(bench: Bench, settings: object) -> Iterator[list[str]]:
    told: list[str] = []
    stop = threading.Event()
    costs: list[Cost] = []
    failed: list[Failed] = []

    def go_on() -> None:
        since = time.time()
        try:
            while not stop.is_set():
                began = time.time()
                costs.append(peers.backup(bench.place, bench.fresh("incremental"), "ZSTD", since))
                since = began
        except Failed as error:  # raised again below, in the thread that waits for this one
            failed.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
    cpu = sum(cost.cpu_s for cost in costs)
    told.append(f"{len(costs)} backups of {median(c.wall_s for c in costs) * 1000:.0f} ms, {cpu:.1f} s of CPU")
