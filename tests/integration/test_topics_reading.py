"""What the topics promise to readers and about their settings, on a real broker."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from cdc.codec.framing import head
from cdc.config import KafkaSettings
from cdc.embedded.kafka import EmbeddedKafka, free_ports
from cdc.errors import BodyDamaged, BrokerUnreachable, Fenced, OffsetsLost, TopicMismatch
from cdc.model import Item, ItemKind
from cdc.topics import (
    ChangeReader,
    Kept,
    Membership,
    Metadata,
    Progress,
    ProgressReader,
    Publisher,
    Topics,
    kept_metadata,
    lag,
)
from tests.integration.test_topics_transactions import bodies, committed, digests, progress, publish, until


def test_a_change_of_eight_mebibytes_passes(kafka_settings: KafkaSettings, topics: Topics) -> None:
    large = np.random.default_rng(1).bytes(8 << 20)
    with Membership(kafka_settings, topics) as member, Publisher(kafka_settings, topics, member, "one") as publisher:
        assert member.poll(20)
        publish(publisher, 0, 1, b"before", large, b"after")
    assert committed(kafka_settings, topics, 3) == [b"before", large, b"after"]


def test_aside_and_metadata_travel_with_the_transaction(kafka_settings: KafkaSettings, topics: Topics) -> None:
    with Membership(kafka_settings, topics) as member, Publisher(kafka_settings, topics, member, "one") as publisher:
        assert member.poll(20)
        now = int(time.time() * 1000)
        with publisher.transaction() as tx:
            tx.aside(1, b"d" * 20, b"raw", "no such type", now)
            tx.metadata(said("a", now), now)
            tx.progress(progress(1, 1))
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap})
    assert admin.list_topics(timeout=10).topics[topics.metadata].partitions.keys() == {0}
    assert kept_metadata(kafka_settings, topics) == Kept((said("a", now),), (), whole=True, told=(said("a", now),))
    assert lag(kafka_settings, topics, {0: 0, 1: 0}) == {0: 0, 1: 0}
    with ProgressReader(kafka_settings, topics, {1: 0}) as reader:
        assert [entry.progress for entry in until(lambda: reader.read(1), bool)] == [progress(1, 1)]


def said(name: str, at: int, removed: bool = False) -> Metadata:
    item = Item(ItemKind.UDF, name, {"hash": "1", "type": "LUA"}, b"-- \xff\n")
    return Metadata("test", item, removed, at, 0, at - 1, (ItemKind.SET, ItemKind.UDF))


def test_the_last_record_of_every_item_is_kept_and_what_is_none_is_named(
    kafka_settings: KafkaSettings, topics: Topics
) -> None:
    assert kept_metadata(kafka_settings, topics) == Kept((), (), whole=True)
    now = int(time.time() * 1000)
    stranger = Producer({"bootstrap.servers": kafka_settings.bootstrap})
    stranger.produce(topics.metadata, b"not Avro", b"UDF/c")
    assert stranger.flush(10) == 0
    with Membership(kafka_settings, topics) as member, Publisher(kafka_settings, topics, member, "one") as publisher:
        assert member.poll(20)
        for record in (said("b", now), said("a", now), said("b", now + 1, removed=True)):
            with publisher.transaction() as tx:
                tx.metadata(record, now)
                tx.progress(progress(0, 1))
        with publisher.transaction() as tx:
            tx.metadata(said("d", now), now)
            tx.flush()
            # An open transaction hides what may stand behind it.
            assert not kept_metadata(kafka_settings, topics).whole
            tx.progress(progress(0, 1))
    found = kept_metadata(kafka_settings, topics)
    assert found.whole
    assert found.records == (said("a", now), said("b", now + 1, removed=True), said("d", now))
    assert [f"{topics.metadata}, offset 0" in text for text in found.damaged] == [True]
    assert found.unread == {ItemKind.UDF}


def test_a_reader_that_starts_before_what_retention_left_says_so(kafka_settings: KafkaSettings, topics: Topics) -> None:
    with Membership(kafka_settings, topics) as member, Publisher(kafka_settings, topics, member, "one") as publisher:
        assert member.poll(20)
        publish(publisher, 0, 1, b"a", b"b", b"c")
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap})
    for future in admin.delete_records([TopicPartition(topics.changes, 0, 2)]).values():
        future.result(10)
    with (
        ChangeReader(kafka_settings, topics, {0: 1}) as reader,
        pytest.raises(OffsetsLost, match="partition 0: offset 1"),
    ):
        until(lambda: reader.read(1), bool)
    assert committed(kafka_settings, topics, 1, start=2) == [b"c"]


def test_a_message_of_another_schema_is_named_by_topic_partition_and_offset(
    kafka_settings: KafkaSettings, topics: Topics
) -> None:
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap})
    producer.produce(topics.changes, b"\xc3\x01" + bytes(8) + b"?", partition=1)
    assert producer.flush(10) == 0
    with ChangeReader(kafka_settings, topics, {1: 0}) as reader:
        with pytest.raises(BodyDamaged, match=r"changes, partition 1, offset 0 begins with c3010000"):
            until(lambda: reader.read(1), bool)
        assert reader.positions == {1: 0}


def test_a_tombstone_among_changes_is_no_change(kafka_settings: KafkaSettings, topics: Topics) -> None:
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap})
    producer.produce(topics.changes, head("change") + b"?", partition=1)
    producer.produce(topics.changes, None, b"d" * 20, partition=1)
    assert producer.flush(10) == 0
    with (
        ChangeReader(kafka_settings, topics, {1: 0}) as reader,
        pytest.raises(BodyDamaged, match=r"changes, partition 1, offset 1 begins with nothing"),
    ):
        until(lambda: bool(reader.read(1)) and reader.read(1), bool)


def test_progress_is_the_same_after_encoding_and_decoding() -> None:
    one = dataclasses.replace(progress(3, 1 << 40), partitions=(1, 4095), complete=False)
    assert Progress.decode(one.encode()) == one
    with pytest.raises(BodyDamaged):
        Progress.decode(one.encode()[:-1])
    with pytest.raises(BodyDamaged):
        Progress.decode(one.encode() + b"\0")


def test_topics_that_exist_with_other_settings_are_refused(kafka_settings: KafkaSettings, topics: Topics) -> None:
    topics.ensure(kafka_settings, 2)
    with pytest.raises(TopicMismatch, match="has 2 partitions, not 4") as caught:
        topics.ensure(kafka_settings, 4)
    assert "collector.shards" in caught.value.hint
    with pytest.raises(TopicMismatch, match="messages up to"):
        topics.ensure(kafka_settings.model_copy(update={"max_message_bytes": 10 << 20}), 2)
    other = Topics(kafka_settings.prefix, "other")
    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap})
    limits = {"max.message.bytes": str(kafka_settings.max_message_bytes), "cleanup.policy": "compact"}
    admin.create_topics([NewTopic(other.changes, 2, 1, config=limits)])[other.changes].result(10)
    with pytest.raises(TopicMismatch, match=r"cleanup\.policy=compact, not delete"):
        other.ensure(kafka_settings, 2)


def test_no_broker_is_an_error_of_ours() -> None:
    nowhere = KafkaSettings(bootstrap=f"127.0.0.1:{free_ports(1)[0]}", timeout_s=1.0)
    names = Topics("t", "test")
    with pytest.raises(BrokerUnreachable):
        names.ensure(nowhere, 1)
    with ChangeReader(nowhere, names, {0: 0}) as reader, pytest.raises(BrokerUnreachable):
        reader.read(1.0)


def test_a_broker_that_stops_is_reported_and_everything_goes_on_when_it_is_back() -> None:
    """With a broker of its own: others' clients should not see it stop."""
    with EmbeddedKafka() as kafka:
        settings = KafkaSettings(bootstrap=kafka.bootstrap, session_timeout_s=1.5, timeout_s=2.0)
        topics = Topics("t", "test")
        topics.ensure(settings, 1)
        patient = KafkaSettings(bootstrap=kafka.bootstrap)
        with Membership(patient, topics) as first, Publisher(patient, topics, first, "first"):
            pass  # a new broker takes its time to set up its coordinators, on a busy machine more than two seconds
        with (
            Membership(settings, topics) as member,
            Publisher(settings, topics, member, "one") as publisher,
            ChangeReader(settings, topics, {0: 0}) as reader,
        ):
            assert member.poll(20) == (0,)
            publish(publisher, 0, 1, b"before")
            assert until(lambda: reader.read(1), bool)[0].bodies[0] == b"before"
            killed_at = []

            def cut_short() -> None:
                with publisher.transaction() as tx:
                    tx.changes(0, bodies(b"lost"), digests(1), round(time.time() * 1000))
                    tx.progress(progress(0, 2))
                    tx.flush()
                    kafka.stop(kill=True)
                    killed_at.append(time.monotonic())

            with pytest.raises(BrokerUnreachable):
                cut_short()
            assert time.monotonic() - killed_at[0] < 30  # by itself librdkafka waits a minute or for ever
            with pytest.raises(BrokerUnreachable):
                publish(publisher, 0, 2, b"lost")
            with pytest.raises(BrokerUnreachable):
                reader.read(1.0)
            starter = threading.Thread(target=kafka.start)
            starter.start()

            def again() -> bool:
                try:
                    if not member.poll(0.2):
                        return False
                    publish(publisher, 0, 2, b"after")
                except (BrokerUnreachable, Fenced):
                    return False
                return True

            until(again, bool, 60)
            starter.join()
            found: list[bytes] = []

            def read() -> list[bytes]:
                try:
                    chunks = reader.read(0.5)
                except BrokerUnreachable:
                    return found
                found.extend(chunk.bodies[i] for chunk in chunks for i in range(len(chunk)))
                return found

            until(read, bool)
            assert found == [b"after"]


def test_bodies_and_digests_must_be_as_many(kafka_settings: KafkaSettings, topics: Topics) -> None:
    with Membership(kafka_settings, topics) as member, Publisher(kafka_settings, topics, member, "one") as publisher:
        assert member.poll(20)

        def uneven() -> None:
            with publisher.transaction() as tx:
                tx.changes(0, bodies(b"a", b"b"), digests(1), 0)

        with pytest.raises(ValueError, match="2 bodies but 1 digests"):
            uneven()
