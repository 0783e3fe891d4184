"""Damaged metadata: found by every verification, brought back from whoever has it, and else no longer named."""

from pathlib import Path

import pytest

from cdc.archive import Archive, LocalStore, metadata
from cdc.archive.items import Snapshot
from cdc.archive.metadata_repair import repair
from cdc.archive.siblings import Sibling
from cdc.archive.verify import TIERS, verify
from tests.unit.test_archive_metadata import index, names, snapshot, written


class Place:
    """An archive in a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = LocalStore(path, create=True)
        self.archive = Archive.create(self.store, "test", 1)

    def tell(self, *snapshots: Snapshot) -> None:
        written(self.store, *snapshots)

    def damage(self, number: int) -> None:
        path = self.path / metadata.name_of("test", number)
        path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:])

    def wrong(self, tier: str = "hashes") -> list[tuple[str, str]]:
        found = verify(self.store, "test", tier, remembering=False)
        assert not [name for name in found.garbage if metadata.is_one(name)]
        return [(damage.name, damage.kind) for damage in found.damage]

    def holds(self, at: int) -> list[tuple[str, bool]]:
        state = metadata.at(self.store, "test", at)
        assert state is not None
        return [(known.told.item.facts["bin"], known.exact) for known in state.items]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Place, Place]:
    """Two destinations; the other one was told the same, in other objects, and the last thing besides."""
    mine, other = Place(tmp_path / "mine"), Place(tmp_path / "other")
    first, second, third = (snapshot(index("i", at, name)) for at, name in ((10, "a"), (20, "b"), (30, "c")))
    mine.tell(first, second)
    other.tell(second, third)
    return mine, other


def mended(place: Place, *others: Place, dry: bool = False) -> tuple[list[str], list[str]]:
    siblings = [Sibling(one.path.name, one.archive, (None,)) for one in others]
    steps, left = repair(place.store, "test", siblings, 99, dry=dry)
    return [step.how for step in steps], [one.name for one in left]


@pytest.mark.parametrize("tier", TIERS)
def test_every_verification_says_what_is_damaged_and_what_is_missing(places: tuple[Place, Place], tier: str) -> None:
    mine, _ = places
    assert mine.wrong(tier) == []
    mine.damage(1)
    assert mine.wrong(tier) == ([(metadata.name_of("test", 1), "damaged")] if tier != "presence" else [])
    mine.store.delete(metadata.name_of("test", 1))
    assert mine.wrong(tier) == [(metadata.name_of("test", 1), "missing")]
    mine.damage(2)
    assert mine.wrong(tier) == [(metadata.name_of("test", 2), "damaged")]


def test_what_is_sound_is_left_alone(places: tuple[Place, Place]) -> None:
    mine, other = places
    before = mine.store.list("test")
    assert mended(mine, other) == ([], [])
    assert mine.store.list("test") == before


def test_an_earlier_object_that_nobody_else_has_is_not_named_any_more(places: tuple[Place, Place]) -> None:
    mine, other = places
    mine.damage(1)
    before = mine.store.list("test")
    assert mended(mine, dry=True) == (["metadata"], [metadata.name_of("test", 1)])
    assert mine.store.list("test") == before
    assert mended(mine, other) == (["metadata"], [metadata.name_of("test", 1)])
    assert mine.wrong() == []
    assert mine.holds(20) == [("b", True)]
    assert mine.holds(30) == [("c", True)]  # the other one knew more
    assert mended(mine, other) == ([], [])


def test_what_counts_is_taken_from_whoever_knows_the_latest(places: tuple[Place, Place]) -> None:
    mine, other = places
    mine.damage(2)
    assert mended(mine, other) == (["metadata"], [])
    assert mine.wrong() == []
    assert mine.holds(10) == [("a", True)]
    assert mine.holds(30) == [("c", True)]
    mine.damage(3)
    assert mended(mine) == (["metadata"], [])
    assert mine.wrong() == []
    assert mine.holds(30) == [("a", False)]  # until the next intake says what Kafka has


def test_a_copy_of_the_archive_gives_back_the_very_object(places: tuple[Place, Place], tmp_path: Path) -> None:
    mine, _ = places
    copy = Place(tmp_path / "copy")
    for name in mine.store.list("test/metadata"):
        copy.store.put(name, mine.store.get(name))
    before = mine.store.get(metadata.name_of("test", 1))
    mine.damage(1)
    assert mended(mine, copy) == (["copy"], [])
    assert mine.store.get(metadata.name_of("test", 1)) == before
    assert mine.wrong() == []


def test_an_archive_that_has_none_gets_all_that_another_has(places: tuple[Place, Place], tmp_path: Path) -> None:
    mine, _ = places
    new = Place(tmp_path / "new")
    assert mended(new, mine) == (["copy", "metadata"], [])
    assert new.wrong() == []
    assert new.holds(10) == mine.holds(10)
    assert new.holds(25) == mine.holds(25)


def test_where_nobody_has_any_it_is_begun_anew(places: tuple[Place, Place]) -> None:
    mine, _ = places
    mine.damage(1)
    mine.damage(2)
    assert mended(mine) == (["remove"], [])
    assert mended(mine) == (["remove"], [])
    assert names(mine.store) == []
    mine.tell(snapshot(index("i", 40, "d")))
    assert mine.wrong() == []
