"""The last record of progress of each shard, found from the end of its partition, for all shards in one go."""

import time
from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import KafkaError as Code

from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable
from cdc.topics.client import failure, mapped, passing, reader_config
from cdc.topics.names import Topics
from cdc.topics.offsets import list_offsets
from cdc.topics.progress import Progress

FIRST_STEP = 16


def last_progress(settings: KafkaSettings, topics: Topics, shards: Iterable[int]) -> dict[int, Progress | None]:
    """Each shard's last committed progress; None when there is none. Raises BrokerUnreachable, TopicMismatch."""
    found: dict[int, Progress | None] = dict.fromkeys(shards)
    low = list_offsets(settings, topics.progress, found, earliest=True)
    end = list_offsets(settings, topics.progress, found)
    # The last record is followed by markers of transactions, each of which has an offset too.
    step = FIRST_STEP
    while spans := {k: (max(low[k], end[k] - step), end[k]) for k in end if end[k] > low[k]}:
        here = last_between(settings, topics, spans, "read_committed")
        found |= here
        end = {k: end[k] for k, (start, _) in spans.items() if here[k] is None and start > low[k]}
        step *= 8
    return found


def last_between(
    settings: KafkaSettings, topics: Topics, spans: Mapping[int, tuple[int, int]], isolation: str
) -> dict[int, Progress | None]:
    """Of each shard the last progress at an offset in its span [start, end).

    Raises BrokerUnreachable, TopicMismatch, BodyDamaged.
    """
    found: dict[int, Progress | None] = dict.fromkeys(spans)
    if not spans:
        return found
    config = reader_config(settings, f"{topics.group}.last")
    config |= {"isolation.level": isolation, "enable.partition.eof": True}
    consumer = Consumer(config)
    deadline = time.monotonic() + settings.timeout_s
    unfinished = set(spans)
    try:
        with mapped(f"read {topics.progress}"):
            consumer.assign([TopicPartition(topics.progress, shard, start) for shard, (start, _) in spans.items()])
            while unfinished and time.monotonic() < deadline:
                message = consumer.poll(0.2)
                if message is None:
                    continue
                error = message.error()
                shard, offset = int(message.partition() or 0), int(message.offset() or 0)
                if error is not None and error.code() == Code._PARTITION_EOF:
                    unfinished.discard(shard)
                elif error is not None and not passing(error):
                    raise failure(error, f"read {topics.progress}")
                elif error is None:
                    end = spans[shard][1]
                    if offset < end:
                        where = f"{topics.progress}, partition {shard}, offset {offset}"
                        found[shard] = Progress.decode(message.value() or b"", where)
                    if offset >= end - 1:
                        unfinished.discard(shard)
    finally:
        consumer.close()
    if unfinished:
        raise BrokerUnreachable(f"{topics.progress}, partitions {sorted(unfinished)} were not read in time")
    return found
