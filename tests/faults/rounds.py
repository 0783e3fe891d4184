"""What a role does to an archive in one go, each to be killed and to fail at every step."""

from collections.abc import Callable
from typing import Any, Final

from cdc.archive import Archive, Store, keeps, prune
from cdc.archive.keeps import Keep
from cdc.clock import wall_clock
from cdc.compactor.upkeep import Upkeep
from cdc.config import (
    AerospikeSettings,
    ArchiveSettings,
    CollectorSettings,
    CompactorSettings,
    RetentionSettings,
    Settings,
)
from tests.faults.history import HOUR, NAMESPACE, SHARDS, T0

NOW: Final = wall_clock() + HOUR
"""Later than a test writes anything."""
DAY_S: Final = 86_400.0
NEVER_S: Final = 365 * DAY_S

Round = Callable[[Store], object]


def configured(*, changes_from: int = 0, grace_s: float = 0.0, **compactor: Any) -> Settings:
    """Settings; retention keeps all changes, or those from a moment on."""
    days = (NOW - changes_from) / (DAY_S * 1000) if changes_from else 0.0
    retention = RetentionSettings(changes_days=days, minimum_sets=1, grace_s=grace_s)
    return Settings(
        aerospike=AerospikeSettings(namespaces=(NAMESPACE,)),
        collector=CollectorSettings(shards=SHARDS),
        compactor=CompactorSettings(
            **({"merge_segments": 0, "set_every_s": NEVER_S, "recovery_time_s": 0} | compactor)
        ),
        archive=ArchiveSettings(block_bytes=4096, retention=retention),
    )


def kept_up(**compactor: Any) -> Round:
    """A round of upkeep."""
    return lambda store: Upkeep(configured(**compactor), Archive.open(store, NAMESPACE), lambda: NOW).round()


def pruned(changes_from: int = 0, grace_s: float = 0.0) -> Round:
    """A prune."""
    settings = configured(changes_from=changes_from, grace_s=grace_s)
    return lambda store: prune.prune(Archive.open(store, NAMESPACE), settings, NOW)


def marked(store: Store) -> None:
    """Two moments are kept: one in each epoch."""
    for hour in (9, 27):
        keeps.add(store, NAMESPACE, f"hour-{hour}", Keep(T0 + hour * HOUR, NOW))


ROUNDS: Final[dict[str, Round]] = {
    "marks": marked,
    "sets": kept_up(set_every_s=6 * 3600),
    "merges": kept_up(merge_segments=2),
    "more sets": kept_up(merge_segments=2, set_every_s=3600),
    "prune": pruned(T0 + 33 * HOUR),
}
"""In this order, each on what those before it left."""
