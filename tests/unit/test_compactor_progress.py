"""From Kafka's records to epochs and to what may be archived."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cdc.archive import Epoch, Manifest
from cdc.archive.versions import concat
from cdc.compactor.inbox import Inbox
from cdc.compactor.progress import begin, fold, lose
from cdc.topics import Chunk, Progress, ProgressEntry
from cdc.topics.progress import Kind
from tests.fixtures.versions import bodies, change

BASE = Progress(
    shard=0, shards=1, epoch=1000, sweep=0, kind=Kind.BASE, complete=True, partitions=(), started_at=1000,
    observed_at=1500, unobserved_since=0, resolved_at=990, reconciled_at=990, changes_from=0, changes_through=3,
    writes=3, deletes=0, aside=0,
)  # fmt: skip


def sweep(number: int, since: int, resolved_at: int, changes: tuple[int, int] = (3, 3), **given: Any) -> Progress:
    fields: dict[str, Any] = {
        "sweep": number, "kind": Kind.SWEEP, "unobserved_since": since, "resolved_at": resolved_at,
        "changes_from": changes[0], "changes_through": changes[1],
    }  # fmt: skip
    return replace(BASE, **{**fields, **given})


def folded(*progress: Progress) -> tuple[Epoch, ...]:
    epochs: tuple[Epoch, ...] = ()
    for p in progress:
        epochs = fold(begin(epochs, p, first=True), p)
    return epochs


def test_a_base_opens_an_epoch_that_is_recoverable_from_its_end() -> None:
    assert folded(BASE) == (Epoch(1, 1000, 0, 1500, 990, 990, 0),)


def test_an_unfinished_look_says_nothing() -> None:
    piece = replace(BASE, complete=False, resolved_at=0, reconciled_at=0, partitions=(1, 2))
    assert folded(piece) == (Epoch(1, 1000, 0),)
    assert folded(piece, replace(BASE, changes_from=3)) == folded(BASE)
    large = sweep(1, 990, 5000, complete=False)
    assert folded(BASE, large) == folded(BASE)


def test_the_resolution_is_the_longest_time_without_a_look() -> None:
    (epoch,) = folded(BASE, sweep(1, 990, 1990), sweep(2, 1990, 9990), sweep(3, 9990, 10990))
    assert (epoch.resolved_at, epoch.resolution_ms) == (10990, 8000)


def test_resolved_and_reconciled_never_go_back() -> None:
    (epoch,) = folded(BASE, sweep(1, 990, 5000, reconciled_at=4000), sweep(2, 4000, 4500, reconciled_at=3000))
    assert (epoch.resolved_at, epoch.reconciled_at) == (5000, 4000)


def test_a_new_base_from_nothing_ends_the_epoch_before_it() -> None:
    one, two = folded(BASE, sweep(1, 990, 5000), replace(BASE, epoch=9000, observed_at=9500, changes_from=3))
    assert one.ended == "a base snapshot began from nothing"
    assert (two.number, two.began_at, two.recoverable_from, two.changes_from) == (2, 9000, 9500, 3)


def test_an_audit_within_an_epoch_goes_on_with_it() -> None:
    (epoch,) = folded(BASE, sweep(1, 990, 5000), sweep(2, 4990, 6000, kind=Kind.AUDIT))
    assert (epoch.recoverable_from, epoch.resolved_at) == (1500, 6000)


def test_an_epoch_whose_beginning_was_not_seen_is_never_recoverable() -> None:
    for seen, first in ((BASE, False), (sweep(7, 990, 5000), True)):
        epochs = fold(begin((), seen, first=first), seen)
        assert epochs[-1].recoverable_from is None
        assert "no longer in Kafka" in epochs[-1].ended


def test_after_a_loss_an_epoch_does_not_move() -> None:
    epochs = lose(folded(BASE, sweep(1, 990, 5000)), "lost")
    assert fold(epochs, sweep(2, 5000, 6000)) == epochs
    assert (epochs[-1].resolved_at, epochs[-1].ended) == (5000, "lost")
    assert lose(epochs, "again") == epochs
    assert lose((), "lost") == ()


# The inbox


def inbox() -> Inbox:
    return Inbox.after(Manifest("test", 0, 1))


def chunk(first: int, count: int) -> Chunk:
    offsets = np.arange(first, first + count)
    return Chunk(0, offsets, offsets, bodies([change(int(o), int(o)) for o in offsets]))


def drained(box: Inbox) -> dict[int, list[int]]:
    return {epoch: versions.offsets.tolist() for epoch, versions in box.drain()}


def test_changes_wait_for_the_progress_that_speaks_of_them() -> None:
    box = inbox()
    box.take_changes(chunk(0, 5))
    assert (box.ready_size, box.next_changes, box.dirty) == (0, 0, False)
    assert box.waiting_size > 0
    box.take_progress(ProgressEntry(0, 0, BASE))
    assert (box.next_changes, box.next_progress) == (3, 1)
    assert drained(box) == {1: [0, 1, 2]}
    assert box.held == 2


def test_progress_waits_for_all_of_its_changes() -> None:
    box = inbox()
    box.take_progress(ProgressEntry(0, 0, BASE))
    box.take_changes(chunk(0, 2))
    assert box.epochs == (Epoch(1, 1000, 0),)
    assert (box.next_changes, box.next_progress) == (2, 0)
    box.take_changes(chunk(2, 1))
    assert box.epochs == folded(BASE)
    assert (box.next_changes, box.next_progress) == (3, 1)


def test_what_was_archived_before_its_progress_was_complete_is_not_waited_for_again() -> None:
    box = inbox()
    box.take_progress(ProgressEntry(0, 0, BASE))
    box.take_changes(chunk(0, 2))
    after = Inbox.after(
        Manifest(
            "test", 0, 1, next_changes=box.next_changes, next_progress=box.next_progress, epochs=box.epochs,
            after_gap=box.after_gap,
        )
    )  # fmt: skip
    after.take_progress(ProgressEntry(0, 0, BASE))
    after.take_changes(chunk(2, 1))
    assert after.epochs == folded(BASE)
    assert drained(after) == {1: [2]}


def test_no_lot_has_changes_of_two_epochs() -> None:
    box = inbox()
    box.take_progress(ProgressEntry(0, 0, BASE))
    box.take_progress(ProgressEntry(0, 2, replace(BASE, epoch=9000, changes_from=4, changes_through=6)))
    box.take_changes(chunk(0, 3))
    box.take_changes(chunk(4, 2))
    assert drained(box) == {1: [0, 1, 2], 2: [4, 5]}
    assert [e.changes_from for e in box.epochs] == [0, 4]


def test_bodies_and_columns_survive_the_cuts() -> None:
    box = inbox()
    box.take_changes(chunk(0, 2))
    box.take_changes(chunk(2, 4))
    box.take_progress(ProgressEntry(0, 0, BASE))
    box.take_progress(ProgressEntry(0, 2, sweep(1, 990, 5000, (3, 6))))
    got = concat([versions for _, versions in box.drain()])
    whole = chunk(0, 6).bodies
    assert [got.bodies[i] for i in range(6)] == [whole[i] for i in range(6)]
    assert got.columns.effective_at.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_fresh_archive_beside_a_trimmed_topic_trusts_only_the_next_base() -> None:
    box = inbox()
    box.take_progress(ProgressEntry(0, 57, replace(BASE, changes_from=0, changes_through=0)))
    assert "no longer in Kafka" in box.epochs[0].ended
    box.take_progress(ProgressEntry(0, 58, replace(BASE, epoch=9000, changes_from=0, changes_through=0)))
    assert box.epochs[1].recoverable_from == 1500


def test_after_a_loss_changes_of_the_old_epoch_are_counted_and_left_out() -> None:
    box = inbox()
    box.take_changes(chunk(0, 3))
    box.take_progress(ProgressEntry(0, 0, BASE))
    box.lost("gone", next_changes=10, next_progress=5)
    box.take_changes(chunk(10, 4))
    box.take_progress(ProgressEntry(0, 5, sweep(9, 990, 5000, (10, 12))))
    box.take_progress(ProgressEntry(0, 6, replace(BASE, epoch=9000, changes_from=12, changes_through=14)))
    assert drained(box) == {1: [0, 1, 2], 2: [12, 13]}
    assert box.skipped == 2
    assert [e.ended for e in box.epochs] == ["gone", ""]


@pytest.mark.parametrize(("offset", "changes_from"), [(5, 12), (6, 9)])
def test_a_base_that_began_in_the_gap_is_not_trusted(offset: int, changes_from: int) -> None:
    box = inbox()
    box.take_progress(ProgressEntry(0, 0, replace(BASE, changes_through=0)))
    box.lost("gone", next_changes=10, next_progress=5)
    if offset == 6:
        box.take_progress(ProgressEntry(0, 5, sweep(9, 990, 5000, (8, 8))))
    later = replace(BASE, epoch=9000, changes_from=changes_from, changes_through=changes_from)
    box.take_progress(ProgressEntry(0, offset, later))
    assert "no longer in Kafka" in box.epochs[-1].ended
