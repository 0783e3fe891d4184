"""The files of an installation in containers agree with the settings they set."""

import re
from pathlib import Path

import pytest

from cdc import settings

COMPOSE = (Path(__file__).parents[2] / "docker" / "compose.yaml").read_text()


def test_every_variable_that_compose_sets_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    variables = re.findall(r"(AEROSPIKE_CDC__\w+): (.+)", COMPOSE)
    assert len(variables) >= 4
    for name, value in variables:
        monkeypatch.setenv(name, value.strip("'"))
    loaded = settings.load()
    assert loaded.aerospike.hosts == ("aerospike:3000",)
    assert loaded.kafka.bootstrap == "kafka:9092"


def test_the_broker_takes_messages_as_large_as_the_settings_allow() -> None:
    [limit] = re.findall(r"KAFKA_MESSAGE_MAX_BYTES: (\d+)", COMPOSE)
    assert int(limit) >= settings.Settings().kafka.max_message_bytes


def test_what_compose_mounts_is_in_the_repository() -> None:
    mounted = re.findall(r"- (\.\.?/[\w./-]+):", COMPOSE)
    assert len(mounted) >= 4
    for path in mounted:
        assert (Path(__file__).parents[2] / "docker" / path).exists(), path
