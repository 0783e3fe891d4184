"""A store over another, beyond what every store does (tests/integration/test_stores.py)."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, LocalStore, Manifest, open_store
from cdc.archive.overlay import OverlayStore
from cdc.config import ArchiveSettings
from cdc.errors import StoreForbidden
from tests.unit.test_compactor_two import Intake, Keeper, assert_whole

NAME = "test/shard-0000/segments/1.avro"


@pytest.fixture
def base(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "base", create=True)


@pytest.fixture
def over(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "over", create=True)


def at(archive: Archive, moment: int) -> Manifest:
    """Somebody's next manifest of the only shard, told apart by a moment."""
    made = archive.amend(0, lambda newest: replace(newest, written_at=moment))
    assert made is not None
    return made


def test_what_is_in_either_is_read_and_what_is_written_is_in_the_upper_one(base: LocalStore, over: LocalStore) -> None:
    base.put(NAME, b"below")
    laid = OverlayStore(base, over)
    laid.put("test/x", b"mine")
    assert (laid.get(NAME), laid.get_range(NAME, 2, 2), laid.size(NAME)) == (b"below", b"lo", 5)
    assert laid.exists(NAME)
    assert laid.get("test/x") == b"mine"
    assert laid.list("test") == [NAME, "test/x"] == [entry.name for entry in laid.entries("test")]
    assert (base.list(""), over.list("")) == ([NAME], ["test/x"])


def test_nothing_of_the_lower_one_is_written_again_or_removed(base: LocalStore, over: LocalStore) -> None:
    base.put(NAME, b"below")
    laid = OverlayStore(base, over)
    assert not laid.put_if_absent(NAME, b"other")
    with pytest.raises(StoreForbidden, match="is below an overlay"):
        laid.delete(NAME)
    assert laid.get(NAME) == base.get(NAME) == b"below"
    laid.put("test/x", b"mine")
    laid.delete("test/x")
    laid.delete("test/nowhere")
    assert (laid.list("test"), over.list("")) == ([NAME], [])


def test_manifests_that_others_commit_meanwhile_are_of_another_way_on(base: LocalStore, over: LocalStore) -> None:
    theirs = Archive.create(base, "test", 1)
    at(theirs, 1)
    mine = Archive.open(OverlayStore(base, over), "test")
    assert mine.shard(0) == theirs.shard(0)
    at(theirs, 2)
    assert at(mine, 20).sequence == 2
    at(theirs, 3)
    assert at(mine, 30).sequence == 3
    at(theirs, 4)
    assert [m.written_at for m in mine.chain(0)] == [30, 20, 1]
    assert [m.written_at for m in theirs.chain(0)] == [4, 3, 2, 1]


def test_one_laid_over_it_again_has_what_was_written_and_goes_on_from_the_newest(
    base: LocalStore, over: LocalStore
) -> None:
    theirs = Archive.create(base, "test", 1)
    before = OverlayStore(base, over)
    at(Archive.open(before, "test"), 10)
    before.put(NAME, b"of then")
    again = Archive.open(OverlayStore(base, over), "test")
    assert (at(again, 11).sequence, again.store.get(NAME)) == (2, b"of then")
    for moment in range(1, 5):
        at(theirs, moment)
    assert at(Archive.open(OverlayStore(base, over), "test"), 12).sequence == 5


def test_over_an_encrypted_archive_everything_is_encrypted_and_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE_KEY", "5a" * 32)
    settings = ArchiveSettings.model_validate({"path": tmp_path / "base", "encryption": {"key_env": "ARCHIVE_KEY"}})
    open_store(settings, create=True).put(NAME, b"what nobody may read")
    below = {p.name for p in (tmp_path / "base").rglob("*") if p.is_file()}
    laid = open_store(settings, over=tmp_path / "over")
    laid.put("test/x", b"what nobody may read")
    assert laid.get(NAME) == laid.get("test/x") == b"what nobody may read"
    assert {p.name for p in (tmp_path / "base").rglob("*") if p.is_file()} == below
    made = [tmp_path / "over", *(tmp_path / "over").rglob("*")]
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in made} == {"over": 0o700, "test": 0o700, "x": 0o600}
    assert b"nobody may read" not in made[-1].read_bytes()


STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6), st.booleans()), min_size=4, max_size=30)


@settings(max_examples=8, deadline=None)
@given(steps=STEPS)
def test_whoever_goes_on_for_itself_is_right_whatever_becomes_of_the_archive_meanwhile_and_in_nobodys_way(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("archive")
    base, over = LocalStore(path / "base", create=True), LocalStore(path / "over", create=True, lasting=False)
    theirs = Archive.create(base, "test", 1)
    compactor, keeper = Intake(theirs), Keeper(theirs)

    def laid() -> Intake:  # again over what was written before: then manifests do not prove each other any more
        return Intake(Archive.open(OverlayStore(base, over), "test"))

    mine = laid()
    for who, times, anew in steps:
        for _ in range(times):
            (compactor, keeper, mine)[who].step()
        if anew:
            mine = laid()
    while not mine.done:
        mine.step()
        keeper.step()
    assert_whole(mine.archive)
    assert (mine.lost, compactor.lost) == (0, 0)
    while not compactor.done:
        compactor.step()
    assert_whole(theirs)
    assert_whole(mine.archive)
