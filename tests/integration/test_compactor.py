"""The compactor between a real Kafka and a real directory: everything once, whatever happens on the way."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from cdc.archive import Archive, LocalStore, Store, segments
from cdc.archive.store import Data
from cdc.compactor import Compactor
from cdc.config import AerospikeSettings, ArchiveSettings, CollectorSettings, CompactorSettings, KafkaSettings, Settings
from cdc.errors import CdcError, CommitLost, OffsetsLost
from cdc.model import DIGEST_SIZE, Op
from cdc.topics import Membership, Progress, Publisher, Topics
from cdc.topics.offsets import list_offsets
from cdc.topics.progress import Kind
from tests.fixtures.versions import bodies, change

SHARDS = 2
T0 = time.time_ns() // 1_000_000 // 3_600_000 * 3_600_000
"""Moments below count from here: Kafka's retention would take messages of 1970 at once."""


def configured(kafka: KafkaSettings, path: Path, **compactor: Any) -> Settings:
    given = {"segment_every_s": 0.001, "set_every_s": 5.0, **compactor}
    return Settings(
        aerospike=AerospikeSettings(namespaces=("test",)),
        kafka=kafka,
        collector=CollectorSettings(shards=SHARDS),
        compactor=CompactorSettings(**given),
        archive=ArchiveSettings(path=path, block_bytes=4096),
    )


@dataclass
class Source:
    """Publishes looks as a collector does, and remembers what it said: per shard offset to body."""

    publisher: Publisher
    kafka: KafkaSettings
    topics: Topics
    said: list[dict[int, bytes]] = field(default_factory=lambda: [{} for _ in range(SHARDS)])
    epoch: int = 10_000
    sweep: int = 0
    ends: list[int] = field(default_factory=lambda: [0] * SHARDS)
    since: int = 0

    def base(self, epoch: int, changes: list[dict[str, Any]], pieces: int = 1) -> None:
        """A base snapshot from nothing, in so many transactions."""
        self.epoch, self.sweep, self.since = epoch, 0, 0
        for n, part in enumerate(np.array_split(np.arange(len(changes)), pieces)):
            complete = n == pieces - 1
            resolved_at = epoch if complete else 0
            self.look(Kind.BASE, [changes[i] for i in part], resolved_at, epoch + 100, complete)
        self.since = epoch

    def swept(self, resolved_at: int, changes: list[dict[str, Any]]) -> None:
        """A sweep."""
        self.sweep += 1
        self.look(Kind.SWEEP, changes, resolved_at, resolved_at + 50, True)
        self.since = resolved_at

    def look(
        self, kind: Kind, changes: list[dict[str, Any]], resolved_at: int, observed_at: int, complete: bool
    ) -> None:
        now = time.time_ns() // 1_000_000
        moved = [
            c | {k: c[k] + T0 for k in ("lut", "effective_at", "unobserved_since", "observed_at")} for c in changes
        ]
        encoded = [bodies(moved[shard::SHARDS]) for shard in range(SHARDS)]
        with self.publisher.transaction() as tx:
            for shard, own in enumerate(encoded):
                if len(own):
                    digests = np.array([list(own[i][:DIGEST_SIZE]) for i in range(len(own))], np.uint8)
                    tx.changes(shard, own, digests, now)
            spans = tx.flush()
            for shard, own in enumerate(encoded):
                start, end = spans.get(shard, (self.ends[shard], self.ends[shard]))
                self.ends[shard] = end
                self.said[shard] |= {start + i: own[i] for i in range(len(own))}
                tx.progress(
                    Progress(
                        shard, SHARDS, T0 + self.epoch, self.sweep, kind, complete, (), T0 + self.epoch,
                        T0 + observed_at, T0 + self.since, T0 + resolved_at, T0 + resolved_at, start, end, len(own),
                        0, 0,
                    )
                )  # fmt: skip
        self.settle()

    def settle(self) -> None:
        """A commit returns before its markers are written: wait until readers can see it."""
        deadline = time.monotonic() + 30
        for topic in (self.topics.changes, self.topics.progress):
            while list_offsets(self.kafka, topic, range(SHARDS)) != list_offsets(
                self.kafka, topic, range(SHARDS), committed=False
            ):
                assert time.monotonic() < deadline


