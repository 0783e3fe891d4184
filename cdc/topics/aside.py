"""The records that could not be encoded and were kept aside, as they came."""

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka import KafkaError as Code

from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable
from cdc.topics.client import failure, mapped, passing, reader_config
from cdc.topics.names import Topics
from cdc.topics.offsets import end_offsets, list_offsets


@dataclass(frozen=True, slots=True)
class Aside:
    """A record kept aside: its digest, why, when (ms), and its message as the server sent it."""

    shard: int
    digest: bytes
    reason: str
    observed_at: int
    message: bytes


def kept_aside(settings: KafkaSettings, topics: Topics, shards: Iterable[int]) -> list[Aside]:
    """Everything in the aside topic now. Raises BrokerUnreachable, TopicMismatch."""
    ends = end_offsets(settings, topics.aside, shards)
    starts = list_offsets(settings, topics.aside, ends, earliest=True)
    waiting = {shard for shard, end in ends.items() if starts[shard] < end}
    if not waiting:
        return []
    found: list[Aside] = []
    consumer = Consumer(reader_config(settings, f"{topics.group}.aside") | {"enable.partition.eof": True})
    try:
        with mapped(f"read {topics.aside}"):
            consumer.assign([TopicPartition(topics.aside, shard, starts[shard]) for shard in waiting])
            while waiting:
                message = consumer.poll(settings.timeout_s)
                if message is None:
                    raise BrokerUnreachable(f"{topics.aside} was not read in time")
                error, shard = message.error(), int(message.partition() or 0)
                if error is None:
                    found.append(_aside(shard, message))
                elif error.code() == Code._PARTITION_EOF:
                    waiting.discard(shard)
                elif not passing(error):
                    raise failure(error, f"read {topics.aside}")
    finally:
        consumer.close()
    return found


def _aside(shard: int, message: Message) -> Aside:
    headers = dict(message.headers() or {})
    reason, key, value = headers.get("reason"), message.key(), message.value()
    return Aside(
        shard,
        key if isinstance(key, bytes) else b"",
        reason.decode(errors="replace") if isinstance(reason, bytes) else "",
        int(message.timestamp()[1]),
        value if isinstance(value, bytes) else b"",
    )
