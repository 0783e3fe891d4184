"""Other destinations of the same changes, and what of an archive they still have.

Each has manifests, names and object boundaries of its own. What they have in common is what Kafka gave them: a version
is the same where its epoch (`adopt.same`) and its offset are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cdc.archive import cost as costs
from cdc.archive.adopt import same
from cdc.archive.archive import Archive
from cdc.archive.chain import DAMAGES
from cdc.archive.manifests import Epoch, Manifest, SegmentInfo
from cdc.archive.store import Store
from cdc.archive.verify import Elsewhere, Verification, verify
from cdc.errors import ArchiveError, ConfigError
from cdc.units import count

Openers = Mapping[str, Callable[[], Store]]
"""Destinations by name, opened when they are needed."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another destination that could be opened. `manifests`: each shard's last one, None where it has none that is
    sound."""

    name: str
    archive: Archive
    manifests: tuple[Manifest | None, ...]

    def epoch(self, shard: int, wanted: Epoch) -> Epoch | None:
        """Its epoch that is the same as another archive's."""
        manifest = self.manifests[shard] if shard < len(self.manifests) else None
        return next((e for e in manifest.epochs if same(e, wanted)), None) if manifest else None

    def segments(self, shard: int, wanted: Epoch) -> tuple[SegmentInfo, ...]:
        """Its segments of such an epoch."""
        manifest, epoch = self.manifests[shard], self.epoch(shard, wanted)
        return tuple(s for s in manifest.segments if s.epoch == epoch.number) if manifest and epoch else ()


def opened(namespace: str, openers: Openers, shards: int | None = None) -> tuple[list[Sibling], dict[str, str]]:
    """The destinations that can be asked, of those with so many shards, and why the others cannot."""
    found, problems = [], {}
    for name, open_one in openers.items():
        try:
            archive = Archive.open(open_one(), namespace)
            if shards is not None and archive.shards != shards:
                problems[name] = f"it has {count(archive.shards, 'shard')}, not {shards}"
                continue
            found.append(Sibling(name, archive, tuple(_last(archive, k) for k in range(archive.shards))))
        except (ArchiveError, ConfigError) as error:
            problems[name] = error.message
    return found, problems


def _last(archive: Archive, shard: int) -> Manifest | None:
    try:
        return archive.shard(shard)
    except DAMAGES:
        return None


def asked(found: Verification, openers: Openers) -> Verification:
    """The same with what other destinations still have of what is damaged; nobody is asked where nothing is.

    What they can restore is what a verification of presence says of them. One that cannot be reached is told, and no
    error.
    """
    if not found.damage:
        return found
    answers = []
    for name, open_one in openers.items():
        try:
            left = verify(open_one(), found.namespace, "presence", remembering=False).cost.left
        except (ArchiveError, ConfigError) as error:
            answers.append(Elsewhere(name, error.message))
            continue
        objects = tuple(sorted(n for n, spans in found.costs.items() if not costs.without(spans, left)))
        # What of an archive without its format can be lost is not known: all that the other one has may be.
        unknown = any(d.name.endswith("/format.json") for d in found.damage)
        answers.append(Elsewhere(name, "", objects, left if unknown else tuple(costs.within(found.cost.lost, left))))
    return replace(found, elsewhere=tuple(answers))
