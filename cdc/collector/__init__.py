"""One namespace, polled: sweeps become changes in Kafka, and what is gone becomes deletes.

Pure: `entries`, `state`, `versions`, `deletes`, `pace`. On disk: `catalog`, `catalog_files`. At the edges: `sweep`,
`reconcile`, `publish`, `resume`, `collector`.
"""

from cdc.collector.collector import Collector
from cdc.collector.stats import Stats

__all__ = ["Collector", "Stats"]
