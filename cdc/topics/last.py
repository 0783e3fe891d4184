"""The last record of progress of a shard, found from the end of its partition."""

import time

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import KafkaError as Code

from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable
from cdc.topics.client import failure, mapped, passing, reader_config
from cdc.topics.names import Topics
from cdc.topics.offsets import list_offsets
from cdc.topics.progress import Progress

FIRST_STEP = 16


def last_progress(settings: KafkaSettings, topics: Topics, shard: int) -> Progress | None:
    """The shard's last committed progress; None when there is none. Raises BrokerUnreachable, TopicMismatch."""
    low = list_offsets(settings, topics.progress, [shard], earliest=True)[shard]
    end = list_offsets(settings, topics.progress, [shard])[shard]
    # The last record is followed by markers of transactions, each of which has an offset too.
    step = FIRST_STEP
    while end > low:
        start = max(low, end - step)
        found = last_between(settings, topics, shard, start, end, "read_committed")
        if found is not None or start == low:
            return found
        step *= 8
    return None


def last_between(
    settings: KafkaSettings, topics: Topics, shard: int, start: int, end: int, isolation: str
) -> Progress | None:
    """The last progress at an offset in [start, end). Raises BrokerUnreachable, TopicMismatch, BodyDamaged."""
    config = reader_config(settings, f"{topics.group}.last")
    config |= {"isolation.level": isolation, "enable.partition.eof": True}
    consumer = Consumer(config)
    deadline = time.monotonic() + settings.timeout_s
    found: Progress | None = None
    try:
        with mapped(f"read {topics.progress}"):
            consumer.assign([TopicPartition(topics.progress, shard, start)])
            while time.monotonic() < deadline:
                message = consumer.poll(0.2)
                if message is None:
                    continue
                error = message.error()
                if error is not None and error.code() == Code._PARTITION_EOF:
                    return found
                if error is not None and not passing(error):
                    raise failure(error, f"read {topics.progress}")
                if error is None:
                    offset = int(message.offset() or 0)
                    where = f"{topics.progress}, partition {shard}, offset {offset}"
                    if offset < end:
                        found = Progress.decode(message.value() or b"", where)
                    if offset >= end - 1:
                        return found
    finally:
        consumer.close()
    raise BrokerUnreachable(f"{topics.progress}, partition {shard} was not read in time")
