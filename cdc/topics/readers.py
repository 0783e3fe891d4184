"""Reading committed changes and progress from given offsets on, in order, without ever jumping over a gap."""

import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

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
CALL = 100
"""Messages of one call to the client at the most. Few, because then they are still in the processor's cache when they
are taken apart and freed: a thousand at a time cost half as much again."""
LARGE = 1 << 20
"""Bytes that a message is thought to have while none has come."""
ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive committed changes of one shard: their Kafka offsets and timestamps, and their bodies, unframed.

    There are no timestamps where they were not asked for.
    """

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
        self._typical = LARGE
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

    def _take(self, timeout_s: float, max_records: int, max_bytes: int, take: Callable[[list[Message]], int]) -> None:
        """Give messages to `take` as they come, which says how many bytes they have: up to `max_records`, and no more
        after `max_bytes`. Waits up to `timeout_s` for the first."""
        deadline = time.monotonic() + timeout_s
        left, room = max_records, max_bytes
        while left > 0 and room > 0:
            wait = 0.0 if left < max_records else max(0.0, deadline - time.monotonic())
            batch = self._consume(min(left, self._call(room)), min(wait, 0.1))
            good = self._good(batch) if any(map(Message.error, batch)) else batch
            if good:
                size = take(good)
                self._typical = size // len(good) + 1
                left, room = left - len(good), room - size
            if not batch and (left < max_records or time.monotonic() >= deadline):
                break
        if left < max_records:
            self._trouble.clear()
        elif self._trouble:
            self._ask()

    def _call(self, room: int) -> int:
        """How many messages to ask for while there is room for so many bytes. The client's queue is bounded in bytes,
        what it hands over is not."""
        return max(1, min(CALL, room // self._typical))

    def _consume(self, most: int, wait_s: float) -> list[Message]:
        with mapped(f"read {self._topic}"):
            return self._consumer.consume(most, wait_s)

    def _good(self, batch: list[Message]) -> list[Message]:
        """The messages of a batch that are none of the client's events; those are noted, or raised."""
        good = []
        for message in batch:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() == Code._PARTITION_EOF:
                self._ends[int(message.partition() or 0)] = int(message.offset() or 0)
            elif error.code() in LOST:
                raise self._lost(message)
            else:
                problem = failure(error, f"read {self._topic}")
                if not isinstance(problem, BrokerUnreachable):
                    raise problem
                self._trouble.append(error)
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

    def read(
        self, timeout_s: float, max_records: int = BATCH, max_bytes: int = MAX_BYTES, *, timestamps: bool = True
    ) -> list[Chunk]:
        """What has come: at most one chunk a shard, none when nothing came in time.

        Reading ends once `max_bytes` have come. They are exceeded by no more than one message, if messages are alike;
        if not, by what is larger in the last `CALL` of them. Whoever needs no `timestamps` is spared asking each
        message for its own.

        Raises OffsetsLost when the position was removed by retention, BodyDamaged for a message that is not a change
        of this schema, BrokerUnreachable when no broker answered; call again and it goes on.
        """
        gathered: defaultdict[int, _Gathered] = defaultdict(_Gathered)

        def take(messages: list[Message]) -> int:
            shards = [shard or 0 for shard in map(Message.partition, messages)]
            if len(set(shards)) == 1:
                return gathered[shards[0]].add(messages, timestamps)
            size = 0
            for one in dict.fromkeys(shards):
                mine = [message for message, shard in zip(messages, shards, strict=True) if shard == one]
                size += gathered[one].add(mine, timestamps)
            return size

        self._take(timeout_s, max_records, max_bytes, take)
        # Each lot leaves as it is put together, for memory.
        return [self._chunk(shard, gathered.pop(shard)) for shard in list(gathered)]

    def _chunk(self, shard: int, lot: "_Gathered") -> Chunk:
        offsets = np.concatenate([np.asarray(span, np.int64) for span in lot.offsets])
        ends = np.zeros(len(offsets) + 1, np.int64)
        np.cumsum(np.frombuffer(lot.sizes, np.int64), out=ends[1:])
        framed = Bodies(np.frombuffer(lot.joined(), np.uint8), ends)
        where = f"{self._topic}, partition {shard}, offset "
        bodies = framing.unframe(framed, "change", lambda row: where + str(offsets[row]))
        self._positions[shard] = int(offsets[-1]) + 1
        return Chunk(shard, offsets, np.array(lot.timestamps, np.int64), bodies)


@dataclass(slots=True)
class _Gathered:
    """What has come of one shard. Neither the client's message objects are kept nor their values one by one: they take
    more memory than small bodies, and are cheapest to free while they are in the processor's cache."""

    parts: list[bytes] = field(default_factory=list)
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    offsets: list[Sequence[int]] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)

    def add(self, messages: list[Message], timestamps: bool) -> int:
        """Messages that follow those before; how many bytes they have."""
        values: list[Any] = list(map(Message.value, messages))
        if not all(values):  # a tombstone is a change of no bytes: whoever looks at it refuses it
            values = [value or b"" for value in values]
        self.parts.append(b"".join(values))
        self.sizes.extend(map(len, values))
        self._add_offsets(messages)
        if timestamps:
            self.timestamps += [message.timestamp()[1] for message in messages]
        return len(self.parts[-1])

    def joined(self) -> bytes:
        """All bytes, which leave this."""
        whole = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        return whole

    def _add_offsets(self, messages: list[Message]) -> None:
        # Of one partition offsets only ever ascend. So where the first and the last are as far apart as there are
        # messages, none is left out between them; elsewhere markers of transactions, or aborted ones, are.
        first, last = int(messages[0].offset() or 0), int(messages[-1].offset() or 0)
        if last - first != len(messages) - 1:
            self.offsets.append([int(message.offset() or 0) for message in messages])
        elif self.offsets and isinstance(before := self.offsets[-1], range) and before.stop == first:
            self.offsets[-1] = range(before.start, last + 1)
        else:
            self.offsets.append(range(first, last + 1))


class ProgressReader(_Reader):
    """Committed progress from `positions` (shard to offset) on."""

    def __init__(self, settings: KafkaSettings, topics: Topics, positions: Mapping[int, int]) -> None:
        super().__init__(settings, topics, topics.progress, positions)

    def read(self, timeout_s: float, max_records: int = BATCH) -> list[ProgressEntry]:
        """What has come, in each shard's order. Raises as `ChangeReader.read` does."""
        messages: list[Message] = []

        def take(came: list[Message]) -> int:
            messages.extend(came)
            return sum(len(message.value() or b"") for message in came)

        self._take(timeout_s, max_records, MAX_BYTES, take)
        entries = []
        for message in messages:
            shard, offset = int(message.partition() or 0), int(message.offset() or 0)
            where = f"{self._topic}, partition {shard}, offset {offset}"
            entries.append(ProgressEntry(shard, offset, Progress.decode(message.value() or b"", where)))
            self._positions[shard] = offset + 1
        return entries
