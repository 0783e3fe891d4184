"""Dashboard and alerts follow the metrics."""

import re
from pathlib import Path

import pytest

from cdc import metrics
from cdc.service.dashboard import files

GRAFANA = Path(__file__).parents[2] / "grafana"


@pytest.mark.parametrize("name", sorted(files()))
def test_what_is_in_the_repository_is_what_the_metrics_make(name: str) -> None:
    """If this fails: `python -m cdc.service.dashboard grafana`."""
    assert (GRAFANA / name).read_text() == files()[name]


def test_every_series_in_them_is_one_that_is_exported() -> None:
    exported = set()
    for family in metrics.REGISTRY.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        exported |= {family.name + suffix for suffix in suffixes}
    used = {name for text in files().values() for name in re.findall(r"aerospike_cdc_\w+", text)}
    assert used
    assert used <= exported
