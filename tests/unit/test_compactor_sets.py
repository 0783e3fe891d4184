"""Restore sets: what they keep, and that nothing else is ever needed."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, Epoch, LocalStore, Manifest, RestoreSet, sets, views
from cdc.archive import segments as objects
from cdc.archive.merged import stream
from cdc.archive.versions import Versions, concat, order
from cdc.archive.views import View, changed_after
from cdc.compactor.sets import due_at
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.model import NEVER, Op
from tests.fixtures.versions import change, digest, versions

SETTINGS = ArchiveSettings(block_bytes=4096)
MEMORY = CompactorSettings()
END = 40
EPOCH = Epoch(number=1, began_at=1, changes_from=0, recoverable_from=0, resolved_at=END, reconciled_at=END)


def segment(archive: Archive, manifest: Manifest, made: Versions, epoch: int = 1) -> Manifest:
    writer = objects.SegmentWriter(SETTINGS, epoch)
    writer.add(made, order(made.columns.digest, made.offsets))
    info = writer.finish(archive.store, archive.directory(0, "segments"))
    through = int(made.offsets.max()) + 1
    return archive.commit(replace(manifest, segments=(*manifest.segments, info), next_changes=through))


def add_set(archive: Archive, manifest: Manifest, at: int) -> tuple[Manifest, RestoreSet]:
    made = sets.make(archive, manifest, manifest.epochs[-1], at, 0, MEMORY, SETTINGS)
    return archive.commit(replace(manifest, sets=(*manifest.sets, made))), made


def view(archive: Archive, manifest: Manifest, at: int) -> View:
    return views.view(manifest, at, archive.listing)


def new(path: Path) -> tuple[Archive, Manifest]:
    archive = Archive.create(LocalStore(path, create=True), "test", 1)
    return archive, archive.commit(replace(archive.first(0), epochs=(EPOCH,)))


def states(made: Versions, at: int) -> dict[bytes, tuple[int | None, int]]:
    """By the words of docs/architecture.md: of each digest the offset that holds at a moment (None: absent), and how
    uncertain that is (0 exact, 1 presumed, 2 fuzzy). Digests that are absent for certain are left out."""
    found: dict[bytes, tuple[int | None, int]] = {}
    c = made.columns
    rows = sorted(range(made.rows), key=lambda i: (c.digest[i].tobytes(), made.offsets[i]))
    for key in {c.digest[i].tobytes() for i in rows}:
        own = [i for i in rows if c.digest[i].tobytes() == key]
        until = [n for n, i in enumerate(own) if c.effective_at[i] <= at]
        following = own[(until[-1] + 1 if until else 0) :][:1]
        blind = bool(following) and c.unobserved_since[following[0]] < at
        uncertain = (1 if c.consecutive[following[0]] else 2) if blind else 0
        held = own[until[-1]] if until else None
        if held is not None and (c.op[held] != Op.WRITE or (c.void_time[held] != NEVER and c.void_time[held] <= at)):
            held = None
        if held is not None or uncertain:
            found[key] = (None if held is None else int(made.offsets[held]), uncertain)
    return found


moment = st.integers(0, END)
a_change = st.fixed_dictionaries(
    {
        "key": st.integers(0, 3),
        "effective_at": moment,
        "blind": st.integers(0, 10),
        "op": st.sampled_from([Op.WRITE, Op.WRITE, Op.WRITE, Op.DELETE, Op.EXPIRY, Op.TRUNCATION]),
        "void_time": st.none() | st.integers(1, END),
        "consecutive": st.booleans(),
    }
)
a_lot = st.tuples(st.lists(a_change, min_size=1, max_size=6), st.none() | moment)


def make(given_change: dict[str, Any]) -> dict[str, Any]:
    fields = dict(given_change)
    key, at, blind = fields.pop("key"), fields.pop("effective_at"), fields.pop("blind")
    return change(key, at, unobserved_since=max(at - blind, 0), **fields)


@settings(max_examples=15, deadline=None)
@given(lots=st.lists(a_lot, min_size=1, max_size=6))
def test_a_set_with_its_segments_says_what_all_segments_say(
    tmp_path_factory: pytest.TempPathFactory, lots: list[tuple[list[dict[str, Any]], int | None]]
) -> None:
    # Moments come in any order, worse than any clock would make them: nothing may rest on their order.
    archive, manifest = new(tmp_path_factory.mktemp("archive"))
    everything: list[Versions] = []
    for changes, at in lots:
        first = sum(v.rows for v in everything)
        everything.append(versions([make(c) for c in changes], list(range(first, first + len(changes)))))
        manifest = segment(archive, manifest, everything[-1])
        if at is not None:
            manifest, _ = add_set(archive, manifest, at)
    for at in range(END + 1):
        truth = states(concat(everything), at)
        got = states(concat(list(archive.versions(view(archive, manifest, at)))), at)
        assert {k: v[0] for k, v in got.items() if v[0] is not None} == {
            k: v[0] for k, v in truth.items() if v[0] is not None
        }
        # Nothing may be called more certain than it is.
        assert all(got.get(key, (None, 0))[1] >= uncertain for key, (_, uncertain) in truth.items())


def test_ended_and_expired_records_leave_the_set(tmp_path: Path) -> None:
    archive, manifest = new(tmp_path)
    made = versions(
        [
            change(1, 5),
            change(2, 5),
            change(3, 5, void_time=20),
            change(4, 5, void_time=21),
            change(2, 9, op=Op.DELETE),
        ],
        [0, 1, 2, 3, 4],
    )
    manifest, restore_set = add_set(archive, segment(archive, manifest, made), 20)
    kept = concat([v for s in archive.listing(restore_set).segments for v in objects.read(archive.store, s)])
    assert kept.columns.digest[:, 3].tolist() == [1, 4]
    assert restore_set.rows == 2


def test_a_deleted_record_is_not_brought_back_by_a_segment_beside_the_set(tmp_path: Path) -> None:
    archive, manifest = new(tmp_path)
    # One segment holds the old version of record 1 and a version of record 2 that is effective after the set.
    manifest = segment(archive, manifest, versions([change(1, 5), change(2, 30)], [0, 1]))
    manifest = segment(archive, manifest, versions([change(1, 9, op=Op.DELETE)], [2]))
    manifest, restore_set = add_set(archive, manifest, 20)
    assert archive.listing(restore_set).segments == ()
    assert [s.first_offset for s in view(archive, manifest, 25).segments] == [0]
    got = concat(list(archive.versions(view(archive, manifest, 25))))
    assert got.columns.digest[:, 3].tolist() == [2]


def test_the_end_of_a_record_stays_while_an_older_version_takes_effect_later(tmp_path: Path) -> None:
    archive, manifest = new(tmp_path)
    manifest = segment(archive, manifest, versions([change(1, 30), change(1, 10, op=Op.TRUNCATION)], [0, 1]))
    manifest, restore_set = add_set(archive, manifest, 20)
    assert restore_set.rows == 1
    assert states(concat(list(archive.versions(view(archive, manifest, 35)))), 35) == {}


def test_an_empty_namespace_has_an_empty_set(tmp_path: Path) -> None:
    archive, manifest = new(tmp_path)
    manifest, restore_set = add_set(archive, manifest, 20)
    assert restore_set.rows == 0
    assert list(archive.versions(view(archive, manifest, 20))) == []


def test_only_the_segments_that_a_moment_needs_are_read(tmp_path: Path) -> None:
    archive, manifest = new(tmp_path)
    for n, (effective_at, since) in enumerate([(5, 0), (15, 14), (25, 24), (35, 12)]):
        made = versions([change(n, effective_at, unobserved_since=since)], [n])
        manifest = segment(archive, manifest, made)
    assert [s.first_offset for s in view(archive, manifest, 20).segments] == [0, 1, 3]
    manifest, _ = add_set(archive, manifest, 18)
    assert [s.first_offset for s in view(archive, manifest, 20).segments] == [3]
    assert [s.first_offset for s in view(archive, manifest, 17).segments] == [0, 1, 3]
    assert [s.first_offset for s in changed_after(manifest, 20)] == [2, 3]


def test_an_epoch_never_sees_anothers_changes(tmp_path: Path) -> None:
    archive, manifest = new(tmp_path)
    manifest = segment(archive, manifest, versions([change(1, 5)], [100]))
    manifest, _ = add_set(archive, manifest, 10)
    again = replace(EPOCH, number=2, began_at=2, recoverable_from=20)
    manifest = replace(manifest, epochs=(replace(EPOCH, resolved_at=15), again))
    # The topic was made anew: offsets begin at 0 again.
    manifest = segment(archive, manifest, versions([change(2, 18)], [0]), epoch=2)
    assert concat(list(archive.versions(view(archive, manifest, 12)))).columns.digest[:, 3].tolist() == [1]
    assert concat(list(archive.versions(view(archive, manifest, 30)))).columns.digest[:, 3].tolist() == [2]


@settings(max_examples=30, deadline=None)
@given(
    lots=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=30), min_size=1, max_size=4),
    low=moment,
    high=moment,
)
def test_a_stream_is_sorted_whole_and_never_splits_a_digest(
    tmp_path_factory: pytest.TempPathFactory, lots: list[list[int]], low: int, high: int
) -> None:
    archive, manifest = new(tmp_path_factory.mktemp("archive"))
    expected = []
    for keys in lots:
        first = len(expected)
        made = versions([change(k, 5, bins={"b": bytes(500)}) for k in keys], [first + i for i in range(len(keys))])
        expected += [(k, first + i) for i, k in enumerate(keys)]
        manifest = segment(archive, manifest, made)
    batches = list(stream(archive.store, view(archive, manifest, 5), batch_bytes=6000))
    rows = [(int(b.columns.digest[i, 3]), int(b.offsets[i])) for b in batches for i in range(b.rows)]
    assert rows == sorted(expected)
    ends = [(b.columns.digest[0, 3], b.columns.digest[-1, 3]) for b in batches]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))
    part = stream(archive.store, view(archive, manifest, 5), digest(low), digest(high), batch_bytes=6000)
    assert [int(d[3]) for b in part for d in b.columns.digest] == [k for k, _ in rows if low <= k < high]
    asked = np.frombuffer(digest(low) + digest(high), np.uint8).reshape(2, 20)
    some = stream(archive.store, view(archive, manifest, 5), digests=asked)
    assert [int(d[3]) for b in some for d in b.columns.digest] == [k for k, _ in rows if k in (low, high)]


@pytest.mark.parametrize(
    ("resolved_at", "recoverable_from", "newest", "due"),
    [
        (9_999, 0, None, 0),
        (10_000, 0, 0, 10_000),
        (25_000, 0, 0, 20_000),
        (25_000, 0, 20_000, None),
        (25_000, 20_001, None, None),
        (25_000, None, None, None),
    ],
)
def test_a_set_is_due_at_round_moments_that_are_recoverable(
    resolved_at: int, recoverable_from: int | None, newest: int | None, due: int | None
) -> None:
    epoch = replace(EPOCH, resolved_at=resolved_at, recoverable_from=recoverable_from)
    made = () if newest is None else (RestoreSet(newest, 5, 1, 0, 0, "", 0, ""),)
    every = CompactorSettings(set_every_s=10.0)
    assert due_at(Manifest("test", 0, 1, epochs=(epoch,), sets=made), every) == due
    assert due_at(Manifest("test", 0, 1), every) is None


def test_a_truncation_that_was_found_only_after_the_sets_moment_stays_in_it(tmp_path: Path) -> None:
    archive, manifest = new(tmp_path)
    ends = [change(k, 9, op=Op.TRUNCATION, observed_at=seen) for k, seen in ((1, 20), (2, 21))]
    made = versions([change(1, 5), change(2, 5), *ends], [0, 1, 2, 3])
    manifest = segment(archive, manifest, made.take(order(made.columns.digest, made.offsets)))
    _, restore_set = add_set(archive, manifest, 20)
    kept = concat([v for s in archive.listing(restore_set).segments for v in objects.read(archive.store, s)])
    assert kept.columns.digest[:, 3].tolist() == [2]
