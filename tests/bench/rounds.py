"""A full base and many rounds of changes: the state after some of them, restored into an empty namespace.

Of the peers, a full backup and an incremental a round, restored in order.
"""

import time

import numpy as np

from cdc.model import I64
from tests.bench import peers
from tests.bench.bench import Bench, ratio
from tests.bench.clone import arguments
from tests.bench.measure import Cost, run_role
from tests.bench.truth import Truth, read, read_numbers
from tests.bench.workload import Workload, empty

PART = "rounds"
ROUNDS, CHECKED = 24, (0, 8, 16, 24)
UPDATED, REMOVED, ADDED = 0.1, 0.001, 0.001
"""Parts of the records that a round updates (a skewed choice), removes and adds."""
SECONDS = 2.5


def measure(bench: Bench) -> None:
    """Write, capture and archive round by round; then restore the states after some of the rounds."""
    rounds = _Rounds(bench)
    moments: dict[int, int] = {}
    truths: dict[int, Truth] = {}
    for number in range(ROUNDS + 1):
        rounds.change(number)
        rounds.back_up(number)
        if number in CHECKED:
            truths[number] = read(bench.place, bench.place.source)
            moments[number] = round(time.time() * 1000)
            time.sleep(0.01)  # what comes next must come after that moment
    rounds.capture()  # so that the last moment is known to be over
    slowest = 0.0
    for number, at in moments.items():
        costs = []
        for _ in range(bench.rounds):
            empty(bench.place, bench.place.target)
            role = run_role("restore", **arguments(bench, PART, "clone", at, bench.place.target))
            costs.append(role.work)
        wrong = truths[number].wrong(read(bench.place, bench.place.target))
        written = len(truths[number].digest)
        note = f"{role.extra['written']:,} records written"
        line = bench.add(PART, f"replayer, the state after round {number}", costs, written, note)
        bench.check(
            f"after round {number}: every record once, and as it was",
            role.extra["written"] == written and wrong == 0, f"{role.extra['written']:,} written, {wrong:,} wrong",
        )  # fmt: skip
        bench.within_memory(f"replayer restoring round {number}", line.cost)
        slowest = max(slowest, line.cost.wall_s)
    if bench.place.real:
        bench.check(f"each restored in at most {SECONDS} s", slowest <= SECONDS, f"{slowest:.2f} s the slowest")
    rounds.restore_peers(slowest)


class _Rounds:
    """The workload: `alive` are the records that are there, of all that ever will be."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._peers = peers.there(bench.place)
        self._settings = bench.settings(PART).model_dump(mode="json")
        n = bench.records
        self._workload = Workload.of(n + ROUNDS * round(ADDED * n))
        self._alive: I64 = np.arange(n)
        self._random = np.random.default_rng(24)
        self._began: list[float] = []

    def change(self, number: int) -> None:
        """Everything (0), or one round of changes; captured and archived."""
        bench, n = self._bench, self._bench.records
        if number == 0:
            self._workload.write(bench.place, self._alive, self._alive)
        else:
            ranks = np.arange(1, len(self._alive) + 1, dtype=np.float64)
            weights = ranks**-0.5
            chosen = self._random.permutation(self._alive)
            updated = self._random.choice(
                self._alive, round(UPDATED * n), replace=False, p=weights / weights.sum(), shuffle=False
            )
            removed = chosen[: round(REMOVED * n)]
            updated = updated[~np.isin(updated, removed)]
            added = np.arange(n + (number - 1) * len(removed), n + number * len(removed))
            rows = np.concatenate([updated, added])
            self._workload.write(bench.place, rows, rows + number * 1_000_000)
            self._workload.remove(bench.place, removed.tolist())
            self._alive = np.concatenate([self._alive[~np.isin(self._alive, removed)], added])
        self.capture()

    def capture(self) -> None:
        """What changed, into Kafka and into the archive."""
        run_role("sweep", settings=self._settings)
        run_role("compact", settings=self._settings)

    def back_up(self, number: int) -> None:
        """A full backup of the peers, or an incremental since the last one began."""
        if not self._peers:
            return
        since = self._began[-1] if self._began else None
        self._began.append(time.time())
        peers.backup(self._bench.place, self._bench.fresh(f"rounds-{number}"), "ZSTD", since)

    def restore_peers(self, ours_s: float) -> None:
        """All of the peers' backups in order into an empty namespace, and what is wrong then."""
        if not self._peers:
            return
        bench = self._bench
        empty(bench.place, bench.place.target)
        costs = [
            peers.restore(bench.place, bench.folder / f"rounds-{number}", bench.place.target)
            for number in range(ROUNDS + 1)
        ]
        cost = Cost(sum(c.wall_s for c in costs), sum(c.cpu_s for c in costs))
        truth = read_numbers(bench.place, bench.place.source)
        wrong = truth.wrong(read_numbers(bench.place, bench.place.target))
        bench.add(
            PART, f"asrestore, {len(costs)} calls in order", [cost], len(truth.digest),
            f"{wrong:,} records wrong; {ratio(cost.wall_s, ours_s)} our slowest",
        )  # fmt: skip
