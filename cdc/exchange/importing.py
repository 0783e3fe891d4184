"""Imports: an archive whose one recoverable moment is that of an export, from plain Avro files, whoever wrote them."""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from cdc.archive import Archive, Epoch, LocalStore, SegmentInfo, Versions, View, listings, merged, open_store
from cdc.archive.archive import write_format
from cdc.archive.listings import Listing
from cdc.archive.looks import Span, Spans
from cdc.archive.segments import SegmentWriter
from cdc.archive.versions import concat, order
from cdc.clock import rfc3339
from cdc.config import ArchiveSettings, Settings
from cdc.errors import ArchiveError, ObjectDamaged, StoreForbidden, UsageError
from cdc.exchange import avro, outline
from cdc.exchange.folder import told
from cdc.exchange.outline import HINT, File, Outline, Part
from cdc.model import I64, NEVER, Bool, Op, digest_order, partition_of, shard_of
from cdc.replayer.report import Meter, Watch

EPOCH = 1
FAN_IN = 48
"""So many sorted runs of a shard are read at a time; each holds a megabyte."""
BATCH_BYTES = 8 << 20
HASH_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made: the archive at `place` has `namespace` at the moment `at` (milliseconds), and no other.

    `doubts` are the versions that say of which records the state is not sure; `bytes` is the size of all objects.
    """

    namespace: str
    place: str
    at: int
    shards: int
    records: int
    doubts: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Source:
    """Files below a directory, and what is known of them besides their content."""

    path: Path
    at: int
    files: tuple[File, ...]
    said: Outline | None


@dataclass(slots=True)
class _Runs:
    """Sorted runs of versions on disk, those of each shard in a list; a run's segments follow each other."""

    path: Path
    store: LocalStore
    settings: ArchiveSettings
    of: dict[int, list[tuple[SegmentInfo, ...]]] = field(default_factory=dict)
    through: int = 0

    def write(self, writer: SegmentWriter, shard: int) -> SegmentInfo:
        """Finish a segment of a shard's run. Raises StoreForbidden."""
        try:
            return writer.finish(self.store, f"shard-{shard:04d}")
        except StoreForbidden as error:
            raise StoreForbidden(
                f"{self.path}: {error.message}", "Sorting needs room on disk: TMPDIR can name another directory for it."
            ) from error


def namespace_of(source: Path) -> str | None:
    """The namespace that an export says it is of; None where it has no outline. Raises ObjectDamaged, FormatTooNew."""
    said = _outline(source)
    return said.namespace if said is not None else None


def import_state(
    source: Path, settings: Settings, *, now: int, at: int | None = None, watch: Watch | None = None
) -> Imported:
    """Make an archive of the settings' only namespace at their `archive`, from the Avro files below `source`.

    That is what `export_state` wrote; or any directory with files of versions, in any order and with any usual codec,
    and then `at` (milliseconds) must say which moment they are the state of, and every state counts as sure. The
    archive has that one moment: a clone of it has everything that the records had.

    Before anything is written, every file is compared with its SHA-256, if it has one. Sorting takes place on disk, in
    the system's directory for temporary files; memory: below 400 MB for records of up to 1 MiB. When it raises, the
    archive is not there. Raises UsageError for what is no export of a state as Avro, or if the archive has the
    namespace already; ObjectDamaged that names the file and the record; StoreForbidden, StoreUnreachable, Cancelled.
    """
    watch = watch or Watch()
    namespace, place = settings.aerospike.namespace, settings.archive.place
    found = _found(source, at)
    store = open_store(settings.archive, create=True)
    if any(name.endswith("/format.json") or "/manifests/" in name for name in store.list(namespace)):
        raise UsageError(
            f"the archive at {place} has something of the namespace {namespace}",
            "Name an empty place: another archive.path or archive.url, or another --destination.",
        )
    _verify(found, watch)
    with tempfile.TemporaryDirectory(prefix="aerospike-cdc-import-") as name:
        directory = Path(name)
        quick = settings.archive.model_copy(update={"zstd_level": 1})
        runs = _Runs(directory, LocalStore(directory, create=True), quick)
        _sort(found, settings, runs, watch)
        return _make(found, settings, Archive(store, namespace, settings.collector.shards), runs, now, watch)


