"""Killed at any step of its work, a role leaves an archive as good as before, and garbage at most."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from cdc.archive import Archive
from cdc.archive.verify import verify
from tests.faults.history import NAMESPACE, SHARDS, History, days, inside, sound
from tests.faults.killing import Directory, Killed, Memory, killed_at_every_step
from tests.faults.rounds import NOW, ROUNDS, pruned


@dataclass(frozen=True)
class Begin:
    """A history, and for each round the archive that it is given."""

    history: History
    objects: dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def begin() -> Begin:
    store = Memory()
    history = days(Archive.create(store, NAMESPACE, SHARDS), 2)
    objects = {}
    for name, run in ROUNDS.items():
        objects[name] = dict(store.objects)
        run(store)
    return Begin(history, objects)


def within(windows: list[tuple[int, int]], others: list[tuple[int, int]]) -> bool:
    """Whether every moment of some windows is in others."""
    return all(inside(window, others) for window in windows)


def assert_collected(store: Memory | Directory) -> None:
    """A prune removes whatever nothing needs, and nothing else."""
    pruned()(store)
    pruned()(store)  # what the first one's manifest followed
    assert verify(store, NAMESPACE, "decode", clock=lambda: NOW).garbage == ()
    assert not isinstance(store, Directory) or store.halves() == []


@pytest.mark.parametrize("kind", ["memory", "directory"])
@pytest.mark.parametrize("name", ROUNDS)
def test_killed_at_any_step_it_loses_and_doubles_nothing(name: str, kind: str, begin: Begin, tmp_path: Path) -> None:
    run, history = ROUNDS[name], begin.history
    store: Memory | Directory = Memory(begin.objects[name])
    if kind == "directory":
        store = Directory(tmp_path / "begin", create=True)
        for n, data in begin.objects[name].items():
            store.put(n, data)
    before = sound(store, history)
    whole = store.copied(tmp_path / "whole")
    run(whole)
    wanted = sound(whole, history, 12)
    assert within(wanted, before)
    for left, steps in killed_at_every_step(store, tmp_path):
        try:
            run(steps)
        except Killed:
            pass
        else:
            break
        windows = sound(left, history, 3)
        assert within(wanted, windows)
        assert within(windows, before)
        run(left)
        assert_collected(left)
        assert sound(left, history, 2) == wanted
    assert steps.changes >= 2
