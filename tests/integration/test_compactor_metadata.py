"""The metadata topic between a real Kafka and a real directory: in the archive when Kafka has lost it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from cdc.archive import Archive, LocalStore, metadata
from cdc.compactor import Compactor
from cdc.config import KafkaSettings, Settings
from cdc.errors import CdcError, ObjectDamaged
from cdc.model import Item, ItemKind
from cdc.topics import Metadata, Progress, kept_metadata
from cdc.topics.progress import Kind
from tests.fixtures.versions import change
from tests.integration.test_compactor import SHARDS, T0, Source, configured, source

__all__ = ["source"]  # a fixture
NOW = time.time_ns() // 1_000_000


def tell(source: Source, at: int, name: str, bin_name: str, *, removed: bool = False) -> None:
    """A look of the collector, at so many milliseconds from now, that found one thing new."""
    item = Item(ItemKind.INDEX, name, {"bin": bin_name})
    record = Metadata("test", item, removed, NOW + at, NOW + at - 10, NOW + at - 1, (ItemKind.INDEX,))
    epoch, end, known = T0 + source.epoch, source.ends[0], T0 + source.since
    with source.publisher.transaction() as tx:
        tx.metadata(record, NOW)
        source.sweep += 1
        progress = (source.sweep, Kind.SWEEP, True, (), epoch, known, known, known, known, end, end, 0, 0, 0)
        tx.progress(Progress(0, SHARDS, epoch, *progress))
    deadline = time.monotonic() + 30
    while not kept_metadata(source.kafka, source.topics).whole:  # until readers can see it
        assert time.monotonic() < deadline


def archived(settings: Settings, at: int) -> dict[str, tuple[str, bool]]:
    store = LocalStore(settings.archive.path)
    found = metadata.at(store, "test", NOW + at)
    assert found is not None
    assert metadata.check(store, "test", content=True)[1] == {}
    return {known.told.item.name: (known.told.item.facts["bin"], known.exact) for known in found.items}


def numbers(settings: Settings) -> list[int]:
    names = LocalStore(settings.archive.path).list("test/metadata")
    return [int(name[-25:-5]) for name in names]


def test_what_was_told_is_archived_once_and_stays_when_the_topic_is_made_anew(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path, until: Callable[..., Any]
) -> None:
    settings = configured(kafka_settings, tmp_path)
    source.base(10_000, [change(1, 9_000, unobserved_since=0)])
    Compactor(settings).run_once()
    assert numbers(settings) == []  # nobody has looked yet
    tell(source, 100, "a", "x")
    tell(source, 200, "b", "x")
    tell(source, 300, "a", "y")
    Compactor(settings).run_once()
    assert archived(settings, 150) == {"a": ("x", False)}
    assert archived(settings, 200) == {"a": ("x", False), "b": ("x", True)}
    assert archived(settings, 300) == {"a": ("y", False), "b": ("x", False)}
    before = numbers(settings)
    Compactor(settings).run_once()
    assert numbers(settings) == before
    tell(source, 400, "b", "x", removed=True)
    Compactor(settings).run_once()
    assert archived(settings, 399) == {"a": ("y", True), "b": ("x", False)}

    admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap})
    for future in admin.delete_topics([source.topics.metadata]).values():
        future.result(20)
    until(lambda: source.topics.metadata not in admin.list_topics(timeout=10).topics, 20)
    source.topics.ensure(kafka_settings, 2)
    Compactor(settings).run_once()
    assert archived(settings, 399) == {"a": ("y", True), "b": ("x", False)}
    tell(source, 500, "c", "z")  # it tells of a look at all indexes: what it does not name is gone
    Compactor(settings).run_once()
    assert archived(settings, 500) == {"c": ("z", False)}
    assert archived(settings, 350) == {"a": ("y", True), "b": ("x", False)}


def test_damaged_metadata_is_told_and_does_not_keep_changes_from_coming_in(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path, until: Callable[..., Any]
) -> None:
    settings = configured(kafka_settings, tmp_path)
    source.base(10_000, [change(1, 9_000, unobserved_since=0)])
    tell(source, 100, "a", "x")
    Compactor(settings).run_once()
    path = tmp_path / metadata.name_of("test", numbers(settings)[-1])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    tell(source, 200, "b", "x")
    stop, told = threading.Event(), list[CdcError]()
    compactor = Compactor(settings)
    thread = threading.Thread(target=compactor.run, args=(stop,), kwargs={"failure": told.append})
    thread.start()
    try:
        until(lambda: told, 30)
        source.swept(22_000, [change(2, 21_500)])
        until(lambda: compactor.stats.rows, 30)
    finally:
        stop.set()
        thread.join(30)
    assert [type(error) for error in told] == [ObjectDamaged]
    assert path.name in told[0].message
    assert Archive.open(LocalStore(tmp_path), "test").shard(0) is not None
    path.write_bytes(whole)
    Compactor(settings).run_once()
    assert archived(settings, 200) == {"a": ("x", False), "b": ("x", False)}
