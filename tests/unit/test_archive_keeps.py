"""Marks: names that never look like a moment, and objects that are what was written."""

from pathlib import Path

import pytest

from cdc.archive import LocalStore, Store, keeps
from cdc.archive.keeps import Keep
from cdc.errors import ObjectDamaged, UsageError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "archive", create=True)


@pytest.mark.parametrize("name", ["", "latest", "Latest", "10m", "2026-01-31", "-a", "a/b", "a b", "ä", "a" * 65])
def test_what_could_be_a_moment_or_a_path_is_no_name(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a mark"):
        keeps.add(store, "test", name, Keep(1, 2))
    assert keeps.load(store, "test") == {}


def test_a_mark_is_set_once_and_taken_away_once(store: Store) -> None:
    keeps.add(store, "test", "v1.2-final_A", Keep(1, 2, "why"))
    keeps.add(store, "test", "v1.2-final_A", Keep(1, 9))  # again is nothing
    with pytest.raises(UsageError, match="already keeps another moment"):
        keeps.add(store, "test", "v1.2-final_A", Keep(2, 9))
    keeps.add(store, "other", "elsewhere", Keep(3, 4))
    assert keeps.load(store, "test") == {"v1.2-final_A": Keep(1, 2, "why")}
    with pytest.raises(UsageError, match="there is no mark v1") as told:
        keeps.remove(store, "test", "v1")
    assert "v1.2-final_A" in told.value.hint
    keeps.remove(store, "test", "v1.2-final_A")
    assert keeps.load(store, "test") == {}


def test_a_mark_under_anothers_name_is_damaged(store: Store) -> None:
    keeps.add(store, "test", "one", Keep(1, 2))
    store.put("test/keeps/two.json", store.get("test/keeps/one.json"))
    with pytest.raises(ObjectDamaged, match=r"keeps/two.* is a mark of another name"):
        keeps.load(store, "test")
