"""One transaction: changes, what was kept aside and progress go to Kafka together, then the catalogs note it.

The order matters. Kafka first: a stop between the two leaves the catalog behind, and `resume` reads what it lacks
from Kafka. The other way round the catalog would drop, as a duplicate, a version that Kafka never got.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cdc.codec.changes import changes
from cdc.codec.frames import Rejected
from cdc.collector.catalog import Catalog
from cdc.collector.entries import Entries
from cdc.collector.state import ShardState
from cdc.collector.stats import Stats
from cdc.model import I64, U8, Bodies, Columns, Op
from cdc.topics import Metadata, Publisher
from cdc.topics.progress import Kind, Progress


@dataclass(frozen=True, slots=True)
class Parcel:
    """One shard's part of a transaction.

    `columns`, with `rows` into `contents` or `sets` as in `codec.changes`, are the changes; `put` and `out` what they
    do to the catalog; `state` the shard's state afterwards, but for `changes_through`. The rest becomes the Progress.
    """

    catalog: Catalog
    state: ShardState
    columns: Columns
    contents: Bodies
    rows: I64
    sets: tuple[bytes | None, ...]
    put: Entries
    out: U8
    asides: tuple[Rejected, ...]
    kind: Kind
    complete: bool
    partitions: tuple[int, ...]
    started_at: int
    observed_at: int
    unobserved_since: int

    @property
    def empty(self) -> bool:
        """Whether nothing but the state is told."""
        return not (len(self.columns) or self.asides or len(self.put) or len(self.out))


def deliver(
    publisher: Publisher,
    parcels: Sequence[Parcel],
    stats: Stats,
    after_commit: Callable[[], None] = lambda: None,
    metadata: Sequence[Metadata] = (),
) -> None:
    """Commit the parcels, and metadata with them, in one transaction, then note the parcels in the catalogs.

    Raises KafkaError (nothing was noted; whether Kafka committed is then unknown: resume the shards) and CatalogError.
    `after_commit` runs between the two.
    """
    began = time.perf_counter()
    sizes = []
    through: dict[int, int] = {}
    with publisher.transaction() as tx:
        for parcel in parcels:
            shard = parcel.state.shard
            size = 0
            if len(parcel.columns):
                bodies = changes(parcel.columns, parcel.contents, parcel.rows, parcel.sets)
                tx.changes(shard, bodies, parcel.columns.digest, parcel.observed_at)
                size = len(bodies.buffer)
            sizes.append(size)
            for one in parcel.asides:
                tx.aside(shard, one.digest, one.message, one.reason, parcel.observed_at)
        for record in metadata:
            tx.metadata(record, parcels[0].observed_at)
        offsets = tx.flush() if any(len(parcel.columns) for parcel in parcels) else {}
        for parcel in parcels:
            progress = _progress(parcel, offsets)
            through[progress.shard] = progress.changes_through
            tx.progress(progress)
    stats.transaction(time.perf_counter() - began)
    after_commit()
    for parcel, size in zip(parcels, sizes, strict=True):
        state = replace(parcel.state, changes_through=through[parcel.state.shard], observed_at=parcel.observed_at)
        parcel.catalog.commit(state, parcel.put, parcel.out)
        stats.committed(parcel.columns, size, parcel.observed_at)


def _progress(parcel: Parcel, offsets: dict[int, tuple[int, int]]) -> Progress:
    state, before = parcel.state, parcel.catalog.state
    begin, end = offsets.get(state.shard, (before.changes_through, before.changes_through))
    writes = int((parcel.columns.op == Op.WRITE).sum())
    return Progress(
        shard=state.shard,
        shards=state.shards,
        epoch=state.epoch,
        sweep=state.sweep,
        kind=parcel.kind,
        complete=parcel.complete,
        partitions=() if parcel.complete else parcel.partitions,
        started_at=parcel.started_at,
        observed_at=parcel.observed_at,
        unobserved_since=parcel.unobserved_since,
        # Of an unfinished look these say little: only some partitions' watermarks were raised. They never go back.
        resolved_at=state.resolved_at,
        reconciled_at=state.reconciled_at,
        changes_from=begin,
        changes_through=end,
        writes=writes,
        deletes=len(parcel.columns) - writes - int((parcel.columns.op == Op.ASIDE).sum()),
        aside=len(parcel.asides),
        scope=state.scope,
    )
