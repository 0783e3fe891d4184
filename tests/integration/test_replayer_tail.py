"""A restore reaches past the archive into Kafka: it knows what the collector captured and no compactor archived yet."""

import hashlib
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from cdc.api import Replayer
from cdc.archive import Archive
from cdc.clock import wall_clock
from cdc.collector import Collector
from cdc.compactor import Compactor
from cdc.config import ArchiveSettings, ReplayerSettings, Settings
from cdc.errors import BrokerUnreachable, NotRecoverable, OffsetsLost, StoreForbidden
from cdc.replayer import tail
from cdc.replayer.at import require_recoverable
from cdc.replayer.history import history, recoverable, show
from cdc.replayer.plan import plan
from cdc.replayer.report import Cancelled, Report, Watch
from cdc.replayer.rewind import rewind
from cdc.replayer.tail import Tail, reach
from cdc.replayer.target import Target
from cdc.source import Source
from cdc.topics.offsets import list_offsets
from cdc.wire import Cluster
from tests.fixtures.collecting import SHARDS, Scene


@dataclass
class Place:
    """A scene with an archive, and a directory for what lies beyond it."""

    scene: Scene
    settings: Settings
    directory: Path
    collector: Collector

    def put(self, value: int, keys: range) -> None:
        for i in keys:
            self.scene.put(i, value)

    def captured(self) -> int:
        """Let the collector look until it has captured everything up to now; a moment at which that holds."""
        now = wall_clock() + 1
        deadline = time.monotonic() + 30
        while self.collector.run_once().resolved_at <= now:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return now

    def compact(self) -> Archive:
        Compactor(self.settings).run_once()
        return tail.opened(self.settings, self.directory / "unused")

    def reach(self, **given: Any) -> Tail:
        return reach(self.settings, self.directory, **given)

    def values(self, keys: range) -> list[int | None]:
        found = self.scene.client.batch_read([self.scene.key(i) for i in keys])
        return [record.record[2]["v"] if record.result == 0 else None for record in found.batch_records]

    def undo(self, archive: Archive, at: int) -> Report:
        with Cluster(self.settings.aerospike) as cluster:
            target = Target.of(Source(cluster, archive.namespace), ReplayerSettings())
            return rewind(archive, plan(archive, at, "rewind", now=target.now()), target)