def _outline(source: Path) -> Outline | None:
    path = source / outline.NAME
    with told(path):
        return Outline.decode(path.read_bytes(), str(path)) if path.exists() else None


def _found(source: Path, at: int | None) -> _Source:
    said = _outline(source)
    if said is None:
        names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.avro"))
        if at is None or not names:
            raise UsageError(
                f"{source} has no {outline.NAME}" + ("" if names else " and no Avro files"),
                "Name a directory that `export` made; or, with files of others, their moment: --at T.",
            )
        files = tuple(File(name, _part(name), avro.count(source / name, name), 0, "") for name in names)
        return _Source(source, at, files, None)
    if at is not None:
        raise UsageError(f"{source} says itself which moment it is of", "Leave --at out.")
    if said.since is not None or said.format != "avro":
        what = "changes" if said.since is not None else said.format
        raise UsageError(f"{source} is an export of {what}", "Only a state as Avro can be imported: export --at T.")
    for file in said.files:
        path = PurePosixPath(file.name)
        if path.is_absolute() or ".." in path.parts:
            raise ObjectDamaged(f"{source / outline.NAME} names {file.name}, which lies elsewhere", HINT)
    return _Source(source, said.until, said.files, said)


def _part(name: str) -> Part:
    return "doubts" if name.startswith("doubts/") else "records"


def _verify(found: _Source, watch: Watch) -> None:
    """Compare every file with what the outline says of it."""
    meter = Meter(sum(file.rows for file in found.files), "verify", watch)
    for file in found.files:
        if file.sha256:
            hashed, path = hashlib.sha256(), found.path / file.name
            with told(path), path.open("rb") as data:
                while part := data.read(HASH_BYTES):
                    watch.step()
                    hashed.update(part)
            if hashed.hexdigest() != file.sha256:
                for _ in avro.read(path, file.name):
                    watch.step()  # it says at which record the file cannot be read, if there is one
                raise ObjectDamaged(f"{file.name} does not have the SHA-256 that {outline.NAME} says", HINT)
        meter.add(file.rows)


def _sort(found: _Source, settings: Settings, runs: _Runs, watch: Watch) -> None:
    """Every version into a sorted run of its shard."""
    meter = Meter(sum(file.rows for file in found.files), "read", watch)
    waiting: list[Versions] = []
    most = settings.compactor.memory_bytes // 4
    for file in found.files:
        done = 0
        for versions in avro.read(found.path / file.name, file.name):
            _check(versions, file, found.at, done)
            done += versions.rows
            waiting.append(versions)
            if sum(part.size for part in waiting) >= most:
                _spill(concat(waiting), settings.collector.shards, runs)
                waiting = []
            meter.add(versions.rows)
        if done != file.rows:
            raise ObjectDamaged(f"{file.name} has {done:,} records where {outline.NAME} says {file.rows:,}", HINT)
    if waiting:
        _spill(concat(waiting), settings.collector.shards, runs)


def _check(versions: Versions, file: File, at: int, done: int) -> None:
    """Whether versions are what a state at a moment consists of. Raises ObjectDamaged that names the first other."""
    columns = versions.columns
    by_then = columns.effective_at <= at
    unsure = by_then & (columns.op == Op.TRUNCATION) & (columns.observed_at > at)
    wrong: dict[str, Bool] = {"has an offset below 0": versions.offsets < 0}
    if file.part == "records":
        expired = (columns.void_time != NEVER) & (columns.void_time <= at)
        wrong["is not a write"] = columns.op != Op.WRITE
        wrong[f"took effect after {rfc3339(at)}, the state's moment"] = ~by_then
        wrong[f"had expired by {rfc3339(at)}, the state's moment"] = expired
    else:
        wrong[f"casts no doubt on a state at {rfc3339(at)}"] = ~unsure & (by_then | (columns.unobserved_since >= at))
    for what, rows in wrong.items():
        if rows.any():
            raise ObjectDamaged(f"{file.name}: record {done + int(rows.argmax()) + 1:,} {what}", HINT)


