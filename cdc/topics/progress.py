"""What one transaction completed, as `schemas/progress.avsc` says it."""

import io
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from fastavro import schemaless_reader, schemaless_writer

from cdc.codec import framing
from cdc.codec.schemas import without_logical_types
from cdc.errors import BodyDamaged

PLAIN = without_logical_types("progress")
"""The schema with moments as the plain longs they are on the wire: inside, time is an int."""


class Kind(StrEnum):
    """What kind of look a transaction belongs to."""

    BASE = "BASE"
    SWEEP = "SWEEP"
    RECONCILE = "RECONCILE"
    AUDIT = "AUDIT"


@dataclass(frozen=True, slots=True)
class Progress:
    """One progress record; the fields are described in the schema, moments are milliseconds since 1970."""

    shard: int
    shards: int
    epoch: int
    sweep: int
    kind: Kind
    complete: bool
    partitions: tuple[int, ...]
    started_at: int
    observed_at: int
    unobserved_since: int
    resolved_at: int
    reconciled_at: int
    changes_from: int
    changes_through: int
    writes: int
    deletes: int
    aside: int
    scope: str = ""

    def encode(self) -> bytes:
        """As it stands in Kafka: Avro single-object encoding."""
        out = io.BytesIO()
        out.write(framing.head("progress"))
        schemaless_writer(out, PLAIN, {**asdict(self), "kind": self.kind.value})
        return out.getvalue()

    @classmethod
    def decode(cls, value: bytes, where: str = "a progress record") -> "Progress":
        """From its encoding. BodyDamaged says `where` it stands."""
        source = io.BytesIO(framing.unframe_one(value, "progress", where))
        try:
            fields: Any = schemaless_reader(source, PLAIN, None)
        except (EOFError, ValueError, IndexError, OverflowError) as error:
            raise BodyDamaged(f"{where} is not an encoded progress record: {error!r}") from error
        if source.read(1):
            raise BodyDamaged(f"{where} has bytes after its end")
        return cls(**{**fields, "kind": Kind(fields["kind"]), "partitions": tuple(fields["partitions"])})
