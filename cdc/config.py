"""The settings, as frozen models with units in their names. Pure: reading files and environment is `cdc.cli.settings`.

Each section belongs to one folder of the code; a role gets its sections and nothing else.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Seconds = Annotated[float, Field(gt=0, le=31_536_000)]
Host = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:]+\]|[^:\s]+):\d{1,5}$")]


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TlsSettings(Section):
    """Transport encryption towards Aerospike."""

    enabled: bool = False
    name: str = ""  # the server's tls-name; empty: the host's name
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class AerospikeSettings(Section):
    """The cluster and the namespace to back up, or to restore to."""

    hosts: tuple[Host, ...] = ("127.0.0.1:3000",)
    namespace: Annotated[str, Field(min_length=1, max_length=31)] = "test"
    user: str = ""
    password: SecretStr = SecretStr("")
    auth: Literal["internal", "external"] = "internal"
    tls: TlsSettings = TlsSettings()
    timeout_s: Seconds = 10.0
    services_alternate: bool = False  # use the nodes' alternate addresses


class KafkaSettings(Section):
    """The brokers and the topics."""

    bootstrap: str = "127.0.0.1:9092"
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)] = "aerospike"
    replication: Annotated[int, Field(ge=1, le=32767)] = 1
    retention_hours: Annotated[float, Field(gt=0)] = 168.0
    max_message_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 27)] = 9 << 20
    compression: Literal["none", "lz4", "zstd", "snappy", "gzip"] = "lz4"
    session_timeout_s: Seconds = 10.0
    timeout_s: Seconds = 30.0  # after which an unreachable broker is an error
    client: dict[str, str | int | float | bool] = {}  # any librdkafka setting: security.protocol, sasl.*, ssl.* …
    client_secrets: dict[str, SecretStr] = {}  # the same, for values that are never printed

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
    sweep_every_s: Seconds = 1.0
    reconcile_every_s: Seconds = 30.0
    base_every_s: Seconds = 86_400.0  # the periodic audit
    overlap_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    skew_s: Annotated[float, Field(ge=0, le=3600)] = 0.25
    catalog: Path = Path("catalog")
    transaction_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20  # a larger sweep is published in pieces
    connections: Annotated[int, Field(ge=1, le=64)] = 2  # query connections a node

    @field_validator("shards")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("shards must be a power of two: 1, 2, 4 … 4096")
        return value


class CompactorSettings(Section):
    """How the changes become segments and restore sets."""

    segment_every_s: Seconds = 10.0
    segment_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    set_every_s: Seconds = 3600.0
    memory_bytes: Annotated[int, Field(ge=16 << 20)] = 128 << 20


class ArchiveSettings(Section):
    """Where the restore sets are kept."""

    path: Path = Path("archive")
    zstd_level: Annotated[int, Field(ge=1, le=19)] = 3
    block_bytes: Annotated[int, Field(ge=1 << 12, le=1 << 24)] = 128 << 10


class ReplayerSettings(Section):
    """How a restore writes."""

    connections: Annotated[int, Field(ge=1, le=64)] = 3  # a node
    batch_records: Annotated[int, Field(ge=1, le=5000)] = 500
    batch_bytes: Annotated[int, Field(ge=1 << 16, le=64 << 20)] = 1 << 20
    records_per_s: Annotated[int, Field(ge=0)] = 0  # 0: as fast as it goes


class HttpSettings(Section):
    """Metrics and health."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9464


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
