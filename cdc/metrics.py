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


def _archive_counter(name: str, text: str, *labels: str) -> Counter:
    return _counter(name, text, "destination", *labels)


def _archive_gauge(name: str, text: str, *labels: str) -> Gauge:
    return _gauge(name, text, "destination", *labels)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _FAST) -> Histogram:
    return Histogram(f"{PREFIX}_{name}", text, ("namespace", *labels), registry=REGISTRY, buckets=buckets)


BUILD = Info(f"{PREFIX}_build", "Version of aerospike-cdc.", registry=REGISTRY)
BUILD.info({"version": __version__})

# collector
SWEEP_SECONDS = _histogram(
    "sweep_seconds", "Work of looks at the source, from request to commit, without the rests in between.", "kind"
)
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
BUSY = _counter("busy_total", "Busy answers of nodes to the collector's queries.", "result")
STRAIN = _gauge("strain_level", "How often the collector's pace is halved because nodes are busy; 0: at ease.")
CLOCK_STEPS = _counter(
    "clock_steps_total", "Times that a node's clock was found to have moved by more than the skew allowed for.", "node"
)
CLOCK_OFFSET = _gauge("node_clock_offset_seconds", "A node's clock less the collector's.", "node")
METADATA_LOOK = _gauge("metadata_look_timestamp_seconds", "When indexes, UDFs, sets and so on were last looked at.")
METADATA_ITEMS = _gauge("metadata_items", "Indexes, UDFs, sets and so on that there are.", "kind")
METADATA_FAILURES = _counter(
    "metadata_failures_total", "Looks at metadata of a kind (ALL: of any) that failed.", "kind"
)

# compactor, of each destination
SEGMENTS = _archive_counter("segments_total", "Segments committed to the archive.")
SETS = _archive_counter("restore_sets_total", "Restore sets committed to the archive.")
ARCHIVED = _archive_counter("archived_versions_total", "Versions committed to the archive.")
ARCHIVED_BYTES = _archive_counter("archived_bytes_total", "Bytes of segments and restore sets written, compressed.")
ARCHIVED_RESOLVED = _archive_gauge("archived_timestamp_seconds", "The archive restores up to this moment.", "shard")
ARCHIVED_METADATA = _archive_gauge(
    "archived_metadata_timestamp_seconds", "The last moment that the archive's metadata (indexes, UDFs) speaks of."
)
WINDOW_START = _archive_gauge("recoverable_start_timestamp_seconds", "Start of the last recoverable window.")
WINDOW_END = _archive_gauge("recoverable_end_timestamp_seconds", "End of the last recoverable window.")
RESOLUTION = _archive_gauge(
    "resolution_seconds", "Longest blind interval in what the last commit made recoverable.", "shard", "of"
)
KAFKA_LAG = _archive_gauge("compactor_lag_changes", "Changes in Kafka that the archive does not have yet.", "shard")
TAKEN_OVER = _archive_counter(
    "commits_taken_over_total", "Commits that another compactor had made first; this one began anew from them."
)

# upkeep of the archive, in the compactor
MERGES = _archive_counter("merges_total", "Merges of segments into segments of the next tier.")
MERGED = _archive_counter("merged_versions_total", "Versions that merges wrote again.")
MERGED_BYTES = _archive_counter("merged_bytes_total", "Bytes of segments that merges wrote, compressed.")
TIER_SEGMENTS = _archive_gauge("tier_segments", "Segments in the archive, by what those of their tier span.", "tier")
DEBT = _archive_gauge(
    "replay_debt_seconds", "How long a clone takes to replay what stands beside the newest restore set.", "shard"
)
RECOVERY_TIME = _archive_gauge(
    "recovery_time_objective_seconds", "The replay debt from which on a restore set is made early; 0: none is."
)

PRUNED = _archive_gauge("pruned_timestamp_seconds", "When the archive was last pruned to the end.")
PRUNED_BYTES = _archive_counter("pruned_bytes_total", "Bytes of objects that pruning removed.")
GARBAGE = _archive_gauge("garbage_bytes", "Bytes that nothing names any more and that pruning could not remove yet.")

# archive, of each destination
STORE_REQUESTS = _archive_counter(
    "store_requests_total", "Requests to an object store; `outcome` is ok, failed (tried again) or the error's name.",
    "store", "request", "outcome",
)  # fmt: skip
STORE_BYTES = _archive_counter(
    "store_bytes_total", "Bytes of objects that requests brought or sent.", "store", "request"
)
STORE_SECONDS = _histogram(
    "store_request_seconds", "Duration of requests that were answered.", "destination", "store", "request"
)
VERIFIED = _archive_gauge(
    "verified_timestamp_seconds", "When a verification that found no damage began, by tier.", "tier"
)
DAMAGED = _archive_gauge(
    "damaged_objects", "Damaged and missing objects that the last verification of a tier found.", "tier"
)

# drills: rehearsed restores, of each destination
DRILLED = _archive_gauge("drill_timestamp_seconds", "When the last drill began.")
DRILL_PASSED = _archive_gauge("drill_passed", "1 where the last drill found everything as it must be, else 0.")
DRILL_PASSED_AT = _archive_gauge(
    "drill_passed_timestamp_seconds", "When the last drill that passed began; before the first: since when one is due."
)
DRILL_INTERVAL = _archive_gauge("drill_interval_seconds", "How far apart drills are by their schedule, at the most.")
DRILL_RECOVERY = _archive_gauge(
    "drill_recovery_seconds",
    "How long the last drill's restore took (`of` is sample), and what that projects for everything (`of` is all).",
    "of",
)
DRILL_RATE = _archive_gauge("drill_records_per_second", "Records that the last drill's restore brought back a second.")
DRILL_DIFFERENCES = _archive_gauge(
    "drill_different_records", "Records that were not as they must be, by what they were compared with.", "with"
)

# every role; `destination` is empty for a collector
ERRORS = _archive_counter(
    "errors_total", "Errors by role and name; a role that can go on tries again.", "role", "error"
)
UP = _archive_gauge("role_up", "1 while a role works, 0 while it is stopped by an error or tries again.", "role")
LAST_SUCCESS = _archive_gauge("role_last_success_timestamp_seconds", "When a role last finished a round.", "role")
