"""What a log claims of every record at every moment, held against the truth.

What T means. T is in the nodes' time, and a record's moments are those of its master's clock. While that clock only
goes forward, it passes T once; the state of the record when the clock leaves T is the truth at T. A clock that was set
back passes some moments twice, and a partition that moved to a node whose clock is behind does so as well: then T
names several moments, and the true states are those that the record had when the clock left T, whichever time. No
order of versions by a time that ran twice could say more, so a claim is right when it names one of them. A T that the
clock has not passed yet names no moment.

What is asserted, for every record and many T of the recoverable window (from the base snapshot's end to the resolved
timestamp): a state that is called exact is a true one, content, expiry and absence alike. A record is over at T when
its void time is at or before T, though a server still shows it for up to a second.

Two things are excepted, since no look at a server can see them (docs/architecture.md). A life that no look has shown
from the version at T to its end: such a record was created, or prolonged beyond the void time that was known, and went
again between two looks; a look whose commit failed is none. And an absence that ends with the very version that was
there before: a node's restart brings deleted records back, and makes those unreadable that it holds while it is down.

That everything is called fuzzy would satisfy this. So a quiet record must be exact: one that no clock, node or process
disturbed, that was looked at after its last change, and looked for again after T.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastavro import schemaless_reader

from cdc.archive.versions import order
from cdc.codec.changes import columns as columns_of
from cdc.codec.schemas import schema
from cdc.model import I64, Columns
from cdc.replayer.versions import ABSENT, Certainty, states
from cdc.topics.progress import Kind
from tests.model.edges import Log, bodies_of
from tests.model.world import KEY_OF, Sample, State, World, clocks_of

SHARPNESS_MS = 1_100
"""How far a moment of detection may lie ahead: a node without a record tells its time in seconds. And by as much as the
request took by which the time was asked last: no longer than the longest round so far."""


@dataclass(frozen=True, slots=True)
class Told:
    """The epoch of one shard as an archive would have it: rows by (digest, offset), and its window."""

    shard: int
    columns: Columns
    contents: list[State | None]
    begins: int
    resolved_at: int
    reconciled_at: int


@dataclass(frozen=True, slots=True)
class Wrong:
    """A claim that is not so."""

    key: int
    at: int
    claimed: State | None
    true: tuple[State | None, ...]
    certainty: str

    def __str__(self) -> str:
        return f"record {self.key} at {self.at}: {self.claimed} is called {self.certainty}, the truth is {self.true}"


def told(log: Log, shard: int, known: dict[bytes, State | None]) -> Told | None:
    """What the log says of a shard now; None while there is no window. `known` saves decoding a body twice."""
    progress = log.progress.get(shard, [])
    if not progress:
        return None
    epoch = [p for p in progress if p.epoch == progress[-1].epoch]
    bases = [p.observed_at for p in epoch if p.kind == Kind.BASE and p.complete]
    if not bases:
        return None
    through = epoch[-1].changes_through
    rows = [one for one in log.changes.get(shard, []) if epoch[0].changes_from <= one.offset < through]
    offsets: I64 = np.array([one.offset for one in rows], np.int64)
    bodies = bodies_of([one.body for one in rows])
    columns = columns_of(bodies) if rows else Columns.empty()
    by = order(columns.digest, offsets) if rows else offsets
    contents = [_content(rows[i].body, known) for i in by.tolist()]
    return Told(
        shard, columns.take(by), contents, bases[0],
        max(p.resolved_at for p in epoch), max(p.reconciled_at for p in epoch),
    )  # fmt: skip


def _content(body: bytes, known: dict[bytes, State | None]) -> State | None:
    if body not in known:
        change: Any = schemaless_reader(io.BytesIO(body), schema("change"), None)
        void = change["void_time"]
        known[body] = (
            State(change["bins"]["v"], round(void.timestamp() * 1000) if void else 0) if change["bins"] else None
        )
    return known[body]


def moments(told_: Told, world: World) -> list[int]:
    """Every T worth asking for: what the rows and the clocks speak of, and the milliseconds beside."""
    c = told_.columns
    found = {*c.effective_at.tolist(), *c.unobserved_since.tolist(), *c.lut.tolist(), *c.void_time.tolist()}
    found |= {*c.observed_at.tolist(), told_.begins, told_.resolved_at, told_.reconciled_at} | world.moments
    beside = {t + d for t in found for d in (-1, 0, 1)}
    return sorted(t for t in beside if told_.begins <= t <= told_.resolved_at)


def wrong(told_: Told, world: World, at: list[int]) -> list[Wrong]:
    """Every claim to exactness that does not hold."""
    out = []
    clocks = [clocks_of(samples) for samples in world.history]
    for t in at:
        held = states(told_.columns, t, told_.reconciled_at)
        exact = np.flatnonzero(held.certainty == Certainty.EXACT)
        for i in exact.tolist():
            key = KEY_OF[held.digest[i].tobytes()]
            row = int(held.held[i])
            claimed = None if row == ABSENT else told_.contents[row]
            samples = crossings(world.history[key], clocks[key], t)
            true = [s.state and s.state.at(t) for s in samples]
            if not samples or claimed in true:
                continue
            if claimed is None and any(unseen(world, key, s) for s in samples):
                continue
            if claimed is not None and any(away(world, key, s) for s in samples):
                continue
            out.append(Wrong(key, t, claimed, tuple(true), Certainty(int(held.certainty[i])).name))
    return out


def crossings(samples: list[Sample], clocks: I64, t: int) -> list[Sample]:
    """The record's states whenever its master's clock left T; see the module."""
    rows = np.flatnonzero((clocks[:-1] <= t) & (t < clocks[1:]))
    return [samples[i] for i in rows.tolist()]


def unseen(world: World, key: int, sample: Sample) -> bool:
    """Whether no look has shown the record from this version on to the end of its life, and that has ended."""
    if sample.state is None:
        return False
    last = world.history[key][-1]
    life = [s for s in world.history[key] if s.life == sample.life and s.seq >= sample.seq and s.state is not None]
    ended = last.life != sample.life or last.state is None or last.state.at(last.clock) is None
    return ended and not any((key, s.version) in world.shown for s in life)


def away(world: World, key: int, sample: Sample) -> bool:
    """Whether the record was gone, and came back as the version that it had been."""
    if sample.state is not None:
        return False
    before = [s for s in world.history[key] if s.seq < sample.seq and s.state is not None]
    after = [s for s in world.history[key] if s.seq > sample.seq and s.state is not None]
    return bool(before and after) and (before[-1].state, before[-1].mark) == (after[0].state, after[0].mark)


def unsure(told_: Told, drive: Any, at: list[int]) -> list[Wrong]:
    """Every quiet record that is not exact. For runs in which nothing disturbs clocks, nodes or processes."""
    out = []
    world: World = drive.world
    for t in at:
        held = states(told_.columns, t, told_.reconciled_at)
        for i in range(len(held)):
            key = KEY_OF[held.digest[i].tobytes()]
            samples = crossings(world.history[key], clocks_of(world.history[key]), t)
            if not samples or not _quiet(told_, drive, key, samples[0], t):
                continue
            row = int(held.held[i])
            claimed = None if row == ABSENT else told_.contents[row]
            if held.certainty[i] != Certainty.EXACT or claimed != samples[0].state:
                out.append(Wrong(key, t, claimed, (samples[0].state,), Certainty(int(held.certainty[i])).name))
    return out


def _quiet(told_: Told, drive: Any, key: int, sample: Sample, t: int) -> bool:
    """Whether deletes were looked for between the last change and T, and again after T and before the next change."""
    if sample.state is not None and sample.state.void_time:
        return False
    history = drive.world.history[key]
    same = [s for s in history if s.version == sample.version]
    following = [s.seq for s in history if s.seq > same[-1].seq]
    swept, confirmed, longest = False, False, 0
    for mark in drive.marks:
        progress = drive.log.progress.get(told_.shard, [])[: mark.progress.get(told_.shard, 0)]
        reconciled = min(progress[-1].reconciled_at, progress[-1].resolved_at) if progress else 0
        longest = max(longest, mark.took)
        since = mark.clock + longest + SHARPNESS_MS
        swept = swept or (mark.began > same[0].seq and same[0].clock < reconciled and since < t)
        confirmed = confirmed or (t <= reconciled and (not following or mark.ended < following[0]))
    return swept and confirmed


def check(drive: Any) -> list[Wrong]:
    """Every wrong claim of a finished run."""
    known: dict[bytes, State | None] = {}
    found = []
    for shard in range(drive.log.shards):
        said = told(drive.log, shard, known)
        if said is not None:
            at = moments(said, drive.world)
            found += wrong(said, drive.world, at)
            if drive.calm:
                found += unsure(said, drive, at)
    return found
