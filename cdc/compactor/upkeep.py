"""Upkeep of an archive while it grows: segments are merged, restore sets made when they are due, and what retention no
longer keeps is pruned.

Nothing here has to happen for a change to be safe in the archive, so it works beside the intake, on what is committed,
and never holds it up. Each step writes its objects first and then amends the shard's newest manifest; where that has
gone on so far that the step makes no sense any more, its objects are garbage.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from cdc import metrics
from cdc.archive import Archive, Manifest, SegmentInfo, merging, tiers
from cdc.archive.debt import debt
from cdc.archive.merging import Stopped
from cdc.archive.prune import part, prune
from cdc.archive.sets import make
from cdc.archive.tiers import Merge
from cdc.clock import Clock, steady_clock, wall_clock
from cdc.compactor import sets
from cdc.config import Settings
from cdc.errors import ArchiveError, KeyRefused, ObjectDamaged, ObjectMissing

LOOK_S: Final = 60.0
"""Without a commit that calls for it a round is made this often: others may have worked on the archive."""
RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 600.0
"""What is damaged is damaged at the next try as well, and reading up to it may take minutes."""
LEAVE_S: Final = 5.0
"""So long the last batch may take."""
OF_A_SHARD: Final = (ObjectMissing, ObjectDamaged, KeyRefused)
"""What is wrong with one shard need not be with the others."""


@dataclass(frozen=True, slots=True)
class Done:
    """What rounds did. `rows` and `bytes` are those that merges wrote again, `set_bytes` those of sets."""

    merges: int = 0
    rows: int = 0
    bytes: int = 0
    sets: int = 0
    set_bytes: int = 0


class Upkeep:
    """The upkeep of one namespace's archive: `round` by `round`, or as a context in a thread of its own."""

    def __init__(self, settings: Settings, archive: Archive, clock: Clock = wall_clock) -> None:
        self._settings, self._compactor, self._archived = settings, settings.compactor, settings.archive
        self._archive, self._clock, self._passed = archive, clock, steady_clock()
        self._place = archive.namespace, settings.archive.destination
        self._known: dict[int, Manifest] = {}
        self._rest: dict[int, int] = {}
        self._prune_at = 0
        self._stop, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._until_stopped, name="upkeep", daemon=True)
        self._ended: BaseException | None = None
        self.done = Done()
        self.trouble: ArchiveError | None = None
        """The error that the last round failed of."""
        self.failures = 0
        """How many rounds failed since one did not."""
        self.rounds = 0
        """How many did not."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A step that waits for a store is left behind, as if it had been killed: what it wrote is garbage."""
        self._stop.set()
        self._woken.set()
        self._thread.join(LEAVE_S)
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._ended is not None:
            raise self._ended

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def tell(self, manifest: Manifest) -> None:
        """There is a new manifest: look what it calls for."""
        known = self._known.get(manifest.shard)
        if known is None or known.sequence < manifest.sequence:
            self._known[manifest.shard] = manifest
        self._woken.set()

    def round(self) -> Done:
        """Do all that is due. Raises what reading and writing raise: what is wrong with one shard when the others are
        done. Nothing is pruned by it."""
        wrong: list[ArchiveError] = []
        for step in (self._merge_all, self._make_set):
            for shard in range(self._archive.shards):
                try:
                    self._carry_out(step, shard)
                except OF_A_SHARD as error:
                    wrong.append(error)
        self._show()
        if wrong:
            raise wrong[0]
        return self.done

    def _until_stopped(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by `check`
            self._ended = error

    def _work(self) -> None:
        while not self._stop.is_set():
            self._woken.clear()
            try:
                self.round()
                self._prune()
            except Stopped:
                return
            except ArchiveError as error:
                self.trouble, self.failures = error, self.failures + 1
                # A store that was away may be back any time.
                longer = 2 ** (self.failures - 1) if isinstance(error, OF_A_SHARD) else 1
                self._stop.wait(min(RETRY_S * longer, LONGEST_RETRY_S))
            else:
                self.trouble, self.failures, self.rounds = None, 0, self.rounds + 1
                self._woken.wait(LOOK_S)
            if not self._woken.is_set():
                self._known.clear()  # nobody told of anything; others may have worked on the archive

    def _prune(self) -> None:
        """Where retention says so; and not while anything is wrong, because then a person may need what is there."""
        every_ms = self._archived.retention.every_s * 1000
        if not every_ms or self._passed() < self._prune_at:
            return
        done = prune(self._archive, self._settings, self._clock(), stop=self._stop)
        self._known.clear()
        if done.stopped:
            return
        self._prune_at = self._passed() + round(every_ms)
        for shard, said in done.plan.refused.items():
            raise ObjectDamaged(f"nothing of {part(shard)} was looked for as garbage: {said}")

    def _carry_out(self, step: Callable[[int], None], shard: int) -> None:
        known = self._known.get(shard)
        try:
            step(shard)
        except ObjectMissing:
            newest = self._archive.shard(shard)
            if newest is None or (known is not None and newest.sequence <= known.sequence):
                raise
            self.tell(newest)
            step(shard)  # others went on, and what this one was about to read is neither needed nor kept any more

    def _merge_all(self, shard: int) -> None:
        settings = self._compactor
        while (manifest := self._manifest(shard)) is not None:
            planned = tiers.plan(manifest, settings.merge_segments, settings.segment_bytes)
            if not planned:
                return
            for merge in planned:
                self._merge(shard, merge)

    def _merge(self, shard: int, merge: Merge) -> None:
        made = merging.merge(self._archive, shard, merge, self._compactor, self._archived, self._stop)
        if self._amend(shard, lambda m: merging.merged(m, merge, made, self._clock()), made):
            rows, size = sum(s.rows for s in made), sum(s.size + s.index_size for s in made)
            self.done = replace(
                self.done, merges=self.done.merges + 1, rows=self.done.rows + rows, bytes=self.done.bytes + size
            )
            metrics.MERGES.labels(*self._place).inc()
            metrics.MERGED.labels(*self._place).inc(rows)
            metrics.MERGED_BYTES.labels(*self._place).inc(size)

    def _make_set(self, shard: int) -> None:
        manifest = self._manifest(shard)
        at = sets.due_at(manifest, self._compactor) if manifest is not None else None
        if manifest is None or at is None or self._passed() < self._rest.get(shard, 0):
            return
        began = self._passed()
        epoch = manifest.epochs[-1]
        made = make(self._archive, manifest, epoch, at, self._clock(), self._compactor, self._archived, self._stop)
        # Not more often than it takes, whatever the settings say: the rest is for merging.
        self._rest[shard] = 2 * self._passed() - began

        def add(newest: Manifest) -> Manifest | None:
            if any(s.epoch == made.epoch and s.at >= made.at for s in newest.sets):
                return None  # another made it
            if all(e.number != made.epoch for e in newest.epochs) or made.at < newest.changes_kept_from:
                return None  # pruned meanwhile, and perhaps what else concerns its moment
            return replace(newest, written_at=self._clock(), sets=(*newest.sets, made))

        if self._amend(shard, add, self._archive.listing(made).segments):
            self.done = replace(self.done, sets=self.done.sets + 1, set_bytes=self.done.set_bytes + made.size)
            metrics.SETS.labels(*self._place).inc()
            metrics.ARCHIVED_BYTES.labels(*self._place).inc(made.size)

    def _manifest(self, shard: int) -> Manifest | None:
        if shard not in self._known:
            found = self._archive.shard(shard)
            if found is not None:
                self.tell(found)
        return self._known.get(shard)

    def _amend(self, shard: int, edit: Callable[[Manifest], Manifest | None], wrote: Sequence[SegmentInfo]) -> bool:
        amended = self._archive.amend(shard, edit, self._known.get(shard), wrote[0].name if wrote else "")
        if amended is None:
            self._known.pop(shard, None)  # it was not what we took it for
            return False
        self.tell(amended)
        return True

    def _show(self) -> None:
        counts: Counter[str] = Counter(dict.fromkeys(tiers.SPANS, 0))
        for shard, manifest in self._known.copy().items():
            counts.update(tiers.span_of(s.tier) for s in manifest.segments)
            owed = debt(manifest).seconds(self._archive.shards)
            metrics.DEBT.labels(*self._place, shard).set(owed)
        for span, count in counts.items():
            metrics.TIER_SEGMENTS.labels(*self._place, span).set(count)
        metrics.RECOVERY_TIME.labels(*self._place).set(self._compactor.recovery_time_s)
