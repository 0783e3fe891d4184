"""The settings, as frozen models with units in their names. Pure: reading files and environment is `cdc.cli.settings`.

Each section belongs to one folder of the code; a role gets its sections and nothing else. The text under a field is
what `aerospike-cdc init` writes above it.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


def _host_and_port(value: str) -> str:
    if not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^:\s\[\]]+):\d{1,5}", value) or int(value.rpartition(":")[2]) > 65535:
        raise ValueError("must be host:port, such as 10.0.0.5:3000 or [::1]:3000")
    return value


Host = Annotated[str, AfterValidator(_host_and_port)]


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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
    """The cluster and the namespace to back up."""

    hosts: tuple[Host, ...] = ("127.0.0.1:3000",)
    """Some nodes to begin with; the others are found."""
    namespace: Annotated[str, Field(min_length=1, max_length=31)] = "test"
    """The namespace to back up."""
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
    """Query connections to each node."""

    @field_validator("shards")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two: 1, 2, 4 … 4096")
        return value


class CompactorSettings(Section):
    """How the changes become segments and restore sets."""

    segment_every_s: Seconds = 10.0
    """A segment is written this often when something changed, in seconds."""
    segment_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    """Or when this much has gathered."""
    set_every_s: Seconds = 3600.0
    """A restore set is made this often, in seconds."""
    memory_bytes: Annotated[int, Field(ge=16 << 20)] = 128 << 20
    """How much is held in memory at the most."""


class ArchiveSettings(Section):
    """Where segments and restore sets are kept."""

    path: Path = Path("archive")
    """Directory of the archive; a relative one is beside this file."""
    zstd_level: Annotated[int, Field(ge=1, le=19)] = 3
    """Compression level."""
    block_bytes: Annotated[int, Field(ge=1 << 12, le=1 << 24)] = 128 << 10
    """Size of a block before compression: one record's look-up reads one."""


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


class HttpSettings(Section):
    """Metrics and health, while running."""

    host: str = "127.0.0.1"
    """Address to listen at."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """Port; 0: any free one."""


class Settings(Section):
    """All of it."""

    aerospike: AerospikeSettings = AerospikeSettings()
    kafka: KafkaSettings = KafkaSettings()
    collector: CollectorSettings = CollectorSettings()
    compactor: CompactorSettings = CompactorSettings()
    archive: ArchiveSettings = ArchiveSettings()
    replayer: ReplayerSettings = ReplayerSettings()
    http: HttpSettings = HttpSettings()

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.collector.overlap_s < self.collector.skew_s:
            raise ValueError("collector.overlap_s must be at least collector.skew_s")
        return self
