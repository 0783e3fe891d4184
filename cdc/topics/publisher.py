"""Kafka transactions that carry changes and the progress that speaks of them, fenced by the membership."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import repeat
from operator import length_hint
from types import TracebackType
from typing import Any, Self

import numpy as np
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Message, Producer, TopicPartition

from cdc.codec import framing
from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable, Fenced, KafkaError
from cdc.model import DIGEST_SIZE, U8, Bodies
from cdc.topics.client import failure, mapped, producer_config
from cdc.topics.membership import Assignment, Membership
from cdc.topics.metadata import Metadata
from cdc.topics.names import Topics
from cdc.topics.progress import Progress

REPORT_BYTES = 64 << 10
"""One message in so many bytes asks for a delivery report."""
ROOM = 4096
"""What a message takes beside a content: the head of a change or the reason of an aside, and Kafka's own."""
GRACE_S = 1.0
"""So much longer than its own time-out a step is waited for."""
BURST = 20_000
"""Messages between two looks at what the client has to report."""


def content_limit(settings: KafkaSettings) -> int:
    """The largest content that can be published."""
    return settings.max_message_bytes - ROOM


class Transaction:
    """One open transaction; see `Publisher.transaction`. Methods raise Fenced, BrokerUnreachable, TopicMismatch."""

    def __init__(self, producer: Producer, settings: KafkaSettings, topics: Topics, assignment: Assignment) -> None:
        self._producer = producer
        self._settings = settings
        self._topics = topics
        self._assignment = assignment
        self._failed: Code | None = None
        self._offsets: dict[int, tuple[int, int]] = {}
        self._progress: dict[int, int] = {}
        self._written = 0

    def changes(self, shard: int, bodies: Bodies, digests: U8, observed_at: int) -> None:
        """Publish change bodies (unframed) of one shard in their order, keyed by their digests (n, 20).

        `observed_at` becomes the messages' timestamp, from which retention counts: it must be near now.
        """
        n = len(bodies)
        if n == 0:
            return
        self._mine(shard)
        if len(digests) != n:
            raise ValueError(f"{n} bodies but {len(digests)} digests")
        framed = framing.frame(bodies, "change")
        # A report for each message would cost more than the message. The first and the last tell the offsets. When any
        # message fails, reported or not, librdkafka refuses to commit the transaction; the reports in between make
        # that known at once, and by its reason, where the messages behind a refused batch would wait in vain.
        marks = np.diff(framed.offsets // REPORT_BYTES) > 0
        marks[0] = marks[-1] = True
        reports = np.array([None, self._reported], object)[marks.astype(np.int64)]
        names = np.ascontiguousarray(digests).view(f"V{DIGEST_SIZE}").reshape(-1)
        values, ends = framed.buffer.tobytes(), framed.offsets.tolist()
        for low in range(0, n, BURST):
            high = min(n, low + BURST)
            with mapped(f"publish changes of shard {shard}"):
                while low < high:
                    low = self._hand_over(shard, values, ends, names, reports, observed_at, low, high)
                self._producer.poll(0)
            self._raise_failed()
        self._written += n

    def _hand_over(
        self, shard: int, values: bytes, ends: list[int], names: Any, reports: Any, at: int, low: int, high: int
    ) -> int:
        """Give rows low to high - 1 to the client, in order; returns the row to go on with, once there is room again.

        The whole of it is one loop in C: this is where a base snapshot spends most of its time.
        """
        left = iter(names[low:high].tolist())
        cuts = map(slice, ends[low:high], ends[low + 1 : high + 1])
        callbacks = reports[low:high].tolist()
        calls = map(
            self._producer.produce,
            repeat(self._topics.changes), map(values.__getitem__, cuts), left, repeat(shard), callbacks, repeat(None),
            repeat(at),
        )  # fmt: skip
        try:
            deque(calls, 0)
        except BufferError:
            refused = high - length_hint(left) - 1
            self._make_room()
            return refused
        except KafkaException as error:
            self._explain(error)
            raise
        return high

    def aside(self, shard: int, digest: bytes, message: bytes, reason: str, observed_at: int) -> None:
        """Keep a record that could not be encoded, as it came, with the reason as a header.

        Of a message that is too large for Kafka the first bytes are kept, and the reason says so.
        """
        self._mine(shard)
        most = content_limit(self._settings)
        if len(message) > most:
            reason += f"; kept are the first {most} of {len(message)} bytes, by kafka.max_message_bytes"
            message = message[:most]
        self._one(self._topics.aside, shard, digest, message, observed_at, [("reason", reason.encode())])

    def metadata(self, record: Metadata, observed_at: int) -> None:
        """Say how one piece of metadata is now. Its one writer is the worker that has shard 0."""
        self._mine(0)
        self._one(self._topics.metadata, 0, record.key, record.encode(), observed_at, [])

    def flush(self) -> dict[int, tuple[int, int]]:
        """Wait until the brokers have everything; per shard with changes in this transaction their offsets.

        The pair is the first change's offset and the offset after the last one. Nothing is visible before the commit.
        """
        deadline = time.monotonic() + self._settings.timeout_s
        with mapped("flush a transaction"):
            while (left := self._producer.flush(0.2)) and time.monotonic() <= deadline:
                self._raise_failed()
        self._raise_failed()
        if left:
            raise BrokerUnreachable(f"{left} messages were not acknowledged within {self._settings.timeout_s:g} s")
        return dict(self._offsets)

    def progress(self, progress: Progress) -> None:
        """Say what this transaction completes for a shard. It is committed with the changes, or not at all."""
        self._mine(progress.shard)
        self._one(
            self._topics.progress, progress.shard, str(progress.shard).encode(), progress.encode(),
            progress.observed_at, [],
        )  # fmt: skip

    def finish(self) -> None:
        """Flush, hand the group its offsets (here a worker that lost its shards is refused), and commit."""
        self.flush()
        if self._written and not self._progress:
            raise ValueError("a transaction without progress would not be fenced")
        if not self._written:
            with mapped("end an empty transaction"):
                self._producer.commit_transaction(self._settings.timeout_s)
            return
        offsets = [TopicPartition(self._topics.progress, shard, at + 1) for shard, at in self._progress.items()]
        with mapped("commit a transaction"):
            _within(
                self._settings.timeout_s + GRACE_S,
                lambda: _retried(
                    lambda: self._producer.send_offsets_to_transaction(
                        offsets, self._assignment.metadata, self._settings.timeout_s
                    ),
                    self._settings.timeout_s,
                ),
            )  # fmt: skip
            _retried(lambda: self._producer.commit_transaction(self._settings.timeout_s), self._settings.timeout_s)

    def _mine(self, shard: int) -> None:
        if shard not in self._assignment.shards:
            raise Fenced(f"shard {shard} of {self._topics.namespace} is not assigned to this worker")

    def _one(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        at: int,
        headers: list[tuple[str, str | bytes | None]],
    ) -> None:
        with mapped(f"publish to {topic}"):
            while True:
                try:
                    self._producer.produce(
                        topic, value, key, partition, self._reported, timestamp=at, headers=headers or None
                    )
                    break
                except BufferError:
                    self._make_room()
                except KafkaException as error:
                    self._explain(error)
                    raise
        self._written += 1

    def _make_room(self) -> None:
        """Wait until the full queue is a little less full."""
        before = len(self._producer)
        deadline = time.monotonic() + self._settings.timeout_s
        while len(self._producer) >= before:
            self._producer.poll(0.1)
            self._raise_failed()
            if time.monotonic() > deadline:
                raise BrokerUnreachable(f"no message was acknowledged within {self._settings.timeout_s:g} s")

    def _explain(self, error: KafkaException) -> None:
        """Raise what made the client take no more messages, where that is why it refused one.

        Once a message has failed, librdkafka refuses the next ones for the state of the transaction alone, and may do
        so before it was asked for the report that has the reason.
        """
        if error.args[0].code() != Code._STATE:
            return
        deadline = time.monotonic() + self._settings.timeout_s
        while self._failed is None and len(self._producer) and time.monotonic() < deadline:
            self._producer.poll(0.1)
        self._raise_failed()

    def _reported(self, error: Code | None, message: Message) -> None:
        if error is not None:
            self._failed = self._failed or error
            return
        partition, offset = int(message.partition() or 0), int(message.offset() or 0)
        if message.topic() == self._topics.progress:
            self._progress[partition] = offset
        elif message.topic() == self._topics.changes:
            first, through = self._offsets.get(partition, (offset, offset))
            self._offsets[partition] = (min(first, offset), max(through, offset + 1))

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise failure(self._failed, "deliver a message")


class Publisher:
    """The transactional producer of one worker.

    `worker` names it: two live workers never share a name, and a worker that comes back under its name undoes
    at once what it had left open. Raises BrokerUnreachable.
    """

    def __init__(self, settings: KafkaSettings, topics: Topics, membership: Membership, worker: str) -> None:
        self._settings = settings
        self._topics = topics
        self._membership = membership
        self._id = f"{topics.group}.{worker}"
        self._producer: Any = None
        self._open()

    def _open(self) -> None:
        with mapped("start a transactional producer"):
            producer = Producer(producer_config(self._settings, self._id))
            # Asked before the first connection stands, librdkafka asks for the producer's id again half a second later.
            producer.list_topics(self._topics.changes, self._settings.timeout_s)
            _retried(lambda: producer.init_transactions(self._settings.timeout_s), self._settings.timeout_s)
        self._producer = producer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget the producer; an open transaction was ended by its block."""
        self._producer = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction that commits where the block ends and aborts when it raises.

        It counts for the shards assigned to the membership now. When the group has changed since, the commit is
        refused with Fenced: poll the membership and begin again from its `last()`.
        """
        if self._producer is None:
            self._open()
        producer = self._producer
        with mapped("begin a transaction"):
            producer.begin_transaction()
        transaction = Transaction(producer, self._settings, self._topics, self._membership.assignment)
        try:
            yield transaction
            transaction.finish()
        except BaseException as error:
            self._abort(producer, error)
            raise

    def _abort(self, producer: Producer, cause: BaseException) -> None:
        """Undo. A producer that cannot is thrown away: its successor's first step undoes what was left open.

        So is one that lost its broker: after a broker's crash librdkafka 2.16 was seen to wait for ever, whatever its
        time-out, to send offsets in a transaction of the same producer.
        """
        lost = isinstance(cause, BrokerUnreachable)
        try:
            if not lost:
                with mapped("abort a transaction"):
                    _retried(lambda: producer.abort_transaction(self._settings.timeout_s), self._settings.timeout_s)
        except KafkaError as error:
            cause.add_note(f"The transaction is undone when the next one begins: {error}")
            lost = True
        if lost:
            producer.purge()
            self._producer = None


def _within(seconds: float, step: Callable[[], None]) -> None:
    """Take a step in a thread of its own, which is left alone when the time is over: BrokerUnreachable.

    A broker that goes while it is to be told a group's offsets is waited for by librdkafka 2.16 for as long as its
    requests may take, a minute, and with a shorter `socket.timeout.ms` for ever, whatever time-out the call is given.
    """
    done: Future[None] = Future()

    def take() -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - raised again below, by who waits
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=take, name="offsets of a transaction", daemon=True).start()
    try:
        done.result(seconds)
    except TimeoutError:
        raise BrokerUnreachable(f"no broker has taken the offsets of a transaction within {seconds:g} s") from None


def _retried(step: Any, timeout_s: float) -> None:
    """Take one step of the transaction protocol, again while Kafka says that it may be taken again."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            step()
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise
