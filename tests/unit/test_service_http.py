"""Metrics and health over HTTP."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from cdc import metrics
from cdc.config import HttpSettings
from cdc.errors import BrokerUnreachable, ConfigError, StoreForbidden
from cdc.service.health import Health
from cdc.service.http import HttpServer


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_follows_the_roles() -> None:
    health = Health(clock=lambda: 1_700_000_000_123)
    with HttpServer(HttpSettings(port=0), health) as server:
        assert get(f"{server.url}/healthz")[0] == 503
        health.start("shop", "collect")
        assert get(f"{server.url}/healthz")[0] == 503
        health.success("shop", "collect")
        assert get(f"{server.url}/healthz")[0] == 200
        health.failure("shop", "collect", BrokerUnreachable("no broker answers at 127.0.0.1:1"))
        status, body = get(f"{server.url}/healthz")
    assert status == 503
    assert json.loads(body)["roles"] == [
        {
            "namespace": "shop",
            "role": "collect",
            "destination": None,
            "up": False,
            "last_success": "2023-11-14T22:13:20.123Z",
            "error": "BrokerUnreachable: no broker answers at 127.0.0.1:1",
        }
    ]


def test_a_drill_in_trouble_does_not_make_the_backup_unready() -> None:
    health = Health()
    health.success("shop", "collector")
    health.start("shop", "drill", "main")
    assert (health.ready(), health.healthy()) == (True, False)


def test_the_backup_is_ready_while_one_destination_is_up() -> None:
    health = Health()
    with HttpServer(HttpSettings(port=0), health) as server:
        health.success("shop", "collector")
        for at in ("main", "offsite"):
            health.start("shop", "compactor", at)
        assert get(f"{server.url}/readyz")[0] == 503
        health.success("shop", "compactor", "offsite")
        health.failure("shop", "compactor", StoreForbidden("full"), "main")
        status, body = get(f"{server.url}/readyz")
        assert (status, get(f"{server.url}/healthz")[0]) == (200, 503)
        health.failure("shop", "collector", BrokerUnreachable("x"))
        assert get(f"{server.url}/readyz")[0] == 503
    said = {role["destination"]: role["error"] for role in json.loads(body)["roles"]}
    assert said == {None: None, "main": "StoreForbidden: full", "offsite": None}


def test_metrics_are_served_and_errors_counted() -> None:
    health = Health()
    with HttpServer(HttpSettings(port=0), health) as server:
        health.failure("counted", "compact", BrokerUnreachable("x"))
        metrics.RESOLVED.labels("counted", "3").set(12.5)
        status, body = get(f"{server.url}/metrics")
    assert status == 200
    assert (
        'aerospike_cdc_errors_total{destination="",error="BrokerUnreachable",namespace="counted",role="compact"} 1.0'
        in body
    )
    assert 'aerospike_cdc_resolved_timestamp_seconds{namespace="counted",shard="3"} 12.5' in body


def test_a_taken_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{port}"):
            HttpServer(HttpSettings(port=port), Health()).__enter__()
