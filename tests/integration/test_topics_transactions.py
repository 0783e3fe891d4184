"""What the topics promise about transactions, on a real broker."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import TypeVar

import numpy as np
import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from cdc.config import KafkaSettings
from cdc.embedded.kafka import EmbeddedKafka
from cdc.errors import BrokerUnreachable, Fenced, TopicMismatch
from cdc.model import I64, U8, Bodies
from cdc.topics import ChangeReader, Kind, Membership, Progress, ProgressReader, Publisher, Topics
from cdc.topics.client import producer_config
from cdc.topics.publisher import Transaction
from cdc.topics.readers import CALL

NOW = int(time.time() * 1000)
T = TypeVar("T")


def bodies(*parts: bytes) -> Bodies:
    offsets: I64 = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    return Bodies(np.frombuffer(b"".join(parts), np.uint8), offsets)


def digests(n: int) -> U8:
    return np.arange(n * 20, dtype=np.int64).astype(np.uint8).reshape(n, 20)


def progress(shard: int, sweep: int, offsets: tuple[int, int] = (0, 0)) -> Progress:
    return Progress(
        shard, 2, NOW, sweep, Kind.SWEEP, True, (), NOW, NOW, NOW - 1000, NOW - 10, NOW - 20, *offsets, 1, 0, 0
    )  # fmt: skip


def until(look: Callable[[], T], good: Callable[[T], bool], seconds: float = 20.0) -> T:
    deadline = time.monotonic() + seconds
    while not good(found := look()):
        assert time.monotonic() < deadline, f"still {found!r}"
    return found


def publish(publisher: Publisher, shard: int, sweep: int, *parts: bytes) -> tuple[int, int]:
    with publisher.transaction() as tx:
        tx.changes(shard, bodies(*parts), digests(len(parts)), NOW)
        offsets = tx.flush().get(shard, (0, 0))
        tx.progress(progress(shard, sweep, offsets))
    return offsets


def abandon(publisher: Publisher, shard: int, sweep: int, *parts: bytes) -> None:
    with publisher.transaction() as tx:
        tx.changes(shard, bodies(*parts), digests(len(parts)), NOW)
        tx.progress(progress(shard, sweep))
        tx.flush()
        raise ZeroDivisionError


def without_progress(publisher: Publisher, shard: int, *parts: bytes) -> None:
    with publisher.transaction() as tx:
        tx.changes(shard, bodies(*parts), digests(len(parts)), NOW)


def limit(settings: KafkaSettings, topic: str, size: int) -> None:
    """Lower the topic's max.message.bytes behind the product's back."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": settings.bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(10)


def committed(settings: KafkaSettings, topics: Topics, count: int, shard: int = 0, start: int = 0) -> list[bytes]:
    """The first `count` change bodies that a reader sees."""
    with ChangeReader(settings, topics, {shard: start}) as reader:
        found: list[bytes] = []

        def more() -> int:
            for chunk in reader.read(0.2):
                found.extend(chunk.bodies[i] for i in range(len(chunk)))
            return len(found)

        until(more, lambda n: n >= count)
        return found


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def member(stack: ExitStack, kafka_settings: KafkaSettings, topics: Topics) -> Membership:
    membership = stack.enter_context(Membership(kafka_settings, topics))
    assert membership.poll(20) == (0, 1)
    return membership


@pytest.fixture
def publisher(stack: ExitStack, kafka_settings: KafkaSettings, topics: Topics, member: Membership) -> Publisher:
    return stack.enter_context(Publisher(kafka_settings, topics, member, "one"))


def test_changes_come_back_in_order_with_offsets_and_timestamps(
    kafka_settings: KafkaSettings, topics: Topics, publisher: Publisher
) -> None:
    parts = [b"%d" % i * (i % 7) for i in range(1000)]
    assert publish(publisher, 1, 1, *parts) == (0, 1000)
    assert publish(publisher, 1, 2, b"more") == (1001, 1002)  # the marker of the first transaction has an offset too
    with ChangeReader(kafka_settings, topics, {0: 0, 1: 0}) as reader:
        chunks = until(lambda: reader.read(5, 2000), bool)
        assert {chunk.shard for chunk in chunks} == {1}
        (chunk,) = chunks
        assert [chunk.bodies[i] for i in range(1000)] == parts
        assert chunk.offsets[:1000].tolist() == list(range(1000))
        assert set(chunk.timestamps.tolist()) == {NOW}
        until(lambda: (reader.read(0.2), reader.positions)[1], lambda at: at[1] == 1002)


