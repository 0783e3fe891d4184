"""Where partitions begin and end, and how far behind a reader is."""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable
from cdc.topics.client import common, failure, mapped, own
from cdc.topics.names import Topics


def list_offsets(
    settings: KafkaSettings, topic: str, shards: Iterable[int], *, earliest: bool = False, committed: bool = True
) -> dict[int, int]:
    """The offset after the last record of each shard's partition (of its first, if `earliest`).

    `committed` stops at the first transaction that is still open. Raises BrokerUnreachable, TopicMismatch.
    """
    asked = tuple(shards)
    if not asked:
        return {}
    with mapped(f"ask for the offsets of {topic}"):
        admin = _admin(settings, topic)
        return _listed(admin, settings, (topic,), asked, earliest, committed)[topic]


@dataclass(frozen=True, slots=True)
class Standing:
    """How topics stood: their ids, and of each topic, by shard, the first offset that it has, the one after its last,
    and the one after what a reader of committed records can see."""

    ids: dict[str, str]
    first: dict[str, dict[int, int]]
    end: dict[str, dict[int, int]]
    committed: dict[str, dict[int, int]]


def standing(settings: KafkaSettings, topics: Sequence[str], shards: Iterable[int]) -> Standing:
    """How some topics stand, asked by one connection. Raises BrokerUnreachable, TopicMismatch."""
    with mapped(f"ask for the offsets of {', '.join(topics)}"):
        admin = _admin(settings, topics[0])
        ids = _ids(admin, settings, topics)
        questions = (True, True), (False, False), (False, True)
        # One after the other: while the answer to one is taken in, asking another crashes the official client (2.16.1).
        first, end, seen = (_listed(admin, settings, topics, tuple(shards), *question) for question in questions)
        return Standing(ids, first, end, seen)


def _listed(
    admin: AdminClient,
    settings: KafkaSettings,
    topics: Sequence[str],
    shards: Sequence[int],
    earliest: bool,
    committed: bool,
) -> dict[str, dict[int, int]]:
    """Per topic the offset of each shard's partition."""
    spec = OffsetSpec.earliest() if earliest else OffsetSpec.latest()  # type: ignore[no-untyped-call]
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    request = {TopicPartition(topic, shard): spec for topic in topics for shard in shards}
    deadline = time.monotonic() + settings.timeout_s
    while True:
        answers = admin.list_offsets(request, isolation_level=level, request_timeout=settings.timeout_s)
        wait(answers.values(), settings.timeout_s)
        try:
            found: dict[str, dict[int, int]] = {topic: {} for topic in topics}
            for at, future in answers.items():
                found[at.topic][at.partition] = int(future.result(settings.timeout_s).offset)
            return found
        except KafkaException as error:
            # A topic just created has no leader for a moment.
            passing = isinstance(failure(error.args[0], ""), BrokerUnreachable)
            if not passing or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def topic_ids(settings: KafkaSettings, names: Iterable[str]) -> dict[str, str]:
    """The id that the brokers gave each topic when it was made: one made anew has another (KIP-516).

    Raises BrokerUnreachable, TopicMismatch.
    """
    wanted = list(names)
    with mapped(f"ask for the ids of {', '.join(wanted)}"):
        return _ids(_admin(settings, wanted[0]), settings, wanted)


def _ids(admin: AdminClient, settings: KafkaSettings, names: Sequence[str]) -> dict[str, str]:
    answers = admin.describe_topics(TopicCollection(list(names)), request_timeout=settings.timeout_s)
    return {name: str(future.result(settings.timeout_s).topic_id) for name, future in answers.items()}


def _admin(settings: KafkaSettings, topic: str) -> AdminClient:
    """A client that is connected: librdkafka leaves one request in twenty of one that is not yet, measured on an idle
    broker, waiting for its next second or its third."""
    admin = AdminClient({**common(settings), **own(settings)})
    admin.list_topics(topic, timeout=settings.timeout_s)
    return admin


def end_offsets(settings: KafkaSettings, topic: str, shards: Iterable[int]) -> dict[int, int]:
    """Per shard the offset after everything that a reader of committed records can see now."""
    return list_offsets(settings, topic, shards)


def lag(settings: KafkaSettings, topics: Topics, positions: Mapping[int, int]) -> dict[int, int]:
    """Per shard how many offsets of the changes topic lie between a reader's position and the committed end.

    Offsets also number transaction markers, so that this is a little more than the number of changes.
    """
    ends = end_offsets(settings, topics.changes, positions)
    return {shard: max(0, ends[shard] - position) for shard, position in positions.items()}
