"""What fails in the middle of a restore: it stops with one line that says what was done, and goes on when told to."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aerospike
import numpy as np
import pytest

from cdc.archive import Archive, LocalStore, segments
from cdc.clock import wall_clock
from cdc.config import AerospikeSettings, ArchiveSettings, ReplayerSettings
from cdc.embedded.aerospike import Emulator
from cdc.errors import (
    CdcError,
    ClusterUnreachable,
    ObjectDamaged,
    ObjectMissing,
    RecordsRefused,
    RestoreError,
    TargetNotEmpty,
    UsageError,
)
from cdc.model import PARTITIONS, partition_of
from cdc.replayer import journal, run, slices
from cdc.replayer import log as logs
from cdc.replayer.clone import clone
from cdc.replayer.journal import Entry, Journal, Log
from cdc.replayer.plan import Kind, Plan, plan
from cdc.replayer.report import Refusal, Report, Watch
from cdc.replayer.rewind import rewind
from cdc.replayer.target import Target
from cdc.replayer.wanted import WHOLE, Part, Wanted
from cdc.replayer.where import condition
from cdc.source import Source
from cdc.wire import Cluster, query
from cdc.wire.messages import Result
from tests.fixtures.aerospike import Client
from tests.fixtures.restores import History, tick

RECORDS = 300
DAMAGED = range(100)
ADDED = range(RECORDS, RECORDS + 10)
KINDS: tuple[Kind, ...] = ("clone", "rewind")

State = dict[bytes, int]


@dataclass
class Place:
    """Records as they were at `at`, some of them damaged since, and an empty namespace beside theirs."""

    emulator: Emulator
    client: Client
    history: History
    folder: Path
    at: int
    then: State

    @property
    def archive(self) -> Archive:
        return self.history.archive

    @property
    def journal(self) -> Journal:
        return Journal(self.folder / "journal")

    @property
    def named(self) -> Path:
        return self.folder / "named.jsonl"

    def key(self, i: int) -> tuple[str, str, int]:
        return "test", "some", i

    @contextmanager
    def target(self, kind: Kind) -> Iterator[Target]:
        name = "test" if kind == "rewind" else "restore"
        with Cluster(AerospikeSettings(hosts=tuple(self.emulator.hosts), timeout_s=2)) as cluster:
            yield Target.of(Source(cluster, name), ReplayerSettings(batch_records=20, connections=1))

    def state(self, kind: Kind) -> State:
        with self.target(kind) as target:
            found = target.source.observe(range(PARTITIONS)).records
        return {d.tobytes(): int(c) for d, c in zip(found.digest, found.checksum, strict=True)}

    def begin(self, kind: Kind, wanted: Wanted | None = None) -> tuple[Plan, Log]:
        into = None if kind == "rewind" else "restore"
        made = plan(self.archive, self.at, kind, now=wall_clock(), into=into, wanted=wanted)
        return made, self.journal.begin(made, named_file=self.named)

    def carry_out(self, made: Plan, log: Log, watch: Watch | None = None) -> Report:
        work = rewind if made.kind == "rewind" else clone
        with log, self.target(made.kind) as target:
            return work(self.archive, made, target, named_file=log.asked.named_file, watch=watch, log=log)

    def restore(self, kind: Kind, watch: Watch | None = None, wanted: Wanted | None = None) -> Report:
        return self.carry_out(*self.begin(kind, wanted), watch)

    def resume(self) -> Report:
        with self.journal.resume("last") as log:
            return self.carry_out(log.plan(self.archive), log)

    def entry(self) -> Entry:
        return self.journal.entries()[-1]

    def ends(self, kind: Kind, done: int, total: int, resurrected: frozenset[bytes] = frozenset()) -> None:
        """Goes on, and ends as if nothing had been: of the records that were to be changed none is told of twice."""
        report = self.resume()
        assert {d: c for d, c in self.state(kind).items() if d not in resurrected} == self.then
        assert (report.complete, report.refused, report.conflicts) == (True, 0, 0)
        assert report.written + report.removed + (report.left if kind == "clone" else 0) <= total
        assert report.written + report.removed + report.left >= total
        assert report.written + report.removed >= done
        assert (self.entry().state, self.entry().standing.touched) == ("complete", total)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for many in (slices.of_clone, slices.of_rewind):
        monkeypatch.setattr(many, "__defaults__", (None, 1))  # each block is a slice
    monkeypatch.setattr(logs, "EVERY_S", 0.0)
    monkeypatch.setattr(journal, "LOCK_S", 0.05)
    monkeypatch.setattr(query, "BACK_OFF_LIMIT_S", 0.02)
    monkeypatch.setattr(segments, "READ_AHEAD", 1)
    emulator = Emulator(namespaces=("test", "restore"), persisted=True)
    with emulator, Cluster(AerospikeSettings(hosts=tuple(emulator.hosts))) as cluster:
        archive = Archive.create(LocalStore(tmp_path / "archive", create=True), "test", 2)
        history = History(archive, Source(cluster, "test"), ArchiveSettings(block_bytes=4096), wall_clock)
        host, _, port = emulator.hosts[0].rpartition(":")
        client = aerospike.client({"hosts": [(host, int(port))]}).connect()
        made = Place(emulator, client, history, tmp_path, 0, {})
        put(made, range(RECORDS), 1)
        history.look()
        made.at = history.look()
        made.then = made.state("rewind")
        tick(history.now)
        put(made, DAMAGED, -1)
        put(made, ADDED, -1)
        history.look()
        yield made
        client.close()


def put(place: Place, numbers: range, value: int) -> None:
    for i in numbers:
        place.client.put(place.key(i), {"v": value, "text": f"{value} of {i}"})


def total(kind: Kind) -> int:
    return RECORDS if kind == "clone" else len(DAMAGED) + len(ADDED)


class Once:
    """Does something when a restore has written a part of what it has to."""

    def __init__(self, work: Any) -> None:
        self.work, self.done = work, 0

    def __call__(self, done: int, total: int, phase: str) -> None:
        if phase == "write" and 0 < done < total and not self.done:
            self.done = done
            self.work()


def stopped(place: Place, kind: Kind, what: type[CdcError], work: Any) -> tuple[CdcError, int]:
    """The error that `work` in the middle of a restore ends it with, and how many records were written by then."""
    made, log = place.begin(kind)
    with pytest.raises(what) as caught:
        place.carry_out(made, log, Watch(Once(work)))
    error = caught.value
    report = error.report
    assert isinstance(report, Report)
    done = report.written + report.removed
    assert not report.complete
    assert 0 < done < total(kind)
    assert error.message.endswith(f"; at least {done:,} of {total(kind):,} records were written or removed")
    assert error.hint.startswith(f"To go on: `aerospike-cdc restore --resume {log.id}`.")
    return error, done


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_stops_ends_it_and_it_goes_on_when_the_target_is_back(place: Place, kind: Kind) -> None:
    error, _ = stopped(place, kind, ClusterUnreachable, lambda: place.emulator.kill(0))
    entry = place.entry()
    assert (entry.state, entry.standing.exit_code) == ("failed", ClusterUnreachable.exit_code)
    assert entry.error == f"ClusterUnreachable: {error.message}"
    place.emulator.restart(0)
    # Community Edition forgets with a cold restart what was removed: of what the restore had removed too.
    added = frozenset(bytes(aerospike.calc_digest(*place.key(i))) for i in ADDED)
    place.ends(kind, entry.standing.counts.get("written", 0), total(kind), added)


@pytest.mark.parametrize("kind", KINDS)
def test_lost_connections_are_got_over(place: Place, kind: Kind) -> None:
    def cut() -> None:
        place.emulator.nodes[0].faults.cut_frames = 3

    report = place.restore(kind, Watch(Once(cut)))
    assert (report.complete, report.conflicts, report.refused) == (True, 0, 0)
    assert place.state(kind) == place.then


@pytest.mark.parametrize(("kind", "harm"), [("clone", "gone"), ("rewind", "damaged")])
def test_an_object_that_is_lost_in_the_middle_ends_it_and_it_goes_on_when_it_is_back(
    place: Place, kind: Kind, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KEPT_BYTES", 0)  # what is written is read again
    objects = sorted((place.folder / "archive" / "test").rglob("*.avro"))
    whole = {path: path.read_bytes() for path in objects}

    def lose() -> None:
        for path, data in whole.items():
            path.unlink() if harm == "gone" else path.write_bytes(bytes(len(data)))

    what = ObjectMissing if harm == "gone" else ObjectDamaged
    error, _ = stopped(place, kind, what, lose)
    done = place.entry().standing.counts.get("written", 0)  # others were written, and are found to be as they should
    assert ".avro" in error.message
    before = place.state(kind)
    with pytest.raises(what, match=r"records were written or removed$") as again:
        place.resume()
    if harm == "gone":
        assert "begin anew: `aerospike-cdc restore --at 20" in again.value.hint
    assert place.state(kind) == before  # what is still read is verified before anything is written
    for path, data in whole.items():
        path.write_bytes(data)
    place.ends(kind, done, total(kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [WHOLE, Part(partitions=tuple(range(4096)))])
def test_an_object_that_is_damaged_before_the_first_write_stops_all_of_it(place: Place, kind: Kind, part: Part) -> None:
    before, wanted = place.state(kind), Wanted(part=part)
    made, log = place.begin(kind, wanted)
    path = place.folder / "archive" / made.objects[0].name
    whole = path.read_bytes()
    path.write_bytes(whole[:-400] + bytes(200) + whole[-200:])
    with pytest.raises(ObjectDamaged, match=r"; nothing was written$") as caught:
        place.carry_out(made, log)
    assert path.name in caught.value.message
    assert "--resume" not in caught.value.hint
    assert place.state(kind) == before
    assert (place.entry().state, place.entry().over) == ("failed", True)
    path.write_bytes(whole)
    assert place.resume().complete
    assert place.state(kind) == place.then


@pytest.mark.parametrize("kind", KINDS)
def test_a_journal_whose_disk_is_full_ends_it_and_keeps_what_it_has(place: Place, kind: Kind) -> None:
    made, log = place.begin(kind)

    def fill() -> None:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, log._file.fileno())
        os.close(full)

    # Another thread may be between its write and its sync, of which a device says that it is none to be synced.
    why = r"journal .* failed: (No space left on device|Invalid argument); at least \d+ of \d+"
    with pytest.raises(RestoreError, match=why) as caught:
        place.carry_out(made, log, Watch(Once(fill)))
    assert f"restore --resume {log.id}" in caught.value.hint
    assert place.entry().state == "interrupted"
    place.ends(kind, place.entry().standing.counts["written"], total(kind))


def test_a_journal_that_cannot_be_begun_stops_it_before_it_writes(place: Place) -> None:
    (place.folder / "journal").write_text("not a directory")
    with pytest.raises(RestoreError, match=r"the journal of restores at .* failed"):
        place.restore("clone")
    assert place.state("clone") == {}


def test_a_full_disk_under_the_named_file_ends_it_and_no_record_is_named_twice(place: Place) -> None:
    changed_again = range(40, 60)
    put(place, changed_again, 2)  # after the last capture
    place.named.symlink_to("/dev/full")
    with pytest.raises(RestoreError, match=r"named.jsonl, which names records, failed: No space left on device; "):
        place.restore("rewind")
    place.named.unlink()
    report = place.resume()
    assert (report.complete, report.conflicts) == (True, len(changed_again))
    named = [json.loads(line)["digest"] for line in place.named.read_text().splitlines()]
    digests = {bytes(aerospike.calc_digest(*place.key(i))).hex() for i in changed_again}
    assert len(named) == len(digests)
    assert set(named) == digests


def test_records_that_others_changed_between_two_runs_are_kept_and_named_once(place: Place) -> None:
    cancelled = Watch()
    cancelled = Watch(Once(cancelled.cancel.set), cancelled.cancel)
    put(place, range(5), 2)
    report = place.restore("rewind", cancelled)
    assert not report.complete
    good = [i for i in range(5, 100) if place.client.get(place.key(i))[2]["v"] == -1][-1]
    put(place, range(good, good + 1), 3)
    assert place.resume().conflicts == 6
    assert [place.client.get(place.key(i))[2]["v"] for i in (*range(5), good)] == [2] * 5 + [3]
    named = [json.loads(line)["digest"] for line in place.named.read_text().splitlines()]
    assert len(set(named)) == len(named) == 6


@pytest.mark.parametrize("part", [WHOLE, Part(bins=("v",))])
def test_a_record_that_was_removed_and_made_anew_is_kept_though_it_has_the_generation_that_was_captured(
    place: Place, part: Part
) -> None:
    tick(place.history.now)
    added, damaged = ADDED[0], DAMAGED[0]  # of generation 1 and 2
    for number, writes in ((added, 1), (damaged, 2)):
        place.client.remove(place.key(number))
        for value in range(writes):
            put(place, range(number, number + 1), 70 + value)
    report = place.restore("rewind", wanted=Wanted(part))
    assert (report.conflicts, report.refused) == (2, 0)
    assert [place.client.get(place.key(i))[2]["v"] for i in (added, damaged)] == [70, 71]
    assert [json.loads(line)["code"] for line in place.named.read_text().splitlines()] == [Result.FILTERED_OUT] * 2
    again = place.restore("rewind", wanted=Wanted(part, overwrite=True))
    assert (again.conflicts, again.complete) == (0, True)
    assert place.client.get(place.key(damaged))[2]["v"] == 1


def test_what_another_restore_named_in_the_same_file_is_not_taken_for_its_own(place: Place) -> None:
    cancelled = Watch()
    cancelled = Watch(Once(cancelled.cancel.set), cancelled.cancel)
    assert not place.restore("rewind", cancelled).complete
    digests = [aerospike.calc_digest(*place.key(i)) for i in range(RECORDS)]
    others = [Refusal(bytes(digest), "some", None, 22, "of another").to_json("another") for digest in digests]
    place.named.write_text("".join(line + "\n" for line in others))
    report = place.resume()
    assert (report.complete, report.conflicts, report.refused, report.named) == (True, 0, 0, b"")
    assert place.named.read_text() == ""


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_cancelled_goes_on_and_its_report_is_of_all_runs(place: Place, kind: Kind) -> None:
    cancelled = Watch()
    cancelled = Watch(Once(cancelled.cancel.set), cancelled.cancel)
    report = place.restore(kind, cancelled)
    assert not report.complete
    assert (report.id, place.entry().state) == (place.entry().id, "interrupted")
    place.ends(kind, place.entry().standing.counts["written"], total(kind))
    assert place.entry().standing.runs == 2
    with pytest.raises(UsageError, match=f"{report.id} is complete"):
        place.journal.resume(report.id)
    with pytest.raises(UsageError, match="no restore is left"):
        place.journal.resume("last")


def test_some_bins_of_some_records_go_on_as_well(place: Place) -> None:
    part = Part(bins=("v",), where=(condition("text exists"),), partitions=tuple(range(0, 4096, 2)))
    cancelled = Watch()
    cancelled = Watch(Once(cancelled.cancel.set), cancelled.cancel)
    uninterrupted = plan(place.archive, place.at, "rewind", now=wall_clock(), wanted=Wanted(part=part)).counts
    report = place.restore("rewind", cancelled, Wanted(part=part))
    assert not report.complete
    report = place.resume()
    assert uninterrupted is not None
    assert report.complete
    assert report.written + report.removed + report.left == uninterrupted.touched + uninterrupted.leave
    assert report.conflicts == 0
    for i in (*DAMAGED, *ADDED):
        mine = int(partition_of(np.frombuffer(aerospike.calc_digest(*place.key(i)), np.uint8)[None, :])[0]) % 2 == 0
        bins = place.client.get(place.key(i))[2]
        assert bins == ({"text": f"-1 of {i}"} if i in ADDED else {"v": 1, "text": f"-1 of {i}"}) if mine else {
            "v": -1, "text": f"-1 of {i}"
        }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("clone", Wanted()),
        ("clone", Wanted(existing="newer")),
        ("clone", Wanted(existing="replace", expired="shift")),
        ("rewind", Wanted()),
        ("rewind", Wanted(overwrite=True)),
        ("rewind", Wanted(Part(bins=("v",)))),
    ],
)
def test_what_was_done_and_not_noted_is_done_again_without_harm(place: Place, kind: Kind, wanted: Wanted) -> None:
    first = place.restore(kind, wanted=wanted)
    state = place.state(kind)
    progress = place.folder / "journal" / first.id / "progress"
    begun = progress.read_bytes().split(b"\n")[:2]
    progress.write_bytes(b"\n".join([*begun, b"half a li"]))
    assert place.entry().state == "interrupted"
    again = place.resume()
    assert place.state(kind) == state
    assert (again.complete, again.conflicts, again.refused) == (True, 0, 0)
    assert again.written + again.removed + again.left == first.written + first.removed + first.left


def test_records_that_were_refused_are_tried_again(place: Place) -> None:
    place.emulator.nodes[0].faults.refuse_records.extend([int(Result.RECORD_TOO_BIG)] * 3)
    with pytest.raises(RecordsRefused, match="refused 3 records") as caught:
        place.restore("clone")
    assert "restore --resume" in caught.value.hint
    assert (place.entry().state, place.entry().standing.exit_code) == ("failed", RecordsRefused.exit_code)
    assert len(place.state("clone")) == RECORDS - 3
    assert len(place.named.read_text().splitlines()) == 3
    report = place.resume()
    assert (report.complete, report.refused, report.named_file) == (True, 0, place.named)
    assert place.state("clone") == place.then
    assert place.named.read_text() == ""


def test_a_target_that_was_not_empty_is_asked_again(place: Place) -> None:
    place.client.put(("restore", "mine", 1), {"v": 1})
    for again in (False, True):
        with pytest.raises(TargetNotEmpty, match="nothing was written"):
            place.resume() if again else place.restore("clone")
    place.client.remove(("restore", "mine", 1))
    assert place.resume().complete
    assert place.state("clone") == place.then


def test_a_second_restore_in_place_is_refused_with_the_first_ones_name(place: Place) -> None:
    _, log = place.begin("rewind")
    with log:
        assert place.entry().state == "running"
        for refused in (lambda: place.begin("rewind"), lambda: place.journal.resume(log.id)):
            with pytest.raises(RestoreError, match=f"test is being restored in place: {re.escape(log.id)}"):
                refused()
        with pytest.raises(RestoreError, match="is running"):
            place.journal.forget(place.entry())
        assert place.restore("clone").complete  # into another place
    assert place.journal.entry(log.id).state == "interrupted"
    assert place.resume().complete
    assert place.state("rewind") == place.then


def test_where_its_manifests_were_pruned_it_says_what_to_do(place: Place) -> None:
    cancelled = Watch()
    cancelled = Watch(Once(cancelled.cancel.set), cancelled.cancel)
    place.restore("clone", cancelled)
    put(place, range(3), 4)
    place.history.look()
    for shard in range(2):
        [*before, _] = sorted((place.folder / "archive" / "test" / f"shard-{shard:04d}" / "manifests").iterdir())
        for path in before:
            path.unlink()
    with pytest.raises(ObjectMissing, match=r"manifests/\d+.json") as caught:
        place.resume()
    given = "--namespace test --destination main --into restore --existing keep"
    assert re.search(rf"begin anew: `aerospike-cdc restore --at \S+Z {given}`", caught.value.hint)
    assert place.restore("clone", wanted=Wanted(existing="keep")).complete
    assert place.state("clone") == place.then