def test_offsets_are_kafkas_own_whatever_is_left_out_between_them(
    kafka_settings: KafkaSettings, topics: Topics, publisher: Publisher
) -> None:
    spans = []
    for number in range(5):
        with pytest.raises(ZeroDivisionError):
            abandon(publisher, 0, number, b"never", b"never")
        # Shorter each time, so that gaps stand at every place of what one call to the client brings.
        spans.append(publish(publisher, 0, 100 + number, *(b"%d" % i for i in range(CALL - number))))
    wanted = [offset for start, end in spans for offset in range(start, end)]
    with ChangeReader(kafka_settings, topics, {0: 0}) as reader:
        found: list[int] = []

        def more() -> int:
            for chunk in reader.read(0.2):
                assert len(chunk.offsets) == len(chunk.timestamps) == len(chunk.bodies)
                found.extend(chunk.offsets.tolist())
            return len(found)

        until(more, lambda n: n >= len(wanted))
    assert found == wanted
    assert wanted[-1] - wanted[0] > len(wanted)


def test_what_is_read_at_once_is_bounded_in_bytes_however_large_the_changes_are(
    kafka_settings: KafkaSettings, topics: Topics, publisher: Publisher
) -> None:
    size, most = 100_000, 1 << 20
    random = np.random.default_rng(1)
    parts = [random.bytes(size) for _ in range(40)]
    publish(publisher, 0, 1, *parts)
    with ChangeReader(kafka_settings, topics, {0: 0}) as reader:
        found: list[bytes] = []

        def more() -> int:
            chunks = reader.read(0.2, max_bytes=most)
            assert sum(len(body) for chunk in chunks for body in chunk.bodies) <= most + size
            found.extend(body for chunk in chunks for body in chunk.bodies)
            return len(found)

        until(more, lambda n: n >= len(parts))
    assert found == parts


def test_an_aborted_transaction_is_invisible_and_the_publisher_goes_on(
    kafka_settings: KafkaSettings, topics: Topics, publisher: Publisher
) -> None:
    with pytest.raises(ZeroDivisionError):
        abandon(publisher, 0, 1, b"never")
    publish(publisher, 0, 2, b"seen")
    assert committed(kafka_settings, topics, 1) == [b"seen"]
    with ProgressReader(kafka_settings, topics, {0: 0}) as reader:
        entries = until(lambda: reader.read(1), bool)
    assert [entry.progress.sweep for entry in entries] == [2]


def test_a_message_that_the_broker_refuses_undoes_the_transaction(
    kafka_settings: KafkaSettings, topics: Topics, publisher: Publisher
) -> None:
    limit(kafka_settings, topics.changes, 2_000_000)
    random = np.random.default_rng(1).bytes
    with pytest.raises(TopicMismatch, match="MSG_SIZE_TOO_LARGE"):
        publish(publisher, 0, 1, random(100_000), random(3_000_000), random(100_000))
    publish(publisher, 0, 2, b"seen")
    assert committed(kafka_settings, topics, 1) == [b"seen"]


def test_what_the_client_refuses_for_an_earlier_message_is_told_by_that_message_s_reason(
    kafka_settings: KafkaSettings, topics: Topics, publisher: Publisher
) -> None:
    limit(kafka_settings, topics.changes, 2_000_000)

    def one(tx: Transaction) -> bool:
        with suppress(BufferError):
            tx._producer.produce(topics.changes, b"next", partition=0)
        return False

    def late(step: Callable[[Transaction], None]) -> None:
        with publisher.transaction() as tx:
            tx.changes(0, bodies(np.random.default_rng(1).bytes(3_000_000)), digests(1), NOW)
            with pytest.raises(KafkaException, match="_STATE"):  # nobody polls, so the report waits
                until(lambda: one(tx), bool)
            step(tx)

    for step in (
        lambda tx: tx.changes(0, bodies(b"more"), digests(1), NOW),
        lambda tx: tx.progress(progress(0, 1)),
    ):
        with pytest.raises(TopicMismatch, match="MSG_SIZE_TOO_LARGE"):
            late(step)