@pytest.fixture(params=["plain", "encrypted"])
def place(
    request: pytest.FixtureRequest, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    monkeypatch.setenv("ARCHIVE_KEY", "5a" * 32)
    encryption = {"key_env": "ARCHIVE_KEY"} if request.param == "encrypted" else {}
    archive = ArchiveSettings.model_validate({"path": tmp_path / "archive", "encryption": encryption})
    with scene.collector() as collector:
        yield Place(scene, scene.settings.model_copy(update={"archive": archive}), tmp_path / "tail", collector)


plain = pytest.mark.parametrize("place", ["plain"], indirect=True)


def contents(directory: Path) -> dict[str, str]:
    """Every file of a directory, with its hash."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_damage_that_is_newer_than_the_archive_is_undone_and_nothing_is_written_but_the_records(place: Place) -> None:
    keys = range(40)
    place.put(1, keys)
    place.captured()
    place.compact()
    before = contents(place.settings.archive.path)
    place.put(2, range(10, 40))
    good = place.captured()
    place.put(3, range(20, 40))
    place.scene.client.remove(place.scene.key(0))
    place.put(3, range(40, 45))
    place.captured()
    with pytest.raises(NotRecoverable):
        require_recoverable(good, place.reach(mode="never").archive.windows(), wall_clock())
    reached = place.reach()
    assert reached.told == ""
    done = place.undo(reached.archive, good)
    assert (done.written, done.removed, done.conflicts) == (21, 5, 0)
    assert place.values(range(45)) == [1] * 10 + [2] * 30 + [None] * 5
    assert contents(place.settings.archive.path) == before
    assert {path.stat().st_mode & 0o777 for path in place.directory.rglob("*")} == {0o600, 0o700}


@plain
def test_what_is_reached_is_what_a_compactor_would_have_made(place: Place) -> None:
    place.put(1, range(20))
    place.captured()
    place.compact()
    place.put(2, range(20))
    place.captured()
    reached = place.reach().archive
    # It has to hold however soon the compactor goes on, and whatever else it commits.
    archived = place.compact()
    mine, theirs = reached.all_shards(), archived.all_shards()
    assert [m and (m.epochs, m.next_changes, m.next_progress) for m in mine] == [
        m and (m.epochs, m.next_changes, m.next_progress) for m in theirs
    ]
    at = reached.windows()[-1].end
    planned = plan(reached, at, now=at)
    assert planned.counts == plan(archived, at, now=at).counts
    place.put(3, range(20))
    later = place.captured()
    assert later in place.reach().archive.windows()[-1]
    again = tail.opened(place.settings, place.directory)
    assert plan(again, at, now=at, manifests=mine) == planned


@plain
def test_one_record_is_looked_up_in_its_own_shard_alone(place: Place) -> None:
    place.put(1, range(8))
    place.captured()
    place.compact()
    place.scene.put(5, 2)
    at = place.captured()
    digest = place.scene.digest(5)
    archive = place.reach(shard=history(place.reach(mode="never").archive, digest).manifest.shard).archive
    assert [v.change["bins"]["v"] for v in history(archive, digest).versions] == [1, 2]
    assert at in recoverable(archive, digest)[-1]
    held = show(archive, digest, at).held
    assert held is not None
    assert held.change["bins"]["v"] == 2
    assert len({path.parts[-3] for path in place.directory.rglob("*.json")}) == 1


@plain
def test_kafka_that_is_away_keeps_nobody_from_what_the_archive_has(place: Place) -> None:
    place.put(1, range(8))
    place.captured()
    place.compact()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        kafka = place.settings.kafka.model_copy(update={"bootstrap": f"127.0.0.1:{nobody.getsockname()[1]}"})
        away = replace(place, settings=place.settings.model_copy(update={"kafka": kafka}))
        began = time.monotonic()
        reached = away.reach()
        assert time.monotonic() - began < 2
        assert "Connection refused" in reached.told
        windows = reached.archive.windows()
        assert windows == away.reach(mode="never").archive.windows() != []
        with pytest.raises(BrokerUnreachable):
            away.reach(mode="always")
    error = NotRecoverable("later", "Nearest.")
    now = wall_clock()
    tail.explain(error, reached, now, windows, now)
    assert "Connection refused" in error.hint
    assert error.hint.endswith("Nearest.")


@plain
def test_a_collector_that_is_behind_is_told(place: Place) -> None:
    place.put(1, range(8))
    place.captured()
    place.compact()
    reached = place.reach()
    windows = reached.archive.windows()
    error = NotRecoverable("later", "Nearest.")
    now = windows[-1].end + 90_000
    tail.explain(error, reached, now - 5, windows, now)
    assert error.hint.startswith("The collector is 1 min 30 s behind")


@plain
def test_topics_made_anew_and_changes_that_retention_took_leave_the_archive_alone(place: Place) -> None:
    place.put(1, range(8))
    place.captured()
    archived = place.compact()
    windows = archived.windows()
    place.put(2, range(8))
    place.captured()
    admin = AdminClient({"bootstrap.servers": place.settings.kafka.bootstrap})
    name = place.scene.topics.changes
    ends = list_offsets(place.settings.kafka, name, range(SHARDS))
    for future in admin.delete_records([TopicPartition(name, k, end) for k, end in ends.items()]).values():
        future.result(10)
    reached = place.reach()
    assert "no longer had" in reached.told
    assert reached.archive.windows()[-1].end >= windows[-1].end
    assert all(m is not None and not m.epochs[-1].ended for m in reached.archive.all_shards())
    with pytest.raises(OffsetsLost):
        place.reach(mode="always")
    for future in admin.delete_topics([name]).values():
        future.result(10)
    deadline = time.monotonic() + 20
    while name in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
    reached = place.reach()
    assert reached.told
    assert name not in admin.list_topics(timeout=10).topics
    place.scene.topics.ensure(place.settings.kafka, SHARDS)
    assert "made anew" in place.reach().told


@plain
def test_many_changes_take_no_more_memory_than_a_compactor_may(place: Place) -> None:
    place.put(1, range(8))
    place.captured()
    place.compact()
    small = place.settings.compactor.model_copy(update={"memory_bytes": 40_000})
    few = replace(place, settings=place.settings.model_copy(update={"compactor": small}))
    few.put(2, range(3000))
    at = few.captured()
    archive = few.reach().archive
    assert sum(len(m.segments) for m in archive.all_shards() if m is not None) > 2 * SHARDS
    assert at in archive.windows()[-1]
    counts = plan(archive, at, now=at).counts
    assert counts is not None
    assert counts.write == 3000


@plain
def test_a_restore_that_was_interrupted_goes_on_by_what_was_reached_when_it_began(place: Place) -> None:
    keys = range(20)
    place.put(1, keys)
    place.captured()
    place.compact()
    place.put(2, keys)
    good = place.captured()
    place.put(3, keys)
    place.captured()
    journal = place.directory.parent / "restores"
    settings = place.settings.model_copy(update={"replayer": ReplayerSettings(journal=journal)})
    with Replayer(settings) as replayer:
        made = replayer.plan(good)
        assert made.tail is not None
        replayer.journal.begin(made, hosts=settings.aerospike.hosts).close()  # killed before its first write
        [begun] = replayer.restores()
    assert not made.tail.exists()
    kept = journal / begun.id / "tail"
    assert len(list(kept.rglob("*.avro"))) == SHARDS
    place.compact()  # what it goes by is not what the archive has become
    with Replayer(settings) as replayer:
        report = replayer.resume().report
        assert (report.written, report.conflicts, report.complete) == (20, 0, True)
        assert report.verification is not None
    assert place.values(keys) == [2] * 20
    assert not kept.exists()


@plain
def test_what_is_only_looked_at_leaves_nothing_behind_while_its_replayer_is_open(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put(1, range(8))
    place.captured()
    since = place.compact().windows()[-1].end
    place.put(2, range(8))
    place.captured()
    folder = place.directory.parent / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    stopped = Watch()
    stopped.cancel.set()
    with Replayer(place.settings) as replayer:
        assert replayer.diff(since).total.changed == 8
        for failing in (replayer.diff, replayer.plan):
            with pytest.raises(Cancelled):
                failing(since, watch=stopped)
        assert list(folder.iterdir()) == []


@plain
def test_an_end_that_is_wanted_early_is_taken(place: Place) -> None:
    place.put(1, range(8))
    place.captured()
    place.compact()
    place.put(2, range(8))
    place.captured()
    seen: list[tuple[int, int, str]] = []
    place.reach(watch=Watch(progress=lambda *said: seen.append(said)))
    assert {phase for _, _, phase in seen} == {"reach"}
    assert seen[-1][0] == seen[-1][1] > 0
    stopped = Watch()
    stopped.cancel.set()
    with pytest.raises(Cancelled):
        reach(place.settings, place.directory.parent / "other", watch=stopped)


@plain
def test_a_directory_that_cannot_be_written_is_named_with_what_to_do(place: Place) -> None:
    place.put(1, range(8))
    place.captured()
    place.compact()
    place.put(2, range(8))
    place.captured()
    for shard in range(SHARDS):
        objects = place.directory / place.settings.aerospike.namespace / f"shard-{shard:04d}" / "segments"
        objects.parent.mkdir(parents=True)
        objects.write_text("a file where objects should go")
    with pytest.raises(StoreForbidden) as raised:
        place.reach()
    assert str(place.directory) in raised.value.hint
    assert "--tail never" in raised.value.hint
