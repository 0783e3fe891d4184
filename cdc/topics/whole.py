"""Everything that a topic holds now, for topics that are small."""

from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka import KafkaError as Code

from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable
from cdc.topics.client import failure, mapped, passing, reader_config
from cdc.topics.names import Topics
from cdc.topics.offsets import list_offsets


def messages(settings: KafkaSettings, topics: Topics, topic: str, ends: Mapping[int, int]) -> Iterator[Message]:
    """The committed messages of a topic below the ends of its partitions, each partition's in order.

    Raises BrokerUnreachable, TopicMismatch.
    """
    starts = list_offsets(settings, topic, ends, earliest=True)
    waiting = {partition for partition, end in ends.items() if starts[partition] < end}
    if not waiting:
        return
    consumer = Consumer(reader_config(settings, f"{topics.group}.whole") | {"enable.partition.eof": True})
    try:
        with mapped(f"read {topic}"):
            consumer.assign([TopicPartition(topic, partition, starts[partition]) for partition in waiting])
            while waiting:
                message = consumer.poll(settings.timeout_s)
                if message is None:
                    raise BrokerUnreachable(f"{topic} was not read in time")
                error, partition, offset = message.error(), int(message.partition() or 0), int(message.offset() or 0)
                if error is not None and error.code() != Code._PARTITION_EOF:
                    if not passing(error):
                        raise failure(error, f"read {topic}")
                    continue
                if error is None and partition in waiting and offset < ends[partition]:
                    yield message
                if offset >= ends[partition] - 1:
                    waiting.discard(partition)
    finally:
        consumer.close()
