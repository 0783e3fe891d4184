"""Exports: the state at a moment, or the changes of a span, from an archive into a directory of plain files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

from cdc.archive import Archive, View
from cdc.clock import rfc3339
from cdc.errors import NotRecoverable
from cdc.exchange import chosen
from cdc.exchange.avro import AvroFile, Codec
from cdc.exchange.chosen import Chosen, Counts
from cdc.exchange.folder import Folder
from cdc.exchange.outline import File, Format, Outline, Part, fingerprint
from cdc.model import I64
from cdc.replayer.parallel import each
from cdc.replayer.plan import plan
from cdc.replayer.report import Meter, Watch

Choose = Callable[[View], Iterator[Chosen]]
"""What of a shard's versions an export is about, in batches."""


def export_state(
    archive: Archive,
    at: int,
    to: Path,
    *,
    now: int,
    format: Format = "avro",
    sets: Sequence[str] = (),
    codec: Codec = "deflate",
    watch: Watch | None = None,
) -> Outline:
    """Write the records that held at a moment (milliseconds) into the new or empty directory `to`.

    Of the named sets alone, if any is named; "" is the null set. As Avro each record is the version that held, byte for
    byte, and the versions that make a state doubtful stand beside them, so that `import_state` gives the same states;
    `codec` compresses its blocks. As Parquet it has what columns can say.

    When this returns, all of it is there; when it raises, nothing is. Memory: below 400 MB for records of up to 1 MiB.
    Raises NotRecoverable outside the windows, UsageError for a directory that is not empty or a package that is
    missing, StoreForbidden if it cannot be written, ObjectMissing, ObjectDamaged, Cancelled.
    """
    made = plan(archive, at, now=now, count=False)
    views = [shard.view for shard in made.shards]
    said = Outline(
        format=format, namespace=archive.namespace, since=None, until=at, made_at=now, scope=made.scope,
        sets=tuple(sets), resolution=made.resolution, reconciled_at=tuple(v.epoch.reconciled_at for v in views),
        schema=fingerprint(),
    )  # fmt: skip
    return _write(to, said, views, "records", lambda view: chosen.state(archive.store, view, sets), codec, watch)


def export_changes(
    archive: Archive,
    since: int,
    until: int,
    to: Path,
    *,
    now: int,
    format: Format = "avro",
    sets: Sequence[str] = (),
    codec: Codec = "deflate",
    watch: Watch | None = None,
) -> Outline:
    """Write the changes that took effect from `since` to `until`, both included, by (digest, offset) in each file.

    What was kept aside in that time stands among them. Otherwise as `export_state`; NotRecoverable unless all of the
    span lies in one window.
    """
    windows = archive.windows()
    part = next((w.part(since, until) for w in reversed(windows) if since in w and until in w), None)
    if part is None:
        spans = ", ".join(f"{rfc3339(w.start)} to {rfc3339(w.end)}" for w in windows) or "there is none"
        raise NotRecoverable(
            f"{rfc3339(since)} to {rfc3339(until)} does not lie in one recoverable window; they are: {spans}"
        )
    manifests = [manifest for manifest in archive.all_shards() if manifest is not None]
    views = [chosen.view_of_span(manifest, since, until) for manifest in manifests]
    said = Outline(
        format=format, namespace=archive.namespace, since=since, until=until, made_at=now, scope=part.scope,
        sets=tuple(sets), resolution=part.resolution(), reconciled_at=tuple(v.epoch.reconciled_at for v in views),
        schema=fingerprint(),
    )  # fmt: skip

    def choose(view: View) -> Iterator[Chosen]:
        return chosen.changes(archive.store, view, since, until, sets)

    return _write(to, said, views, "changes", choose, codec, watch)


def _write(
    to: Path, said: Outline, views: Sequence[View], part: Part, choose: Choose, codec: Codec, watch: Watch | None
) -> Outline:
    watch = watch or Watch()
    if said.format == "parquet":
        import cdc.exchange.parquet as parquet

        parquet.require()
    with Folder(to) as folder:
        if said.format == "parquet":
            files, counts = parquet.write(folder, views, part, choose, watch)
        else:
            files, counts = _write_avro(folder, views, part, choose, codec, watch)
        whole = replace(said, counts=counts, files=tuple(sorted(files, key=lambda file: file.name)))
        folder.finish(whole.encode())
    return whole


def _write_avro(
    folder: Folder, views: Sequence[View], part: Part, choose: Choose, codec: Codec, watch: Watch
) -> tuple[list[File], Counts]:
    """A file for each shard that has anything, several at once."""
    meter = Meter(sum(view.rows for view in views), "write", watch)

    def work(view: View) -> tuple[list[File], Counts]:
        opened: dict[Part, AvroFile] = {}
        counts = Counts()

        def put(kind: Part, batch: Chosen, rows: I64) -> None:
            if len(rows):
                if kind not in opened:
                    opened[kind] = AvroFile(folder, f"{kind}/shard-{view.shard:04d}.avro", kind, codec)
                opened[kind].add(batch.versions, rows)

        try:
            for batch in choose(view):
                put(part, batch, batch.rows)
                put("doubts", batch, batch.doubts)
                counts += batch.counts
                meter.add(batch.read)
            return [file.finish() for file in opened.values()], counts
        finally:
            for file in opened.values():
                file.close()

    done = each(work, views, watch)
    meter.finish()
    return [file for files, _ in done for file in files], reduce(add, (counts for _, counts in done), Counts())
