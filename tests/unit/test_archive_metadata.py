"""Metadata as objects of an archive: whole at every step, gone on from by several, kept as long as it is needed."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, LocalStore, Store, keyring, manifests, metadata
from cdc.archive.items import Snapshot, Told, after
from cdc.archive.sealed import SealedStore
from cdc.errors import ObjectDamaged, ObjectMissing
from cdc.model import Item, ItemKind
from tests.faults.killing import Directory, Killed, Memory, killed_at_every_step
from tests.fixtures.format_reader import Reader

KEY = bytes(range(32))


def index(name: str, at: int, bin_name: str = "b", *, removed: bool = False) -> Told:
    return Told(Item(ItemKind.INDEX, name, {"bin": bin_name}), removed, at, at - 5)


def snapshot(*told: Told, looked: int | None = None) -> Snapshot:
    until = max(one.observed_at for one in told) if looked is None else looked
    return Snapshot("test", written_at=1, looked={ItemKind.INDEX: until}, items=told)


def written(store: Store, *snapshots: Snapshot) -> list[Snapshot]:
    made: list[Snapshot] = []
    for one in snapshots:
        added = metadata.add(store, one, metadata.newest(store, "test") or Snapshot("test"))
        assert added is not None
        made.append(added)
    return made


def names(store: Store) -> list[int]:
    return [int(name[-25:-5]) for name in store.list("test/metadata") if metadata.is_one(name)]


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    behind = LocalStore(tmp_path / "archive", create=True)
    return SealedStore(behind, keyring.create(behind, KEY)) if request.param else behind


def test_what_was_written_is_read_and_each_object_names_those_before_it(store: Store) -> None:
    module = Told(Item(ItemKind.UDF, "ä.lua", {"hash": "1", "type": "LUA"}, b"-- \x00\xff"), False, 12, 0)
    first = snapshot(index("i", 10), module)
    later = snapshot(index("i", 20, "c"), module)
    made = written(store, first, later, snapshot(index("i", 30, removed=True), module))
    assert metadata.newest(store, "test") == made[2]
    assert [line.number for line in made[2].earlier] == [1, 2]
    assert [line.until for line in made[2].earlier] == [12, 20]
    assert metadata.at(store, "test", 9) is None
    at_15 = metadata.at(store, "test", 15)
    assert at_15 is not None
    assert [(known.told, known.exact) for known in at_15.items] == [(first.items[0], False), (module, False)]
    at_20 = metadata.at(store, "test", 20)
    assert at_20 is not None
    assert [(known.told, known.exact) for known in at_20.of(ItemKind.INDEX)] == [(later.items[0], True)]
    assert metadata.check(store, "test", content=True)[:2] == (3, {})
    assert metadata.newest(store, "other") is None
    assert metadata.at(store, "other", 5) is None


def test_of_two_that_write_at_once_one_goes_on_from_the_other(store: Store) -> None:
    [first] = written(store, snapshot(index("i", 10)))
    assert metadata.add(store, snapshot(index("i", 20)), first) is not None
    assert metadata.add(store, snapshot(index("i", 21)), first) is None
    assert names(store) == [1, 2]


def test_whoever_was_suspended_until_its_number_was_pruned_has_lost(store: Store) -> None:
    [first] = written(store, snapshot(index("i", 10)))
    written(store, snapshot(index("i", 20)), snapshot(index("i", 30)))
    store.delete(metadata.name_of("test", 2))
    assert metadata.add(store, snapshot(index("i", 21)), first) is None


def test_damage_is_found_by_name_and_what_is_left_of_it_is_said(store: Store) -> None:
    made = written(store, *(snapshot(index("i", at)) for at in (10, 20, 30)))
    store.delete(metadata.name_of("test", 1))
    other = replace(made[1], written_at=7)
    store.delete(metadata.name_of("test", 2))
    assert metadata.add(store, other, replace(made[0], number=1)) is None  # it does not count, but it is there
    for content, wrong in ((False, {1: ObjectMissing}), (True, {1: ObjectMissing, 2: ObjectDamaged})):
        looked, found, kept = metadata.check(store, "test", content=content)
        assert (looked, len(kept)) == (3, 3)
        assert {name: type(error) for name, error in found.items()} == {
            metadata.name_of("test", number): kind for number, kind in wrong.items()
        }
    with pytest.raises(ObjectMissing):
        metadata.at(store, "test", 15)
    assert metadata.at(store, "test", 35) is not None  # it needs the newest alone


def test_the_object_that_counts_may_be_damaged_in_any_byte(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, create=True)
    written(store, snapshot(index("i", 10)))
    path = tmp_path / metadata.name_of("test", 1)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ObjectDamaged):
            metadata.newest(store, "test")
        assert list(metadata.check(store, "test", content=False)[1]) == [metadata.name_of("test", 1)]
    path.write_bytes(whole)
    shutil.copy(path, path.with_name(f"{2:020d}.json"))
    with pytest.raises(ObjectDamaged, match="of something else"):
        metadata.newest(store, "test")
    inner = manifests.unseal("metadata", whole, "x") | {"items": [{"kind": "INDEX"}]}
    path.with_name(f"{2:020d}.json").write_bytes(manifests.seal("metadata", inner))
    with pytest.raises(ObjectDamaged, match="the form of metadata"):
        metadata.newest(store, "test")


a_moment = st.integers(0, 60)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 60), st.lists(st.integers(0, 60), max_size=3)
)
def test_what_is_pruned_no_kept_moment_needs_and_what_is_kept_says_the_same(
    steps: list[int], since: int, moments: list[int]
) -> None:
    store = Memory()
    at = 0
    for number, step in enumerate(steps):
        at += step
        told = (index("i", at, f"b{number}"), index("j", steps[0], removed=number > 3))
        written(store, snapshot(*told, looked=at - 1))
    ask = [moment for moment in range(62) if moment >= since or moment in moments]
    before = {moment: metadata.at(store, "test", moment) for moment in ask}
    pruned = metadata.prune(store, "test", since, moments, now=9)
    assert not metadata.prune(store, "test", since, moments, now=9)
    old, why = metadata.garbage(store, "test", store.entries("test"), 0)
    assert not why
    assert bool(old) == pruned
    for entry in old:
        store.delete(entry.name)
    assert {moment: metadata.at(store, "test", moment) for moment in ask} == before
    looked, wrong, kept = metadata.check(store, "test", content=True)
    assert (looked, wrong) == (len(names(store)), {})
    assert kept == set(store.list("test"))


Known = dict[tuple[str, str], tuple[Mapping[str, str] | None, str]]


def ours(store: Store, at: int) -> Known | None:
    found = metadata.at(store, "test", at)
    if found is None:
        return None
    said: Known = {
        (known.told.item.kind.value, known.told.item.name): (
            known.told.item.facts,
            "exact" if known.exact else "presumed",
        )
        for known in found.items
    }
    return said | {(told.item.kind.value, told.item.name): (None, "presumed") for told in found.maybe}


a_look = st.tuples(
    st.integers(2, 6), st.dictionaries(st.sampled_from("abc"), st.tuples(st.sampled_from("xy"), st.booleans())),
    st.sampled_from([(ItemKind.INDEX,), (ItemKind.INDEX, ItemKind.UDF)]),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(a_look, min_size=1, max_size=6), st.booleans())
def test_a_reader_by_the_document_alone_says_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    looks: list[tuple[int, dict[str, tuple[str, bool]], tuple[ItemKind, ...]]],
    pruned: bool,
) -> None:
    path = tmp_path_factory.mktemp("archive")
    store = Archive.create(LocalStore(path, create=True), "test", 1).store
    at, known = 0, Snapshot("test")
    for step, found, kinds in looks:
        at += step
        told = [index(name, at, bin_name, removed=removed) for name, (bin_name, removed) in found.items()]
        following = after(known, told, dict.fromkeys(kinds, at - 1))
        [known] = written(store, following)
    if pruned:
        metadata.prune(store, "test", at // 2, (), now=9)
    for moment in range(at // 2, at + 3):
        assert Reader(path, "test").metadata(moment) == ours(store, moment), moment


def test_what_a_reader_may_have_begun_with_stays_until_the_grace_is_over(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, create=True)
    written(store, *(snapshot(index("i", at)) for at in (10, 20, 30, 40)))
    assert metadata.prune(store, "test", 40, (), now=9)
    now = max(entry.modified_at for entry in store.entries("test"))
    assert metadata.garbage(store, "test", store.entries("test"), now - 60_000) == ([], "")
    old, why = metadata.garbage(store, "test", store.entries("test"), now + 1)
    assert [int(entry.name[-25:-5]) for entry in old] == [1, 2, 3, 4]
    path = tmp_path / metadata.name_of("test", 5)
    path.write_bytes(path.read_bytes()[:-9])
    old, why = metadata.garbage(store, "test", store.entries("test"), now + 1)
    assert not old
    assert path.name in why


@pytest.mark.parametrize("kind", [Memory, Directory])
def test_killed_at_any_step_what_counts_is_whole_and_is_gone_on_from(
    kind: type[Memory | Directory], tmp_path: Path
) -> None:
    first, second = snapshot(index("i", 10)), snapshot(index("i", 20, "c"))
    begin = Memory() if kind is Memory else Directory(tmp_path / "begin", create=True)
    for behind, steps in killed_at_every_step(begin, tmp_path):
        done = False
        try:
            written(steps, first, second)
            assert metadata.prune(steps, "test", 20, (), now=9)
            for entry in metadata.garbage(steps, "test", steps.entries("test"), 1 << 62)[0]:
                steps.delete(entry.name)
            done = True
        except Killed:
            pass
        assert not metadata.check(behind, "test", content=True)[1]
        last = metadata.newest(behind, "test")
        held = {20: "c", 10: "b"}.get(last.until if last is not None else 0)
        assert [told.item.facts["bin"] for told in last.items] == [held] if last is not None else held is None
        written(behind, snapshot(index("i", 40, "d")))
        state = metadata.at(behind, "test", 40)
        assert state is not None
        assert [known.told.item.facts["bin"] for known in state.items] == ["d"]
        if done:
            return
