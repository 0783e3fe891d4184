"""A catalog that is lost, damaged or not of this history: made again from what was published, and no record twice.

Each test does the same: a history with every kind of change, harm to the catalog while no collector runs and records
change, and then one round of a collector. It publishes what differs and nothing else, in the same epoch, and restores
to a moment before the harm and to one after it find what was there.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from cdc.archive import Archive, LocalStore
from cdc.clock import wall_clock
from cdc.collector import catalog_files as files
from cdc.collector import rebuild
from cdc.collector.catalog import Catalog, shard_directory
from cdc.collector.entries import Entries
from cdc.collector.state import ShardState
from cdc.compactor import Compactor
from cdc.config import ArchiveSettings, CompactorSettings, ScopeSettings
from cdc.errors import Fenced
from cdc.model import Op, Origin, partitions_of
from cdc.replayer.versions import ABSENT, Certainty, states
from cdc.topics.offsets import list_offsets
from tests.fixtures.collecting import SHARDS, Scene

FIRST, LATER = range(60), range(100, 140)
Harm = Callable[["History"], None]


@dataclass
class History:
    """A scene with an archive beside it. `moments` are moments at which nothing changed, and what was there then."""

    scene: Scene
    folder: Path
    moments: list[tuple[int, dict[bytes, int]]]

    def round(self) -> Any:
        """A collector's round, then a moment to restore to, then a round in which nothing has changed: what comes next
        has its blind interval after the moment."""
        stats = self.scene.once()
        self.moments.append((wall_clock(), self.scene.truth()))
        quiet = self.scene.once()
        assert not quiet.changes
        assert not quiet.notes
        return stats

    def compact(self) -> None:
        Compactor(self.scene.settings).run_once()

    def catalogs(self) -> list[Path]:
        namespace = self.scene.topics.namespace
        return [shard_directory(self.folder / "catalog", namespace, shard) for shard in range(SHARDS)]

    def forget(self, through: dict[int, int]) -> None:
        """Kafka forgets the changes before these offsets."""
        kafka, topic = self.scene.settings.kafka, self.scene.topics.changes
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        asked = [TopicPartition(topic, shard, offset) for shard, offset in through.items()]
        for future in admin.delete_records(asked).values():
            future.result(30)
        assert list_offsets(kafka, topic, through, earliest=True) == through

    def restored(self, at: int) -> tuple[dict[bytes, int], set[int]]:
        """The records that the archive says held at a moment, with their generations, and how sure that is."""
        live: dict[bytes, int] = {}
        sure: set[int] = set()
        archive = Archive.open(LocalStore(self.scene.settings.archive.path), self.scene.topics.namespace)
        for shard in range(SHARDS):
            view = archive.view(shard, at)
            for versions in archive.versions(view):
                found = states(versions.columns, at, view.epoch.reconciled_at)
                sure |= set(found.certainty.tolist())
                held = found.held != ABSENT
                generations = versions.columns.generation[found.held[held]]
                live |= {d.tobytes(): int(g) for d, g in zip(found.digest[held], generations, strict=True)}
        return live, sure


@pytest.fixture
def history(scene: Scene, tmp_path: Path) -> History:
    """Records written, changed, touched, deleted, created again and with a TTL, in two rounds; archived up to the
    first of them."""
    scene.settings = scene.settings.model_copy(
        update={
            "archive": ArchiveSettings(path=tmp_path / "archive", block_bytes=4096),
            "compactor": CompactorSettings(segment_every_s=0.001, set_every_s=0.5),
        }
    )
    made = History(scene, tmp_path, [])
    for i in FIRST:
        scene.put(i, i, ttl=1000 if i % 3 == 0 else 0)
    made.round()
    for i in (1, 2, 3):
        scene.client.remove(scene.key(i))
    scene.put(2, 20)
    scene.put(4, 40)
    scene.client.touch(scene.key(9), 2000)
    made.round()
    made.compact()
    for i in LATER:
        scene.put(i, i)
    scene.client.remove(scene.key(11))
    made.round()
    return made


def missing(history: History) -> None:
    shutil.rmtree(history.folder / "catalog")


def flipped(history: History) -> None:
    """One bit of one entry is another, in every shard."""
    for directory in history.catalogs():
        catalog = Catalog.open(directory, int(directory.name[-4:]), SHARDS)
        assert catalog is not None
        catalog.move(directory, catalog.state).close()
        [base] = directory.glob("base-*.cat")
        raw = bytearray(base.read_bytes())
        raw[-100] ^= 4
        base.write_bytes(raw)


def older_version(history: History) -> None:
    for directory in history.catalogs():
        for base in directory.glob("base-*.cat"):
            raw = bytearray(base.read_bytes())
            raw[8] = files.VERSION - 1
            base.write_bytes(raw)


def other_epoch(history: History) -> None:
    """The catalog of a worker that had the shard before its present epoch."""
    for directory in history.catalogs():
        catalog = Catalog.open(directory, int(directory.name[-4:]), SHARDS)
        assert catalog is not None
        catalog.move(directory, replace(catalog.state, epoch=catalog.state.epoch - 1000, changes_through=3)).close()


def ahead(history: History) -> None:
    """Kafka was restored from before: the catalog knows records and deletes that it does not."""
    for directory in history.catalogs():
        shard = int(directory.name[-4:])
        catalog = Catalog.open(directory, shard, SHARDS)
        assert catalog is not None
        partitions = partitions_of(shard, SHARDS)
        known = catalog.partitions(partitions.start, partitions.stop - 1)
        strange = known.digest[:2].copy()
        strange[:, 19] ^= 255
        put = Entries.of(
            strange, np.full(2, 1_700_000_000_000), np.ones(2, np.int32), np.zeros(2, np.int64),
            np.ones(2, np.uint64), np.zeros(2, np.uint16),
        )  # fmt: skip
        state = replace(catalog.state, changes_through=catalog.state.changes_through + 50)
        catalog.commit(state, put, known.digest[-3:])
        catalog.close()


def change_records(scene: Scene) -> None:
    """What happens while no collector runs."""
    scene.client.remove(scene.key(7))
    scene.client.remove(scene.key(120))
    scene.put(8, 80)
    scene.put(900, 1)


def changes_told(scene: Scene) -> int:
    """How many changes Kafka was ever told."""
    return sum(p.writes + p.deletes for p in scene.all_progress())


def found_again(history: History, source: str) -> None:
    """A round finds what changed, and what was published before is not published again."""
    scene = history.scene
    told, epochs = changes_told(scene), {p.epoch for p in scene.all_progress()}
    change_records(scene)
    stats = history.round()
    assert {(op.name, n) for (op, _), n in stats.changes.items()} == {("WRITE", 2), ("DELETE", 2)}
    assert changes_told(scene) == told + 4
    assert {p.epoch for p in scene.all_progress()} == epochs
    assert all(f"rebuilt from {source} (" in note and "an audit compares" in note for note in stats.notes)
    assert bool(stats.notes) == bool(source)


def restores(history: History) -> None:
    """To every moment that the history remembers, exactly."""
    history.compact()
    assert len(history.moments) == 4
    for at, truth in history.moments:
        assert history.restored(at) == (truth, {Certainty.EXACT})


@pytest.mark.parametrize("harm", [missing, flipped, older_version, other_epoch, ahead])
def test_kafka_alone_gives_the_catalog_back(history: History, harm: Harm) -> None:
    archive = history.scene.settings.archive
    with_archive = history.scene.settings
    history.scene.settings = with_archive.model_copy(
        update={"archive": archive.model_copy(update={"path": history.folder / "not here"})}
    )
    harm(history)
    found_again(history, "Kafka")
    history.scene.settings = with_archive
    restores(history)


@pytest.mark.parametrize("harm", [missing, ahead])
def test_the_archive_and_what_kafka_has_after_it_give_the_catalog_back(history: History, harm: Harm) -> None:
    archive = Archive.open(LocalStore(history.folder / "archive"), history.scene.topics.namespace)
    manifests = [m for m in archive.all_shards() if m is not None]
    history.forget({m.shard: m.next_changes for m in manifests})
    harm(history)
    found_again(history, "the archive and Kafka")
    restores(history)


def test_an_old_copy_of_the_catalog_is_brought_up_from_kafka(history: History) -> None:
    shutil.copytree(history.folder / "catalog", history.folder / "old")
    history.scene.put(901, 1)
    history.scene.client.remove(history.scene.key(130))
    history.scene.once()
    missing(history)
    (history.folder / "old").rename(history.folder / "catalog")
    found_again(history, "")
    restores(history)


def test_an_old_copy_that_lacks_what_kafka_has_forgotten_is_rebuilt_from_the_archive(history: History) -> None:
    shutil.copytree(history.folder / "catalog", history.folder / "old")
    history.scene.put(901, 1)
    history.scene.client.remove(history.scene.key(130))
    history.scene.once()
    history.compact()
    archive = Archive.open(LocalStore(history.folder / "archive"), history.scene.topics.namespace)
    history.forget({m.shard: m.next_changes for m in archive.all_shards() if m is not None})
    missing(history)
    (history.folder / "old").rename(history.folder / "catalog")
    found_again(history, "the archive and Kafka")
    restores(history)


def test_where_neither_has_everything_a_new_history_begins_and_says_why(history: History) -> None:
    first = list_offsets(history.scene.settings.kafka, history.scene.topics.changes, range(SHARDS), earliest=True)
    history.forget({shard: offset + 1 for shard, offset in first.items()})
    shutil.rmtree(history.folder / "archive")
    missing(history)
    stats = history.round()
    assert stats.changes[Op.WRITE, Origin.BASE] == len(history.scene.truth())
    [note] = stats.notes
    assert "2 shards begin a new history with a base snapshot: no catalog is here, and it cannot be rebuilt: " in note
    assert "Kafka has changes from offset 1 on, and the epoch began at 0" in note
    assert "there is no archive at" in note
    assert all(len({p.epoch for p in history.scene.progress(shard)}) == 2 for shard in range(SHARDS))


def test_the_beginning_of_a_later_epoch_is_found_among_much_progress(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "NEAR", 8)
    monkeypatch.setattr(rebuild, "PROBE", 4)
    for i in FIRST:
        scene.put(i, i)
    for _ in range(3):
        scene.once()
    # Another collector, of another scope, began an epoch; and so does this one then.
    everything, scoped = (
        scene.settings,
        scene.settings.model_copy(update={"scope": {scene.topics.namespace: ScopeSettings(exclude=("nothing",))}}),
    )
    scene.settings = scoped
    scene.once()
    scene.settings = everything
    scene.once()
    for i in LATER:
        scene.put(i, i)
    for _ in range(3):
        scene.once()
    told = changes_told(scene)
    shutil.rmtree(tmp_path / "catalog")
    scene.client.remove(scene.key(5))
    stats = scene.once()
    assert ["rebuilt from Kafka (" in note for note in stats.notes] == [True]
    assert changes_told(scene) == told + 1
    assert len({p.epoch for p in scene.progress(0)}) == 3
    assert stats.catalog_records == len(scene.truth())


def test_an_expiry_that_nobody_has_told_is_told_although_the_restore_set_leaves_the_record_out(
    history: History, until: Callable[..., Any], watched: Callable[[Any], Any]
) -> None:
    scene = history.scene
    # Deletes and expiries are looked for once, at the start, and not again.
    with scene.collector(reconcile_every_s=3600) as collector, watched(collector) as future:
        until(lambda: future.done() or collector.stats.reconciled_at, 60)
        scene.put(950, 1, ttl=2)
        void = wall_clock() + 2000
        until(lambda: future.done() or collector.stats.resolved_at > void + 3000, 60)
        assert not future.done()
    scene.settings = scene.settings.model_copy(update={"compactor": CompactorSettings(set_every_s=1)})
    history.compact()
    archive = Archive.open(LocalStore(history.folder / "archive"), scene.topics.namespace)
    manifests = [m for m in archive.all_shards() if m is not None]
    assert all(max(s.at for s in m.sets) > void for m in manifests)
    history.forget({m.shard: m.next_changes for m in manifests})
    missing(history)
    stats = scene.once()
    assert stats.changes[Op.EXPIRY, Origin.RECONCILE] == 1
    assert {op for op, _ in stats.changes} == {Op.EXPIRY}


def test_a_rebuilding_that_is_broken_off_leaves_what_was_there_and_is_begun_again(history: History) -> None:
    scene, [shard, *_] = history.scene, range(SHARDS)
    shutil.rmtree(history.folder / "archive")
    for directory in history.catalogs():
        catalog = Catalog.open(directory, int(directory.name[-4:]), SHARDS)
        assert catalog is not None
        catalog.move(directory, replace(catalog.state, epoch=1)).close()
    last = scene.progress(shard)[-1]

    def broken_off(rows: int) -> None:
        assert (history.catalogs()[shard] / rebuild.DRAFT).exists()
        raise Fenced("the shard is another worker's now")

    with pytest.raises(Fenced):
        rebuild.rebuild(history.catalogs()[shard], last, scene.settings, scene.topics, broken_off)
    before = Catalog.open(history.catalogs()[shard], shard, SHARDS)
    assert before is not None
    assert before.state.epoch == 1
    before.close()
    # Killed, it leaves its draft behind.
    draft = history.catalogs()[shard] / rebuild.DRAFT
    Catalog.begin(draft, ShardState.begin(shard, SHARDS, last.epoch)).close()
    found_again(history, "Kafka")
    assert not draft.exists()