def test_a_failed_message_keeps_the_transaction_from_committing_though_nobody_asked_for_its_report(
    kafka_settings: KafkaSettings, topics: Topics
) -> None:
    """What `Transaction.changes` relies on for the messages that it asks no report for."""
    limit(kafka_settings, topics.changes, 2_000_000)
    producer = Producer(producer_config(kafka_settings, topics.prefix))
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(topics.changes, b"small", partition=0)
    producer.produce(topics.changes, np.random.default_rng(1).bytes(3_000_000), partition=0)
    assert producer.flush(10) == 0
    with pytest.raises(KafkaException) as caught:
        producer.commit_transaction(10)
    assert caught.value.args[0].txn_requires_abort()
    producer.abort_transaction(10)


def test_a_transaction_with_changes_but_no_progress_is_refused(
    kafka_settings: KafkaSettings, topics: Topics, publisher: Publisher
) -> None:
    with pytest.raises(ValueError, match="progress"):
        without_progress(publisher, 0, b"never")
    publish(publisher, 0, 1, b"seen")
    assert committed(kafka_settings, topics, 1) == [b"seen"]


def test_a_worker_whose_shards_were_taken_over_is_fenced(
    stack: ExitStack, kafka_settings: KafkaSettings, topics: Topics
) -> None:
    hasty = kafka_settings.model_copy(update={"client": {"max.poll.interval.ms": 2000}})
    first = stack.enter_context(Membership(hasty, topics))
    assert first.poll(20) == (0, 1)
    old = stack.enter_context(Publisher(hasty, topics, first, "old"))
    publish(old, 0, 1, b"first")
    second = stack.enter_context(Membership(hasty, topics))

    def overtaken() -> None:
        with old.transaction() as tx:
            tx.changes(0, bodies(b"late"), digests(1), NOW)
            tx.progress(progress(0, 2, tx.flush()[0]))
            until(second.poll, lambda shards: shards == (0, 1))
            assert second.last(0) == progress(0, 1, (0, 1))
            new = stack.enter_context(Publisher(hasty, topics, second, "new"))
            publish(new, 0, 2, b"second")

    with pytest.raises(Fenced):
        overtaken()
    assert committed(kafka_settings, topics, 2) == [b"first", b"second"]
    until(lambda: (second.poll(), first.poll()), lambda both: sorted(both) == [(0,), (1,)])
    mine = first.assignment.shards[0]
    with pytest.raises(Fenced):
        publish(old, 1 - mine, 3, b"of another")
    publish(old, mine, 3, b"welcome back")


def test_the_last_progress_is_there_after_a_restart_behind_markers_and_aborted_transactions(
    stack: ExitStack, kafka_settings: KafkaSettings, topics: Topics
) -> None:
    with Membership(kafka_settings, topics) as member, Publisher(kafka_settings, topics, member, "one") as publisher:
        assert member.poll(20) == (0, 1)
        assert member.last(0) is None
        for sweep in range(1, 4):
            publish(publisher, 0, sweep)
        for _ in range(20):
            with pytest.raises(ZeroDivisionError):
                abandon(publisher, 0, 99)
    again = stack.enter_context(Membership(kafka_settings, topics))
    assert again.poll(20) == (0, 1)
    assert again.last(0) == progress(0, 3)
    assert again.last(1) is None


def test_the_last_progress_is_found_when_the_group_has_forgotten_its_offset(
    stack: ExitStack, kafka_settings: KafkaSettings, topics: Topics
) -> None:
    with Membership(kafka_settings, topics) as member, Publisher(kafka_settings, topics, member, "one") as publisher:
        assert member.poll(20) == (0, 1)
        publish(publisher, 0, 7)
        for _ in range(30):
            with pytest.raises(ZeroDivisionError):
                abandon(publisher, 0, 99)
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap})
    admin.delete_consumer_groups([topics.group])[topics.group].result(10)
    again = stack.enter_context(Membership(kafka_settings, topics))
    assert again.poll(20) == (0, 1)
    assert again.last(0) == progress(0, 7)
    assert again.last(1) is None


def test_who_asks_for_the_last_progress_is_told_soon_that_the_brokers_are_away(
    kafka: EmbeddedKafka, kafka_settings: KafkaSettings, topics: Topics
) -> None:
    """Only a transaction that is pending is worth a minute's patience."""
    with Membership(kafka_settings.model_copy(update={"timeout_s": 1.0}), topics) as member:
        assert member.poll(20) == (0, 1)
        kafka.stop()
        try:
            asked = time.monotonic()
            with pytest.raises(BrokerUnreachable):
                member.last(0)
            assert time.monotonic() - asked < 30
        finally:
            kafka.start()
