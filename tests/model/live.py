"""Records on a server over the wire, in real time, and what each of them truly was: the emulator or a real server.

The writer is the official client. A write answers with its own LUT and void time, atomically, so its moment is known
to the millisecond; a delete and a truncation fell somewhere between the node's time before the call and after it.
Truth is by one clock: the server has one node, or nodes that share a clock.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aerospike
from aerospike import exception as refused
from aerospike_helpers import expressions as exp
from aerospike_helpers.operations import expression_operations, operations
from hypothesis import strategies as st

from tests.model.world import State

SETS = ("cdct-model-s", "cdct-model-t")
KEYS = tuple((SETS[0 if i < 8 else 1], i) for i in range(12))
"""Set and user key of each record."""
_CLOCK = ("cdct-model-clock", 0)
"""A record that is never truncated: any record tells its node's time."""
_NS_PER_MS = 1_000_000
_NOW = expression_operations.expression_read(
    "now", exp.Add(exp.Div(exp.LastUpdateTime(), _NS_PER_MS), exp.SinceUpdateTime()).compile()
)
_MARKS = (
    expression_operations.expression_read("lut", exp.LastUpdateTime().compile()),
    expression_operations.expression_read("void", exp.VoidTime().compile()),
)
PATIENT = {"total_timeout": 20_000, "socket_timeout": 20_000, "max_retries": 0}


class Turn(NamedTuple):
    """A record became `state` (None: gone) at some moment from `earliest` to `latest`, both included, in the node's
    time. `life` counts its incarnations."""

    earliest: int
    latest: int
    state: State | None
    life: int


@dataclass(slots=True)
class Truth:
    """The writer, and what it knows. `turns[i]` are those of record i, in order."""

    client: Any
    namespace: str
    turns: list[list[Turn]] = field(default_factory=lambda: [[Turn(0, 0, None, 0)] for _ in KEYS])
    _values: int = 0

    def __post_init__(self) -> None:
        self.client.put((self.namespace, *_CLOCK), {"v": 0}, policy={"ttl": aerospike.TTL_NEVER_EXPIRE})
        for key in range(len(KEYS)):
            self._remove(key)

    def now(self) -> int:
        """The node's time, in milliseconds since 1970."""
        _, _, bins = self.client.operate((self.namespace, *_CLOCK), [_NOW])
        return int(bins["now"])

    def key(self, i: int) -> tuple[str, str, int]:
        """Record i, as the official client names it."""
        return (self.namespace, *KEYS[i])

    def digest(self, i: int) -> bytes:
        """Its digest."""
        return bytes(aerospike.calc_digest(*self.key(i)))

    def put(self, i: int, ttl: int) -> None:
        """Content that no record ever had."""
        self._values += 1
        self._write(i, operations.write("v", self._values), self._values, ttl)

    def touch(self, i: int, ttl: int) -> None:
        """Nothing where there is no record."""
        last = self.turns[i][-1].state
        if last is not None:
            self._write(i, operations.touch(), last.value, ttl)

    def delete(self, i: int) -> None:
        """Nothing where there is no record."""
        before = self.now()
        if self._remove(i):
            self.turns[i].append(Turn(before, self.now(), None, self.turns[i][-1].life))

    def truncate(self, of: str) -> None:
        """A record that was written in the very millisecond that the truncation names survives it, so each is asked
        for afterwards."""
        mine = [i for i, (name, _) in enumerate(KEYS) if name == of and self.turns[i][-1].state is not None]
        if not mine:
            return  # the server may not know the set yet
        before, known = self.now(), self._truncated(of)
        while self.now() <= before:
            time.sleep(0.0005)
        self.client.info_random_node(f"truncate:namespace={self.namespace};set={of}")
        deadline = time.monotonic() + 20
        while self._truncated(of) == known:
            assert time.monotonic() < deadline, "the truncation did not take place"
        after = self.now()
        for i in mine:
            if self.get(i) is None:
                self.turns[i].append(Turn(before, after, None, self.turns[i][-1].life))

    def get(self, i: int, namespace: str | None = None) -> int | None:
        """What record i holds now, in this or another namespace."""
        try:
            _, _, bins = self.client.get((namespace or self.namespace, *KEYS[i]))
        except refused.RecordNotFound:
            return None
        return int(bins["v"])

    def at(self, i: int, t: int) -> list[int]:
        """The turns of record i of which one is what it was when the clock left t, oldest first."""
        turns = self.turns[i]
        first = max(n for n, turn in enumerate(turns) if turn.latest <= t)
        return [first, *(n for n in range(first + 1, len(turns)) if turns[n].earliest <= t)]

    def clean(self) -> None:
        """Remove what was written."""
        for i in range(len(KEYS)):
            self._remove(i)
        self.client.remove((self.namespace, *_CLOCK))

    def _write(self, i: int, operation: dict[str, Any], value: int, ttl: int) -> None:
        try:
            _, meta, bins = self.client.operate(
                self.key(i), [operation, *_MARKS], policy={"ttl": ttl or aerospike.TTL_NEVER_EXPIRE}
            )
        except refused.RecordNotFound:
            return  # it has expired
        lut, void = bins["lut"] // _NS_PER_MS, max(0, bins["void"]) // _NS_PER_MS
        life = self.turns[i][-1].life + (meta["gen"] == 1)
        self.turns[i].append(Turn(lut, lut, State(value, void), life))

    def _remove(self, i: int) -> bool:
        try:
            self.client.remove(self.key(i))
        except refused.RecordNotFound:
            return False
        return True

    def _truncated(self, of: str) -> str:
        said: str = self.client.info_random_node(f"sets/{self.namespace}/{of}")
        return next((figure for figure in said.strip().split(":") if figure.startswith("truncate_lut=")), "")


