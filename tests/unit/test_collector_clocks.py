"""What is made of the nodes' clocks: steps, nodes that are slow, join or leave, and what a new process remembers."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.collector.clocks import Clocks, apart
from cdc.collector.stats import Stats
from cdc.model import BEGINNING
from cdc.source import NodeClock
from cdc.wire.cluster import Node

NOW = 1_700_000_000_000


@dataclass
class Nodes:
    """Nodes whose clocks are off by so many milliseconds, and what a source would say of them."""

    off: dict[str, int]
    silent: set[str] = field(default_factory=set)
    measured: int = 0
    passed_s: float = 0.0

    @property
    def cluster(self) -> "Nodes":
        return self

    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(name, "", 0) for name in self.off)

    def clocks(self) -> dict[str, NodeClock]:
        self.measured += 1
        return {name: NodeClock(off, 3) for name, off in self.off.items() if name not in self.silent}

    def seconds(self) -> dict[str, NodeClock]:
        """A clock that is cut to seconds is half a second more right than it shows."""
        now = {name: (self.clock() + off) // 1000 * 1000 + 500 for name, off in self.off.items()}
        return {n: NodeClock(shown - self.clock(), 501) for n, shown in now.items() if n not in self.silent}

    def clock(self) -> int:
        return NOW + round(self.passed_s * 1000)


def clocks(nodes: Nodes, path: Path, stats: Stats | None = None) -> Clocks:
    return Clocks(nodes.clock, lambda: nodes.passed_s, 250, stats or Stats("test"), path)


def test_the_slowest_and_the_fastest_node_bound_the_time(tmp_path: Path) -> None:
    nodes = Nodes({"A": 0, "B": -5000, "C": 700})
    stats = Stats("test")
    known = clocks(nodes, tmp_path / "c", stats)
    assert known.due
    assert known.measure(nodes) is None
    assert (known.earliest(), known.latest()) == (NOW - 5003, NOW + 703)
    assert not known.due
    assert any("5.7 s apart" in note for note in stats.notes)
    known.measure(nodes)
    assert len(stats.notes) == 1


@given(st.integers(-100_000, 100_000), st.floats(0, 9.9), st.integers(0, 999))
@settings(max_examples=200)
def test_a_step_of_more_than_a_second_is_noticed_by_a_watch(step_ms: int, passed_s: float, phase_ms: int) -> None:
    nodes = Nodes({"A": 0, "B": 0})
    nodes.passed_s = phase_ms / 1000
    known = clocks(nodes, Path("/dev/null/none"))
    known._known = nodes.clocks()
    known._low = known._high = 0
    known._measured_at = nodes.passed_s
    nodes.passed_s += passed_s
    nodes.off["B"] = step_ms
    noticed = any(apart(seen, known._known[name]) > 0 for name, seen in nodes.seconds().items())
    assert noticed or abs(step_ms) <= 1010


@given(st.integers(-100_000, 100_000), st.integers(-100_000, 100_000), st.floats(0, 9.9), st.integers(0, 999))
@settings(max_examples=200)
def test_after_a_watch_no_node_is_taken_to_be_further_than_it_is(
    one_ms: int, other_ms: int, passed_s: float, phase_ms: int
) -> None:
    with TemporaryDirectory() as directory:
        nodes = Nodes({"A": 0, "B": 0})
        nodes.passed_s = phase_ms / 1000
        known = clocks(nodes, Path(directory) / "c")
        known.measure(nodes)
        nodes.passed_s += passed_s
        nodes.off = {"A": one_ms, "B": other_ms}
        known.watch(nodes)
        slowest = nodes.clock() + min(one_ms, other_ms)
        assert slowest - 1_003 <= known.earliest() <= slowest


def test_what_was_written_since_the_last_measurement_is_asked_for_again_by_the_clock_as_it_is_now(
    tmp_path: Path,
) -> None:
    nodes = Nodes({"A": 0})
    stats = Stats("test")
    known = clocks(nodes, tmp_path / "c", stats)
    known.measure(nodes)
    nodes.passed_s += 4
    assert known.watch(nodes) is None
    assert nodes.measured == 1
    nodes.off["A"] = -60_000
    assert known.watch(nodes) == known.earliest() - 4000 == nodes.clock() - 60_003 - 4000
    assert stats.notes == ["the clock of node A went back by about 60.0 s"]
    assert known.watch(nodes) is None
    nodes.off["A"] = 30_000
    assert known.watch(nodes) is None
    assert stats.notes[1] == "the clock of node A went forward by about 90.0 s"


def test_a_slower_node_that_joins_sets_the_time_back_and_one_that_leaves_does_not(tmp_path: Path) -> None:
    nodes = Nodes({"A": 0, "B": -100})
    known = clocks(nodes, tmp_path / "c")
    known.measure(nodes)
    nodes.off["C"] = -9000
    assert known.watch(nodes) == known.earliest()
    del nodes.off["C"]
    assert known.measure(nodes) is None
    assert known.earliest() == nodes.clock() - 103


def test_a_member_that_gives_no_answer_is_taken_to_be_where_it_was(tmp_path: Path) -> None:
    nodes = Nodes({"A": 0, "B": -7000})
    known = clocks(nodes, tmp_path / "c")
    known.measure(nodes)
    nodes.silent = {"B"}
    assert known.measure(nodes) is None
    assert known.earliest() == nodes.clock() - 7003


def test_a_clock_that_was_set_back_while_no_collector_ran_is_noticed_when_one_begins(tmp_path: Path) -> None:
    nodes = Nodes({"A": 0})
    clocks(nodes, tmp_path / "c").measure(nodes)
    assert clocks(nodes, tmp_path / "c").measure(nodes) is None
    nodes.off["A"] = -3000
    assert clocks(nodes, tmp_path / "c").measure(nodes) == BEGINNING
    assert clocks(nodes, tmp_path / "c").measure(nodes) is None
    (tmp_path / "c").write_text("[1")
    assert clocks(nodes, tmp_path / "c").measure(nodes) is None
