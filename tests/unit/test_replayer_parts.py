"""The pace that threads share, and work on shards that ends as one."""

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from cdc.errors import ObjectDamaged, RestoreError, UsageError
from cdc.replayer.lines import Lines
from cdc.replayer.pace import BURST_S, Pace
from cdc.replayer.parallel import each
from cdc.replayer.report import Cancelled, Counts, GaveUp, Meter, Refusal, Tally, Watch


def test_a_pace_lets_no_more_pass_than_it_was_told() -> None:
    pace = Pace(2000, Watch())
    began = time.monotonic()
    threads = [threading.Thread(target=lambda: [pace.take(50) for _ in range(4)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 400 records; the last 50 may still be on their way, and a burst is allowed.
    assert time.monotonic() - began >= (400 - 50) / 2000 - BURST_S


def test_a_pace_of_nothing_never_waits() -> None:
    moments = iter([0.0])  # it asks for the time once, when it is made
    pace = Pace(0, Watch(), clock=lambda: next(moments))
    pace.take(10**9)
    assert next(moments, None) is None


def test_a_waiting_pace_ends_when_it_is_cancelled() -> None:
    watch = Watch()
    pace = Pace(1, watch)
    pace.take(1000)
    threading.Timer(0.05, watch.cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        pace.take(1)
    assert time.monotonic() - began < 10


def test_results_come_in_the_order_of_the_items() -> None:
    assert each(lambda n: n * n, range(20), Watch()) == [n * n for n in range(20)]


def test_the_first_real_error_stops_the_others_and_is_raised() -> None:
    watch = Watch()
    began = threading.Barrier(3)

    def work(n: int) -> None:
        began.wait(10)
        if n == 1:
            raise ObjectDamaged("broken")
        while True:
            watch.step()
            time.sleep(0.001)

    with pytest.raises(ObjectDamaged, match="broken"):
        each(work, range(3), watch, workers=3)


@pytest.mark.parametrize("raised", [[Cancelled, GaveUp, Cancelled], [GaveUp, ObjectDamaged, Cancelled]])
def test_an_error_goes_before_giving_up_and_that_before_being_cancelled_for_it(
    raised: list[type[BaseException]],
) -> None:
    began = threading.Barrier(3)

    def work(n: int) -> None:
        began.wait(10)
        raise raised[n]("said")

    with pytest.raises(raised[1]) as caught:
        each(work, range(3), Watch(), workers=3)
    assert type(caught.value) is raised[1]


def test_a_cancelled_watch_starts_nothing() -> None:
    watch = Watch()
    watch.cancel.set()
    with pytest.raises(Cancelled):
        each(lambda n: pytest.fail("started"), range(3), watch)


def test_progress_never_passes_its_total() -> None:
    seen: list[tuple[int, int, str]] = []
    meter = Meter(10, "write", Watch(lambda *said: seen.append(said)))
    for _ in range(4):
        meter.add(3)
    meter.finish()
    assert seen[0] == (0, 10, "write")
    assert seen[-1] == (10, 10, "write")
    assert max(done for done, _, _ in seen) == 10


def test_counts_add_up() -> None:
    total = Counts(write=1, remove=2, bytes=5) + Counts(write=3, fuzzy=1)
    assert total == Counts(write=4, remove=2, fuzzy=1, bytes=5)
    assert total.touched == 6


def test_a_tally_without_refusals_makes_no_file(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "named.jsonl")
    tally.add(written=3, bytes=10)
    tally.close()
    report = tally.report("clone", "test", 0, complete=True, seconds=1.0)
    assert (report.written, report.named_file) == (3, None)
    assert not (tmp_path / "named.jsonl").exists()


def test_conflicts_are_named_and_are_not_refusals(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "named.jsonl")
    tally.name("conflicts", [Refusal(bytes(20), "s", "k", 3, "it changed")])
    tally.close()
    report = tally.report("rewind", "test", 0, complete=True, seconds=1.0)
    assert (report.conflicts, report.refused, report.refusals) == (1, 0, {})
    assert report.named_file == tmp_path / "named.jsonl"


def test_two_restores_at_once_do_not_write_over_what_the_other_named(tmp_path: Path) -> None:
    path = tmp_path / "named.jsonl"
    one, two = Tally(path, id="one"), Tally(path, id="two")
    named = [Refusal(bytes([i]) * 20, "s", "k", 3, "it changed") for i in range(4)]
    for i in range(4):
        (one, two)[i % 2].name("conflicts", [named[i]])
    two.close()
    again = Tally(path, lambda digest: True, id="two")  # the first is still at work
    again.close()
    one.close()
    made = [tally.report("rewind", "test", 0, complete=True, seconds=1.0) for tally in (one, two, again)]
    assert [report.named_file for report in made] == [path, *[tmp_path / "named.two.jsonl"] * 2]
    assert path.read_text() == "".join(named[i].to_json("one") + "\n" for i in (0, 2))
    assert (tmp_path / "named.two.jsonl").read_text() == "".join(named[i].to_json("two") + "\n" for i in (1, 3))
    assert made[2].named == named[1].digest + named[3].digest


def test_what_goes_on_while_another_has_its_file_takes_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "named.jsonl"
    gone = Tally(path, id="gone")
    gone.name("conflicts", [Refusal(bytes(20), "s", "k", 3, "it changed")])
    gone.close()
    other = Tally(path, id="other")
    other.name("conflicts", [Refusal(b"o" * 20, "s", "k", 3, "it changed")])
    again = Tally(path, lambda digest: True, id="gone")
    again.name("conflicts", [Refusal(b"g" * 20, "s", "k", 3, "it changed")])
    other.name("conflicts", [Refusal(b"p" * 20, "s", "k", 3, "it changed")])
    again.close()
    other.close()
    assert [line.split('"')[3] for line in path.read_text().splitlines()] == ["other", "other"]
    assert (tmp_path / "named.gone.jsonl").read_text().count("\n") == 1


def test_a_file_that_another_command_has_is_not_written_to(tmp_path: Path) -> None:
    first, second = Lines(tmp_path / "list"), Lines(tmp_path / "list")
    first.write(["a"])
    with pytest.raises(RestoreError, match="in use"):
        second.write(["b"])
    first.close()
    assert (tmp_path / "list").read_text() == "a\n"


def test_a_file_system_without_locks_keeps_nothing_from_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlockable(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unlockable)
    path = tmp_path / "named.jsonl"
    named = [Refusal(bytes([i]) * 20, "s", "k", 3, "it changed") for i in range(2)]
    for one, keep in zip(named, (None, lambda digest: True), strict=True):
        tally = Tally(path, keep, id="it")
        tally.name("conflicts", [one])
        tally.close()
    assert path.read_text() == "".join(one.to_json("it") + "\n" for one in named)


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "named.jsonl"):
        with pytest.raises(UsageError, match=str(path)):
            Tally(path)


def test_a_file_that_fails_under_way_ends_the_restore_with_one_line() -> None:
    tally = Tally(Path("/dev/full"))
    with pytest.raises(RestoreError, match="/dev/full"):
        tally.name("refused", [Refusal(bytes(20), "s", "k", 8, "no space")])
    tally.close()
