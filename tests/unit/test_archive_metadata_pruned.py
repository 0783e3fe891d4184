"""Pruning an archive takes metadata along: what the moments that stay need stays, and damage is told."""

from pathlib import Path

import pytest

from cdc.archive import keeps, metadata
from cdc.archive.keeps import Keep
from cdc.archive.prune import METADATA, part, plan_of, prune
from tests.unit.test_archive_metadata import index, names, snapshot, written
from tests.unit.test_archive_prune import END, T0, Made, later, policy


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """An archive with a set at every other moment, and metadata that changed at every moment."""
    found = Made.new(tmp_path)
    for at in range(1, END, 2):
        found.segment([{"key": 1, "at": at, "blind": 0}])
        found.make_set(at)
    for at in range(END + 1):
        written(found.archive.store, snapshot(index("i", T0 + at, f"b{at}"), looked=T0 + at))
    return found


def held(made: Made, at: int) -> tuple[str, bool]:
    state = metadata.at(made.archive.store, "test", T0 + at)
    assert state is not None
    [known] = state.items
    return known.told.item.facts["bin"], known.exact


def test_what_the_moments_that_stay_need_stays(made: Made) -> None:
    keeps.add(made.archive.store, "test", "marked", Keep(T0 + 2, 0))
    now = later()
    assert not prune(made.archive, policy(now, 8), now).plan.refused
    for at in sorted(made.moments()):
        assert held(made, at) == (f"b{at}", True)
    assert 2 in made.moments()
    assert min(names(made.archive.store)) > 1
    before = made.names()
    assert prune(made.archive, policy(now, 8), now).removed == 0
    assert made.names() == before


def test_where_nothing_may_go_no_metadata_does(made: Made) -> None:
    settings = policy(later(), 8)
    forever = settings.archive.retention.model_copy(update={"changes_days": 0})
    settings = settings.model_copy(update={"archive": settings.archive.model_copy(update={"retention": forever})})
    before = names(made.archive.store)
    prune(made.archive, settings, later())
    assert names(made.archive.store) == before


def test_damaged_metadata_is_told_and_nothing_of_it_goes_but_the_rest_does(made: Made, tmp_path: Path) -> None:
    before = names(made.archive.store)
    path = tmp_path / metadata.name_of("test", before[-1])
    path.write_bytes(path.read_bytes()[:-2])
    now = later()
    done = prune(made.archive, policy(now, 8), now)
    assert path.name in done.plan.refused[METADATA]
    assert path.name in plan_of(made.archive, policy(now, 8), now).refused[METADATA]
    assert [part(number) for number in done.plan.refused] == ["the metadata"]
    assert names(made.archive.store) == before
    assert done.plan.dropped_bytes
