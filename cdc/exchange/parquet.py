"""Exports as Parquet: for each set a directory of files, with one column a bin. Needs pyarrow.

Values are what Python makes of them, one by one: this is for analytics and not as fast as the rest. Everything is read
twice: once to learn which kinds of values every bin has, so that each file of a set has the same columns, and once to
write it.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from cdc.archive import Versions, View
from cdc.codec.changes import gather
from cdc.codec.decode import jsonable, to_python
from cdc.codec.values_plain import GeoJSON, HyperLogLog
from cdc.errors import UsageError
from cdc.exchange.chosen import Chosen, Counts
from cdc.exchange.folder import Folder, Written
from cdc.exchange.outline import File, Part
from cdc.model import I64, Bodies
from cdc.replayer.report import Meter, Watch

if TYPE_CHECKING:
    import pyarrow as pa

PENDING_BYTES = 32 << 20
"""So much of encoded changes waits to be written at the most, of all sets together."""
BATCH_VALUES = 100_000
"""So many values are Python objects at a time."""
BATCH_BYTES = 4 << 20
"""Or this much of encoded changes."""

GROUP_BYTES = 8 << 20
"""A row group has about this much before compression."""

NO_SET = "%none"
"""The directory of the null set: no set's quoted name begins so."""


class Kind(IntEnum):
    """What a column holds."""

    INTEGER = 0
    DOUBLE = 1
    STRING = 2
    BOOLEAN = 3
    BYTES = 4
    GEOJSON = 5  # its text
    HYPERLOGLOG = 6  # its bytes
    JSON = 7  # lists, maps, what has no type of ours, and values of more than one kind


_KINDS: dict[type, Kind] = {
    int: Kind.INTEGER, float: Kind.DOUBLE, str: Kind.STRING, bool: Kind.BOOLEAN, bytes: Kind.BYTES,
    GeoJSON: Kind.GEOJSON, HyperLogLog: Kind.HYPERLOGLOG,
}  # fmt: skip


@dataclass(slots=True)
class Layout:
    """The columns of a set: the kind of its user keys, and of each bin. None: only nulls were seen so far."""

    key: Kind | None = None
    bins: dict[str, Kind | None] = field(default_factory=dict)

    def learn(self, change: dict[str, Any]) -> None:
        """One more change. What is learned does not depend on the order."""
        self.key = both(self.key, kind_of(change["user_key"]))
        for name, value in change["bins"].items():
            self.bins[name] = both(self.bins.get(name), kind_of(value))


def kind_of(value: Any) -> Kind | None:
    """The kind of a user key or a bin's value; None of null."""
    return None if value is None else _KINDS.get(type(value), Kind.JSON)


def both(left: Kind | None, right: Kind | None) -> Kind | None:
    """The kind of a column that has both."""
    if left is None or right is None or left == right:
        return right if left is None else left
    return Kind.JSON


def cell(value: Any, kind: Kind | None) -> Any:
    """A value as a column of that kind holds it."""
    if value is None:
        return None
    if kind == Kind.JSON:
        return json.dumps(jsonable(value), ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, GeoJSON):
        return value.json
    return value.data if isinstance(value, HyperLogLog) else value


def directory(set_name: str | None) -> str:
    """A set's directory: its name, with everything but ASCII letters, digits and `_-~` and inner dots as %XX."""
    if set_name is None:
        return NO_SET
    quoted = quote(set_name, safe="")
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted


def require() -> None:
    """Raises UsageError that says what to install when pyarrow is not."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "Parquet needs the package pyarrow, which is not installed", 'pip install "aerospike-cdc[parquet]"'
        ) from error


def write(
    folder: Folder, views: Sequence[View], part: Part, choose: Callable[[View], Iterator[Chosen]], watch: Watch
) -> tuple[list[File], Counts]:
    """Write every batch of every view into files below the part's directory, a directory a set.

    Memory: PENDING_BYTES twice over, and a row group. Raises what reading them raises, StoreForbidden, Cancelled.
    """
    total = sum(view.rows for view in views)
    layouts: dict[int, Layout] = {}
    names: dict[int, str | None] = {}
    counts = Counts()
    meter = Meter(total, "read", watch)
    for view in views:
        for batch in choose(view):
            hashes = batch.versions.columns.set_hash
            for row in batch.rows.tolist():
                change = to_python(batch.versions.bodies[row])
                names.setdefault(int(hashes[row]), change["set"])
                layouts.setdefault(int(hashes[row]), Layout()).learn(change)
            counts += batch.counts
            meter.add(batch.read)
    meter.finish()
    meter = Meter(total, "write", watch)
    files: list[File] = []
    waiting = {of: _Waiting(folder, part, names[of], layout) for of, layout in layouts.items()}
    for view in views:
        for batch in choose(view):
            hashes = batch.versions.columns.set_hash[batch.rows]
            for of in np.unique(hashes).tolist():
                waiting[of].add(batch.versions, batch.rows[hashes == of])
            while sum(w.size for w in waiting.values()) > PENDING_BYTES:
                files.append(max(waiting.values(), key=lambda w: w.size).write())
            meter.add(batch.read)
    files += [w.write() for w in waiting.values() if w.size]
    meter.finish()
    return files, counts


class _Waiting:
    """The changes of one set that are not written yet; each `write` makes a file of them."""

    def __init__(self, folder: Folder, part: Part, set_name: str | None, layout: Layout) -> None:
        self._folder, self._part, self._set, self._layout = folder, part, set_name, layout
        self._parts: list[tuple[Bodies, I64]] = []
        self._schema = schema(layout, part)
        self._files = 0
        self.size = 0

    def add(self, versions: Versions, rows: I64) -> None:
        bodies = gather(versions.bodies, rows)
        self._parts.append((bodies, versions.offsets[rows]))
        self.size += len(bodies.buffer)

    def write(self) -> File:
        import pyarrow.parquet as pq

        rows = sum(len(bodies) for bodies, _ in self._parts)
        file = Written(self._folder, f"{self._part}/{directory(self._set)}/part-{self._files:05d}.parquet", self._part)
        try:
            with pq.ParquetWriter(file, self._schema, compression="zstd") as writer:
                for table in self._tables():
                    writer.write_table(table)
            return file.finish(rows)
        finally:
            file.close()
            self._parts, self.size, self._files = [], 0, self._files + 1

    def _tables(self) -> "Iterator[pa.Table]":
        """What waits, as a table for each row group."""
        import pyarrow as pa

        most = max(1, BATCH_VALUES // len(self._schema))
        made: list[pa.RecordBatch] = []
        for bodies, offsets in self._parts:
            start = 0
            while start < len(bodies):
                goal = bodies.offsets[start] + BATCH_BYTES
                end = min(start + most, max(start + 1, int(np.searchsorted(bodies.offsets, goal, "left"))), len(bodies))
                rows = [row_of(to_python(bodies[i]), int(offsets[i]), self._layout) for i in range(start, end)]
                made.append(pa.RecordBatch.from_pylist(rows, self._schema))
                start = end
                if sum(batch.nbytes for batch in made) >= GROUP_BYTES:
                    yield pa.Table.from_batches(made, self._schema)
                    made = []
        if made:
            yield pa.Table.from_batches(made, self._schema)


def schema(layout: Layout, part: Part) -> "pa.Schema":
    """The columns of a set's files: what is known of every record or change, then the bins by name."""
    import pyarrow as pa

    moment = pa.timestamp("ms", "UTC")
    types = {
        None: pa.string(), Kind.INTEGER: pa.int64(), Kind.DOUBLE: pa.float64(), Kind.STRING: pa.string(),
        Kind.BOOLEAN: pa.bool_(), Kind.BYTES: pa.binary(), Kind.GEOJSON: pa.string(),
        Kind.HYPERLOGLOG: pa.binary(), Kind.JSON: pa.string(),
    }  # fmt: skip

    def column(name: str, kind: Kind | None) -> "pa.Field":
        said = {"aerospike": kind.name.lower()} if kind is not None else None
        return pa.field(name, types[kind], metadata=said)

    of_change = [
        ("offset", pa.int64()), ("op", pa.string()), ("origin", pa.string()), ("effective_at", moment),
        ("unobserved_since", moment), ("observed_at", moment), ("consecutive", pa.bool_()),
    ]  # fmt: skip
    return pa.schema(
        [
            pa.field("digest", pa.binary(20)), pa.field("set", pa.string()), column("key", layout.key),
            pa.field("lut", moment), pa.field("generation", pa.int32()), pa.field("expires", moment),
            *(pa.field(*both) for both in (of_change if part == "changes" else [])),
            *(column(f"bin_{name}", layout.bins[name]) for name in sorted(layout.bins)),
        ]
    )  # fmt: skip


def row_of(change: dict[str, Any], offset: int, layout: Layout) -> dict[str, Any]:
    """A change as a row of its set's columns, and of more where they are not wanted."""
    row = {
        name: change[name]
        for name in (
            "digest", "set", "lut", "generation", "op", "origin", "effective_at", "unobserved_since", "observed_at",
            "consecutive",
        )
    }  # fmt: skip
    row |= {"offset": offset, "key": cell(change["user_key"], layout.key), "expires": change["void_time"]}
    return row | {f"bin_{name}": cell(value, layout.bins[name]) for name, value in change["bins"].items()}
