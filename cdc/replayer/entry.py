"""A restore as its journal knows it: what was asked, and how far it is. Pure."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from cdc.archive import manifests
from cdc.clock import rfc3339
from cdc.replayer.plan import Kind
from cdc.replayer.report import Counts
from cdc.replayer.standing import Standing
from cdc.replayer.wanted import Part, Wanted

State = Literal["running", "interrupted", "complete", "failed", "damaged"]
"""`interrupted`: nobody works on it, and it was not ended, or cancelled. `failed`: an error ended it. `damaged`: what
the journal has of it cannot be read."""

_VERSION: Final = 1
_NAMED: Final = 20
"""So many records a command names."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a restore was asked, and what it was planned by. `into` is as in `Plan`; `hosts` are those of its cluster.

    `manifests`: shard, sequence and SHA-256 of each. `counts`: by shard, empty where they were not counted. `tail`: a
    directory with what was taken from Kafka beyond the archive, until the restore is complete.
    """

    id: str
    kind: Kind
    namespace: str
    destination: str
    into: str
    hosts: tuple[str, ...]
    at: int
    planned_at: int
    begun_at: int
    wanted: Wanted
    records_per_s: int
    manifests: tuple[tuple[int, int, str], ...]
    counts: dict[int, Counts]
    named_file: Path | None
    tail: Path | None

    @property
    def anew(self) -> str:
        """The command that begins the same restore anew, over what it did. What limited it limits that one too."""
        wanted, part = self.wanted, self.wanted.part
        named = part.digests if len(part.digests) <= _NAMED else ()
        existing = "keep" if wanted.existing == "fail" else wanted.existing
        given = [("--at", rfc3339(self.at)), ("--namespace", self.namespace), ("--destination", self.destination)]
        given += [("--into", self.into), ("--existing", existing)] if self.kind == "clone" else []
        given += [("--into-set", wanted.into_set)] if wanted.into_set else []
        given += [("--set", name) for name in part.sets]
        given += [("--digest", digest.hex()) for digest in named]
        given += [("--partition", span) for span in part.spans]
        given += [("--where", str(one)) for one in part.where]
        given += [("--bins", ",".join(part.bins))] if part.bins else []
        given += [("--expired", wanted.expired)] if wanted.expired != "keep" else []
        given += [("--metadata", wanted.metadata)] if wanted.metadata != "none" else []
        words = ["aerospike-cdc", "restore", *(word for pair in given for word in pair)]
        words += ["--overwrite"] if wanted.overwrite else []
        # Too many for a line; whoever named them has them in a file.
        words += ["--keys-file", "FILE"] if len(named) < len(part.digests) else []
        return shlex.join(words)

    def encode(self) -> bytes:
        """Sealed, for the journal."""
        said = asdict(self) | {
            "version": _VERSION,
            # JSON has no numbers for names, and orders these otherwise.
            "counts": {str(shard): asdict(counts) for shard, counts in self.counts.items()},
            "wanted": asdict(self.wanted) | {"part": self.wanted.part.to_dict()},
            "named_file": None if self.named_file is None else str(self.named_file),
            "tail": None if self.tail is None else str(self.tail),
        }
        return manifests.seal("restore", said)

    @classmethod
    def decode(cls, data: bytes, name: str) -> "Asked":
        """What `encode` made. Raises ObjectDamaged, with the name, and FormatTooNew."""
        said = manifests.unseal("restore", data, name)
        said.pop("version")
        wanted = said.pop("wanted")
        part = Part.from_dict(wanted.pop("part"))
        return cls(
            **said
            | {
                "wanted": Wanted(part=part, **wanted),
                "hosts": tuple(said["hosts"]),
                "manifests": tuple((shard, sequence, sha256) for shard, sequence, sha256 in said["manifests"]),
                "counts": {int(shard): Counts(**counts) for shard, counts in said["counts"].items()},
                "named_file": None if said["named_file"] is None else Path(said["named_file"]),
                "tail": None if said["tail"] is None else Path(said["tail"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A restore in the journal. Where it is damaged, `error` says how, and `asked` may be missing."""

    id: str
    state: State
    error: str
    asked: Asked | None
    standing: Standing

    @property
    def goes_on(self) -> bool:
        """Whether it may be resumed."""
        return self.state in ("interrupted", "failed")

    @property
    def over(self) -> bool:
        """Whether nothing would be lost with it: it is complete, or had not begun to write."""
        return self.state == "complete" or (self.goes_on and not self.standing.writing)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        asked, now = self.asked, self.standing
        of: dict[str, Any] = dict.fromkeys(
            ("kind", "namespace", "destination", "into", "into_set", "at", "begun_at", "named_file")
        )
        if asked is not None:
            of = {
                "kind": asked.kind,
                "namespace": asked.namespace,
                "destination": asked.destination,
                "into": asked.into,
                "into_set": asked.wanted.into_set or None,
                "at": rfc3339(asked.at),
                "begun_at": rfc3339(asked.begun_at),
                "named_file": None if asked.named_file is None else str(asked.named_file),
            }
        return {
            "id": self.id,
            "state": self.state,
            **of,
            "last_said_at": rfc3339(now.said_at) if now.said_at else None,
            "runs": now.runs,
            "seconds": round(now.seconds, 3),
            "done": now.touched,
            "total": now.total,
            "counts": dict(now.counts),
            "error": self.error or None,
            "exit_code": now.exit_code,
        }
