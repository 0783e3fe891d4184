"""One namespace, polled: sweeps become changes in Kafka, and what is gone becomes deletes.

Pure: `entries`, `state`, `versions`, `deletes`, `pace`. On disk: `catalog`, `catalog_base`, `catalog_files`. At the
edges: `clocks`, `sweep`, `look`, `sweeps`, `reconcile`, `publish`, `metadata`, `collector`, and `follow`, `rebuild` and
`resume`, which take up a shard.
"""

from cdc.collector.collector import Collector
from cdc.collector.stats import Stats

__all__ = ["Collector", "Stats"]
