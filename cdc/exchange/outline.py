"""What an export is, as its `export.json` says it. Plain JSON, which a person may write too. Pure."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from cdc.archive import Resolution
from cdc.clock import parse_rfc3339, rfc3339
from cdc.codec import schemas
from cdc.errors import FormatTooNew, ObjectDamaged
from cdc.exchange.chosen import Counts

NAME = "export.json"
VERSION = 1

Format = Literal["avro", "parquet"]
Part = Literal["records", "changes", "doubts"]


@dataclass(frozen=True, slots=True)
class File:
    """A file of an export, by its path below the export. `doubts` are the versions because of which the state of some
    records is not exact."""

    name: str
    part: Part
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Outline:
    """An export of `namespace`: its state at `until` (`since` is None), or its changes from `since` to `until`.

    Moments are milliseconds here and RFC 3339 in the file. `reconciled_at` is that of each shard of the archive;
    `sets` are the only ones it is about, empty: all of the archive's `scope`. `schema` is the CRC-64-AVRO of the
    change's schema in hexadecimal.
    """

    format: Format
    namespace: str
    since: int | None
    until: int
    made_at: int
    scope: str
    sets: tuple[str, ...]
    resolution: Resolution
    reconciled_at: tuple[int, ...]
    schema: str
    counts: Counts = field(default_factory=Counts)
    files: tuple[File, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        span = {"from": rfc3339(self.since or 0), "until": rfc3339(self.until)}
        counts = asdict(self.counts)
        if self.since is None:
            told = {name: counts[name] for name in ("records", "exact", "presumed", "fuzzy")}
        else:
            told = {name: counts[name] for name in ("records", "ends", "aside")}
        return {
            "version": VERSION,
            "kind": "state" if self.since is None else "changes",
            "format": self.format,
            "namespace": self.namespace,
            **({"at": rfc3339(self.until)} if self.since is None else span),
            "made_at": rfc3339(self.made_at),
            "scope": self.scope,
            "sets": list(self.sets),
            "resolution": self.resolution._asdict(),
            "reconciled_at": [rfc3339(at) for at in self.reconciled_at],
            "schema": self.schema,
            "counts": told,
            "files": [asdict(file) for file in self.files],
        }

    def encode(self) -> bytes:
        """The file's bytes."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, name: str = NAME) -> Self:
        """The outline of such bytes. Raises ObjectDamaged with the file's name, or FormatTooNew."""
        try:
            said = json.loads(data)
            version = said["version"]
            if not isinstance(version, int) or version < 1:
                raise ValueError("no version")
            if version > VERSION:
                raise FormatTooNew(f"{name} has version {version}; this program reads versions up to {VERSION}")
            state = {"state": True, "changes": False}[said["kind"]]
            return cls(
                format={"avro": "avro", "parquet": "parquet"}[said["format"]],  # type: ignore[arg-type]
                namespace=str(said["namespace"]),
                since=None if state else parse_rfc3339(said["from"]),
                until=parse_rfc3339(said["at" if state else "until"]),
                made_at=parse_rfc3339(said["made_at"]),
                scope=str(said["scope"]),
                sets=tuple(map(str, said["sets"])),
                resolution=Resolution(**said["resolution"]),
                reconciled_at=tuple(map(parse_rfc3339, said["reconciled_at"])),
                counts=Counts(**said["counts"]),
                files=tuple(File(**file) for file in said["files"]),
                schema=str(said["schema"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ObjectDamaged(f"{name} does not have the form of an export's outline", HINT) from error


HINT = "Export again, or take another copy of the export."


def fingerprint() -> str:
    """Which schema of changes this program writes: its CRC-64-AVRO in hexadecimal, as single-object encoding has it."""
    return schemas.fingerprint("change").hex()