@pytest.fixture
def source(kafka_settings: KafkaSettings, topics: Topics) -> Iterator[Source]:
    with Membership(kafka_settings, topics) as member, Publisher(kafka_settings, topics, member, "one") as publisher:
        deadline = time.monotonic() + 30
        while len(member.poll(1.0)) < SHARDS:
            assert time.monotonic() < deadline
        yield Source(publisher, kafka_settings, topics)


def history(source: Source) -> None:
    """A base in two pieces and three sweeps, with deletes among them."""
    source.base(10_000, [change(k, 9_000 + k, unobserved_since=0) for k in range(20)], pieces=2)
    source.swept(12_000, [change(k, 11_000) for k in range(0, 20, 3)])
    source.swept(16_000, [change(k, 15_000, op=Op.DELETE) for k in range(0, 20, 4)])
    source.swept(21_000, [change(k, 20_500) for k in range(0, 20, 5)])


def archived(archive: Archive) -> list[dict[int, bytes]]:
    """Per shard offset to body of everything that the segments hold; an offset twice fails."""
    found: list[dict[int, bytes]] = []
    for manifest in archive.all_shards():
        rows: dict[int, bytes] = {}
        for info in manifest.segments if manifest else ():
            for versions in segments.read(archive.store, info):
                for i, offset in enumerate(versions.offsets.tolist()):
                    assert offset not in rows
                    rows[offset] = versions.bodies[i]
        found.append(rows)
    return found


def state(archive: Archive, shard: int, at: int) -> dict[bytes, bytes]:
    """The bodies that hold at a moment, by digest."""
    held: dict[bytes, bytes] = {}
    for versions in archive.versions(archive.view(shard, T0 + at)):
        for i in range(versions.rows):
            if versions.columns.effective_at[i] <= T0 + at:
                held[versions.columns.digest[i].tobytes()] = versions.bodies[i]
    return {k: v for k, v in held.items() if v[DIGEST_SIZE] == Op.WRITE << 1}


def truth(source: Source, shard: int, at: int, first: int = 0) -> dict[bytes, bytes]:
    """The same from what was said from an offset on."""
    held: dict[bytes, bytes] = {}
    moments = bodies_effective_at(source, shard)
    for offset, body in sorted(source.said[shard].items()):
        if offset >= first and moments[offset] <= T0 + at:
            held[body[:DIGEST_SIZE]] = body
    return {k: v for k, v in held.items() if v[DIGEST_SIZE] == Op.WRITE << 1}


def bodies_effective_at(source: Source, shard: int) -> dict[int, int]:
    from cdc.codec.changes import columns
    from cdc.model import Bodies

    offsets = list(source.said[shard])
    encoded = [source.said[shard][o] for o in offsets]
    ends = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    found = columns(Bodies(np.frombuffer(b"".join(encoded), np.uint8), ends)).effective_at
    return dict(zip(offsets, found.tolist(), strict=True))


def spans(archive: Archive) -> list[tuple[int, int]]:
    """The windows, counted from T0."""
    return [(w.start - T0, w.end - T0) for w in archive.windows()]


def opened(path: Path) -> Archive:
    return Archive.open(LocalStore(path), "test")


