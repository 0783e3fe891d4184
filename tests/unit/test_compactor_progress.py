"""From Kafka's records to epochs and to what may be archived."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Epoch, Manifest
from cdc.archive.looks import ENDED, coarsest
from cdc.archive.versions import concat
from cdc.archive.windows import shard_windows
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
    assert folded(BASE) == (Epoch(1, 1000, 0, 1500, 990, 990),)


def test_an_unfinished_look_moves_no_moment_but_says_how_long_nothing_was_seen() -> None:
    piece = replace(BASE, complete=False, resolved_at=0, reconciled_at=0, partitions=(1, 2))
    assert folded(piece) == (Epoch(1, 1000, 0),)
    assert folded(piece, replace(BASE, changes_from=3)) == folded(BASE)
    [large] = folded(BASE, sweep(1, 990, 5000, complete=False, observed_at=5100))
    assert replace(large, writes=()) == folded(BASE)[0]
    assert large.writes == ((990, 5100, 4110, 4110),)


def test_the_longest_time_without_a_look_is_a_span_of_its_own() -> None:
    pause = (sweep(1, 990, 1990), sweep(2, 1990, 9990), sweep(3, 9990, 10990), sweep(4, 10990, 11990))
    (epoch,) = folded(BASE, *(replace(p, observed_at=p.resolved_at + 10) for p in pause))
    assert epoch.resolved_at == 11990
    assert [(s.start, s.end, s.coarsest_ms) for s in epoch.writes] == [
        (990, 1990, 1010), (1990, 10000, 8010), (10000, 12000, 1010),
    ]  # fmt: skip


def test_deletes_are_blind_from_one_look_for_them_to_the_next() -> None:
    looked = sweep(2, 1990, 1990, kind=Kind.RECONCILE, reconciled_at=1700, observed_at=2100)
    (epoch,) = folded(BASE, sweep(1, 990, 1990), looked, sweep(2, 1990, 2990, reconciled_at=1700, observed_at=3000))
    assert (epoch.reconciled_at, epoch.deletes) == (1700, ((990, 2100, 1110, 1110),))
    [window] = shard_windows(Manifest("test", 0, 1, epochs=(epoch,)))
    assert coarsest(window.deletes, 2500, 2500) == 1300


@st.composite
def lives(draw: st.DrawFn) -> list[Progress]:
    """A collector's progress: sweeps, in pieces or whole, audits, and looks for deletes between them."""
    out, watermark, reconciled, seen = [BASE], 990, 990, 1500
    for number in range(draw(st.integers(1, 30))):
        pause, took = draw(st.tuples(st.sampled_from([1, 3, 900, 1100, 70_000]), st.integers(0, 500)))
        kind = draw(st.sampled_from([Kind.SWEEP, Kind.SWEEP, Kind.AUDIT, Kind.RECONCILE]))
        began = seen + pause
        seen = began + took
        complete = kind is Kind.RECONCILE or draw(st.integers(0, 3)) > 0
        said = {"kind": kind, "complete": complete, "observed_at": seen}
        if kind is Kind.RECONCILE:
            reconciled = max(reconciled, draw(st.integers(reconciled, watermark)))
            out.append(sweep(number, watermark, watermark, reconciled_at=reconciled, **said))
            continue
        out.append(sweep(number, watermark, began if complete else watermark, reconciled_at=reconciled, **said))
        watermark = began if complete else watermark
    return out


@settings(max_examples=100, deadline=None)
@given(lives(), st.integers(0, 400_000), st.integers(0, 3_000))
def test_no_span_is_called_finer_than_a_look_that_reaches_into_it(life: list[Progress], at: int, long: int) -> None:
    (epoch,) = folded(*life)
    windows = shard_windows(Manifest("test", 0, 1, epochs=(epoch,)))
    part = windows[0].part(at, at + long) if windows else None
    if part is None:
        return
    reconciled = BASE.reconciled_at
    for p in life[1:]:
        blind = (p.unobserved_since, p.observed_at)
        if p.kind is not Kind.RECONCILE and blind[0] < part.end and blind[1] > part.start:
            assert part.resolution().writes_ms >= blind[1] - blind[0]
        # A delete told now, and a record rewritten that may have been away: since the last look for deletes.
        if reconciled < part.end and p.observed_at > part.start:
            assert part.resolution().deletes_ms >= p.observed_at - reconciled
        reconciled = max(reconciled, p.reconciled_at)


def test_many_histories_that_ended_stay_small() -> None:
    looks = [sweep(n, 1000 * n, 1000 * n + (1000 if n % 2 else 9000)) for n in range(1, 400)]
    (epoch,) = lose(folded(BASE, *looks), "lost")
    assert len(epoch.writes) <= ENDED
    assert (epoch.writes[0].start, epoch.writes[-1].end) == (1000, max(p.observed_at for p in looks))


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
