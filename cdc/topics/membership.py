"""Which shards this worker has: a consumer group over the progress topic, one member a worker.

The group protocol is eager on purpose. Every rebalance then revokes all shards and assigns anew, in this process's own
`poll()`, so that the shards and the generation that fences them are always taken together. With an incremental
protocol the generation moves on in the background while the application still holds the shards of the older one.
"""

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from confluent_kafka import OFFSET_END, OFFSET_INVALID, Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Code

from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable, Fenced
from cdc.topics.client import TRANSACTION_TIMEOUT_MS, failure, mapped, passing, reader_config
from cdc.topics.last import last_between, last_progress
from cdc.topics.names import Topics
from cdc.topics.offsets import list_offsets
from cdc.topics.progress import Progress


@dataclass(frozen=True, slots=True)
class Assignment:
    """Shards, and the group metadata of the generation in which they were assigned."""

    shards: tuple[int, ...]
    metadata: Any


class Membership:
    """A worker's membership. Call `poll()` often: at least every six session time-outs. Not to be shared by threads."""

    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings = settings
        self._topics = topics
        config = reader_config(settings, topics.group)
        config |= {"partition.assignment.strategy": "range", "auto.offset.reset": "latest"}
        self._assignment = Assignment((), None)
        self._last: dict[int, Progress | None] = {}
        with mapped("join the group of collectors"):
            self._consumer = Consumer(config)
            self._consumer.subscribe([topics.progress], self._assigned, self._revoked, self._revoked)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        self._assignment = Assignment((), None)
        self._consumer.close()

    def poll(self, timeout_s: float = 0.0) -> tuple[int, ...]:
        """Take part in the group's rebalances; the shards that are ours now, ascending.

        Waits up to `timeout_s` while there are none. A shard that went away and came back has a new `last()`.
        Raises TopicMismatch when the progress topic is missing.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            # Partitions are paused: what comes here is never a record of progress.
            left = max(0.0, deadline - time.monotonic())
            message = self._consumer.poll(0 if self._assignment.shards else min(0.05, left))
            error = message.error() if message is not None else None
            if error is not None and error.code() == Code._MAX_POLL_EXCEEDED:
                self._drop()
            elif error is not None and (error.fatal() or not passing(error)):
                raise failure(error, f"take part in {self._topics.group}")
            if self._assignment.shards or time.monotonic() >= deadline:
                return self._assignment.shards

    @property
    def assignment(self) -> Assignment:
        """The shards of the last `poll()` and the metadata that fences a transaction for them."""
        return self._assignment

    def last(self, shard: int) -> Progress | None:
        """The last committed progress of an assigned shard when it was assigned, or when `ask_again` was called since;
        None: there is none (any more).

        Whatever an earlier owner may still commit is either in it or will be refused: the group's offset, which a
        transaction commits along with its progress, is asked for first, and the group answers only when no
        transaction that could still change it is pending. Raises Fenced for a shard that is not ours,
        BrokerUnreachable.
        """
        if shard not in self._assignment.shards:
            raise Fenced(f"shard {shard} of {self._topics.namespace} is not assigned to this worker")
        if shard not in self._last:
            # All at once: a client of its own for each shard took a worker seconds.
            self._last |= self._read_last(self._assignment.shards)
        return self._last[shard]

    def ask_again(self) -> None:
        """Have `last` ask anew: after a commit of our own whose outcome is unknown."""
        self._last.clear()

    def _drop(self) -> None:
        self._assignment = Assignment((), None)
        self._last.clear()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Nothing is read through the group: `last()` has a consumer of its own.
        paused = [TopicPartition(tp.topic, tp.partition, OFFSET_END) for tp in partitions]
        consumer.assign(paused)
        consumer.pause(paused)
        self._last.clear()
        shards = tuple(sorted(tp.partition for tp in partitions))
        self._assignment = Assignment(shards, consumer.consumer_group_metadata())

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop()
        consumer.unassign()

    def _read_last(self, shards: tuple[int, ...]) -> dict[int, Progress | None]:
        committed = self._committed(shards)
        # The group forgets its offsets after a week without members.
        found = last_progress(self._settings, self._topics, [k for k in shards if k not in committed])
        # The group's offset is committed with the record before it: this very record is known to be committed, even
        # when an older transaction of a dead worker still hides it from readers of committed records.
        low = list_offsets(self._settings, self._topics.progress, committed, earliest=True)
        spans = {k: (after - 1, after) for k, after in committed.items() if after > low[k]}
        found |= last_between(self._settings, self._topics, spans, "read_uncommitted")
        return dict.fromkeys(shards) | found

    def _committed(self, shards: tuple[int, ...]) -> dict[int, int]:
        """The group's offsets, of those shards that it has one of."""
        deadline = time.monotonic() + TRANSACTION_TIMEOUT_MS / 1000 + self._settings.timeout_s
        asked = [TopicPartition(self._topics.progress, shard) for shard in shards]
        while True:
            try:
                with mapped("ask for the group's offsets"):
                    answers = self._consumer.committed(asked, self._settings.timeout_s)
                for answer in answers:
                    if answer.error is not None:
                        raise failure(answer.error, "ask for the group's offsets")
                return {int(a.partition): int(a.offset) for a in answers if a.offset != OFFSET_INVALID}
            except BrokerUnreachable:
                # A pending transaction is waited for, brokers that are away are not: that would keep from telling it.
                if time.monotonic() > deadline or not self._answering():
                    raise

    def _answering(self) -> bool:
        try:
            self._consumer.list_topics(self._topics.progress, self._settings.timeout_s)
        except KafkaException:
            return False
        return True
