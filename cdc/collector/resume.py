"""Taking up a shard: its catalog, equal to what Kafka has, or a new epoch where that cannot be.

A catalog may be behind Kafka (a stop between commit and note, a torn journal, a shard that was another worker's for a
while). What it lacks is read from the changes topic. It must be: a record that Kafka has and the catalog has not could
vanish without anyone noticing. Where there is no catalog to begin with, or not one of this history, it is made again
from what was published (`rebuild`). Only where that is not there any more does a new epoch begin, and everything is
published again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cdc.collector.catalog import Catalog, shard_directory
from cdc.collector.entries import Entries
from cdc.collector.follow import follow
from cdc.collector.rebuild import discard_draft, given_up, rebuild
from cdc.collector.state import ShardState
from cdc.config import Settings
from cdc.errors import ArchiveError, BodyDamaged, CatalogError, CdcError, OffsetsLost
from cdc.model import DIGEST_SIZE
from cdc.topics import Progress, Topics

TOLD_EVERY_S = 10.0
"""How often it is told how far a long reading has come."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A shard that was taken up. `why` its own catalog did not do (empty: it did), and `source`, what it was rebuilt
    from; where that is empty too a new epoch begins."""

    catalog: Catalog
    why: str = ""
    source: str = ""
    seconds: float = 0.0


def resume(
    settings: Settings,
    topics: Topics,
    shard: int,
    last: Progress | None,
    end: int,
    now: int,
    scope: str,
    alive: Callable[[], None],
    note: Callable[[str], None],
) -> Taken:
    """The shard's catalog, equal to what Kafka has. `last` is its last committed progress, `end` the end of its changes
    (asked for after that), `now` the nodes' time, `scope` what is to be captured.

    A new epoch also begins where the scope was another: what has left it must not be taken for deleted; and where the
    archive lost changes of the old one, which nobody could restore to any more. While changes are read `alive` is
    called, which may raise, and `note` is told now and then how far it has come. Raises BrokerUnreachable, and
    CatalogError when the disk cannot be written.
    """
    directory, shards = shard_directory(settings.collector.catalog, topics.namespace, shard), settings.collector.shards
    began = time.monotonic()
    beat = _beat(shard, alive, note)
    discard_draft(directory)
    ended = _ended(shard, last, settings, topics, note)
    try:
        catalog = Catalog.open(directory, shard, shards)
        why = ended or _unfit(catalog, last, scope)
    except CatalogError as error:
        catalog, why = None, ended or error.message
    if catalog is not None:
        try:
            if not why and last is not None:
                _catch_up(catalog, last, settings, topics, beat)
        except (OffsetsLost, BodyDamaged) as error:
            why = f"it cannot be brought up to Kafka: {error.message}"
        except CdcError:
            catalog.close()
            raise
        if not why:
            return Taken(catalog)
        catalog.close()
    if last is not None and last.scope == scope and not ended:
        rebuilt, said = rebuild(directory, last, settings, topics, beat)
        if rebuilt is not None:
            return Taken(rebuilt, why, said, time.monotonic() - began)
        why = f"{why}, and it cannot be rebuilt: {said}"
    epoch = max(now, last.epoch + 1 if last else 0)
    begun = replace(ShardState.begin(shard, shards, epoch, scope), changes_through=end)
    return Taken(Catalog.begin(directory, begun), why)


def told(taken: Sequence[Taken]) -> list[str]:
    """What a person should know of the shards that were taken up, each thing once for all of them."""
    out = []
    for why, source in dict.fromkeys((t.why, t.source) for t in taken if t.why):
        which = [t for t in taken if (t.why, t.source) == (why, source)]
        one = len(which) == 1
        named = f"shard {which[0].catalog.state.shard}" if one else f"{len(which)} shards"
        if source:
            records, seconds = sum(len(t.catalog) for t in which), sum(t.seconds for t in which)
            out.append(
                f"{named} had the catalog rebuilt from {source} ({why}): {records:,} records in {seconds:.1f} s; "
                "an audit compares them with the server"
            )
        else:
            out.append(f"{named} {'begins' if one else 'begin'} a new history with a base snapshot: {why}")
    return out


def _ended(shard: int, last: Progress | None, settings: Settings, topics: Topics, note: Callable[[str], None]) -> str:
    try:
        reason = "" if last is None else given_up(last, settings, topics)
    except ArchiveError as error:  # capture does not wait for the archive: Kafka keeps what it publishes
        note(f"shard {shard}: the archive does not say whether it still follows: {error.message}")
        return ""
    return f"the archive's history has ended: {reason}" if reason else ""


def _unfit(catalog: Catalog | None, last: Progress | None, scope: str) -> str:
    """Why this catalog does not do; empty: it does."""
    before = last.scope if last is not None else catalog.state.scope if catalog is not None else scope
    if before != scope:
        return f"the scope was {before or 'everything'} and is {scope or 'everything'} now"
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


def _catch_up(
    catalog: Catalog, last: Progress, settings: Settings, topics: Topics, beat: Callable[[int], None]
) -> None:
    """Apply what Kafka has and the catalog has not. Raises OffsetsLost, BodyDamaged and BrokerUnreachable."""
    follow(catalog, last.changes_through, last.resolved_at, settings.kafka, topics, beat)
    state = catalog.state
    known = int(state.watermark.min()) >= last.resolved_at and int(state.reconciled.min()) >= last.reconciled_at
    if state.observed_at == last.observed_at and state.sweep >= last.sweep and known:
        return
    # What Kafka's progress claims was true of the whole shard when it was committed, whoever committed it. Of single
    # partitions more may have been true, which is lost (see `rebuild`).
    catalog.commit(
        replace(
            state,
            sweep=max(state.sweep, last.sweep),
            watermark=np.maximum(state.watermark, last.resolved_at),
            reconciled=np.maximum(state.reconciled, last.reconciled_at),
            observed_at=last.observed_at,
            unsure_until=last.observed_at,
        ),
        Entries.empty(),
        np.empty((0, DIGEST_SIZE), np.uint8),
    )


def _beat(shard: int, alive: Callable[[], None], note: Callable[[str], None]) -> Callable[[int], None]:
    """Counts what is read, and tells it now and then."""
    read, told_at = 0, time.monotonic()

    def beat(rows: int) -> None:
        nonlocal read, told_at
        alive()
        read += rows
        if time.monotonic() - told_at >= TOLD_EVERY_S:
            told_at = time.monotonic()
            note(f"shard {shard}: {read:,} changes were read to bring the catalog up to Kafka, and reading goes on")

    return beat