def _spill(versions: Versions, shards: int, runs: _Runs) -> None:
    rows = order(versions.columns.digest, versions.offsets)
    of = shard_of(partition_of(versions.columns.digest), shards)[rows]
    runs.through = max(runs.through, int(versions.offsets.max()) + 1)
    for shard in np.unique(of).tolist():
        mine = rows[of == shard]
        _unique(versions, mine)
        writer = SegmentWriter(runs.settings, EPOCH)
        writer.add(versions, mine)
        runs.of.setdefault(shard, []).append((runs.write(writer, shard),))


def _unique(versions: Versions, rows: I64) -> None:
    """Raises ObjectDamaged if a version is there twice: sorted neighbours are compared."""
    keys, offsets = digest_order(versions.columns.digest[rows]), versions.offsets[rows]
    twice = np.flatnonzero((keys[1:] == keys[:-1]) & (offsets[1:] == offsets[:-1]))
    if len(twice):
        raise _twice(keys[twice[0]].tobytes())


def _twice(digest: bytes) -> ObjectDamaged:
    return ObjectDamaged(f"the record {digest.hex()} is in the files twice", "A state has every record once.")


def _merged(runs: _Runs, shard: int, epoch: Epoch, watch: Watch) -> Iterator[Versions]:
    """A shard's versions in order, from as few runs at a time as memory allows."""
    left = runs.of.get(shard, [])
    while len(left) > FAN_IN:
        some, left = left[:FAN_IN], left[FAN_IN:]
        writer, made = SegmentWriter(runs.settings, EPOCH), []
        for versions in _stream(runs, shard, epoch, some):
            watch.step()
            _unique(versions, np.arange(versions.rows))
            writer.add(versions)
            if writer.size >= 4 * BATCH_BYTES:
                made.append(runs.write(writer, shard))
                writer = SegmentWriter(runs.settings, EPOCH)
        if writer.rows:
            made.append(runs.write(writer, shard))
        for segment in (segment for run in some for segment in run):
            runs.store.delete(segment.name)
            runs.store.delete(segment.index_name)
        left.append(tuple(made))
    yield from _stream(runs, shard, epoch, left)


def _stream(runs: _Runs, shard: int, epoch: Epoch, some: Sequence[tuple[SegmentInfo, ...]]) -> Iterator[Versions]:
    segments = tuple(segment for run in some for segment in run)
    return merged.stream(runs.store, View(shard, 0, epoch, None, segments), batch_bytes=BATCH_BYTES)