def test_everything_is_archived_once_and_every_moment_is_right(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path
) -> None:
    history(source)
    settings = configured(kafka_settings, tmp_path / "archive")
    stats = Compactor(settings).run_once()
    archive = opened(tmp_path / "archive")
    assert archived(archive) == source.said
    assert stats.rows == sum(map(len, source.said))
    assert stats.sets >= SHARDS
    assert spans(archive) == [(10_100, 21_000)]
    assert archive.windows()[0].resolution() == (5_050, 5_050)
    for shard, at in itertools.product(range(SHARDS), range(10_100, 21_001, 300)):
        assert state(archive, shard, at) == truth(source, shard, at)
    again = Compactor(settings).run_once()
    assert (again.rows, again.segments, again.sets) == (0, 0, 0)
    source.swept(26_000, [change(k, 25_000) for k in range(5)])
    assert Compactor(settings).run_once().rows == 5
    assert archived(archive) == source.said
    assert spans(archive) == [(10_100, 26_000)]
    for shard in range(SHARDS):
        assert [m.sequence for m in archive.chain(shard)][-1] == 1
        assert state(archive, shard, 25_500) == truth(source, shard, 25_500)


def test_an_unfinished_look_is_archived_and_not_yet_recoverable(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path
) -> None:
    source.look(Kind.BASE, [change(k, 9_000) for k in range(6)], 0, 10_050, False)
    settings = configured(kafka_settings, tmp_path / "archive")
    Compactor(settings).run_once()
    archive = opened(tmp_path / "archive")
    assert archived(archive) == source.said
    assert archive.windows() == []
    assert "unfinished base snapshot" in archive.holes()[0].reason


class Killed(BaseException):
    """What no code gets to handle."""


class DyingStore:
    """A real store, in which the n-th put is the process's last act: before it, or after it."""

    def __init__(self, store: Store, step: int, *, after: bool) -> None:
        self._store, self._step, self._after = store, step, after
        self.puts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, name: str, data: Data) -> None:
        assert self.put_if_absent(name, data)  # whatever is put counts as a step

    def put_if_absent(self, name: str, data: Data) -> bool:
        self.puts += 1
        if self.puts == self._step and not self._after:
            raise Killed
        done = self._store.put_if_absent(name, data)
        if self.puts == self._step:
            raise Killed
        return done


def test_killed_at_any_put_nothing_is_lost_and_nothing_doubled(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path
) -> None:
    history(source)
    for step in itertools.count(1):
        path = tmp_path / str(step)
        settings = configured(kafka_settings, path)
        dying: Any = DyingStore(LocalStore(path, create=True), step, after=bool(step % 2))
        try:
            Compactor(settings, store=dying).run_once()
        except Killed:
            pass
        else:
            break
        if (path / "test").exists() and step > 1:
            archive = opened(path)
            before = archived(archive)
            assert all(rows.items() <= said.items() for rows, said in zip(before, source.said, strict=True))
        Compactor(settings).run_once()
        archive = opened(path)
        assert archived(archive) == source.said
        assert spans(archive) == [(10_100, 21_000)]
        for shard, at in itertools.product(range(SHARDS), (10_100, 14_000, 19_999, 20_000, 20_600, 21_000)):
            assert state(archive, shard, at) == truth(source, shard, at)
    assert step > 8


def test_of_two_compactors_the_slower_one_begins_anew_from_what_the_other_took_in(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path
) -> None:
    history(source)
    settings = configured(kafka_settings, tmp_path / "archive")
    store = LocalStore(tmp_path / "archive", create=True)

    class Overtaken(DyingStore):
        """Another compactor does all the work just before this one's first manifest."""

        def put_if_absent(self, name: str, data: Data) -> bool:
            if "/manifests/" in name and not self.puts:
                self.puts = 1
                Compactor(settings).run_once()
            return self._store.put_if_absent(name, data)

    overtaken: Any = Overtaken(store, 0, after=False)
    stats = Compactor(settings, store=overtaken).run_once()
    assert (stats.rows, stats.segments) == (0, 0)
    assert archived(opened(tmp_path / "archive")) == source.said


