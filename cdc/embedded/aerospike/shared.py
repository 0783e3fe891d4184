"""Metadata that all nodes share: secondary indexes and UDFs, registered but never used."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index, as registered; it holds no entries."""

    namespace: str
    name: str
    set_name: str
    bin_name: str
    kind: str  # numeric, string, blob, geo2dsphere
    collection: str  # default, list, mapkeys, mapvalues
    context: str = "null"
    expression: str = "null"


@dataclass(slots=True)
class Shared:
    """What every node knows, whoever was told."""

    indexes: dict[tuple[str, str], Index] = field(default_factory=dict)
    udfs: dict[str, bytes] = field(default_factory=dict)
    """File name to content."""
