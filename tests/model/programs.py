"""Programs: what happens in the world and what the collector does meanwhile, as hypothesis makes and shrinks them."""

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.model.world import (
    NODES,
    PLACES,
    SETS,
    Delete,
    Evict,
    KillNode,
    Migrate,
    NearWrap,
    Nsup,
    Pass,
    Put,
    ReadTouch,
    Rewrite,
    StartNode,
    Step,
    StepClock,
    Touch,
    Truncate,
)


@dataclass(frozen=True, slots=True)
class Round:
    """A round of the collector. `during` are steps at its calls over an edge, by their number from 1; at `dies` the
    process is killed, and the last `tears` bytes of its catalogs' journals are lost with it; `commit` is what becomes
    of its first commit."""

    during: tuple[tuple[int, Step], ...] = ()
    dies: int = 0
    commit: str = "done"
    tears: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """The collector is stopped in good order, and begins again with the next round."""


@dataclass(frozen=True, slots=True)
class LoseCatalog:
    """The collector is killed, and its catalog is lost."""


Event = Step | Round | Stop | LoseCatalog


@dataclass(frozen=True, slots=True)
class Program:
    """The collector's schedule in seconds (of reconciling, of audits) and what happens; `based`: after the base
    snapshot is done; `few` as in `edges.patched`."""

    reconcile_every_s: float
    base_every_s: float
    based: bool
    few: int
    events: tuple[Event, ...]

    def __repr__(self) -> str:
        lines = "".join(f"    {event!r},\n" for event in self.events)
        return f"Program({self.reconcile_every_s}, {self.base_every_s}, {self.based}, {self.few}, (\n{lines}))"


keys = st.integers(0, len(PLACES) - 1)
few = st.sampled_from((0, 0, 1, 2, 3, 4, 5, 6, 7))
values = st.integers(0, 9)
ttls = st.sampled_from((0, 0, 1, 3, 20))
passing = st.sampled_from((0, 1, 2, 100, 250, 251, 600, 1_000, 1_400, 3_000, 12_000, 40_000)).map(Pass)
writes = st.one_of(
    st.builds(Put, few, values, ttls),
    st.builds(Put, few, values),
    st.builds(Delete, few),
    st.builds(Delete, few, values),
    st.builds(Touch, few, ttls),
    st.builds(Rewrite, few),
    st.builds(ReadTouch, few, st.sampled_from((1, 5, 30))),
    st.builds(NearWrap, few),
    st.builds(Evict, few),
    st.just(Nsup()),
    st.builds(Truncate, st.sampled_from(SETS), st.sampled_from((0, 0, 1, 500, 5_000))),
)
nodes = st.integers(0, NODES - 1)
clocks = st.builds(StepClock, nodes, st.sampled_from((-60_000, -5_000, -700, -200, 200, 700, 5_000, 60_000)))
moves = st.one_of(st.builds(Migrate, few, nodes), st.builds(KillNode, nodes), st.builds(StartNode, nodes))

calm = st.one_of(writes, passing)
rough = st.one_of(writes, passing, clocks, moves)
stepping = st.one_of(writes, passing, clocks, clocks)


def rounds(steps: st.SearchStrategy[Step], *, dying: bool) -> st.SearchStrategy[Event]:
    # The look for deletes, and the sweep after it, come late in a round.
    calls = st.one_of(st.integers(1, 24), st.integers(1, 24), st.integers(25, 64))
    during = st.lists(st.tuples(calls, steps), max_size=3).map(tuple)
    plain = st.builds(Round, during)
    if not dying:
        return plain
    return st.one_of(
        plain, plain, plain, plain,
        st.builds(Round, during, dies=st.integers(1, 24)),
        st.builds(Round, during, commit=st.sampled_from(("lost", "refused"))),
        st.builds(Round, during, dies=st.integers(1, 24), tears=st.sampled_from((1, 100, 5_000))),
        st.just(Stop()),
        st.just(LoseCatalog()),
    )  # fmt: skip


def programs(steps: st.SearchStrategy[Step], *, dying: bool, length: int) -> st.SearchStrategy[Program]:
    """Programs of so many events at the most: steps between rounds, and a little time before most rounds."""
    rounds_ = rounds(steps, dying=dying)
    block = st.tuples(st.lists(steps, max_size=4), passing, rounds_).map(lambda b: (*b[0], b[1], b[2]))
    events = st.lists(block, min_size=1, max_size=length).map(lambda blocks: tuple(e for b in blocks for e in b))
    return st.builds(
        Program,
        st.sampled_from((0.001, 2.0, 10.0)),
        st.sampled_from((5.0, 86_400.0)),
        st.sampled_from((True, True, False)),
        st.sampled_from((0, 1_000)),
        events,
    )
