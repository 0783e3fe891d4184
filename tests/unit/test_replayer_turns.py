"""Whose turn it is: told in the archive, so that machines with nothing else in common know of each other."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cdc.archive import LocalStore, Store
from cdc.archive.store import Around, Data
from cdc.errors import StoreForbidden
from cdc.replayer import turns

Says = list[str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "archive", create=True)


def at(ms: int) -> Callable[[], int]:
    return lambda: ms


def test_what_is_begun_on_one_machine_is_known_on_another_until_it_ends(store: Store) -> None:
    said: Says = []
    with turns.turn(store, "orders", "in-place", "one", said.append) as first:
        with turns.turn(store, "orders", "in-place", "two", said.append) as second:
            pass
        with turns.turn(store, "orders", "drill", "two", said.append) as drill:
            pass
        with turns.turn(store, "users", "in-place", "two", said.append) as users:
            pass
        with turns.turn(store, "orders", "in-place", "one", said.append) as again:  # files are locked for that
            pass
    with turns.turn(store, "orders", "in-place", "two", said.append) as after:
        pass
    assert second.startswith("one, as was said until 20")
    assert [first, drill, users, again, after] == [""] * 5
    assert said == []
    assert store.list("turns") == []


def test_what_was_killed_holds_for_a_minute(store: Store) -> None:
    held = turns.turn(store, "orders", "drill", "gone", pytest.fail, at(1_000))
    assert held.__enter__() == ""
    [name] = store.list("turns")
    left = store.get(name)
    held.__exit__(None, None, None)
    store.put(name, left)
    for now, free in ((1_000 + turns.HELD_MS - 1, False), (1_000 + turns.HELD_MS, True)):
        with turns.turn(store, "orders", "drill", "other", pytest.fail, at(now)) as other:
            assert (other == "") == free
    assert store.list("turns") == []


def test_it_is_told_again_as_long_as_it_lasts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "AGAIN_S", 0.001)
    now, told, again = [0], threading.Event(), threading.Event()

    class Seen(Around):
        def delete(self, name: str) -> None:
            super().delete(name)
            if again.is_set():
                told.set()

    with turns.turn(Seen(store), "orders", "drill", "one", pytest.fail, lambda: now[0]):
        now[0] = 10 * turns.HELD_MS
        for _ in range(2):  # of the first it is not known what time it said
            again.set()
            told.clear()
            assert told.wait(30)
        with turns.turn(store, "orders", "drill", "two", pytest.fail, lambda: now[0]) as other:
            assert other.startswith("one")


def test_of_two_that_begin_at_the_same_time_one_has_the_turn(store: Store) -> None:
    together, done = threading.Barrier(4), threading.Barrier(4)
    found: list[str] = []

    def work(name: str) -> None:
        together.wait(30)
        with turns.turn(store, "orders", "in-place", name, pytest.fail) as other:
            found.append(other)
            done.wait(30)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert found.count("") == 1


def test_an_archive_that_takes_nothing_keeps_nobody_from_a_restore(store: Store) -> None:
    class ReadOnly(Around):
        def put_if_absent(self, name: str, data: Data) -> bool:
            raise StoreForbidden(f"{name} may not be written")

    said: Says = []
    with turns.turn(ReadOnly(store), "orders", "in-place", "one", said.append) as other:
        assert other == ""
    [line] = said
    assert line.startswith("whether another machine is at the same work is not known: turns/orders/in-place/")


def test_a_clock_that_is_far_ahead_blocks_nobody_and_is_told(store: Store) -> None:
    said: Says = []
    ahead, here = at(10**9), at(10**6)
    with (
        turns.turn(store, "orders", "in-place", "one", said.append, ahead),
        turns.turn(store, "orders", "in-place", "two", said.append, here) as other,
    ):
        assert other == ""
    assert said == ["one may be at the same work, or not any more: its clock is ahead of this one"]


def test_a_clock_that_is_a_little_ahead_takes_no_turn_away(store: Store) -> None:
    # Told just now, by the clock of its holder in the future: here it holds for longer than a minute.
    ahead, here = at(10**9 + 2_000), at(10**9)
    with (
        turns.turn(store, "orders", "in-place", "one", pytest.fail, ahead),
        turns.turn(store, "orders", "in-place", "two", pytest.fail, here) as other,
    ):
        assert other.startswith("one, as was said until ")


def test_a_file_beside_the_turns_is_none(store: Store) -> None:
    copy = "turns/orders/in-place/00000000000000000001.json.bak"
    store.put(copy, b"of somebody")
    with turns.turn(store, "orders", "in-place", "one", pytest.fail) as first:
        assert first == ""
    assert store.list("turns") == [copy]
