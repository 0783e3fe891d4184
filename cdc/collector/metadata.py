"""What the collector tells of metadata: what has changed since the last look, and now and then everything again.

The worker that has shard 0 looks at every reconcile, and tells in a transaction with that shard's progress, which
fences it. What was told before stands in Kafka: it is read once, when the shard is taken up, so that after a stop
nothing is told anew that did not change, and what was removed meanwhile is told. A look that fails never stops the
capture of records: it is counted, and told once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cdc import metrics
from cdc.collector.stats import Stats
from cdc.config import KafkaSettings
from cdc.errors import SourceError
from cdc.model import BEGINNING, Item, ItemKind
from cdc.source import Described, Source, describe
from cdc.topics import Metadata, Topics, kept_metadata

Key = tuple[ItemKind, str]
AGAIN_MS: Final = 600_000
"""While nothing changes one item is told once more this often, so that whoever reads knows up to when nothing did."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of one look, in the nodes' time: `looked_at` is when it began, less the skew allowed for."""

    looked_at: int
    observed_at: int


@dataclass(frozen=True, slots=True)
class Known:
    """What Kafka was told: the last record of each item, and when the last look at each kind began that is in it."""

    records: Mapping[Key, Metadata]
    looked_at: Mapping[ItemKind, int]

    @classmethod
    def of(cls, records: Iterable[Metadata]) -> "Known":
        """From what the topic holds. A record proves only the look that it comes from, and of that the kinds it could
        read: what changed since may have done so at any time after."""
        looked_at: dict[ItemKind, int] = {}
        by_key = {}
        for record in records:
            by_key[record.item.kind, record.item.name] = record
            for kind in record.kinds:
                looked_at[kind] = max(record.looked_at, looked_at.get(kind, BEGINNING))
        return cls(by_key, looked_at)

    def after(self, records: Iterable[Metadata], kinds: Iterable[ItemKind], looked_at: int) -> "Known":
        """When these records were told, of a look at these kinds."""
        told = {(record.item.kind, record.item.name): record for record in records}
        return Known({**self.records, **told}, {**self.looked_at, **dict.fromkeys(kinds, looked_at)})

    def items(self, kind: ItemKind) -> dict[str, Item]:
        """The items of a kind that are there, by name."""
        return {name: r.item for (k, name), r in self.records.items() if k == kind and not r.removed}


def news(known: Known, found: Described, namespace: str, at: Moments, *, everything: bool) -> list[Metadata]:
    """What a look has to tell: items that are new, others than they were, or gone; with `everything` also those that
    are as they were, which keep the moments of their change. Of a kind that could not be read nothing is said. Pure.
    """
    out = []
    kinds = tuple(sorted(found.items))

    def record(item: Item, since: int, *, removed: bool = False) -> Metadata:
        return Metadata(namespace, item, removed, at.observed_at, since, at.looked_at, kinds)

    for kind, items in found.items.items():
        since = min(known.looked_at.get(kind, BEGINNING), at.observed_at)
        for item in items:
            before = known.records.get((kind, item.name))
            if before is None or before.removed or before.item != item:
                out.append(record(item, since))
            elif everything:
                out.append(replace(before, looked_at=at.looked_at, kinds=kinds))
        for name in known.items(kind).keys() - {item.name for item in items}:
            out.append(record(known.records[kind, name].item, since, removed=True))
    return sorted(out, key=lambda one: (one.item.kind, one.item.name))


def still(known: Known, found: Described, at: Moments) -> list[Metadata]:
    """One item of a look that found nothing new, told once more: it has the look's moment, and its kinds. Pure."""
    there = sorted((kind, item.name) for kind, items in found.items.items() for item in items)
    return [replace(known.records[key], looked_at=at.looked_at, kinds=tuple(sorted(found.items))) for key in there[:1]]


@dataclass(slots=True)
class MetadataWatch:
    """Looks, and keeps what is to be told until it was: `pending`. Moments come from `moments`: the earliest of the
    nodes' times less the skew allowed for, and the latest."""

    settings: KafkaSettings
    topics: Topics
    stats: Stats
    moments: Callable[[], tuple[int, int]]
    pending: tuple[Metadata, ...] = ()
    _known: Known | None = None
    _after: Known | None = None
    _everything: bool = False
    _told_at: int = BEGINNING
    _complaints: frozenset[str] = frozenset()
    _disputed: frozenset[str] = frozenset()
    _unread: set[str] = field(default_factory=set)

    def forget(self) -> None:
        """Shard 0 is not ours (any more), or a commit's outcome is unknown: Kafka is asked before the next look."""
        self._known = self._after = None
        self.pending = ()
        for gauge in (metrics.METADATA_LOOK, metrics.METADATA_ITEMS):
            for labels in [labels for labels in gauge._metrics if labels[0] == self.topics.namespace]:
                gauge.remove(*labels)

    def look(self, source: Source, *, everything: bool = False) -> None:
        """Look at the metadata, everything to be told again or only what has changed. Raises KafkaError."""
        self._everything = self._everything or everything
        known = self._known = self._known or self._told_before()
        if known is None:
            return
        looked_at, _ = self.moments()
        try:
            found = describe(source.cluster, source.namespace, known.items(ItemKind.UDF))
        except SourceError as error:
            self._complain({f"metadata cannot be read: {error.message}"})
            metrics.METADATA_FAILURES.labels(self.topics.namespace, "ALL").inc()
            return
        at = Moments(looked_at, self.moments()[1])
        new = news(known, found, self.topics.namespace, at, everything=self._everything)
        self.pending = tuple(new or (still(known, found, at) if looked_at >= self._told_at + AGAIN_MS else ()))
        self._after = known.after(self.pending, found.items, looked_at)
        self._judge(found)
        metrics.METADATA_LOOK.labels(self.topics.namespace).set(at.observed_at / 1000)
        for kind, items in found.items.items():
            metrics.METADATA_ITEMS.labels(self.topics.namespace, kind).set(len(items))
        if not self.pending:
            self.told()

    def told(self) -> None:
        """What is pending was committed."""
        self._told_at = max((record.looked_at for record in self.pending), default=self._told_at)
        self._known, self._after, self.pending = self._after, None, ()
        self._everything = False

    def _told_before(self) -> Known | None:
        kept = kept_metadata(self.settings, self.topics)
        for text in set(kept.damaged) - self._unread:
            self._unread.add(text)
            metrics.METADATA_FAILURES.labels(self.topics.namespace, "ALL").inc()
            self.stats.note(f"metadata that was told before cannot be read and is told again: {text}")
        if not kept.whole:
            self._complain({"metadata waits for the end of a transaction that another worker left open"})
            return None
        self._told_at = max((record.looked_at for record in kept.records), default=BEGINNING)
        return Known.of(kept.records)

    def _judge(self, found: Described) -> None:
        for kind in found.failed:
            metrics.METADATA_FAILURES.labels(self.topics.namespace, kind).inc()
        # A change takes a moment to reach every node: what is disputed at two looks is told.
        lasting = found.disputed & self._disputed
        self._disputed = found.disputed
        self._complain({f"metadata: {text}" for text in lasting} | {
            f"metadata of kind {kind} cannot be read: {error.message}" for kind, error in found.failed.items()
        })  # fmt: skip

    def _complain(self, complaints: set[str]) -> None:
        for text in sorted(complaints - self._complaints):
            self.stats.note(text)
        self._complaints = frozenset(complaints)