def test_two_compactors_that_both_think_they_are_alone_lose_nothing_and_double_nothing(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdc.compactor import compactor as module

    monkeypatch.setattr(module, "RETRY_S", 0.05)
    history(source)
    path = tmp_path / "archive"
    Archive.create(LocalStore(path, create=True), "test", SHARDS)
    settings = configured(kafka_settings, path, segment_every_s=0.05, merge_segments=2)
    with running(settings) as (some, check), running(settings) as (others, check_other):
        for resolved_at in range(26_000, 66_000, 2_000):
            source.swept(resolved_at, [change(k, resolved_at - 500) for k in range(4)])
        deadline = time.monotonic() + 60
        while spans(opened(path)) != [(10_100, 64_000)]:
            check()
            check_other()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert {type(e) for e in (*some, *others)} <= {CommitLost}
    assert all(sum(isinstance(e, CommitLost) for e in errors) <= 1 for errors in (some, others)), "told once"
    archive = opened(path)
    assert archived(archive) == source.said
    assert any(s.tier for m in archive.all_shards() if m for s in m.segments)
    for shard, at in itertools.product(range(SHARDS), range(10_100, 64_001, 2_700)):
        assert state(archive, shard, at) == truth(source, shard, at)


def test_changes_that_retention_took_end_the_epoch_and_a_new_base_begins_another(
    kafka_settings: KafkaSettings, source: Source, topics: Topics, tmp_path: Path
) -> None:
    history(source)
    settings = configured(kafka_settings, tmp_path / "archive")
    Compactor(settings).run_once()
    source.swept(26_000, [change(k, 25_000) for k in range(8)])
    source.swept(27_000, [change(k, 26_500) for k in range(8)])
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap})
    gone = min(o for o in source.said[1] if o > max(archived(opened(tmp_path / "archive"))[1]))
    for future in admin.delete_records([TopicPartition(topics.changes, 1, gone + 1)]).values():
        future.result(10)
    with pytest.raises(OffsetsLost, match=r"no longer had .*changes from offset \d+ on .*\(shard 1\)"):
        Compactor(settings).run_once()
    archive = opened(tmp_path / "archive")
    assert spans(archive) == [(10_100, 21_000)]
    assert "no longer had" in archive.holes()[-1].reason
    first = list(source.ends)
    source.base(30_000, [change(k, 29_000, unobserved_since=0) for k in range(10)])
    source.swept(32_000, [change(3, 31_000)])
    Compactor(settings).run_once()
    assert spans(archive) == [(10_100, 21_000), (30_100, 32_000)]
    for shard in range(SHARDS):
        assert state(archive, shard, 31_500) == truth(source, shard, 31_500, first[shard])
        assert state(archive, shard, 20_600) == truth(source, shard, 20_600)
    assert ["no longer had" in h.reason for h in archive.holes()] == [True]


def test_a_marker_that_retention_took_from_an_idle_topic_costs_nothing(
    kafka_settings: KafkaSettings, source: Source, topics: Topics, tmp_path: Path
) -> None:
    history(source)
    settings = configured(kafka_settings, tmp_path / "archive")
    Compactor(settings).run_once()
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap})
    for future in admin.delete_records([TopicPartition(topics.changes, k, -1) for k in range(SHARDS)]).values():
        future.result(10)
    assert not Compactor(settings).run_once().lost
    source.swept(26_000, [change(k, 25_000) for k in range(8)])
    Compactor(settings).run_once()
    archive = opened(tmp_path / "archive")
    assert spans(archive) == [(10_100, 26_000)]
    for shard in range(SHARDS):
        assert state(archive, shard, 25_500) == truth(source, shard, 25_500)


