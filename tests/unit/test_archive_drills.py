"""Drills, remembered in the archive."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.archive import Archive, LocalStore, drills
from cdc.archive.drills import KEPT, Drilled
from cdc.archive.repair import repair
from cdc.archive.verify import verify
from cdc.config import Settings
from cdc.errors import ObjectDamaged

ONE = Drilled(
    "test", "restore", at=1_000, began_at=2_000, partitions=41, written=500, read_s=0.5, write_s=1.5, verify_s=9.0
)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "archive", create=True)


def test_what_is_remembered_is_there_again_the_newest_last(store: LocalStore) -> None:
    failed = replace(ONE, began_at=3_000, wrong="2 records are missing", missing=2)
    drills.remember(store, "test", ONE)
    drills.remember(store, "test", failed)
    assert drills.load(store, "test") == [ONE, failed]
    assert next(drills.newest(store, "test")) == failed
    assert drills.load(store, "other") == []


def test_the_newest_are_kept(store: LocalStore) -> None:
    for number in range(KEPT + 3):
        drills.remember(store, "test", replace(ONE, at=number))
    assert [one.at for one in drills.load(store, "test")] == list(range(3, KEPT + 3))


def test_a_damaged_one_is_named(store: LocalStore) -> None:
    drills.remember(store, "test", ONE)
    [name] = store.list(drills.directory("test"))
    assert drills.is_record(name)
    data = store.get(name)
    store.delete(name)
    store.put_if_absent(name, data.replace(b"restore", b"another"))
    with pytest.raises(ObjectDamaged, match=name):
        drills.load(store, "test")


def test_what_it_took_is_told_for_the_sample_and_projected_for_everything() -> None:
    assert (ONE.recovery_s, ONE.records_per_s) == (2.0, 250.0)
    by_bytes = replace(ONE, read_bytes=1_000, stored_bytes=6_000)
    assert by_bytes.projected_s == 0.5 * 6 + 1.5 * 4096 / 41
    whole = replace(by_bytes, partitions=4096, read_bytes=3_000)
    assert whole.projected_s == whole.recovery_s
    assert replace(ONE, read_s=0.0, write_s=0.0).records_per_s == 0
    told = ONE.to_dict()
    assert (told["passed"], told["at"], told["recovery_s"]) == (True, "1970-01-01T00:00:01.000Z", 2.0)
    assert replace(ONE, missing=1, live_different=2, live_unsure=4, wrong="!").to_dict()["differences"] == 3


@given(st.integers(1, 4096), st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_a_projection_is_never_shorter_than_what_was_measured(
    partitions: int, read_s: float, write_s: float, read_bytes: int, stored_bytes: int
) -> None:
    one = replace(
        ONE, partitions=partitions, read_s=read_s, write_s=write_s, read_bytes=read_bytes, stored_bytes=stored_bytes
    )
    assert one.projected_s >= one.recovery_s


def test_a_verification_takes_none_for_garbage_and_names_a_damaged_one_which_a_repair_removes(
    store: LocalStore, tmp_path: Path
) -> None:
    Archive.create(store, "test", 1)
    drills.remember(store, "test", ONE)
    drills.remember(store, "test", ONE)
    sound = verify(store, "test", "hashes")
    assert (sound.damage, sound.garbage) == ((), ())

    name = store.list(drills.directory("test"))[0]
    store.delete(name)
    store.put_if_absent(name, b"{}")
    [damage] = verify(store, "test", "hashes").damage
    assert name in damage.text
    done = repair(store, Settings(), {})
    assert "a damaged record of a drill" in done.steps[0].text
    assert done.found is not None
    assert not done.found.damage
    assert len(drills.load(store, "test")) < 2
