"""Whoever was suspended for longer than the grace, while others went on and pruned, spoils nothing when it goes on."""

from dataclasses import replace

import pytest

from cdc.archive import Archive, Manifest, merging, tiers
from cdc.archive.verify import verify
from cdc.config import CompactorSettings
from cdc.errors import CommitLost
from tests.faults.history import BLOCKS, NAMESPACE, SHARDS, History, days, sound
from tests.faults.killing import Memory
from tests.faults.rounds import kept_up, pruned


@pytest.fixture
def archive() -> tuple[Archive, History]:
    made = Archive.create(Memory(), NAMESPACE, SHARDS)
    return made, days(made, 2)


def newest(archive: Archive) -> Manifest:
    found = archive.shard(0)
    assert found is not None
    return found


def test_a_manifest_from_before_a_prune_is_followed_by_none(archive: tuple[Archive, History]) -> None:
    made, history = archive
    known = newest(made)
    kept_up(merge_segments=2)(made.store)
    pruned()(made.store)
    assert not made.store.exists(f"{made.directory(0, 'manifests')}/{known.sequence:020d}.json")
    with pytest.raises(CommitLost, match="pruned"):
        made.commit(replace(known, written_at=1))
    before = newest(made)
    amended = made.amend(0, lambda m: replace(m, written_at=1), known)
    assert amended == replace(before, written_at=1, sequence=before.sequence + 1, previous=amended.previous)
    assert len(sound(made.store, history)) == 2


def test_objects_that_a_prune_took_before_they_were_named_are_not_named(archive: tuple[Archive, History]) -> None:
    made, history = archive
    known = newest(made)
    merge = tiers.plan(known, 2, 1 << 26)[0]
    written = merging.merge(made, 0, merge, CompactorSettings(), BLOCKS)
    pruned()(made.store)
    with pytest.raises(CommitLost, match="pruned before a manifest named it"):
        made.amend(0, lambda m: merging.merged(m, merge, written, 1), known, written[0].name)
    assert verify(made.store, NAMESPACE, "decode").damage == ()
    assert len(sound(made.store, history)) == 2
