"""The topics of one namespace: names, settings, and whether what exists is what is needed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable, TopicMismatch
from cdc.topics.client import common, failure, mapped, own


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of a namespace's topics.

    `changes`, `progress` and `aside` have a partition for each shard, because a shard has one fenced writer and its
    aside records belong to the same transactions. `metadata` has one: there is little of it and it is compacted by
    key, so one order for the whole namespace is worth more than spreading it.
    """

    prefix: str
    namespace: str

    @property
    def changes(self) -> str:
        """One record a version; partition = shard."""
        return f"{self.prefix}.{self.namespace}.changes"

    @property
    def progress(self) -> str:
        """What each transaction completed; partition = shard."""
        return f"{self.prefix}.{self.namespace}.progress"

    @property
    def metadata(self) -> str:
        """Secondary indexes, UDFs, sets; compacted by key."""
        return f"{self.prefix}.{self.namespace}.metadata"

    @property
    def aside(self) -> str:
        """Records that could not be encoded, as they came; partition = shard."""
        return f"{self.prefix}.{self.namespace}.aside"

    @property
    def group(self) -> str:
        """The consumer group that shares out the shards among collectors."""
        return f"{self.prefix}.{self.namespace}.collectors"

    def ensure(self, settings: KafkaSettings, shards: int) -> None:
        """Create the topics that are missing and check those that exist.

        Raises TopicMismatch for another number of partitions, another cleanup policy, a smaller max.message.bytes or
        timestamps by append time; retention is the operator's to change. Raises BrokerUnreachable.
        """
        admin = AdminClient({**common(settings), **own(settings)})
        wanted = self._wanted(settings, shards)
        with mapped(f"create the topics of {self.namespace}"):
            existing = self._existing(settings, admin)
            missing = [topic for name, topic in wanted.items() if name not in existing]
            if missing:
                created = admin.create_topics(missing, operation_timeout=settings.timeout_s)
                for future in created.values():
                    try:
                        future.result(settings.timeout_s)
                    except KafkaException as error:
                        if error.args[0].code() != Code.TOPIC_ALREADY_EXISTS:
                            raise
        self._check(admin, settings, wanted)

    def check(self, settings: KafkaSettings, shards: int) -> tuple[str, ...]:
        """The topics that are missing; those that exist are checked as `ensure` does. Creates nothing."""
        admin = AdminClient({**common(settings), **own(settings)})
        wanted = self._wanted(settings, shards)
        existing = self._existing(settings, admin)
        self._check(admin, settings, {name: topic for name, topic in wanted.items() if name in existing})
        return tuple(name for name in wanted if name not in existing)

    def shards(self, settings: KafkaSettings) -> range:
        """The shards that the existing topics have. TopicMismatch when there are none, BrokerUnreachable."""
        found = self._existing(settings, AdminClient({**common(settings), **own(settings)}))
        if self.changes not in found or self.progress not in found:
            raise TopicMismatch(
                f"Kafka has no topic {self.changes}", "A collector creates it; check kafka.prefix and the namespace."
            )
        return range(found[self.changes])

    def _existing(self, settings: KafkaSettings, admin: AdminClient) -> dict[str, int]:
        """Every topic of the brokers, with its partition count."""
        with mapped(f"ask {settings.bootstrap} for its topics"):
            topics = admin.list_topics(timeout=settings.timeout_s).topics
        return {name: len(topic.partitions) for name, topic in topics.items()}

    def _wanted(self, settings: KafkaSettings, shards: int) -> dict[str, NewTopic]:
        limits = {"max.message.bytes": str(settings.max_message_bytes), "message.timestamp.type": "CreateTime"}
        kept = {
            **limits,
            "cleanup.policy": "delete",
            "retention.ms": str(int(settings.retention_hours * 3_600_000)),
            "retention.bytes": "-1",
        }
        compacted = {**limits, "cleanup.policy": "compact"}
        shapes = {
            self.changes: (shards, kept),
            self.progress: (shards, kept),
            self.aside: (shards, kept),
            self.metadata: (1, compacted),
        }
        return {
            name: NewTopic(name, num_partitions=count, replication_factor=settings.replication, config=config)
            for name, (count, config) in shapes.items()
        }

    def _check(self, admin: AdminClient, settings: KafkaSettings, wanted: Mapping[str, NewTopic]) -> None:
        for name, topic in wanted.items():
            partitions, config = _described(admin, name, settings.timeout_s)
            need = topic.config or {}
            if partitions != topic.num_partitions:
                raise TopicMismatch(
                    f"topic {name} has {partitions} partitions, not {topic.num_partitions}",
                    "Set collector.shards to the number the topics were made with, or choose another kafka.prefix.",
                )
            for key in ("cleanup.policy", "message.timestamp.type"):
                if config[key] != need[key]:
                    raise TopicMismatch(
                        f"topic {name} has {key}={config[key]}, not {need[key]}",
                        f"Change it with kafka-configs --alter --topic {name} --add-config {key}={need[key]}.",
                    )
            if int(config["max.message.bytes"]) < settings.max_message_bytes:
                raise TopicMismatch(
                    f"topic {name} takes messages up to {config['max.message.bytes']} bytes, "
                    f"less than kafka.max_message_bytes = {settings.max_message_bytes}",
                    f"Change it with kafka-configs --alter --topic {name} "
                    f"--add-config max.message.bytes={settings.max_message_bytes}, or lower kafka.max_message_bytes.",
                )


def _described(admin: AdminClient, name: str, timeout_s: float) -> tuple[int, dict[str, str]]:
    """Partition count and settings. A topic just created is unknown to its broker for a moment: asked again, and
    BrokerUnreachable where that takes too long: the topic was listed or made a moment ago."""
    resource = ConfigResource(ResourceType.TOPIC, name)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            metadata = admin.list_topics(topic=name, timeout=timeout_s).topics[name]
            entries = admin.describe_configs([resource], request_timeout=timeout_s)[resource].result(timeout_s)
            if metadata.error is None and metadata.partitions:
                return len(metadata.partitions), {key: str(entry.value) for key, entry in entries.items()}
            error = metadata.error or Code(Code.LEADER_NOT_AVAILABLE)
        except KafkaException as raised:
            error = raised.args[0]
        if error.code() not in (Code.UNKNOWN_TOPIC_OR_PART, Code.LEADER_NOT_AVAILABLE):
            raise failure(error, f"describe topic {name}")
        if time.monotonic() > deadline:
            raise BrokerUnreachable(f"the brokers do not tell of topic {name} within {timeout_s:g} s: {error.str()}")
        time.sleep(0.05)
