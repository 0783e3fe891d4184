"""Manifests: what an archive holds of one shard, as of one commit. Pure; `cdc.archive.archive` reads and writes them.

A manifest names everything a restore may use, with hash and size; an object that no manifest names is garbage. The
bytes are canonical JSON `{"manifest": {…}, "sha256": …}`: keys sorted, no spaces, a line feed at the end, and the
SHA-256 of the inner object's canonical bytes. Each manifest also carries the SHA-256 of the whole one before it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from cdc.archive.looks import Span, Spans
from cdc.errors import FormatTooNew, ObjectDamaged

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Epoch:
    """One unbroken history of a shard, from a base snapshot that began from nothing.

    `number` counts the shard's epochs from 1 and names this one in segments and sets: neither moments (a clock set
    back) nor offsets (a topic made anew) would. `recoverable_from` is None until the base snapshot is complete.
    `ended` says why nothing follows `resolved_at`; empty while the history goes on. `scope` says which records it is
    about, in words; empty: all of them. `writes` and `deletes` say how long looks for them could see nothing, span by
    span (`cdc.archive.looks`); the time since `reconciled_at` is not among the latter yet.
    """

    number: int
    began_at: int
    changes_from: int
    recoverable_from: int | None = None
    resolved_at: int = 0
    reconciled_at: int = 0
    ended: str = ""
    scope: str = ""
    writes: Spans = ()
    deletes: Spans = ()

    @property
    def filtered(self) -> bool:
        """Whether the scope looks at more than sets. The filter stands last in its words; a list of sets ends with a
        bracket (`source.Scope.text`)."""
        return bool(self.scope) and not self.scope.endswith("]")


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """An object of versions sorted by (digest, offset), and its index, whose name ends in `.idx` instead of `.avro`.

    `size` and `sha256` are the object's, `index_size` and `index_sha256` its index's; `raw_size` is the size of its
    blocks before compression; `tier` is 0 for what came from Kafka. Digests are hexadecimal. Times are milliseconds;
    offsets are those of the changes topic, both inclusive. `epoch` is the number of the only one it has changes of.
    """

    name: str
    epoch: int
    size: int
    sha256: str
    index_size: int
    index_sha256: str
    rows: int
    raw_size: int
    first_digest: str
    last_digest: str
    first_offset: int
    last_offset: int
    min_effective_at: int
    max_effective_at: int
    min_unobserved_since: int
    max_observed_at: int
    tier: int = 0

    @property
    def index_name(self) -> str:
        """The name of the index object."""
        return self.name.removesuffix(".avro") + ".idx"


@dataclass(frozen=True, slots=True)
class RestoreSet:
    """The full state at `at`: of every record the version that held then, in segments that do not overlap.

    It stands for every change of the epoch with an offset below `through` and `effective_at` <= `at`. Whoever reads it
    together with segments leaves out those rows of the segments (`cdc.archive.merged`): the set may lack the end of a
    record, and they would bring the record back.

    Its segments stand in an object of their own, the *listing* (`cdc.archive.listings`), of this name, size and
    SHA-256. `rows` are the set's versions, `size` the bytes of all objects and indexes that the listing names. The
    listing also has what of the changes with offsets below `beside_through` else concerns the moment, so that the
    segments with those changes may go.
    """

    at: int
    through: int
    epoch: int
    rows: int
    size: int
    listing: str
    listing_size: int
    listing_sha256: str
    made_at: int = 0
    beside_through: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that the archive holds of one shard.

    `next_changes` and `next_progress` are the Kafka offsets where the compactor goes on: everything below them is in
    here. `after_gap` says that what stood before `next_progress` was lost, or that nothing was ever read. The
    offsets are of the topics with the ids `changes_topic` and `progress_topic`; a topic made anew has another id.
    `previous` is the SHA-256 of the manifest with the sequence before, empty for the first (sequence 1).

    Manifests with sequences below `first_kept` were pruned, and so may have been what only they named. Changes are kept
    for all moments from `changes_kept_from` on (0: for all that were ever recoverable); before it each restore set
    stands for its one moment.

    `repaired` says what a repair did with this manifest (`cdc.archive.repair`); empty: it is none of a repair's. Where
    that could not go on from the manifest before, the proof begins anew: `first_kept` is its own sequence then.
    """

    namespace: str
    shard: int
    shards: int
    sequence: int = 0
    previous: str = ""
    written_at: int = 0
    next_changes: int = 0
    next_progress: int = 0
    after_gap: bool = True
    first_kept: int = 1
    changes_kept_from: int = 0
    changes_topic: str = ""
    progress_topic: str = ""
    epochs: tuple[Epoch, ...] = ()
    segments: tuple[SegmentInfo, ...] = ()
    sets: tuple[RestoreSet, ...] = ()
    repaired: str = ""

    def epoch(self, number: int) -> Epoch | None:
        """The epoch of this number; None where it is not named."""
        return next((epoch for epoch in self.epochs if epoch.number == number), None)


def encode(manifest: Manifest) -> bytes:
    """The manifest's bytes."""
    inner = {"version": FORMAT_VERSION, **asdict(manifest)}
    return seal("manifest", inner)


def decode(data: bytes, name: str) -> Manifest:
    """The manifest of such bytes. Raises ObjectDamaged with the object's name, or FormatTooNew."""
    inner = unseal("manifest", data, name)
    inner.pop("version")
    try:
        return _manifest(inner)
    except (TypeError, KeyError) as error:
        raise ObjectDamaged(f"{name} does not have the form of a manifest") from error


def following(manifest: Manifest, data: bytes | None) -> Manifest:
    """The manifest with the sequence and hash that come after its encoded self `data` (None: it is a shard's first)."""
    previous = sha256(data) if data is not None else ""
    return replace(manifest, sequence=manifest.sequence + 1, previous=previous, repaired="")


def canonical(value: object) -> bytes:
    """One spelling of a JSON value, so that equal values have equal hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def sha256(data: bytes | bytearray | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def seal(kind: str, inner: dict[str, Any]) -> bytes:
    """A JSON object that is named by its kind and followed by its hash, as canonical bytes."""
    return canonical({kind: inner, "sha256": sha256(canonical(inner))})


def unseal(kind: str, data: bytes, name: str) -> dict[str, Any]:
    """The inner object. Raises ObjectDamaged with the object's name if any byte is not as `seal` wrote it, and
    FormatTooNew if its `version` is after ours."""
    try:
        outer = json.loads(data)
    except ValueError as error:
        raise ObjectDamaged(f"{name} is not JSON") from error
    inner = outer.get(kind) if isinstance(outer, dict) else None
    if not isinstance(inner, dict) or seal(kind, inner) != data:
        raise ObjectDamaged(f"{name} does not have the hash that it states")
    version = inner.get("version")
    if not isinstance(version, int) or version < 1:
        raise ObjectDamaged(f"{name} does not say the version of its format")
    if version > FORMAT_VERSION:
        raise FormatTooNew(f"{name} has format version {version}; this program reads versions up to {FORMAT_VERSION}")
    return inner


def _manifest(inner: dict[str, Any]) -> Manifest:
    epochs = tuple(
        Epoch(**{**e, "writes": _spans(e["writes"]), "deletes": _spans(e["deletes"])}) for e in inner.pop("epochs")
    )
    segments = tuple(SegmentInfo(**s) for s in inner.pop("segments"))
    sets = tuple(RestoreSet(**s) for s in inner.pop("sets"))
    return Manifest(**inner, epochs=epochs, segments=segments, sets=sets)


def _spans(values: list[list[int]]) -> Spans:
    return tuple(Span(*value) for value in values)
