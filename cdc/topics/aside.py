"""The records that could not be encoded and were kept aside, as they came."""

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import Message

from cdc.config import KafkaSettings
from cdc.topics.names import Topics
from cdc.topics.offsets import end_offsets
from cdc.topics.whole import messages


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
    return [
        _aside(int(message.partition() or 0), message) for message in messages(settings, topics, topics.aside, ends)
    ]


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
