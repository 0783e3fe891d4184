"""Manifests: the commit, the chain, and the format."""

from dataclasses import replace
from pathlib import Path

import pytest

from cdc.archive import Archive, Epoch, LocalStore, Manifest, RestoreSet, SegmentInfo, listings, manifests
from cdc.archive.listings import Listing
from cdc.archive.looks import Span
from cdc.errors import CommitLost, ConfigError, FormatTooNew, NotRecoverable, ObjectDamaged, ObjectMissing

SEGMENT = SegmentInfo("n/s.avro", 1, 10, "aa", 5, "bb", 3, 30, "00", "ff", 7, 9, 100, 200, 50, 210)
FULL = Manifest(
    namespace="test",
    shard=1,
    shards=2,
    next_changes=10,
    next_progress=4,
    after_gap=False,
    epochs=(
        Epoch(
            1,
            100,
            0,
            150,
            200,
            190,
            writes=(Span(90, 110, 20, 15), Span(110, 210, 90, 90)),
            deletes=(Span(90, 210, 99, 99),),
        ),
        Epoch(2, 300, 8, ended="why"),
    ),
    segments=(SEGMENT,),
    sets=(RestoreSet(150, 10, 1, 6, 24, "n/l.json", 5, "cc", made_at=160),),
)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.create(LocalStore(tmp_path / "archive", create=True), "test", 2)


def replace_object(archive: Archive, name: str, data: bytes) -> None:
    archive.store.delete(name)
    assert archive.store.put_if_absent(name, data)


def test_a_manifest_comes_back_as_it_was_committed(archive: Archive) -> None:
    committed = archive.commit(FULL)
    assert committed == replace(FULL, sequence=1)
    assert archive.shard(1) == committed
    assert archive.shard(0) is None
    assert archive.all_shards() == [None, committed]


def test_each_manifest_names_the_hash_of_the_one_before(archive: Archive) -> None:
    first = archive.commit(FULL)
    second = archive.commit(replace(first, next_changes=20))
    third = archive.commit(replace(second, next_changes=30))
    assert second.previous == manifests.sha256(manifests.encode(first))
    assert list(archive.chain(1)) == [third, second, first]
    assert list(archive.chain(0)) == []


def test_of_two_compactors_only_the_first_commits(archive: Archive) -> None:
    first = archive.commit(FULL)
    archive.commit(replace(first, next_changes=20))
    with pytest.raises(CommitLost, match=r"shard-0001/manifests/0+2\.json"):
        archive.commit(replace(first, next_changes=21))
    manifest = archive.shard(1)
    assert manifest is not None
    assert manifest.next_changes == 20


def test_a_commit_whose_answer_was_lost_succeeds_again(archive: Archive) -> None:
    first = archive.commit(FULL)
    assert archive.commit(replace(first, next_changes=20)) == archive.commit(replace(first, next_changes=20))


@pytest.mark.parametrize("name", ["test/shard-0001/manifests/00000000000000000001.json", "test/format.json"])
def test_a_flipped_byte_or_a_cut_is_found_and_named(archive: Archive, name: str) -> None:
    archive.commit(FULL)
    good = archive.store.get(name)

    def read() -> None:
        Archive.open(archive.store, "test").shard(1)

    for at in range(0, len(good), 23):
        replace_object(archive, name, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(ObjectDamaged, match=name):
            read()
        replace_object(archive, name, good[:at])
        with pytest.raises(ObjectDamaged, match=name):
            read()


def test_a_manifest_in_anothers_place_is_refused(archive: Archive) -> None:
    archive.commit(FULL)
    archive.commit(replace(FULL, shard=0))
    zero, one = (f"test/shard-000{k}/manifests/{1:020d}.json" for k in (0, 1))
    replace_object(archive, zero, archive.store.get(one))
    with pytest.raises(ObjectDamaged, match=f"{zero} is a manifest of something else"):
        archive.shard(0)


def test_a_rewritten_history_breaks_the_chain(archive: Archive) -> None:
    first = archive.commit(FULL)
    archive.commit(first)
    replace_object(
        archive, f"test/shard-0001/manifests/{1:020d}.json", manifests.encode(replace(first, shards=2, epochs=()))
    )
    with pytest.raises(ObjectDamaged, match="is not the manifest that its successor followed"):
        list(archive.chain(1))
    archive.store.delete(f"test/shard-0001/manifests/{1:020d}.json")
    with pytest.raises(ObjectMissing):
        list(archive.chain(1))


def test_a_newer_format_is_refused(archive: Archive) -> None:
    newer = {"version": 2, "anything": []}
    data = manifests.seal("manifest", newer)
    archive.store.put_if_absent(f"test/shard-0000/manifests/{1:020d}.json", data)
    with pytest.raises(FormatTooNew, match="format version 2"):
        archive.shard(0)
    archive.store.put_if_absent("other/format.json", manifests.seal("format", {"version": 2, "namespace": "other"}))
    with pytest.raises(FormatTooNew):
        Archive.open(archive.store, "other")


def test_the_shard_count_cannot_change(archive: Archive) -> None:
    assert Archive.create(archive.store, "test", 2).shards == 2
    with pytest.raises(ConfigError, match="has 2 shards, the settings say 4"):
        Archive.create(archive.store, "test", 4)


def test_a_namespace_that_was_never_archived_is_named(archive: Archive) -> None:
    with pytest.raises(ObjectMissing, match="holds nothing of the namespace other"):
        Archive.open(archive.store, "other")


def test_a_moment_outside_the_windows_has_no_view(archive: Archive) -> None:
    made = listings.write(archive.store, "n", Listing((SEGMENT,)), at=150, through=10, epoch=1, made_at=160)
    archive.commit(replace(FULL, sets=(made,)))
    assert archive.view(1, 150).base == made
    assert archive.view(1, 150).base_segments == (SEGMENT,)
    for shard, at in ((1, 149), (1, 201), (0, 150)):
        with pytest.raises(NotRecoverable):
            archive.view(shard, at)
