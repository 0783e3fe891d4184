"""Bringing a catalog up to what published changes say, by reading them again."""

import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from fastavro import schemaless_reader

from cdc.codec.changes import columns as columns_of
from cdc.codec.schemas import schema
from cdc.collector.catalog import Catalog
from cdc.collector.entries import Entries, key_order
from cdc.config import KafkaSettings
from cdc.errors import BrokerUnreachable, OffsetsLost
from cdc.model import DIGEST_SIZE, I64, U64, Bodies, Columns, Op
from cdc.topics import ChangeReader, Topics
from cdc.topics.offsets import list_offsets

READ_S = 1.0


def follow(
    catalog: Catalog, through: int, settled: int, settings: KafkaSettings, topics: Topics, beat: Callable[[int], None]
) -> None:
    """Fold every change of the catalog's shard from where it stands to before the offset `through`.

    `beat` is called with the number of changes after each reading, and may raise. Raises OffsetsLost when the topic
    does not have them all (any more), BodyDamaged and BrokerUnreachable. `settled` is that of `fold`.
    """
    shard, at = catalog.state.shard, catalog.state.changes_through
    if at >= through:
        return
    with ChangeReader(settings, topics, {shard: at}) as reader:
        heard = time.monotonic()
        while at < through:
            chunks = reader.read(READ_S)
            for chunk in chunks:
                at, heard = int(chunk.offsets[-1]) + 1, time.monotonic()
                fold(catalog, columns_of(chunk.bodies), chunk.bodies, at, settled)
            beat(sum(len(chunk) for chunk in chunks))
            if not chunks:
                _ask(shard, at, through, heard, settings, topics)


def fold(catalog: Catalog, changes: Columns, bodies: Bodies, through: int, settled: int) -> None:
    """Note what changes say; of a digest's changes the last row is the newest. Then the catalog has all before the
    offset `through`.

    `settled` is a moment below which no later change can take effect: floors below it are not kept. Raises
    BodyDamaged and CatalogError.
    """
    none = np.empty((0, DIGEST_SIZE), np.uint8)
    told = np.flatnonzero(changes.op != Op.ASIDE)
    told = told[key_order(changes.digest[told])]
    newest = changes.take(told)
    write = newest.op == Op.WRITE
    put = newest.take(write)
    state, numbers = catalog.state.numbers_of(put.set_hash, _names(put, bodies, told[write]))
    raised = newest.take(newest.effective_at > newest.lut)
    state = replace(state, floors=state.floors.after(raised.digest, raised.effective_at, settled))
    last = key_order(changes.digest)
    unsaid = changes.digest[last[changes.op[last] == Op.ASIDE]]
    after = replace(state, changes_through=through)
    # What was kept aside is catalogued under the version before it, which may be among these very changes.
    catalog.commit(
        state if len(unsaid) else after,
        Entries.of(put.digest, put.lut, put.generation, put.void_time, put.checksum, numbers),
        newest.digest[~write],
    )
    if len(unsaid):
        known, before = catalog.lookup(unsaid)
        no_checksum: U64 = np.zeros(len(known), np.uint64)  # so that it is told once more when it is seen
        catalog.commit(after, Entries.aside(unsaid, known, before, no_checksum), none)


def _ask(shard: int, at: int, through: int, heard: float, settings: KafkaSettings, topics: Topics) -> None:
    """Nothing came: is there nothing, or does it take long?"""
    end = list_offsets(settings, topics.changes, [shard], committed=False)[shard]
    if end < through:
        raise OffsetsLost(
            f"{topics.changes}, partition {shard}, ends at offset {end}; its progress speaks of {through}"
        )
    if time.monotonic() - heard > settings.timeout_s:
        raise BrokerUnreachable(f"{topics.changes}, partition {shard}: offset {at} was not read in time")


def _names(put: Columns, bodies: Bodies, rows: I64) -> dict[int, str | None]:
    """The set's text for each hash, from one body of each."""
    hashes, first = np.unique(put.set_hash, return_index=True)
    names: dict[int, str | None] = {}
    for value, row in zip(hashes.tolist(), rows[first].tolist(), strict=True):
        change: Any = schemaless_reader(io.BytesIO(bodies[row]), schema("change"), None)
        names[value] = change["set"]
    return names
