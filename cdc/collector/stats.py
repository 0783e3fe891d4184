"""What a collector has done, for its report and for Prometheus."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cdc import metrics
from cdc.collector.catalog import Catalog
from cdc.errors import CdcError
from cdc.model import I64, Columns, Op, Origin

DELAY_SAMPLES = 1_000
"""Of one transaction so many capture delays go into the histogram, evenly chosen."""


@dataclass(slots=True)
class Stats:
    """Totals since the collector began. Seconds are of the last look of their kind."""

    namespace: str
    swept: int = 0
    duplicates: int = 0
    aside: int = 0
    drift: int = 0
    transactions: int = 0
    transaction_s: float = 0.0
    epochs: int = 0
    resolved_at: int = 0
    reconciled_at: int = 0
    catalog_records: int = 0
    changes: Counter[tuple[Op, Origin]] = field(default_factory=Counter)
    look_s: dict[str, float] = field(default_factory=dict)
    busy: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    last_error: CdcError | None = None
    notes: list[str] = field(default_factory=list)
    listener: Callable[[str], None] = lambda text: None

    def looked(self, kind: str, seconds: float) -> None:
        """A look was finished and committed."""
        self.look_s[kind] = seconds
        metrics.SWEEP_SECONDS.labels(self.namespace, kind).observe(seconds)

    def saw(self, records: int, duplicates: int, aside: int) -> None:
        """A look brought records."""
        self.swept += records
        self.duplicates += duplicates
        self.aside += aside
        metrics.SWEPT.labels(self.namespace).inc(records)
        metrics.DUPLICATES.labels(self.namespace).inc(duplicates)
        metrics.ASIDE.labels(self.namespace).inc(aside)
        if aside:
            self.listener(f"{aside:,} records could not be encoded and are kept aside; `status` names them")

    def committed(self, columns: Columns, size: int, now: int) -> None:
        """Changes of one shard were committed, `size` bytes of bodies."""
        pairs = columns.op.astype(np.int64) * 16 + columns.origin
        for pair, count in zip(*(a.tolist() for a in np.unique(pairs, return_counts=True)), strict=True):
            op, origin = Op(pair // 16), Origin(pair % 16)
            self.changes[op, origin] += count
            metrics.CHANGES.labels(self.namespace, op.name, origin.name).inc(count)
            if origin == Origin.AUDIT:
                self.drift += count
                metrics.DRIFT.labels(self.namespace).inc(count)
        metrics.CHANGE_BYTES.labels(self.namespace).inc(size)
        fresh: I64 = columns.lut[(columns.op == Op.WRITE) & (columns.origin == Origin.SWEEP)]
        delay = metrics.DELAY_SECONDS.labels(self.namespace)
        for lut in fresh[:: max(1, len(fresh) // DELAY_SAMPLES)].tolist():
            delay.observe(max(0.0, (now - lut) / 1000))

    def transaction(self, seconds: float) -> None:
        """A transaction was committed."""
        self.transactions += 1
        self.transaction_s = seconds

    def stands(self, catalogs: dict[int, Catalog]) -> None:
        """Where the shards stand now."""
        for shard, catalog in catalogs.items():
            state = catalog.state
            metrics.RESOLVED.labels(self.namespace, str(shard)).set(state.resolved_at / 1000)
            metrics.RECONCILED.labels(self.namespace, str(shard)).set(state.reconciled_at / 1000)
            metrics.CATALOG_RECORDS.labels(self.namespace, str(shard)).set(len(catalog))
        if catalogs:
            self.resolved_at = min(c.state.resolved_at for c in catalogs.values())
            self.reconciled_at = min(c.state.reconciled_at for c in catalogs.values())
            self.catalog_records = sum(len(c) for c in catalogs.values())

    def released(self, shard: int) -> None:
        """A shard is another worker's now: its moments are no longer ours to show."""
        for gauge in (metrics.RESOLVED, metrics.RECONCILED, metrics.CATALOG_RECORDS):
            if (self.namespace, str(shard)) in gauge._metrics:
                gauge.remove(self.namespace, str(shard))

    def heard(self, busy: Counter[str], level: int) -> None:
        """Nodes gave these busy answers, by the result's name; the strain is now this."""
        self.busy += busy
        for name, count in busy.items():
            metrics.BUSY.labels(self.namespace, name).inc(count)
        metrics.STRAIN.labels(self.namespace).set(level)

    def trouble(self, error: CdcError) -> None:
        """Something went wrong that is tried again."""
        self.errors[type(error).__name__] += 1
        self.last_error = error

    def note(self, text: str) -> None:
        """Something that a person should know, such as a new epoch and why; the last hundred are kept."""
        self.notes = [*self.notes[-99:], text]
        self.listener(text)
