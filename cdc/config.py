"""The settings, as frozen models with units in their names. Pure: reading files and environment is `cdc.settings`.

Each section belongs to one folder of the code; a role gets its sections and nothing else. The text under a field is
what `aerospike-cdc init` writes above it.
"""

import base64
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from cdc.config_archive import MAIN as MAIN
from cdc.config_archive import ArchiveSettings as ArchiveSettings
from cdc.config_archive import DestinationName, DestinationSettings, apart
from cdc.config_archive import EncryptionSettings as EncryptionSettings
from cdc.config_archive import RetentionSettings as RetentionSettings
from cdc.config_section import Seconds
from cdc.config_section import Section as Section
from cdc.errors import ConfigError
from cdc.schedule import cron


def _host_and_port(value: str) -> str:
    if not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^:\s\[\]]+):\d{1,5}", value) or int(value.rpartition(":")[2]) > 65535:
        raise ValueError("must be host:port, such as 10.0.0.5:3000 or [::1]:3000")
    return value


Host = Annotated[str, AfterValidator(_host_and_port)]
Namespace = Annotated[str, Field(pattern=r"^[^:;\s]{1,31}$")]


def _set_name(value: str) -> str:
    if len(value.encode()) > 63 or re.search("[:;]", value):
        raise ValueError("must be a set's name: at most 63 bytes, without : and ; (empty: the null set)")
    return value


SetName = Annotated[str, AfterValidator(_set_name)]


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{', '.join(map(repr, twice))} named twice; once is enough")
    return values


class TlsSettings(Section):
    """Transport encryption towards Aerospike (Enterprise Edition)."""

    enabled: bool = False
    """Speak TLS to the cluster."""
    name: str = ""
    """The cluster's tls-name; empty: the host's name."""
    ca_file: Path | None = None
    """Certificates to trust; not set: the system's."""
    cert_file: Path | None = None
    """This side's certificate, for mutual TLS."""
    key_file: Path | None = None
    """This side's private key, for mutual TLS."""


class AerospikeSettings(Section):
    """The cluster and the namespaces to back up."""

    hosts: tuple[Host, ...] = ("127.0.0.1:3000",)
    """Some nodes to begin with; the others are found."""
    namespaces: Annotated[tuple[Namespace, ...], Field(min_length=1), AfterValidator(_unique)] = ("test",)
    """The namespaces to back up; each has its own topics, catalog and part of the archive."""
    user: str = ""
    """User name, where security is on (Enterprise Edition)."""
    password: SecretStr = SecretStr("")
    """Password; better in the environment: AEROSPIKE_CDC__AEROSPIKE__PASSWORD."""
    auth: Literal["internal", "external"] = "internal"
    """Where the server looks the user up: internal, or external (LDAP)."""
    timeout_s: Seconds = 10.0
    """After how long an unanswered request counts as failed, in seconds."""
    services_alternate: bool = False
    """Use the nodes' alternate addresses."""
    tls: TlsSettings = TlsSettings()

    @property
    def namespace(self) -> str:
        """The only namespace. Raises ConfigError when several are configured."""
        if len(self.namespaces) > 1:
            raise ConfigError(
                f"several namespaces are configured: {', '.join(self.namespaces)}",
                "Name one of them: --namespace NAME.",
            )
        return self.namespaces[0]


class ScopeSettings(Section):
    """Which records of a namespace are captured, under its name: [scope.NAMESPACE]. Without it, all of them."""

    include: Annotated[tuple[SetName, ...], AfterValidator(_unique)] = ()
    """Only these sets; "" is the null set. Empty: every set."""
    exclude: Annotated[tuple[SetName, ...], AfterValidator(_unique)] = ()
    """All but these sets; "" is the null set."""
    filter: str = ""
    """Only records for which this expression is true: base64, as the client's get_expression_base64 gives it."""

    @field_validator("filter")
    @classmethod
    def _packed(cls, value: str) -> str:
        said = "must be the base64 text that the official client's get_expression_base64(expression) returns"
        try:
            packed = base64.b64decode(value, validate=True)
        except ValueError:
            raise ValueError(said) from None
        if value and not (packed and (0x91 <= packed[0] <= 0x9F or packed[0] in (0xDC, 0xDD))):  # a MessagePack list
            raise ValueError(said)
        return value

    @model_validator(mode="after")
    def _told_apart(self) -> "ScopeSettings":
        twice = [name for name in self.include if name in self.exclude]
        if twice:
            raise ValueError(f"{', '.join(map(repr, twice))} both included and excluded; remove it from one of them")
        return self


