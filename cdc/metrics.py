"""Every metric, in one place: the roles set them, `cdc.service.http` serves them, dashboards are made from them.

Base units; counters end in `_total`; moments are timestamps in seconds since 1970, so that a process that died shows a
growing age instead of a last good value.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from cdc import __version__

REGISTRY = CollectorRegistry()
PREFIX = "aerospike_cdc"

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_DELAY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10, 30, 60, 300, 3600)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"{PREFIX}_{name}", text, ("namespace", *labels), registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"{PREFIX}_{name}", text, ("namespace", *labels), registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _FAST) -> Histogram:
    return Histogram(f"{PREFIX}_{name}", text, ("namespace", *labels), registry=REGISTRY, buckets=buckets)


BUILD = Info(f"{PREFIX}_build", "Version of aerospike-cdc.", registry=REGISTRY)
BUILD.info({"version": __version__})

# collector
SWEEP_SECONDS = _histogram("sweep_seconds", "Duration of looks at the source, from first request to commit.", "kind")
SWEPT = _counter("swept_records_total", "Records that looks brought, duplicates included.")
CHANGES = _counter("changes_total", "Changes committed to Kafka.", "op", "origin")
CHANGE_BYTES = _counter("change_bytes_total", "Bytes of changes committed to Kafka, before compression.")
DUPLICATES = _counter("duplicate_records_total", "Records dropped because the catalog already had that version.")
ASIDE = _counter("aside_records_total", "Records that could not be encoded and went to the aside topic.")
DRIFT = _counter("drift_records_total", "Changes that sweeps had missed and an audit found.")
DELAY_SECONDS = _histogram(
    "capture_delay_seconds", "From a write's last-update-time to its commit in Kafka.", buckets=_DELAY
)
RESOLVED = _gauge("resolved_timestamp_seconds", "Every write up to this moment is in Kafka.", "shard")
RECONCILED = _gauge("reconciled_timestamp_seconds", "Every delete up to this moment is in Kafka.", "shard")
CATALOG_RECORDS = _gauge("catalog_records", "Live records in the catalog.", "shard")
CLOCK_OFFSET = _gauge("node_clock_offset_seconds", "A node's clock less the collector's.", "node")

# compactor
SEGMENTS = _counter("segments_total", "Segments committed to the archive.")
SETS = _counter("restore_sets_total", "Restore sets committed to the archive.")
ARCHIVED = _counter("archived_versions_total", "Versions committed to the archive.")
ARCHIVED_BYTES = _counter("archived_bytes_total", "Bytes of segments and restore sets written, compressed.")
ARCHIVED_RESOLVED = _gauge("archived_timestamp_seconds", "The archive restores up to this moment.", "shard")
WINDOW_START = _gauge("recoverable_start_timestamp_seconds", "Start of the last recoverable window.")
WINDOW_END = _gauge("recoverable_end_timestamp_seconds", "End of the last recoverable window.")
KAFKA_LAG = _gauge("compactor_lag_changes", "Changes in Kafka that the archive does not have yet.", "shard")

# every role
ERRORS = _counter("errors_total", "Errors by role and name; a role that can go on tries again.", "role", "error")
UP = _gauge("role_up", "1 while a role works, 0 while it is stopped by an error or tries again.", "role")
LAST_SUCCESS = _gauge("role_last_success_timestamp_seconds", "When a role last finished a round.", "role")