def test_a_topic_made_anew_begins_a_new_epoch(
    kafka_settings: KafkaSettings, source: Source, topics: Topics, tmp_path: Path
) -> None:
    history(source)
    settings = configured(kafka_settings, tmp_path / "archive")
    Compactor(settings).run_once()
    other = kafka_settings.model_copy(update={"prefix": kafka_settings.prefix + "-anew"})
    anew = Topics(other.prefix, "test")
    anew.ensure(other, SHARDS)
    with Membership(other, anew) as member, Publisher(other, anew, member, "one") as publisher:
        deadline = time.monotonic() + 30
        while len(member.poll(1.0)) < SHARDS:
            assert time.monotonic() < deadline
        fresh = Source(publisher, other, anew)
        fresh.base(40_000, [change(k, 39_000, unobserved_since=0) for k in range(4)])
        fresh.swept(42_000, [change(1, 41_000)])
    renewed = configured(other, tmp_path / "archive")
    with pytest.raises(OffsetsLost, match="was made anew"):
        Compactor(renewed).run_once()
    archive = opened(tmp_path / "archive")
    assert spans(archive) == [(10_100, 21_000), (40_100, 42_000)]
    for shard in range(SHARDS):
        assert state(archive, shard, 42_000) == truth(fresh, shard, 42_000)
        assert state(archive, shard, 20_600) == truth(source, shard, 20_600)


def test_a_base_larger_than_the_memory_becomes_several_segments(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path
) -> None:
    large = [change(k, 9_000, unobserved_since=0, bins={"b": bytes(2000)}) for k in range(20_000)]
    source.base(10_000, large, pieces=3)
    source.swept(12_000, [])
    settings = configured(kafka_settings, tmp_path / "archive", memory_bytes=16 << 20, segment_every_s=60.0)
    stats = Compactor(settings).run_once()
    assert stats.segments > SHARDS
    assert archived(opened(tmp_path / "archive")) == source.said


@contextmanager
def running(settings: Settings, store: Store | None = None) -> Iterator[tuple[list[CdcError], Callable[[], None]]]:
    """The service's role in a thread: the errors that it got over, and a check that it is still there."""
    stop, errors, raised = threading.Event(), list[CdcError](), list[BaseException]()

    def role() -> None:
        try:
            Compactor(settings, store=store).run(stop, failure=errors.append)
        except BaseException as error:
            raised.append(error)
            raise

    thread = threading.Thread(target=role)
    thread.start()

    def check() -> None:
        assert not raised

    try:
        yield errors, check
    finally:
        stop.set()
        thread.join()


def test_the_service_follows_and_commits_when_it_is_stopped(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path
) -> None:
    history(source)
    path = tmp_path / "archive"
    Archive.create(LocalStore(path, create=True), "test", SHARDS)
    with running(configured(kafka_settings, path, segment_every_s=0.2)) as (errors, check):
        for resolved_at in (26_000, 31_000):
            source.swept(resolved_at, [change(k, resolved_at - 500) for k in range(4)])
            deadline = time.monotonic() + 30
            while spans(opened(path)) != [(10_100, resolved_at)]:
                check()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert errors == []
    assert archived(opened(path)) == source.said


def test_the_service_gets_over_a_store_that_fails_for_a_while(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdc.compactor import compactor as module
    from cdc.errors import StoreForbidden

    monkeypatch.setattr(module, "RETRY_S", 0.05)
    history(source)
    path = tmp_path / "archive"

    class Full(DyingStore):
        def put_if_absent(self, name: str, data: Data) -> bool:
            self.puts += 1
            if 4 <= self.puts < 8:
                raise StoreForbidden(f"{name}: No space left on device")
            return self._store.put_if_absent(name, data)

    full: Any = Full(LocalStore(path, create=True), 0, after=False)
    Archive.create(full, "test", SHARDS)
    with running(configured(kafka_settings, path), full) as (errors, check):
        deadline = time.monotonic() + 30
        while spans(opened(path)) != [(10_100, 21_000)]:
            check()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert {e.message.partition(": ")[2] for e in errors} == {"No space left on device"}
    assert archived(opened(path)) == source.said


def test_progress_of_another_run_is_not_needed_to_stop_in_time(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path
) -> None:
    history(source)
    settings = configured(kafka_settings, tmp_path / "archive")
    stats = Compactor(settings).run_once(until=dict.fromkeys(range(SHARDS), 1))
    assert stats.rows > 0
    assert replace(stats, lost=[]).lost == []
