"""Changes from Kafka once more: as long as it has them, what was archived of them can be made again."""

import time
from functools import cache

import numpy as np

from cdc.archive.manifests import Manifest
from cdc.archive.versions import Versions
from cdc.codec.changes import columns, concat
from cdc.config import KafkaSettings
from cdc.errors import ObjectMissing, OffsetsLost
from cdc.topics import ChangeReader, Topics
from cdc.topics.offsets import list_offsets, topic_ids


class Again:
    """The topics of a namespace, as a repair needs them. Everything raises KafkaError's kinds when Kafka fails."""

    def __init__(self, settings: KafkaSettings, namespace: str, shards: int) -> None:
        self._kafka, self._shards = settings, shards
        self._topics = Topics(settings.prefix, namespace)
        self._spans = cache(self._asked)

    def has_after(self, manifest: Manifest) -> bool:
        """Whether a compactor can go on from a manifest: the topics are the same, and have the offsets that follow."""
        changes, progress = self._topics.changes, self._topics.progress
        wanted = ((changes, manifest.changes_topic, manifest.next_changes),
                  (progress, manifest.progress_topic, manifest.next_progress))  # fmt: skip
        return all(self._has(topic, known, manifest.shard, at) for topic, known, at in wanted)

    def has(self, manifest: Manifest, offset: int) -> bool:
        """Whether the topic that a manifest is about has the shard's changes from an offset on."""
        return self._has(self._topics.changes, manifest.changes_topic, manifest.shard, offset)

    def rows(self, manifest: Manifest, first: int, last: int) -> Versions:
        """A shard's changes with offsets from `first` to `last`, in their order. Memory: all of them.

        Raises OffsetsLost where Kafka has them no more, ObjectMissing where the topic is another one.
        """
        topic = self._topics.changes
        if not self.has(manifest, first):
            raise ObjectMissing(f"{topic} no longer has the changes from offset {first} on")
        pieces = []
        with ChangeReader(self._kafka, self._topics, {manifest.shard: first}) as reader:
            deadline = time.monotonic() + self._kafka.timeout_s
            while reader.positions[manifest.shard] <= last and reader.ends.get(manifest.shard, -1) <= last:
                chunks = reader.read(0.1)
                if chunks:
                    deadline = time.monotonic() + self._kafka.timeout_s
                elif time.monotonic() > deadline:
                    raise OffsetsLost(f"{topic}, partition {manifest.shard}: nothing came up to offset {last}")
                pieces += chunks
        if not pieces:
            raise OffsetsLost(f"{topic}, partition {manifest.shard}: nothing is there up to offset {last}")
        bodies = concat([p.bodies for p in pieces])
        return Versions(columns(bodies), bodies, np.concatenate([p.offsets for p in pieces]))

    def _has(self, topic: str, known: str, shard: int, at: int) -> bool:
        topic_id, first, end = self._spans(topic)
        return topic_id == known and first[shard] <= at <= end[shard]

    def _asked(self, topic: str) -> tuple[str, dict[int, int], dict[int, int]]:
        ids = topic_ids(self._kafka, (topic,))
        first = list_offsets(self._kafka, topic, range(self._shards), earliest=True)
        return ids[topic], first, list_offsets(self._kafka, topic, range(self._shards), committed=False)
