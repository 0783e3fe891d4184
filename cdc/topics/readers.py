"""Reading committed changes and progress from given offsets on, in order, without ever jumping over a gap."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka import KafkaError as Code

from cdc.codec import framing
from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable, OffsetsLost
from cdc.model import I64, Bodies
from cdc.topics.client import LOST, failure, mapped, reader_config
from cdc.topics.names import Topics
from cdc.topics.progress import Progress

BATCH = 10_000
MAX_BYTES = 16 << 20
CALL = 1_000
"""Messages of one call to the client: its queue is bounded in bytes, what it hands over is not."""
ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive committed changes of one shard: their Kafka offsets and timestamps, and their bodies, unframed."""

    shard: int
    offsets: I64
    timestamps: I64
    bodies: Bodies

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True)
class ProgressEntry:
    """A committed progress record and where it stands."""

    shard: int
    offset: int
    progress: Progress


class _Reader:
    """Manual assignment, read_committed, from given offsets."""

    def __init__(self, settings: KafkaSettings, topics: Topics, topic: str, positions: Mapping[int, int]) -> None:
        self._settings = settings
        self._topic = topic
        self._positions = dict(positions)
        self._trouble: list[Code] = []
        self._ends: dict[int, int] = {}
        config = reader_config(settings, f"{topics.prefix}.{topics.namespace}.readers")
        config |= {"enable.partition.eof": True, "error_cb": self._troubled}
        with mapped(f"read {topic}"):
            self._consumer = Consumer(config)
            self._consumer.assign([TopicPartition(topic, shard, at) for shard, at in self._positions.items()])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def positions(self) -> dict[int, int]:
        """Per shard the offset after the last record that was returned."""
        return dict(self._positions)

    @property
    def ends(self) -> dict[int, int]:
        """Per shard the last end that was reached: everything committed below it has been returned, and transaction
        markers count in it. A shard whose end was never reached is not in it."""
        return dict(self._ends)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _messages(self, timeout_s: float, max_records: int, max_bytes: int = MAX_BYTES) -> list[Message]:
        """Up to `max_records` messages, waiting up to `timeout_s` for the first; no more after `max_bytes` of them."""
        deadline = time.monotonic() + timeout_s
        good: list[Message] = []
        size = 0
        while len(good) < max_records and size < max_bytes:
            wait = 0.0 if good else max(0.0, deadline - time.monotonic())
            with mapped(f"read {self._topic}"):
                batch = self._consumer.consume(min(CALL, max_records - len(good)), min(wait, 0.1))
            for message in batch:
                error = message.error()
                if error is None:
                    good.append(message)
                    size += len(message.value() or b"")
                elif error.code() == Code._PARTITION_EOF:
                    self._ends[int(message.partition() or 0)] = int(message.offset() or 0)
                elif error.code() in LOST:
                    raise self._lost(message)
                else:
                    problem = failure(error, f"read {self._topic}")
                    if not isinstance(problem, BrokerUnreachable):
                        raise problem
                    self._trouble.append(error)
            if not batch and (good or time.monotonic() >= deadline):
                break
        if good:
            self._trouble.clear()
        elif self._trouble:
            self._ask()
        return good

    def _troubled(self, error: Code) -> None:
        self._trouble.append(error)

    def _ask(self) -> None:
        """After trouble and silence: BrokerUnreachable, unless a broker answers now."""
        with mapped(f"read {self._topic}"):
            self._consumer.list_topics(self._topic, timeout=ANSWER_S)
        self._trouble.clear()

    def _lost(self, message: Message) -> OffsetsLost:
        shard = int(message.partition() or 0)
        return OffsetsLost(
            f"{self._topic}, partition {shard}: offset {self._positions.get(shard)} is not there (any more)"
        )


class ChangeReader(_Reader):
    """Committed changes from `positions` (shard to offset) on."""

    def __init__(self, settings: KafkaSettings, topics: Topics, positions: Mapping[int, int]) -> None:
        super().__init__(settings, topics, topics.changes, positions)

    def read(self, timeout_s: float, max_records: int = BATCH, max_bytes: int = MAX_BYTES) -> list[Chunk]:
        """What has come: at most one chunk a shard, none when nothing came in time.

        Reading ends once `max_bytes` have come, with what one call to the client brings beyond them.

        Raises OffsetsLost when the position was removed by retention, BodyDamaged for a message that is not a change
        of this schema, BrokerUnreachable when no broker answered; call again and it goes on.
        """
        by_shard: dict[int, list[Message]] = {}
        for message in self._messages(timeout_s, max_records, max_bytes):
            by_shard.setdefault(message.partition(), []).append(message)  # type: ignore[arg-type]
        return [self._chunk(shard, messages) for shard, messages in by_shard.items()]

    def _chunk(self, shard: int, messages: list[Message]) -> Chunk:
        values = [message.value() or b"" for message in messages]
        offsets = np.fromiter((message.offset() for message in messages), np.int64, len(messages))
        timestamps = np.fromiter((message.timestamp()[1] for message in messages), np.int64, len(messages))
        ends = np.zeros(len(values) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=ends[1:])
        framed = Bodies(np.frombuffer(b"".join(values), np.uint8), ends)
        where = f"{self._topic}, partition {shard}, offset "
        bodies = framing.unframe(framed, "change", lambda row: where + str(offsets[row]))
        self._positions[shard] = int(offsets[-1]) + 1
        return Chunk(shard, offsets, timestamps, bodies)


class ProgressReader(_Reader):
    """Committed progress from `positions` (shard to offset) on."""

    def __init__(self, settings: KafkaSettings, topics: Topics, positions: Mapping[int, int]) -> None:
        super().__init__(settings, topics, topics.progress, positions)

    def read(self, timeout_s: float, max_records: int = BATCH) -> list[ProgressEntry]:
        """What has come, in each shard's order. Raises as `ChangeReader.read` does."""
        entries = []
        for message in self._messages(timeout_s, max_records):
            shard, offset = int(message.partition() or 0), int(message.offset() or 0)
            where = f"{self._topic}, partition {shard}, offset {offset}"
            entries.append(ProgressEntry(shard, offset, Progress.decode(message.value() or b"", where)))
            self._positions[shard] = offset + 1
        return entries