def _make(found: _Source, settings: Settings, archive: Archive, runs: _Runs, now: int, watch: Watch) -> Imported:
    """Write the objects of every shard, then the manifests that name them, and the archive's format last of all."""
    meter = Meter(sum(file.rows for file in found.files), "write", watch)
    made: dict[int, tuple[Epoch, Listing]] = {}
    objects: list[_Objects] = []
    records = 0
    try:
        for shard in range(archive.shards):
            epoch = _epoch(found, shard, archive.shards)
            held, beside = (_Objects(settings, archive, shard) for _ in range(2))
            objects += held, beside
            for versions in _merged(runs, shard, epoch, watch):
                _unique(versions, np.arange(versions.rows))
                by_then = versions.columns.effective_at <= found.at
                rows = np.flatnonzero(by_then)
                _once(versions, rows)
                held.add(versions, rows)
                beside.add(versions, np.flatnonzero(~by_then))
                records += int(np.count_nonzero(versions.columns.op[rows] == Op.WRITE))
                meter.add(versions.rows)
            made[shard] = epoch, Listing(held.finish(), beside.finish())
    except BaseException:
        for some in objects:
            some.forget()
        raise
    size = 0
    for shard, (epoch, listing) in made.items():
        restore_set = listings.write(
            archive.store, archive.directory(shard, "sets"), listing, at=found.at, through=runs.through, epoch=EPOCH,
            made_at=now, beside_through=runs.through,
        )  # fmt: skip
        # No change is kept, not even of the set's own moment: it is restored from the set and its listing alone.
        first = replace(archive.first(shard), written_at=now, changes_kept_from=found.at + 1)
        archive.commit(replace(first, epochs=(epoch,), sets=(restore_set,)))
        size += restore_set.size + restore_set.listing_size
    write_format(archive.store, archive.namespace, archive.shards)
    meter.finish()
    doubts = sum(file.rows for file in found.files if file.part == "doubts")
    return Imported(archive.namespace, settings.archive.place, found.at, archive.shards, records, doubts, size)


def _once(versions: Versions, rows: I64) -> None:
    """Raises ObjectDamaged if a record is among the named rows twice."""
    keys = digest_order(versions.columns.digest[rows])
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        raise _twice(keys[twice[0]].tobytes())


class _Objects:
    """Sorted versions as segments of a restore set, none larger than the compactor makes them."""

    def __init__(self, settings: Settings, archive: Archive, shard: int) -> None:
        self._settings, self._store = settings, archive.store
        self._directory = archive.directory(shard, "sets")
        self._made: list[SegmentInfo] = []
        self._writer = SegmentWriter(settings.archive, EPOCH)

    def add(self, versions: Versions, rows: I64) -> None:
        self._writer.add(versions, rows.astype(np.int64, copy=False))
        if self._writer.size >= self._settings.compactor.segment_bytes:
            self._end()

    def finish(self) -> tuple[SegmentInfo, ...]:
        if self._writer.rows:
            self._end()
        return tuple(self._made)

    def forget(self) -> None:
        """Remove what no archive will name. What cannot be removed is in nobody's way: no name is used twice."""
        with contextlib.suppress(ArchiveError):
            for segment in self._made:
                self._store.delete(segment.name)
                self._store.delete(segment.index_name)

    def _end(self) -> None:
        self._made.append(self._writer.finish(self._store, self._directory))
        self._writer = SegmentWriter(self._settings.archive, EPOCH)


def _epoch(found: _Source, shard: int, shards: int) -> Epoch:
    """A history of one moment. It begins then, so that no history from Kafka is taken for its continuation."""
    at, said = found.at, found.said
    if said is None:
        return Epoch(EPOCH, at, 0, recoverable_from=at, resolved_at=at, reconciled_at=at)
    reconciled = _reconciled(said.reconciled_at, shard, shards)
    writes, deletes = (_span(at, ms) for ms in said.resolution)
    return Epoch(
        EPOCH, at, 0, recoverable_from=at, resolved_at=at, reconciled_at=reconciled, scope=_scope(said),
        writes=writes, deletes=deletes,
    )  # fmt: skip


def _reconciled(exported: Sequence[int], shard: int, shards: int) -> int:
    """Up to when all shards of the export that the archive's shard has partitions of had every delete."""
    first = shard * len(exported) // shards
    return min(exported[first : max(first + 1, (shard + 1) * len(exported) // shards)])


def _span(at: int, ms: int) -> Spans:
    return (Span(at - ms, at, ms, ms),) if ms else ()


def _scope(said: Outline) -> str:
    """In words, a filter last (`Epoch.filtered`)."""
    if not said.sets:
        return said.scope
    return f"sets {json.dumps(sorted(said.sets), ensure_ascii=False)}" + (f" of {said.scope}" if said.scope else "")
