"""From the metadata topic to the archive: an object for everything that changed, and now and then one that says that
nothing did.

Each object names those before it. So that they stay few, what applications change often (sets come, and are truncated)
waits until the last one is an hour old.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

from cdc import metrics
from cdc.archive import Archive, items, metadata
from cdc.archive.items import Snapshot, Told
from cdc.clock import Clock
from cdc.config import KafkaSettings
from cdc.errors import ArchiveError, KeyRefused, ObjectDamaged, ObjectMissing
from cdc.model import BEGINNING, ItemKind
from cdc.topics import Kept, Metadata, Topics, end_offsets, kept_metadata

AGAIN_MS: Final = 3_600_000
"""A look that found nothing new, or nothing that matters at once, is written down so much later than the last one."""
SELDOM: Final = (ItemKind.SET, ItemKind.TRUNCATION)
"""What may wait so long."""


def following(known: Snapshot, kept: Kept, now: int) -> Iterator[Snapshot]:
    """What is to be written now after what is known, look by look, when a topic holds this. Pure.

    Of a look that others followed it is not known any more what else it told: compaction may have taken that. So it
    has its items, but counts as no look at their kinds; the last one does, but for kinds of which something is unread.
    """
    written = known
    last = max((record.looked_at for record in kept.told), default=BEGINNING)
    for looked_at, group in groupby(kept.told, key=lambda record: record.looked_at):
        look = list(group)
        if looked_at <= max(known.looked.values(), default=BEGINNING - 1):
            continue
        known = items.after(known, map(_told, look), {})
        if _urgent(known) != _urgent(written) and looked_at < last:
            written = known
            yield written
    looked = {kind: at for kind, at in _looked(kept.records).items() if kind not in kept.unread}
    keys = [(record.item.kind, record.item.name) for record in kept.records]
    known = items.after(items.without(known, keys, looked), map(_told, kept.records), looked)
    new = known.items != written.items or known.looked != written.looked
    if new and (now - written.written_at >= AGAIN_MS or _urgent(known) != _urgent(written)):
        yield known


def _urgent(known: Snapshot) -> list[Told]:
    return [told for told in known.items if told.item.kind not in SELDOM]


@dataclass(slots=True)
class MetadataIntake:
    """Takes in what the topic of an archive's namespace tells. `trouble`: why the archive's metadata cannot be gone on
    from; it is tried again."""

    kafka: KafkaSettings
    archive: Archive
    destination: str
    clock: Clock
    trouble: ArchiveError | None = None
    _through: int = 0
    _again_at: int = 0
    _damaged: set[str] = field(default_factory=set)

    @property
    def _topics(self) -> Topics:
        return Topics(self.kafka.prefix, self.archive.namespace)

    def take(self) -> None:
        """Write down what is new, if anything is. Raises KafkaError, and as the store does where that is away."""
        end, now = end_offsets(self.kafka, self._topics.metadata, [0])[0], self.clock()
        if end == self._through and now < self._again_at:
            return
        try:
            self._write()
        except (ObjectMissing, ObjectDamaged, KeyRefused) as error:
            if self.trouble is None or self.trouble.message != error.message:  # the same is told once
                self.trouble = error
        else:
            self.trouble, self._through, self._again_at = None, end, now + AGAIN_MS

    def _write(self) -> None:
        store, namespace = self.archive.store, self.archive.namespace
        while True:
            known = metadata.newest(store, namespace) or Snapshot(namespace)
            kept = kept_metadata(self.kafka, self._topics)  # after it: or what another took in would be undone
            for text in set(kept.damaged) - self._damaged:
                self._damaged.add(text)
                metrics.METADATA_FAILURES.labels(namespace, "ALL").inc()
            if self._added(known, kept):
                return

    def _added(self, known: Snapshot, kept: Kept) -> bool:
        """Whether all that follows could be written; not, where another compactor was faster."""
        now = self.clock()
        for snapshot in following(known, kept, now):
            added = metadata.add(self.archive.store, replace(snapshot, written_at=now), known)
            if added is None:
                return False
            known = added
        if known.number:
            metrics.ARCHIVED_METADATA.labels(self.archive.namespace, self.destination).set(known.until / 1000)
        return True


def _told(record: Metadata) -> Told:
    return Told(record.item, record.removed, record.observed_at, record.unobserved_since)


def _looked(records: Iterable[Metadata]) -> dict[ItemKind, int]:
    """When each kind was last looked at, as far as these records prove."""
    looked: dict[ItemKind, int] = {}
    for record in records:
        for kind in record.kinds:
            looked[kind] = max(record.looked_at, looked.get(kind, BEGINNING))
    return looked
