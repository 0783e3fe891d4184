"""Taking up a shard: its catalog, brought up to what Kafka has, or a new epoch when that cannot be.

A catalog may be behind Kafka (a stop between commit and note, a torn journal, a shard that was another worker's for a
while). What it lacks is read from the changes topic. It must be: a record that Kafka has and the catalog has not could
vanish without anyone noticing.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fastavro import schemaless_reader

from cdc.codec.changes import columns as columns_of
from cdc.codec.schemas import schema
from cdc.collector.catalog import Catalog
from cdc.collector.entries import Entries, key_order
from cdc.collector.state import ShardState
from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable, CatalogError, OffsetsLost
from cdc.model import BEGINNING, I64, U64, Bodies, Columns, Op
from cdc.topics import ChangeReader, Progress, Topics

READ_S = 1.0


def resume(
    directory: Path,
    shard: int,
    shards: int,
    last: Progress | None,
    settings: KafkaSettings,
    topics: Topics,
    end: int,
    now: int,
    note: Callable[[str], None],
) -> Catalog:
    """The shard's catalog, equal to what Kafka has. `last` is its last committed progress, `end` the end of its changes
    (asked for after that), `now` the nodes' time.

    A new epoch begins where there is no catalog, where it is damaged, and where it does not belong to what Kafka
    has; `note` is told why. Raises BrokerUnreachable, and CatalogError when the disk cannot be written.
    """
    catalog: Catalog | None = None
    try:
        catalog = Catalog.open(directory, shard, shards)
        why = _unfit(catalog, last)
    except CatalogError as error:
        why = error.message
    if catalog is not None and not why:
        try:
            if last is not None:
                _roll_forward(catalog, last, settings, topics)
            return catalog
        except OffsetsLost as error:
            why = f"the catalog lacks changes that Kafka no longer has: {error.message}"
    if catalog is not None:
        catalog.close()
    epoch = max(now, last.epoch + 1 if last else 0)
    note(why)
    return Catalog.begin(directory, replace(ShardState.begin(shard, shards, epoch), changes_through=end))


def _unfit(catalog: Catalog | None, last: Progress | None) -> str:
    """Why a new epoch must begin; empty: it need not."""
    if catalog is None:
        return "no catalog is here"
    state = catalog.state
    if last is None:
        return "Kafka has no progress of it"
    if last.epoch != state.epoch:
        return f"its catalog is of epoch {state.epoch}, Kafka's last progress of epoch {last.epoch}"
    if last.changes_through < state.changes_through:
        return f"its catalog knows changes up to offset {state.changes_through}, Kafka has {last.changes_through}"
    return ""


def _roll_forward(catalog: Catalog, last: Progress, settings: KafkaSettings, topics: Topics) -> None:
    """Apply what Kafka has and the catalog has not; raises OffsetsLost, BodyDamaged and BrokerUnreachable."""
    shard, at = catalog.state.shard, catalog.state.changes_through
    if at < last.changes_through:
        with ChangeReader(settings, topics, {shard: at}) as reader:
            silent = 0.0
            while at < last.changes_through:
                chunks = reader.read(READ_S)
                silent = 0.0 if chunks else silent + READ_S
                if silent > settings.timeout_s:
                    raise BrokerUnreachable(f"{topics.changes}, partition {shard}: offset {at} was not read in time")
                for chunk in chunks:
                    at = int(chunk.offsets[-1]) + 1
                    _apply(catalog, chunk.bodies, at)
    state = catalog.state
    # What Kafka's progress claims was true of the whole shard when it was committed, whoever committed it.
    catalog.commit(
        replace(
            state,
            sweep=max(state.sweep, last.sweep),
            watermark=np.maximum(state.watermark, last.resolved_at) if state.based else state.watermark,
            reconciled=np.maximum(state.reconciled, last.reconciled_at) if state.based else state.reconciled,
        ),
        Entries.empty(),
        np.empty((0, 20), np.uint8),
    )


def _apply(catalog: Catalog, bodies: Bodies, through: int) -> None:
    changes = columns_of(bodies)
    rows = key_order(changes.digest)
    newest = changes.take(rows)
    write = newest.op == Op.WRITE
    put = newest.take(write)
    state, numbers = catalog.state.numbers_of(put.set_hash, _names(put, bodies, rows[write]))
    unsaid = newest.op == Op.ASIDE
    known, before = catalog.lookup(newest.digest[unsaid])
    no_checksum: U64 = np.zeros(len(known), np.uint64)  # so that what was kept aside is told once more when it is seen
    asides = Entries.aside(newest.digest[unsaid], known, before, no_checksum)
    raised = newest.take((newest.effective_at > newest.lut) & ~unsaid)
    catalog.commit(
        replace(
            state,
            changes_through=through,
            floors=state.floors.after(raised.digest, raised.effective_at, BEGINNING),
        ),
        Entries.concat([Entries.of(put.digest, put.lut, put.generation, put.void_time, put.checksum, numbers), asides]),
        newest.digest[~write & ~unsaid],
    )


def _names(put: Columns, bodies: Bodies, rows: I64) -> dict[int, str | None]:
    """The set's text for each hash, from one body of each."""
    hashes, first = np.unique(put.set_hash, return_index=True)
    names: dict[int, str | None] = {}
    for value, row in zip(hashes.tolist(), rows[first].tolist(), strict=True):
        change: Any = schemaless_reader(io.BytesIO(bodies[row]), schema("change"), None)
        names[value] = change["set"]
    return names
