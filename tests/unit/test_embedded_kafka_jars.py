"""Only jars with the pinned hash are used, and a complete cache needs no network."""

import hashlib
from pathlib import Path

import pytest

from cdc.embedded import kafka_jars
from cdc.errors import EmbeddedKafkaFailed


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    contents = {"a.jar": b"a", "b.jar": b"b"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(kafka_jars, "pinned", lambda: hashes)
    return tmp_path


def test_a_complete_cache_is_used_as_it_is(cache: Path) -> None:
    assert kafka_jars.fetch(cache) == [cache / "a.jar", cache / "b.jar"]


def test_a_jar_with_another_hash_is_refused(cache: Path) -> None:
    (cache / "b.jar").write_bytes(b"c")
    with pytest.raises(EmbeddedKafkaFailed, match=r"b\.jar does not have the pinned SHA-256"):
        kafka_jars.fetch(cache)


def test_a_missing_jar_is_named_with_what_to_do(cache: Path) -> None:
    (cache / "a.jar").unlink()
    with pytest.raises(EmbeddedKafkaFailed, match=r"a\.jar is not in") as caught:
        kafka_jars.checked(cache)
    assert "cdc.embedded.kafka fetch" in caught.value.hint


def test_the_pinned_list_has_kafka_and_what_lets_it_log() -> None:
    names = kafka_jars.pinned()
    assert f"kafka_2.13-{kafka_jars.VERSION}.jar" in names
    assert any(name.startswith("log4j-slf4j-impl") for name in names)
    assert all(len(digest) == 64 for digest in names.values())


def test_the_cache_goes_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("AEROSPIKE_CDC_CACHE", raising=False)
    assert kafka_jars.cache_directory().parent == tmp_path / "xdg" / "aerospike-cdc"
    monkeypatch.setenv("AEROSPIKE_CDC_CACHE", str(tmp_path / "own"))
    assert kafka_jars.cache_directory().parent == tmp_path / "own"
