"""The Grafana dashboard and the alert rules, made from the metrics' own definitions so that no name can drift.

`python -m cdc.service.dashboard DIR` writes both; a test compares what is in the repository with what this makes.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from cdc import metrics

DASHBOARD = "aerospike-cdc.json"
ALERTS = "alerts.yaml"


def name(metric: MetricWrapperBase, suffix: str = "") -> str:
    """The series that a metric exports."""
    [family] = metric.describe()
    return family.name + ("_total" if family.type == "counter" else suffix)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its title, unit, and the queries with their legends. `$namespace` is the dashboard's variable."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    text: str = ""


def _of(metric: MetricWrapperBase, suffix: str = "") -> str:
    return f'{name(metric, suffix)}{{namespace="$namespace"}}'


def _places(metric: MetricWrapperBase, how: str = "max") -> str:
    return f"{how} by (destination) ({_of(metric)})"


def _rate(metric: MetricWrapperBase, *by: str) -> str:
    return f"sum by ({', '.join(by)}) (rate({_of(metric)}[1m]))"


def _quantile(q: float, metric: MetricWrapperBase) -> str:
    return f"histogram_quantile({q}, sum by (le) (rate({_of(metric, '_bucket')}[5m])))"


def _age(metric: MetricWrapperBase) -> str:
    return f"time() - min({_of(metric)})"


PANELS = (
    Panel(
        "Lag", "s",
        ((_age(metrics.RESOLVED), "writes in Kafka"), (_age(metrics.RECONCILED), "deletes in Kafka"),
         (f"time() - {_places(metrics.ARCHIVED_RESOLVED, 'min')}", "archive {{destination}}")),
        "Age of the moment up to which everything is captured. It grows when a role is dead, too.",
    ),
    Panel(
        "Recoverable window", "s", ((f"{_of(metrics.WINDOW_END)} - {_of(metrics.WINDOW_START)}", "{{destination}}"),)
    ),
    Panel(
        "Resolution", "s", ((f"max by (destination, of) ({_of(metrics.RESOLUTION)})", "{{destination}} {{of}}"),),
        "The longest blind interval in what became recoverable last. It rises when the collector pauses or lags.",
    ),
    Panel("Roles up", "bool", ((_of(metrics.UP), "{{role}} {{destination}}"),)),
    Panel(
        "Errors", "ops",
        ((_rate(metrics.ERRORS, "role", "destination", "error"), "{{role}} {{destination}} {{error}}"),),
    ),
    Panel("Changes captured", "ops", ((_rate(metrics.CHANGES, "op", "origin"), "{{op}} {{origin}}"),)),
    Panel(
        "Bytes", "Bps",
        ((_rate(metrics.CHANGE_BYTES), "to Kafka"),
         (_rate(metrics.ARCHIVED_BYTES, "destination"), "to {{destination}}")),
    ),
    Panel(
        "Capture delay", "s", tuple((_quantile(q, metrics.DELAY_SECONDS), f"p{q * 100:.0f}") for q in (0.5, 0.99)),
        "From a write's last-update-time to its commit in Kafka.",
    ),
    Panel("Duration of looks, p99", "s", ((_quantile(0.99, metrics.SWEEP_SECONDS), "p99"),)),
    Panel("Records seen", "ops", ((_rate(metrics.SWEPT), "seen"), (_rate(metrics.DUPLICATES), "known already"))),
    Panel(
        "Kept aside and drift", "short",
        ((f"sum({_of(metrics.ASIDE)})", "aside"), (f"sum({_of(metrics.DRIFT)})", "drift")),
    ),
    Panel("Live records in the catalog", "short", ((f"sum({_of(metrics.CATALOG_RECORDS)})", "records"),)),
    Panel(
        "Changes waiting for the archive", "short", ((_places(metrics.KAFKA_LAG, "sum"), "{{destination}}"),),
        "Of each destination. One that was down is behind until it has read from Kafka what it missed.",
    ),
    Panel("Versions archived", "ops", ((_rate(metrics.ARCHIVED, "destination"), "{{destination}}"),)),
    Panel("Restore sets made", "ops", ((_rate(metrics.SETS, "destination"), "{{destination}}"),)),
    Panel(
        "Replay debt", "s",
        ((_places(metrics.DEBT), "{{destination}}"), (_places(metrics.RECOVERY_TIME), "objective of {{destination}}")),
        "How long a clone takes to replay what stands beside its restore set, by the shard that takes longest. Above "
        "the objective a restore set is made early.",
    ),
    Panel("Segments", "short", ((f"sum by (destination, tier) ({_of(metrics.TIER_SEGMENTS)})",
                                 "{{destination}} {{tier}}"),), "By what those of their tier span."),
    Panel(
        "Merged", "Bps", ((_rate(metrics.MERGED_BYTES, "destination"), "{{destination}}"),),
        "What merging segments writes beside what is archived: the write amplification.",
    ),
    Panel(
        "Requests to object stores", "ops",
        ((_rate(metrics.STORE_REQUESTS, "destination", "request", "outcome"),
          "{{destination}} {{request}} {{outcome}}"),),
    ),
    Panel(
        "Age of the last verification without damage", "s",
        ((f"time() - max by (destination, tier) ({_of(metrics.VERIFIED)})", "{{destination}} {{tier}}"),),
    ),
    Panel(
        "Damaged objects", "short",
        ((f"max by (destination, tier) ({_of(metrics.DAMAGED)})", "{{destination}} {{tier}}"),),
    ),
    Panel(
        "Drills passed", "bool", ((_of(metrics.DRILL_PASSED), "{{destination}}"),),
        "Whether the last rehearsed restore found everything as it must be.",
    ),
    Panel(
        "Age of the last drill that passed", "s",
        ((f"time() - {_places(metrics.DRILL_PASSED_AT)}", "{{destination}}"),
         (_places(metrics.DRILL_INTERVAL), "schedule of {{destination}}")),
    ),
    Panel(
        "Recovery time by drills", "s",
        ((f"max by (destination, of) ({_of(metrics.DRILL_RECOVERY)})", "{{destination}} {{of}}"),),
        "Measured for the sample that the last drill restored, and projected from it for everything.",
    ),
    Panel("Recovery rate by drills", "ops", ((_of(metrics.DRILL_RATE), "{{destination}}"),)),
    Panel(
        "Metadata", "short",
        ((f"sum by (kind) ({_of(metrics.METADATA_ITEMS)})", "{{kind}}"),
         (f"sum({_of(metrics.METADATA_FAILURES)})", "looks that failed")),
    ),
    Panel("Busy nodes", "ops", ((_rate(metrics.BUSY, "result"), "{{result}}"), (_of(metrics.STRAIN), "strain level"))),
    Panel(
        "Node clocks", "s",
        ((_of(metrics.CLOCK_OFFSET), "{{node}}"), (_rate(metrics.CLOCK_STEPS, "node"), "steps of {{node}}")),
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels = []
    for number, panel in enumerate(PANELS):
        panels.append(
            {
                "id": number + 1,
                "type": "timeseries",
                "title": panel.title,
                "description": panel.text,
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(ord("A") + i), "expr": query, "legendFormat": legend}
                    for i, (query, legend) in enumerate(panel.queries)
                ],
            }
        )
    return {
        "title": "aerospike-cdc",
        "uid": "aerospike-cdc",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "namespace",
                    "type": "query",
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "query": f"label_values({name(metrics.RESOLVED)}, namespace)",
                    "refresh": 2,
                },
            ]
        },
        "panels": panels,
    }


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule: what holds for how long, and what a tired person should know."""

    alert: str
    expr: str
    wait: str
    severity: str
    summary: str