# Steps


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the writer does. Its repr is how a failing program reads."""

    def happen(self, truth: Truth) -> None:
        """Do it; nothing where it makes no sense now."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Put(Step):
    """ttl in seconds, 0: never expires."""

    key: int
    ttl: int = 0

    def happen(self, truth: Truth) -> None:
        truth.put(self.key, self.ttl)


@dataclass(frozen=True, slots=True)
class Touch(Step):
    """May end the expiry of a record, or shorten its life."""

    key: int
    ttl: int = 0

    def happen(self, truth: Truth) -> None:
        truth.touch(self.key, self.ttl)


@dataclass(frozen=True, slots=True)
class Delete(Step):
    """With `again` the record is created anew at once, maybe in the same millisecond."""

    key: int
    again: bool = False

    def happen(self, truth: Truth) -> None:
        truth.delete(self.key)
        if self.again:
            truth.put(self.key, 0)


@dataclass(frozen=True, slots=True)
class Truncate(Step):
    of: str

    def happen(self, truth: Truth) -> None:
        truth.truncate(self.of)


@dataclass(frozen=True, slots=True)
class Wait(Step):
    """Time goes by, and the collector works if it does."""

    ms: int

    def happen(self, truth: Truth) -> None:
        time.sleep(self.ms / 1000)


# Programs


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps, and what the collector does meanwhile: one `round`, one with an `audit`, round after round as a service
    (`serve`), or nothing (`away`). It dies after commit number `dies` of changes (0: it lives), before its catalogs
    note that commit. Before the stretch the catalogs may be lost; after it what Kafka has may be compacted."""

    how: str
    steps: tuple[Step, ...]
    dies: int = 0
    loses: bool = False
    compacts: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """`opening` happens before the base snapshot begins, the first stretch during it. `restored` says which of the
    moments asked for is restored in the end: 0 the first, 1 the last."""

    opening: tuple[Step, ...]
    stretches: tuple[Stretch, ...]
    restored: float


_keys = st.one_of(st.sampled_from((0, 1, 8)), st.integers(0, len(KEYS) - 1))
"""Three of them often: what follows what in one record is what matters."""
_ttls = st.sampled_from((0, 0, 0, 1, 2))
_steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Put, _keys, _ttls), st.builds(Put, _keys, _ttls), st.builds(Touch, _keys, _ttls),
    st.builds(Delete, _keys, st.booleans()), st.builds(Truncate, st.sampled_from(SETS)),
    st.builds(Wait, st.integers(0, 300)), st.builds(Wait, st.integers(0, 300)),
)  # fmt: skip
_opening: st.SearchStrategy[tuple[Step, ...]] = st.lists(st.builds(Put, _keys, _ttls), max_size=6).map(tuple)


def _stretch(how: Sequence[str]) -> st.SearchStrategy[Stretch]:
    rarely = st.sampled_from((False, False, False, True))
    return st.builds(
        Stretch, st.sampled_from(how), st.lists(_steps, max_size=10).map(tuple),
        dies=st.sampled_from((0, 0, 0, 0, 1, 2, 3)), loses=rarely, compacts=rarely,
    )  # fmt: skip


programs: st.SearchStrategy[Program] = st.builds(
    Program, _opening,
    st.tuples(_stretch(("round",)), st.lists(_stretch(("serve", "serve", "round", "audit", "away")), max_size=6)).map(
        lambda both: (both[0], *both[1])
    ),
    st.floats(0, 1),
)  # fmt: skip
