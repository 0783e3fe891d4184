"""The one place that knows librdkafka's settings and error codes.

`mapped` turns Kafka's errors into ours; a code that is not named here stays a KafkaError with Kafka's own words.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable, Fenced, KafkaError, OffsetsLost, TopicMismatch

FENCED = frozenset({
    Code._FENCED, Code.PRODUCER_FENCED, Code.INVALID_PRODUCER_EPOCH, Code.FENCED_INSTANCE_ID, Code.UNKNOWN_MEMBER_ID,
    Code.ILLEGAL_GENERATION, Code.REBALANCE_IN_PROGRESS, Code._ASSIGNMENT_LOST, Code._MAX_POLL_EXCEEDED,
    Code.INVALID_PRODUCER_ID_MAPPING, Code.TRANSACTION_COORDINATOR_FENCED,
})  # fmt: skip
UNREACHABLE = frozenset({
    Code._ALL_BROKERS_DOWN, Code._TRANSPORT, Code._TIMED_OUT, Code._MSG_TIMED_OUT, Code._RESOLVE, Code._TIMED_OUT_QUEUE,
    Code._WAIT_COORD, Code._WAIT_CACHE, Code.REQUEST_TIMED_OUT, Code.COORDINATOR_NOT_AVAILABLE, Code.NOT_COORDINATOR,
    Code.COORDINATOR_LOAD_IN_PROGRESS, Code.BROKER_NOT_AVAILABLE, Code.LEADER_NOT_AVAILABLE, Code.NETWORK_EXCEPTION,
    Code.NOT_LEADER_FOR_PARTITION, Code.NOT_ENOUGH_REPLICAS, Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    Code.KAFKA_STORAGE_ERROR, Code.UNSTABLE_OFFSET_COMMIT, Code.UNKNOWN_LEADER_EPOCH, Code.FENCED_LEADER_EPOCH,
    Code.OFFSET_NOT_AVAILABLE, Code.REPLICA_NOT_AVAILABLE, Code.CONCURRENT_TRANSACTIONS,
})  # fmt: skip
LOST = frozenset({Code._AUTO_OFFSET_RESET, Code.OFFSET_OUT_OF_RANGE})
MISSING = frozenset({Code._UNKNOWN_TOPIC, Code._UNKNOWN_PARTITION, Code.UNKNOWN_TOPIC_OR_PART})
TOO_LARGE = frozenset({Code.MSG_SIZE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE})

POLL_PATIENCE = 6
"""A member of a group that does not poll for this many session time-outs is given up."""


def failure(error: Code, doing: str) -> KafkaError:
    """Our error for one of Kafka's, met while `doing` something."""
    code, text = error.code(), f"{doing}: {error.str()} ({error.name()})"
    if code in FENCED:
        return Fenced(text)
    if code in UNREACHABLE:
        return BrokerUnreachable(text)
    if code in LOST:
        return OffsetsLost(text)
    if code in MISSING:
        return TopicMismatch(text, "The topic is gone or has fewer partitions; a collector creates it.")
    if code in TOO_LARGE:
        return TopicMismatch(text, "Raise kafka.max_message_bytes and the topic's max.message.bytes.")
    if error.retriable():
        return BrokerUnreachable(text)
    return KafkaError(text)


def passing(error: Code) -> bool:
    """Whether the client goes on by itself after this error."""
    return isinstance(failure(error, ""), BrokerUnreachable)


_asking: dict[int, float] = {}
"""Since when each thread that is in a `mapped` block has been in it."""


def asking_s(thread: int) -> float:
    """For how long a thread (its ident) has been asking something of Kafka, in seconds; 0: it is not."""
    now = time.monotonic()
    return now - _asking.get(thread, now)


@contextmanager
def mapped(doing: str) -> Iterator[None]:
    """Raise our errors for Kafka's in the block, and for an admin client's future that is waited for in vain."""
    thread = threading.get_ident()
    outermost = thread not in _asking
    _asking.setdefault(thread, time.monotonic())
    try:
        yield
    except KafkaException as error:
        raise failure(error.args[0], doing) from error
    except TimeoutError as error:
        raise BrokerUnreachable(f"{doing}: no answer in time") from error
    except BufferError as error:
        raise BrokerUnreachable(f"{doing}: the queue stays full") from error
    finally:
        if outermost:
            _asking.pop(thread, None)


def common(settings: KafkaSettings) -> dict[str, Any]:
    """What every client is configured with."""
    return {
        "bootstrap.servers": settings.bootstrap,
        "log_level": 0,
        "reconnect.backoff.max.ms": 1000,
        # A producer, and whoever asks as an administrator, would otherwise make a topic by asking for it.
        "allow.auto.create.topics": False,
    }


def own(settings: KafkaSettings) -> dict[str, Any]:
    """What the user says of the client, which goes before what we say."""
    return {**settings.client, **{key: secret.get_secret_value() for key, secret in settings.client_secrets.items()}}


def producer_config(settings: KafkaSettings, transactional_id: str) -> dict[str, Any]:
    """A transactional producer."""
    return {
        **common(settings),
        "transactional.id": transactional_id,
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "message.max.bytes": settings.max_message_bytes,
        "compression.type": settings.compression,
        "linger.ms": 5,
        "batch.size": 1 << 20,
        "batch.num.messages": 10_000,
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 128 << 10,
        **own(settings),
    }


def reader_config(settings: KafkaSettings, group: str) -> dict[str, Any]:
    """A consumer of assigned partitions that commits nothing and never jumps over a gap."""
    session_ms = int(settings.session_timeout_s * 1000)
    return {
        **common(settings),
        "group.id": group,
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": max(100, session_ms // 5),
        "max.poll.interval.ms": POLL_PATIENCE * session_ms,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.partition.eof": False,
        "fetch.wait.max.ms": 100,
        "fetch.min.bytes": 1,
        # These count what is compressed, but memory holds it unpacked, with half a kilobyte for each message. A larger
        # message comes all the same: the first batch of an answer is always whole (KIP-74).
        "fetch.max.bytes": 4 << 20,
        "fetch.message.max.bytes": 1 << 20,
        "receive.message.max.bytes": max(64 << 20, 2 * settings.max_message_bytes),
        "queued.max.messages.kbytes": 16 << 10,
        "queued.min.messages": 10_000,
        "fetch.queue.backoff.ms": 20,  # by default a full queue stops fetching for a whole second
        "check.crcs": True,
        **own(settings),
    }


TRANSACTION_TIMEOUT_MS = 60_000
"""After which the broker undoes the transaction of a worker that is gone; readers wait for it so long."""
