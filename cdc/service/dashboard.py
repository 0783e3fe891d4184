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
         (_age(metrics.ARCHIVED_RESOLVED), "archive")),
        "Age of the moment up to which everything is captured. It grows when a role is dead, too.",
    ),
    Panel("Recoverable window", "s", ((f"{_of(metrics.WINDOW_END)} - {_of(metrics.WINDOW_START)}", "length"),)),
    Panel("Roles up", "bool", ((_of(metrics.UP), "{{role}}"),)),
    Panel("Errors", "ops", ((_rate(metrics.ERRORS, "role", "error"), "{{role}} {{error}}"),)),
    Panel("Changes captured", "ops", ((_rate(metrics.CHANGES, "op", "origin"), "{{op}} {{origin}}"),)),
    Panel(
        "Bytes", "Bps", ((_rate(metrics.CHANGE_BYTES), "to Kafka"), (_rate(metrics.ARCHIVED_BYTES), "to the archive")),
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
    Panel("Changes waiting for the archive", "short", ((f"sum({_of(metrics.KAFKA_LAG)})", "changes"),)),
    Panel("Versions archived", "ops", ((_rate(metrics.ARCHIVED), "versions"),)),
    Panel("Node clocks", "s", ((_of(metrics.CLOCK_OFFSET), "{{node}}"),)),
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
    Alert("AerospikeCdcArchiveLagging", f"time() - min by (namespace) ({name(metrics.ARCHIVED_RESOLVED)}) > 300", "1m",
          "critical", "The archive of {{ $labels.namespace }} is five minutes behind: is the compactor running?"),
    Alert("AerospikeCdcRoleDown", f"{name(metrics.UP)} == 0", "2m", "critical",
          "{{ $labels.role }} of {{ $labels.namespace }} does not work: its log says why."),
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
