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

import numpy as np

from cdc.clock import Clock
from cdc.collector.catalog import Catalog
from cdc.collector.clocks import Clocks
from cdc.collector.ends import span
from cdc.collector.metadata import MetadataWatch
from cdc.collector.publish import Parcel, deliver
from cdc.collector.reconcile import Doubts, Times
from cdc.collector.resume import resume, told
from cdc.collector.sparing import Sparing
from cdc.collector.stats import Stats
from cdc.collector.sweep import Allowance, touched
from cdc.config import Settings
from cdc.errors import CatalogError, CdcError, Fenced, KafkaError, SourceError
from cdc.model import BEGINNING, END_OF_TIME, I64, PARTITIONS, Bool
from cdc.source import Scope, Source
from cdc.topics import Membership, Publisher, Topics, end_offsets
from cdc.topics.membership import Assignment
from cdc.topics.publisher import content_limit
from cdc.wire import Cluster


class Session:
    """Connections and catalogs; each is made when it is first needed, and again after it was let go.

    Raises CatalogError when another collector uses the same catalog directory.
    """

    def __init__(self, settings: Settings, clock: Clock, after_commit: Callable[[], None]) -> None:
        own = settings.collector
        self.settings = settings
        self.namespace = settings.aerospike.namespace
        self.stats = Stats(self.namespace)
        self.sparing = Sparing(settings, self.stats)
        self.catalogs: dict[int, Catalog] = {}
        self.allowance = Allowance(round(own.overlap_s * 1000), round(own.skew_s * 1000))
        self.clocks = Clocks(
            clock, lambda: time.monotonic(), self.allowance.skew_ms, self.stats,
            own.catalog / self.namespace / "clocks.json",
        )  # fmt: skip
        self.times = Times(
            self.clocks.earliest, self.clocks.latest, self.allowance.skew_ms, lambda: self.watch_clocks(sharp=True)
        )  # fmt: skip
        self.doubts = Doubts.begin()
        # Of each partition: see `sweep.lower_bound`, and whether that reaches further back than the watermark does, for
        # clocks were set back.
        self.swept_at: I64 = np.full(PARTITIONS, END_OF_TIME)
        self._behind: Bool = np.zeros(PARTITIONS, np.bool_)
        self.steps_back = 0  # of clocks, that were noticed
        self.beside = ThreadPoolExecutor(1, "look-ahead")
        self._clock = clock
        self._after_commit = after_commit
        self._scope = Scope.of(settings.scope.get(self.namespace))
        self._topics = Topics(settings.kafka.prefix, self.namespace)
        self.metadata = MetadataWatch(
            settings.kafka, self._topics, self.stats,
            lambda: (self.times.earliest() - self.allowance.skew_ms, self.times.latest()),
        )  # fmt: skip
        self._lock, self._worker = _claim(own.catalog / self.namespace)
        self._membership: Membership | None = None
        self._publisher: Publisher | None = None
        self._cluster: Cluster | None = None
        self._source: Source | None = None
        self._assignment: Assignment | None = None

    def close(self) -> None:
        """Leave the group and the cluster, close the catalogs."""
        self.beside.shutdown(cancel_futures=True)
        self._leave_kafka()
        self._leave_cluster()
        self._lock.close()

    @property
    def assignment(self) -> Assignment | None:
        """What the shards were taken up by; None while there are none."""
        return self._assignment

    @property
    def forgotten(self) -> bool:
        """Whether partitions of this worker are to be swept from the beginning of time."""
        return any(bool((self.swept_at[span(c.state)] == BEGINNING).any()) for c in self.catalogs.values())

    def take_part(self, timeout_s: float) -> bool:
        """Connect where that is missing, take part in the group, and take up the shards that were assigned; whether
        there are any. Raises SourceError, KafkaError and CatalogError."""
        if self.clocks.due:
            self.source.learn_sets()
            self._set_back(self.clocks.measure(self.source))
        if self._membership is None:
            self._topics.ensure(self.settings.kafka, self.settings.collector.shards)
            self._membership = Membership(self.settings.kafka, self._topics)
        shards = self._membership.poll(timeout_s)
        if self._publisher is None:
            self._publisher = Publisher(self.settings.kafka, self._topics, self._membership, self._worker)
        if self._membership.assignment is not self._assignment:
            self._take_up(self._membership, shards)
        return bool(shards)

    def watch_clocks(self, *, sharp: bool = False) -> None:
        """Notice, before a sweep, a node whose clock was set; `sharp`: by a measurement. Raises SourceError."""
        self._set_back(self.clocks.measure(self.source) if sharp else self.clocks.watch(self.source))

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
            self._cluster = self._cluster or Cluster(self.settings.aerospike)
            self._source = Source(
                self._cluster, self.namespace, scope=self._scope,
                connections=self.settings.collector.connections, clock=self._clock,
                content_limit=content_limit(self.settings.kafka),
            )  # fmt: skip
            self.sparing.meet(self._source)
        return self._source

    def listen(self) -> None:
        """Take what nodes have said of being busy since the last call, and ask less, or more again."""
        if self._cluster is not None:
            self.sparing.heard(self._cluster.busy_answers(), self._source)

    def deliver(self, parcels: list[Parcel]) -> None:
        """`publish.deliver` with this session's producer. Raises KafkaError and CatalogError."""
        if self._publisher is None:
            raise Fenced(f"this worker has left {self._topics.group}")
        pending = self.metadata.pending if any(parcel.state.shard == 0 for parcel in parcels) else ()
        deliver(self._publisher, parcels, self.stats, self._after_commit, pending)
        if pending:
            self.metadata.told()
        self.stats.stands(self.catalogs)

    def swept(self, partitions: I64, began_at: int) -> None:
        """A sweep of these partitions was committed that began at this moment (nodes' time)."""
        self.swept_at[partitions] = began_at
        highest = max(int(c.state.watermark.max()) for c in touched(self.catalogs, partitions))
        self._behind[partitions] = began_at < highest

    def look_at_metadata(self, *, everything: bool = False) -> None:
        """Look at the metadata where it is this worker's to tell; what is new goes with shard 0's next progress.
        Raises KafkaError."""
        if 0 in self.catalogs:
            self.metadata.look(self.source, everything=everything)

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
            self._leave_source()

    def _take_up(self, membership: Membership, shards: tuple[int, ...]) -> None:
        self._drop_shards()
        self.doubts = Doubts.begin()  # what another worker knew of them is not known here
        membership.ask_again()
        last = {shard: membership.last(shard) for shard in shards}
        end = end_offsets(self.settings.kafka, self._topics.changes, shards)
        assignment = membership.assignment

        def alive() -> None:
            membership.poll(0)
            if membership.assignment is not assignment:
                raise Fenced(f"the group {self._topics.group} shares out its shards anew")

        taken = []
        for shard in shards:
            taken.append(
                resume(
                    self.settings, self._topics, shard, last[shard], end[shard], self.times.earliest(),
                    self._scope.text(), alive, self.stats.note,
                )
            )  # fmt: skip
            self.catalogs[shard] = taken[-1].catalog
        for text in told(taken):
            self.stats.note(text)
        known = max((int(c.state.watermark.max()) for c in self.catalogs.values()), default=BEGINNING)
        # Clocks that were seen to go back have not passed the watermark since, or the sweep that they ask for could not
        # be committed. Otherwise the watermark tells: another worker may have swept since.
        self.swept_at = np.where(self._behind, self.swept_at, END_OF_TIME)
        if self.forgotten or self.times.earliest() < known:
            # Clocks that were set back while nobody looked: how far back what was written since goes is not known.
            for catalog in self.catalogs.values():
                self.swept_at[span(catalog.state)], self._behind[span(catalog.state)] = BEGINNING, True
        self._assignment = assignment
        self.stats.stands(self.catalogs)

    def _drop_shards(self) -> None:
        self._assignment = None
        self.metadata.forget()
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

    def _leave_source(self) -> None:
        """Meet the nodes anew. As long as the client sees some it is kept: it may know more of them than were named."""
        self._source = None
        self.clocks.forget()
        try:
            seen = self._cluster is not None and bool(self._cluster.nodes())
        except SourceError:
            seen = False
        if not seen:
            self._leave_cluster()

    def _leave_cluster(self) -> None:
        cluster, self._cluster, self._source = self._cluster, None, None
        self.clocks.forget()
        if cluster is not None:
            cluster.close()

    def _set_back(self, since: int | None) -> None:
        if since is not None:
            self.steps_back += 1
            self._behind |= self.swept_at > since
            self.swept_at = np.minimum(self.swept_at, since)


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
