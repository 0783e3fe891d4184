"""What a collector holds while it works: the cluster, its place in the group, the producer, and its shards'
catalogs."""

import fcntl
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from cdc import metrics
from cdc.clock import Clock
from cdc.collector.catalog import Catalog, shard_directory
from cdc.collector.publish import Parcel, deliver
from cdc.collector.reconcile import Times
from cdc.collector.resume import resume
from cdc.collector.stats import Stats
from cdc.collector.sweep import Allowance
from cdc.config import Settings
from cdc.errors import CatalogError, CdcError, Fenced, KafkaError, SourceError
from cdc.model import BEGINNING
from cdc.source import Source
from cdc.topics import Membership, Publisher, Topics, end_offsets
from cdc.topics.membership import Assignment
from cdc.wire import Cluster

CLOCKS_EVERY_S = 10.0
SET_BACK_MS = 2_000
"""A node's clock that went back by so much is told of."""


class Session:
    """Connections and catalogs; each is made when it is first needed, and again after it was let go.

    Raises CatalogError when another collector uses the same catalog directory.
    """

    def __init__(self, settings: Settings, clock: Clock, after_commit: Callable[[], None]) -> None:
        own = settings.collector
        self.settings = settings
        self.namespace = settings.aerospike.namespace
        self.stats = Stats(self.namespace)
        self.catalogs: dict[int, Catalog] = {}
        self.allowance = Allowance(round(own.overlap_s * 1000), round(own.skew_s * 1000))
        self.times = Times(
            lambda: clock() + self._offsets[0], lambda: clock() + self._offsets[1], self.allowance.skew_ms
        )
        self.swept_at: int | None = None  # see `sweep.lower_bound`
        self.beside = ThreadPoolExecutor(1, "look-ahead")
        self._clock = clock
        self._after_commit = after_commit
        self._topics = Topics(settings.kafka.prefix, self.namespace)
        self._lock, self._worker = _claim(own.catalog / self.namespace)
        self._membership: Membership | None = None
        self._publisher: Publisher | None = None
        self._cluster: Cluster | None = None
        self._source: Source | None = None
        self._assignment: Assignment | None = None
        self._offsets = (0, 0)
        self._clocks_at = float("-inf")

    def close(self) -> None:
        """Leave the group and the cluster, close the catalogs."""
        self.beside.shutdown(cancel_futures=True)
        self._leave_kafka()
        self._leave_cluster()
        self._lock.close()

    def take_part(self, timeout_s: float) -> bool:
        """Connect where that is missing, take part in the group, and take up the shards that were assigned; whether
        there are any. Raises SourceError, KafkaError and CatalogError."""
        self._measure_clocks(self.source)
        if self._membership is None:
            self._topics.ensure(self.settings.kafka, self.settings.collector.shards)
            self._membership = Membership(self.settings.kafka, self._topics)
        shards = self._membership.poll(timeout_s)
        if self._publisher is None:
            self._publisher = Publisher(self.settings.kafka, self._topics, self._membership, self._worker)
        if self._membership.assignment is not self._assignment:
            self._take_up(self._membership, shards)
        return bool(shards)

    def still(self) -> None:
        """Take part in the group in the middle of a look; raises Fenced when the shards were assigned anew."""
        if self._membership is None:
            raise Fenced(f"this worker has left {self._topics.group}")
        self._membership.poll(0)
        if self._membership.assignment is not self._assignment:
            raise Fenced(f"the group {self._topics.group} shares out its shards anew")

    @property
    def source(self) -> Source:
        """The namespace. Raises SourceError."""
        if self._source is None:
            self._cluster = Cluster(self.settings.aerospike)
            self._source = Source(
                self._cluster, self.namespace, connections=self.settings.collector.connections, clock=self._clock
            )
        return self._source

    def deliver(self, parcels: list[Parcel]) -> None:
        """`publish.deliver` with this session's producer. Raises KafkaError and CatalogError."""
        if self._publisher is None:
            raise Fenced(f"this worker has left {self._topics.group}")
        deliver(self._publisher, parcels, self.stats, self._after_commit)

    def let_go(self, error: CdcError) -> None:
        """Drop what an error has made doubtful, so that it is made anew.

        After a failed commit nobody knows here whether it happened; only Kafka does, so the shards are taken up
        again. A worker that was fenced stays in the group and is given shards anew.
        """
        if isinstance(error, Fenced):
            self._drop_shards()
        elif isinstance(error, KafkaError):
            self._leave_kafka()
        elif isinstance(error, SourceError):
            self._leave_cluster()

    def _take_up(self, membership: Membership, shards: tuple[int, ...]) -> None:
        self._drop_shards()
        membership.ask_again()
        last = {shard: membership.last(shard) for shard in shards}
        end = end_offsets(self.settings.kafka, self._topics.changes, shards)
        begun: dict[str, list[int]] = {}
        for shard in shards:
            why: list[str] = []
            self.catalogs[shard] = resume(
                shard_directory(self.settings.collector.catalog, self.namespace, shard), shard,
                self.settings.collector.shards, last[shard],
                self.settings.kafka, self._topics, end[shard], self.times.earliest(),
                why.append,
            )  # fmt: skip
            for text in why:
                begun.setdefault(text, []).append(shard)
        for text, which in begun.items():
            named = f"{len(which)} shards begin" if len(which) > 1 else f"shard {which[0]} begins"
            self.stats.note(f"{named} a new history with a base snapshot: {text}")
        known = max((int(c.state.watermark.max()) for c in self.catalogs.values()), default=BEGINNING)
        # Clocks that were set back while nobody looked: how far back what was written since goes is not known.
        self.swept_at = BEGINNING if self.times.earliest() < known else None
        self._assignment = membership.assignment
        self.stats.stands(self.catalogs)

    def _drop_shards(self) -> None:
        self._assignment = None
        while self.catalogs:
            shard, catalog = self.catalogs.popitem()
            catalog.close()
            self.stats.released(shard)

    def _leave_kafka(self) -> None:
        self._drop_shards()
        publisher, self._publisher = self._publisher, None
        membership, self._membership = self._membership, None
        if publisher is not None:
            publisher.close()
        if membership is not None:
            membership.close()

    def _leave_cluster(self) -> None:
        cluster, self._cluster, self._source = self._cluster, None, None
        self._clocks_at = float("-inf")
        if cluster is not None:
            cluster.close()

    def _measure_clocks(self, source: Source) -> None:
        if time.monotonic() - self._clocks_at < CLOCKS_EVERY_S:
            return
        clocks = source.clocks()
        before = self._offsets[0]
        self._offsets = (
            min(c.offset_ms - c.error_ms for c in clocks.values()),
            max(c.offset_ms + c.error_ms for c in clocks.values()),
        )
        if self.swept_at is not None and self._offsets[0] < before - self.allowance.skew_ms:
            unwatched_ms = round((time.monotonic() - self._clocks_at) * 1000)
            self.swept_at = min(self.swept_at, self.times.earliest() - unwatched_ms)
            # Less may only be a measurement that is less sharp than the one before.
            if before - self._offsets[0] > SET_BACK_MS:
                self.stats.note(f"a node's clock went back by about {(before - self._offsets[0]) / 1000:.0f} s")
        for node, clock in clocks.items():
            metrics.CLOCK_OFFSET.labels(self.namespace, node).set(clock.offset_ms / 1000)
        self._clocks_at = time.monotonic()


def _claim(root: Path) -> tuple[IO[str], str]:
    """A lock on the catalogs, and the name of the worker that they belong to. A worker that comes back under its name
    undoes at once the transaction that it had left open."""
    path = root / "worker"
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise CatalogError(
                f"another collector uses the catalog at {root}", "Give each collector its own collector.catalog."
            ) from error
        file.seek(0)
        name = file.read().strip()
        if not name:
            name = uuid.uuid4().hex
            file.write(name + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CatalogError(f"the catalog at {root} cannot be used: {error}") from error
    return file, name