class KafkaSettings(Section):
    """The brokers and the topics <prefix>.<namespace>.{changes,progress,metadata,aside}."""

    bootstrap: str = "127.0.0.1:9092"
    """Some brokers to begin with, host:port, with commas between them."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)] = "aerospike"
    """First part of every topic's name."""
    replication: Annotated[int, Field(ge=1, le=32767)] = 1
    """Replicas of a topic that is created; 3 in production."""
    retention_hours: Annotated[float, Field(gt=0)] = 168.0
    """How long changes stay in Kafka. Longer than any outage of the compactor may last."""
    max_message_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 27)] = 9 << 20
    """Largest change; above the server's max-record-size."""
    compression: Literal["none", "lz4", "zstd", "snappy", "gzip"] = "lz4"
    """Compression of what is produced."""
    session_timeout_s: Seconds = 10.0
    """After how long without a sign of life a worker's shards go to another, in seconds."""
    timeout_s: Seconds = 30.0
    """After how long an unreachable broker is an error, in seconds."""
    client: dict[str, str | int | float | bool] = {}
    """Any librdkafka setting, such as "security.protocol" = "SASL_SSL"."""
    client_secrets: dict[str, SecretStr] = {}
    """The same for what must never be printed, such as "sasl.password"."""

    @field_validator("client")
    @classmethod
    def _no_secrets(cls, value: dict[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
        for key in value:
            if "password" in key or "secret" in key:
                raise ValueError(f"{key} belongs to [kafka.client_secrets], which is never printed")
        return value


class CollectorSettings(Section):
    """How the source is polled."""

    shards: Annotated[int, Field(ge=1, le=4096)] = 8
    """Into how many shards the namespace is divided: 1, 2, 4 … 4096. Cannot be changed later."""
    sweep_every_s: Seconds = 1.0
    """A sweep for changes starts this often, in seconds."""
    reconcile_every_s: Seconds = 30.0
    """A delete is found after this many seconds at the latest."""
    base_every_s: Seconds = 86_400.0
    """The whole namespace is read again this often, as an audit, in seconds."""
    overlap_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """How far a sweep reaches back before the last one, in seconds."""
    skew_s: Annotated[float, Field(ge=0, le=3600)] = 0.25
    """Clock differences that are allowed for, in seconds."""
    catalog: Path = Path("catalog")
    """Directory of the catalog; a relative one is beside this file."""
    transaction_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    """A sweep larger than this is published in pieces."""
    connections: Annotated[int, Field(ge=1, le=64)] = 2
    """Connections to each node that read a namespace in full or look for deletes; a sweep takes one."""

    @field_validator("shards")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two: 1, 2, 4 … 4096")
        return value


class ProtectionSettings(Section):
    """What the source is spared, for each namespace. Nodes that answer busy are given way to in any case."""

    records_per_s: Annotated[int, Field(ge=0)] = 0
    """Records read a second at the most, bins and update times counted each: changes come half as fast. 0: no limit."""
    pause_ms: Annotated[int, Field(ge=0, le=60_000)] = 0
    """How long a base snapshot or an audit rests for every partition it has read, in milliseconds."""
    query_threads: Annotated[int, Field(ge=0)] = 0
    """Query threads of a node that may be kept busy; 0: as many as collector.connections take."""


class CompactorSettings(Section):
    """How the changes become segments and restore sets."""

    segment_every_s: Seconds = 10.0
    """A segment is written this often when something changed, in seconds."""
    segment_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    """Or when this much has gathered."""
    set_every_s: Seconds = 3600.0
    """A restore set is made this often, in seconds."""
    memory_bytes: Annotated[int, Field(ge=16 << 20)] = 128 << 20
    """How much is held in memory at the most, for each namespace and destination, and by merges and sets once more."""
    merge_segments: Annotated[int, Field(ge=0, le=1000)] = 8
    """So many segments of one tier become one of the next: minutes, hours, days; 0 or 1: never."""
    recovery_time_s: Annotated[float, Field(ge=0, le=31_536_000)] = 300.0
    """A restore set is made earlier when replaying what came after the last one would take this long; 0: never."""


class ReplayerSettings(Section):
    """How a restore writes."""

    connections: Annotated[int, Field(ge=1, le=64)] = 3
    """Connections to each node."""
    batch_records: Annotated[int, Field(ge=1, le=5000)] = 500
    """Records in a batch at the most."""
    batch_bytes: Annotated[int, Field(ge=1 << 16, le=64 << 20)] = 1 << 20
    """Bytes in a batch, about."""
    records_per_s: Annotated[int, Field(ge=0)] = 0
    """Write no faster than this; 0: as fast as it goes."""
    journal: Path = Path("restores")
    """Directory where restores note how far they are, so that they can go on; a relative one is beside this file."""


def _place(value: str) -> str:
    namespace, at, hosts = value.partition("@")
    if value and (not re.fullmatch(r"[^:;\s]{1,31}", namespace) or (at and not hosts)):
        raise ValueError("must be NAMESPACE or NAMESPACE@HOST:PORT[,HOST:PORT]")
    for host in filter(None, hosts.split(",")):
        _host_and_port(host)
    return value


class DrillSettings(Section):
    """Rehearsed restores into a scratch namespace, compared there and removed again. The source is only read."""

    into: Annotated[str, AfterValidator(_place)] = ""
    """The scratch namespace: NAMESPACE or NAMESPACE@HOST:PORT[,HOST:PORT]; empty, and nobody else's. "": no drills."""
    schedule: Annotated[str, AfterValidator(cron)] = ""
    """When, while `run` works, as a cron expression in UTC, such as "30 3 * * sun". Empty: by every_s."""
    every_s: Seconds = 604_800.0
    """How often, in seconds, where there is no schedule."""
    sample: Annotated[str, Field(pattern=r"^(\d+(\.\d+)?%|all)$")] = "1%"
    """How much of the namespace, as a share of its partitions, or all."""
    at: str = "random"
    """Which moment: random (of the last seven days), latest, a duration ago such as 10m, or the name of a mark."""


class HttpSettings(Section):
    """Metrics and health, while running."""

    host: str = "127.0.0.1"
    """Address to listen at."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """Port; 0: any free one."""


class Settings(Section):
    """All of it."""

    aerospike: AerospikeSettings = AerospikeSettings()
    scope: dict[str, ScopeSettings] = {}
    kafka: KafkaSettings = KafkaSettings()
    collector: CollectorSettings = CollectorSettings()
    protection: ProtectionSettings = ProtectionSettings()
    compactor: CompactorSettings = CompactorSettings()
    archive: ArchiveSettings = ArchiveSettings()
    destinations: dict[DestinationName, DestinationSettings] = {}
    replayer: ReplayerSettings = ReplayerSettings()
    drill: DrillSettings = DrillSettings()
    http: HttpSettings = HttpSettings()

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.collector.overlap_s < self.collector.skew_s:
            raise ValueError("collector.overlap_s must be at least collector.skew_s")
        if self.drill.into in self.aerospike.namespaces:
            raise ValueError(
                f"drill.into: {self.drill.into} is backed up itself, and drills write to no such namespace"
            )
        for name in self.scope:
            if name not in self.aerospike.namespaces:
                raise ValueError(
                    f"scope.{name}: {name} is not among aerospike.namespaces ({', '.join(self.aerospike.namespaces)}); "
                    "add it there, or remove its scope"
                )
        return self

    def of(self, namespace: str) -> "Settings":
        """The same for one of the namespaces alone. Raises ConfigError for one that is not configured."""
        if namespace not in self.aerospike.namespaces:
            raise ConfigError(
                f"namespace {namespace} is not configured",
                f"Name one of {', '.join(self.aerospike.namespaces)}, or add it to aerospike.namespaces.",
            )
        alone = self.aerospike.model_copy(update={"namespaces": (namespace,)})
        scope = {name: limits for name, limits in self.scope.items() if name == namespace}
        return self.model_copy(update={"aerospike": alone, "scope": scope})

    def each(self) -> "tuple[Settings, ...]":
        """The settings of every namespace, each alone."""
        return tuple(self.of(namespace) for namespace in self.aerospike.namespaces)

    @property
    def destination_names(self) -> tuple[str, ...]:
        """The destinations, that of [archive] first."""
        return (self.archive.destination, *self.destinations)

    def destination(self, name: str) -> "Settings":
        """The same with one of the destinations alone, as `archive`. Raises ConfigError for one that is not
        configured."""
        if name not in self.destination_names:
            raise ConfigError(
                f"there is no destination {name}",
                f"Name one of {', '.join(self.destination_names)}, or add [destinations.{name}].",
            )
        chosen = self.archive if name == self.archive.destination else self.destinations[name].called(name)
        return self.model_copy(update={"archive": chosen, "destinations": {}})

    def each_destination(self) -> "tuple[Settings, ...]":
        """The settings of every destination, each alone."""
        return tuple(self.destination(name) for name in self.destination_names)

    def apart(self) -> "Settings":
        """The same. Raises ConfigError where one destination lies at or within another's place, as
        `config_archive.apart` does."""
        apart([one.archive for one in self.each_destination()])
        return self
