"""The catalog through kill -9 and a full disk, at every single thing that it tells the disk."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cdc.collector import catalog as catalog_module
from cdc.collector import catalog_files as files
from cdc.collector.catalog import Catalog
from cdc.errors import CatalogError
from tests.unit.test_collector_catalog import advance, content, digests, entries, fresh, reopened

CALLS = ("open", "write", "pwrite", "fsync", "replace", "unlink", "close", "ftruncate")
"""Everything that `catalog_files` does to a file goes through one of these of `os`."""
MERGES_AFTER = 12
STEPS = 8


@contextmanager
def at_call(number: int, happens: Callable[[str, tuple[Any, ...]], None]) -> Iterator[list[str]]:
    """Has `happens` run before call `number` (from 0) of CALLS; gives the names of the calls that were made."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            made.append(name)
            if len(made) - 1 == number:
                happens(name, given)
            return real[name](*given, **more)

        return call

    try:
        for name in CALLS:
            setattr(os, name, wrapped(name))
        yield made
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def dies(name: str, given: tuple[Any, ...]) -> None:
    """Kill -9; of what is written, half has reached the file."""
    if name == "write":
        os.writev(given[0], [given[1][: len(given[1]) // 2]])
    os.kill(os.getpid(), signal.SIGKILL)


def work(directory: Path) -> None:
    """Open the catalog, and go on with it to the last step; it is merged on the way."""
    catalog = reopened(directory)
    for step in range(catalog.state.changes_through, STEPS):
        one_step(catalog, step)
    catalog.close()


def one_step(catalog: Catalog, step: int) -> None:
    numbers = list(range(step * 5, step * 5 + 6))
    catalog.commit(advance(catalog.state, step + 1), entries(numbers, 1000 + step, step + 1), digests(step * 5 - 3))


def expected(steps: int) -> dict[bytes, tuple[int, int]]:
    """What the catalog holds after so many steps."""
    truth: dict[bytes, tuple[int, int]] = {}
    for step in range(steps):
        truth.pop(digests(step * 5 - 3)[0].tobytes(), None)
        truth |= {d.tobytes(): (1000 + step, step + 1) for d in digests(*range(step * 5, step * 5 + 6))}
    return truth


def killed(directory: Path, number: int) -> bool:
    """The work in a process of its own, killed before call `number`; False if it was done before."""
    child = os.fork()
    if child == 0:
        try:
            with at_call(number, dies):
                work(directory)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merges often, in many parts."""
    monkeypatch.setattr(catalog_module, "MERGE_ROWS", MERGES_AFTER)
    monkeypatch.setattr(catalog_module, "PART_ROWS", 4)


def test_killed_at_any_call_it_holds_what_was_committed_and_goes_on(tmp_path: Path, small: None) -> None:
    with at_call(-1, dies) as calls:
        fresh(tmp_path / "whole").close()
        before = len(calls)
        work(tmp_path / "whole")
    most = len(calls) - before
    assert set(CALLS) - {"ftruncate"} <= set(calls)
    stopped = []
    for number in range(most + 1):
        directory = tmp_path / str(number)
        fresh(directory).close()
        stopped.append(killed(directory, number))
        catalog = reopened(directory)
        done = catalog.state.changes_through
        assert content(catalog) == expected(done), (number, calls[before + number])
        assert len(catalog) == len(expected(done))
        catalog.close()
        # Stopped once more on the way, and then not.
        killed(directory, number // 2)
        work(directory)
        catalog = reopened(directory)
        assert content(catalog) == expected(STEPS)
        catalog.close()
        assert len(list(directory.iterdir())) == 2  # a base and its journal: nothing is left over
    assert stopped == [True] * most + [False]


def test_a_disk_that_is_full_at_any_call_is_one_error_and_leaves_what_was_committed(
    tmp_path: Path, small: None
) -> None:
    def full(name: str, given: tuple[Any, ...]) -> None:
        if name in ("open", "write", "pwrite", "fsync"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    number, errors = 0, []
    while True:
        directory = tmp_path / str(number)
        fresh(directory).close()
        catalog = reopened(directory)
        with at_call(number, full) as calls:
            try:
                for step in range(STEPS):
                    one_step(catalog, step)
            except CatalogError as error:
                errors.append(error.message)
        held = catalog.state.changes_through
        assert content(catalog) == expected(held)
        catalog.close()
        catalog = reopened(directory)
        assert catalog.state.changes_through == held
        assert content(catalog) == expected(held)
        catalog.close()
        assert not list(directory.glob("*.tmp"))
        if len(calls) <= number:
            break
        number += 1
    assert held == STEPS
    assert len(errors) > STEPS
    assert all("No space left" in message for message in errors)


def test_after_a_refused_batch_nothing_more_is_appended_behind_it(tmp_path: Path) -> None:
    catalog = fresh(tmp_path)
    one_step(catalog, 0)

    def half(name: str, given: tuple[Any, ...]) -> None:
        os.writev(given[0], [given[1][:50]])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with at_call(0, half), pytest.raises(CatalogError, match="No space left"):
        one_step(catalog, 1)
    with pytest.raises(CatalogError):
        one_step(catalog, 2)
    catalog.close()
    catalog = reopened(tmp_path)
    assert content(catalog) == expected(1)
    catalog.close()


def test_a_journal_cut_at_any_byte_gives_its_whole_batches(tmp_path: Path) -> None:
    catalog = fresh(tmp_path)
    ends = [0]
    for step in range(3):
        one_step(catalog, step)
        ends.append(catalog._journal.size)
    catalog.close()
    path = files.journal_path(tmp_path, 1)
    raw = path.read_bytes()
    assert len(raw) == ends[-1]
    for cut in range(len(raw) + 1):
        path.write_bytes(raw[:cut])
        journal = files.Journal(tmp_path, 1)
        batches = list(journal.batches())
        whole = sum(end <= cut for end in ends) - 1
        assert len(batches) == whole
        assert journal.size == ends[whole] == path.stat().st_size
        journal.close()


def test_a_journal_with_any_byte_changed_gives_the_batches_before_it(tmp_path: Path) -> None:
    catalog = fresh(tmp_path)
    ends = [0]
    for step in range(3):
        one_step(catalog, step)
        ends.append(catalog._journal.size)
    catalog.close()
    path = files.journal_path(tmp_path, 1)
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
        journal = files.Journal(tmp_path, 1)
        assert len(list(journal.batches())) == sum(end <= at for end in ends) - 1
        journal.close()


def test_a_base_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    catalog = fresh(tmp_path)
    one_step(catalog, 0)
    with pytest.raises(ValueError, match="given 6"):
        files.write_base(tmp_path, 2, b"{}", 7, catalog._parts())
    with pytest.raises(ValueError, match="given 6"):
        files.write_base(tmp_path, 2, b"{}", 5, catalog._parts())
    catalog.close()
    catalog = reopened(tmp_path)
    assert content(catalog) == expected(1)
    catalog.close()
