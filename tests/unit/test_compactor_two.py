"""Several compactors that each think they are alone, and several that keep the archive up: whatever they do in
whichever order, and wherever they die, every change is in the archive once, and every moment is right."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, LocalStore, Manifest, merging, sets, tiers
from cdc.archive.segments import SegmentWriter, read
from cdc.archive.versions import Versions, order
from cdc.archive.views import everything_beside
from cdc.compactor.inbox import Inbox
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.errors import CommitLost
from cdc.topics import Chunk, Progress, ProgressEntry
from cdc.topics.progress import Kind
from tests.fixtures.versions import bodies, change

ARCHIVE = ArchiveSettings(block_bytes=4096)
COMPACTOR = CompactorSettings(merge_segments=2)
TOPICS = "changes-id", "progress-id"
LOOKS = 12
PER_LOOK = 3


def progress(look: int) -> ProgressEntry:
    """The n-th look: a base snapshot, then sweeps, each with its changes; every fifth look begins a new epoch."""
    began, sweep = look // 5, look % 5
    epoch, at = 1000 + 1000 * began, 1000 + 1000 * began + 100 * (sweep + 1)
    start, end = look * PER_LOOK, (look + 1) * PER_LOOK
    kind = Kind.SWEEP if sweep else Kind.BASE
    return ProgressEntry(
        0, look, Progress(0, 1, epoch, sweep, kind, True, (), epoch, at, at - 100, at, at, start, end, PER_LOOK, 0, 0)
    )


CHANGES = [change(n % 7, 1100 + 100 * (n // PER_LOOK) + n % 50, unobserved_since=0) for n in range(LOOKS * PER_LOOK)]
BODIES = bodies(CHANGES)


@dataclass
class Intake:
    """A compactor's intake as it is between Kafka and its commits: `step` does the next thing of it."""

    archive: Archive
    inbox: Inbox = field(init=False)
    way: Iterator[None] = field(init=False)
    lost: int = 0

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """What was read is void, as after a crash or a lost commit."""
        self.inbox = Inbox.after(self.archive.shard(0) or self.archive.first(0))
        self.way = self.work()

    def step(self) -> None:
        try:
            next(self.way)
        except CommitLost:
            self.lost += 1
            self.begin()
        except StopIteration:
            self.way = self.work()

    def work(self) -> Iterator[None]:
        inbox = self.inbox
        look = inbox.next_progress + len(inbox.entries)
        if look == LOOKS:
            return
        inbox.take_progress(progress(look))
        yield
        at = np.arange(inbox.read_through, (look + 1) * PER_LOOK, dtype=np.int64)
        if len(at):
            inbox.take_changes(Chunk(0, at, at, bodies([CHANGES[i] for i in at])))
        yield
        if not inbox.dirty:
            return
        written = []
        for epoch, lot in inbox.drain():
            writer = SegmentWriter(ARCHIVE, epoch)
            writer.add(lot, order(lot.columns.digest, lot.offsets))
            written.append(writer.finish(self.archive.store, self.archive.directory(0, "segments")))
            yield
        manifest = self.archive.amend(0, lambda m: inbox.following(m, written, TOPICS, 0), inbox.manifest)
        assert manifest is not None
        inbox.committed(manifest)

    @property
    def done(self) -> bool:
        return self.inbox.manifest.next_progress == LOOKS


@dataclass
class Keeper:
    """One that merges and makes sets, with time between what it reads, what it writes, and what it commits."""

    archive: Archive
    way: Iterator[None] = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.way = self.work()

    def step(self) -> None:
        if next(self.way, self) is self:
            self.begin()

    def work(self) -> Iterator[None]:
        manifest = self.archive.shard(0)
        if manifest is None or not manifest.epochs:
            return
        yield
        for wanted in tiers.plan(manifest, 2, 1 << 26):
            made = merging.merge(self.archive, 0, wanted, COMPACTOR, ARCHIVE)
            yield
            self.archive.amend(0, lambda m: merging.merged(m, wanted, made, 0), manifest)  # noqa: B023
            yield
        epoch = manifest.epochs[-1]
        if epoch.recoverable_from is not None and epoch.resolved_at > max([0, *(s.at for s in manifest.sets)]):
            new = sets.make(self.archive, manifest, epoch, epoch.resolved_at, 0, COMPACTOR, ARCHIVE)
            yield

            def add(m: Manifest) -> Manifest | None:
                known = any(s.at >= new.at for s in m.sets)
                return None if known else replace(m, sets=(*m.sets, new))

            self.archive.amend(0, add)


def everything(found: list[Versions]) -> dict[int, bytes]:
    out: dict[int, bytes] = {}
    for lot in found:
        for i, offset in enumerate(lot.offsets.tolist()):
            assert offset not in out, "twice"
            out[offset] = lot.bodies[i]
    return out


def held(rows: dict[int, bytes], moments: dict[int, int], at: int) -> dict[bytes, bytes]:
    out = {}
    for offset, body in sorted(rows.items()):
        if moments[offset] <= at:
            out[body[:20]] = body
    return out


STEPS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.booleans()), min_size=10, max_size=60)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_whatever_the_order_and_whoever_dies_each_change_is_there_once_and_every_moment_is_right(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool]]
) -> None:
    archive = Archive.create(LocalStore(tmp_path_factory.mktemp("archive"), create=True), "test", 1)
    intakes = [Intake(archive) for _ in range(3)]
    all_of_them: list[Intake | Keeper] = [*intakes, Keeper(archive), Keeper(archive)]
    for who, times, dies in steps:
        for _ in range(times):
            all_of_them[who].step()
        if dies:
            all_of_them[who].begin()
    for one in itertools.cycle(intakes):
        if all(i.done for i in intakes):
            break
        one.step()
    sequences = [m.sequence for m in archive.chain(0)]
    assert sequences == list(range(sequences[0], 0, -1))
    assert_whole(archive)


def assert_whole(archive: Archive) -> None:
    """Every change is there once, and every moment is right."""
    manifest = archive.shard(0)
    assert manifest is not None
    found = everything([v for s in manifest.segments for v in read(archive.store, s)])
    assert found == {i: BODIES[i] for i in range(len(BODIES))}
    assert {s.epoch for s in manifest.segments} == {1, 2, 3}
    moments = {i: c["effective_at"] for i, c in enumerate(CHANGES)}
    for epoch in manifest.epochs:
        own = {i: b for i, b in found.items() if i // (5 * PER_LOOK) == epoch.number - 1}
        for at in range(epoch.recoverable_from or 0, epoch.resolved_at + 1, 50):
            whole = everything_beside(manifest, epoch, at, archive.listing)
            seen = everything(list(archive.versions(whole)))
            assert held(seen, moments, at) == held(own, moments, at)