ALERT_RULES = (
    Alert("AerospikeCdcLagging", f"time() - min by (namespace) ({name(metrics.RESOLVED)}) > 60", "1m", "critical",
          "Nothing newer than a minute is captured of {{ $labels.namespace }}: see aerospike-cdc status."),
    Alert("AerospikeCdcDeletesLagging", f"time() - min by (namespace) ({name(metrics.RECONCILED)}) > 300", "1m",
          "warning", "Deletes of the last five minutes are not known for {{ $labels.namespace }}."),
    Alert("AerospikeCdcArchiveLagging",
          f"time() - max by (namespace) (min by (namespace, destination) ({name(metrics.ARCHIVED_RESOLVED)})) > 300",
          "1m", "critical",
          "Every archive of {{ $labels.namespace }} is five minutes behind: is the compactor running?"),
    Alert("AerospikeCdcDestinationLagging",
          f"time() - min by (namespace, destination) ({name(metrics.ARCHIVED_RESOLVED)}) > 300", "1m", "warning",
          "The archive of {{ $labels.namespace }} at {{ $labels.destination }} is five minutes behind. It catches up "
          "by itself as long as Kafka keeps what it misses."),
    Alert("AerospikeCdcReplayDebt",
          f"max by (namespace, destination) ({name(metrics.DEBT)}) > on (namespace, destination) "
          f"({name(metrics.RECOVERY_TIME)} > 0)", "30m", "warning",
          "A clone of {{ $labels.namespace }} from {{ $labels.destination }} would replay for longer than "
          "compactor.recovery_time_s: are restore sets being made? The compactor's log says what fails."),
    Alert("AerospikeCdcRoleDown", f"{name(metrics.UP)} == 0", "2m", "critical",
          "{{ $labels.role }} {{ $labels.destination }} of {{ $labels.namespace }} does not work: its log says why."),
    Alert("AerospikeCdcArchiveDamaged", f"max by (namespace, destination) ({name(metrics.DAMAGED)}) > 0", "0m",
          "critical", "Objects of {{ $labels.namespace }} at {{ $labels.destination }} are damaged or missing: "
          "aerospike-cdc verify names them, and repair brings them back from another destination."),
    Alert("AerospikeCdcArchiveUnverified",
          f"time() - max by (namespace, destination) ({name(metrics.VERIFIED)}) > 8 * 86400", "1h", "warning",
          "The archive of {{ $labels.namespace }} at {{ $labels.destination }} was last found sound over a week ago: "
          "verify it, or set archive.verify_every_s."),
    Alert("AerospikeCdcDrillFailed", f"{name(metrics.DRILL_PASSED)} == 0", "0m", "critical",
          "The last rehearsed restore of {{ $labels.namespace }} from {{ $labels.destination }} was not as it must be: "
          "aerospike-cdc drill --list says what was found."),
    Alert("AerospikeCdcDrillOverdue",
          f"time() - {name(metrics.DRILL_PASSED_AT)} > 2 * {name(metrics.DRILL_INTERVAL)}", "10m", "warning",
          "No rehearsed restore of {{ $labels.namespace }} from {{ $labels.destination }} has passed for two of its "
          "schedules: aerospike-cdc drill --list shows the last ones, the log says why none was begun."),
    Alert("AerospikeCdcKeptAside", f"increase({name(metrics.ASIDE)}[1h]) > 0", "0m", "warning",
          "Records of {{ $labels.namespace }} could not be encoded: aerospike-cdc status names them."),
    Alert("AerospikeCdcDrift", f"increase({name(metrics.DRIFT)}[1d]) > 0", "0m", "warning",
          "An audit of {{ $labels.namespace }} found what sweeps had missed."),
)  # fmt: skip


def alerts() -> str:
    """The alert rules as Prometheus reads them. Strings are JSON's, which YAML understands."""
    lines = ["groups:", "  - name: aerospike-cdc", "    rules:"]
    for rule in ALERT_RULES:
        lines += [
            f"      - alert: {rule.alert}",
            f"        expr: {json.dumps(rule.expr)}",
            f"        for: {rule.wait}",
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
        ]
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """File name to content."""
    return {DASHBOARD: json.dumps(dashboard(), indent=1) + "\n", ALERTS: alerts()}


if __name__ == "__main__":
    for file, content in files().items():
        (Path(sys.argv[1]) / file).write_text(content, encoding="utf-8")
