"""An import is an archive whose one moment is that of the export, whoever wrote the files; or nothing is there."""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, LocalStore
from cdc.archive.segments import schema
from cdc.archive.verify import verify
from cdc.codec import schemas
from cdc.config import AerospikeSettings, ArchiveSettings, CollectorSettings, CompactorSettings, Settings
from cdc.errors import ArchiveError, NotRecoverable, ObjectDamaged, UsageError
from cdc.exchange import export_changes, export_state, import_state, importing
from cdc.exchange.outline import NAME
from cdc.replayer.plan import plan, shard_slices
from cdc.replayer.report import Cancelled, Watch
from cdc.replayer.versions import ABSENT, Certainty
from tests.fixtures.versions import change, digest, versions
from tests.fixtures.versions_archived import END, FIRST, SHARDS, archive, histories, key

NOW = 1000
AT = 40
State = dict[bytes, tuple[int, int, bytes | None]]


def to(path: Path, shards: int = SHARDS) -> Settings:
    return Settings(
        aerospike=AerospikeSettings(namespaces=("test",)),
        collector=CollectorSettings(shards=shards),
        compactor=CompactorSettings(memory_bytes=16 << 20, segment_bytes=1 << 20),
        archive=ArchiveSettings(path=path, block_bytes=4096),
    )


def opened(of: Settings) -> Archive:
    return Archive.open(LocalStore(of.archive.path), "test")


def state(of: Archive, at: int) -> State:
    """Every record that a clone would write or is not sure of: its certainty and the change that holds."""
    found: State = {}
    made = plan(of, at, now=at, count=False)
    for shard in made.shards:
        for part in shard_slices(of, made, shard, at):
            for i in range(len(part.states)):
                held, sure = int(part.states.held[i]), int(part.states.certainty[i])
                if held != ABSENT or sure != Certainty.EXACT:
                    body = None if held == ABSENT else part.versions.bodies[held]
                    offset = -1 if held == ABSENT else int(part.versions.offsets[held])
                    found[part.states.digest[i].tobytes()] = sure, offset, body
    return found


@settings(max_examples=60, deadline=None)
@given(
    changes=histories(), at=st.integers(FIRST, END), reconciled_at=st.sampled_from([30, END]),
    shards=st.sampled_from([1, 2, 4]),
)  # fmt: skip
def test_the_states_of_an_import_are_those_of_the_archive_that_was_exported(
    changes: list[dict[str, Any]], at: int, reconciled_at: int, shards: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        made = archive(Path(directory, "archive"), changes, reconciled_at)
        said = export_state(made, at, Path(directory, "out"), now=NOW)
        new = to(Path(directory, "new"), shards)
        imported = import_state(Path(directory, "out"), new, now=NOW)
        again = opened(new)
        assert state(again, at) == state(made, at)
        assert imported.records == said.counts.records
        [window] = again.windows()
        assert (window.start, window.end) == (at, at)
        assert window.resolution() == said.resolution
        found = verify(again.store, "test", "decode", remembering=False)
        assert (found.damage, found.garbage) == ((), ())
        second = export_state(again, at, Path(directory, "second"), now=NOW)
        assert second.counts == said.counts
        with pytest.raises(NotRecoverable):
            export_changes(again, at, at, Path(directory, "changes"), now=NOW)


GEO = ("aerospike.cdc.GeoJSON", {"json": '{"type":"Point"}'})
RICH: dict[str, Any] = {
    "i": 5, "f": 1.5, "s": "x", "t": True, "b": b"\0\xff", "n": None,
    "l": ("aerospike.cdc.List", {"flags": 1, "items": [1, "a", ("aerospike.cdc.List", {"flags": 0, "items": []})]}),
    "m": ("aerospike.cdc.Map", {"flags": 1, "entries": [{"key": "k", "value": b"\xff"}, {"key": 1, "value": GEO}]}),
    "g": GEO,
    "h": ("aerospike.cdc.HyperLogLog", {"data": b"sketch"}),
    "r": ("aerospike.cdc.Raw", {"particle_type": 7, "data": b"java"}),
}  # fmt: skip


def rows(count: int = 300) -> list[dict[str, Any]]:
    return [
        {"offset": n, "change": change(key(n), 5, bins=RICH if n % 7 == 0 else {"n": n}, user_key=f"k{n}", lut=4)}
        for n in range(count)
    ]


def plain() -> Any:
    return fastavro.parse_schema(schemas.plain(schema()))


def written(path: Path, records: list[dict[str, Any]], codec: str = "deflate", of: Any = None) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with path.open("wb") as file:
        fastavro.writer(file, of or plain(), records, codec=codec, sync_interval=2000)
    return path.parent


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard", "bzip2", "xz"])
def test_files_of_others_unsorted_and_of_any_usual_codec_are_taken(tmp_path: Path, codec: str) -> None:
    records = rows()
    written(tmp_path / "in" / "b.avro", records[::-1][:200], codec)
    written(tmp_path / "in" / "a" / "a.avro", records[:100][::-1], codec)
    new = to(tmp_path / "new", 4)
    made = import_state(tmp_path / "in", new, now=NOW, at=AT)
    assert (made.records, made.at) == (300, AT)
    again = opened(new)
    expected = versions([r["change"] for r in records], list(range(300)))
    assert {d: (sure, body) for d, (sure, _, body) in state(again, AT).items()} == {
        expected.columns.digest[i].tobytes(): (0, expected.bodies[i]) for i in range(300)
    }


def test_another_order_of_fields_and_fields_of_their_own_are_no_matter(tmp_path: Path) -> None:
    other = json.loads(json.dumps(schemas.plain(schema())))
    other["fields"].reverse()
    other["fields"][0]["type"]["fields"].insert(0, {"name": "comment", "type": "string"})
    records = rows(20)
    more = [{**r, "change": {**r["change"], "comment": "mine"}} for r in records]
    written(tmp_path / "in" / "a.avro", more, of=fastavro.parse_schema(other))
    new = to(tmp_path / "new")
    import_state(tmp_path / "in", new, now=NOW, at=AT)
    expected = versions([r["change"] for r in records], list(range(20)))
    assert {body for _, _, body in state(opened(new), AT).values()} == set(expected.bodies)


def test_however_many_runs_sorting_makes_few_are_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "FAN_IN", 3)
    monkeypatch.setattr(importing, "BATCH_BYTES", 2000)
    stream, most = importing._stream, []

    def counting(runs: Any, shard: int, epoch: Any, some: Any) -> Any:
        most.append(len(some))
        return stream(runs, shard, epoch, some)

    monkeypatch.setattr(importing, "_stream", counting)
    records = rows(600)
    random = np.random.default_rng(5)
    random.shuffle(records)  # type: ignore[arg-type]
    written(tmp_path / "in" / "a.avro", records)
    new = to(tmp_path / "new", 1)
    small = new.model_copy(update={"compactor": new.compactor.model_copy(update={"memory_bytes": 8000})})
    made = import_state(tmp_path / "in", small, now=NOW, at=AT)
    assert made.records == len(state(opened(new), AT)) == 600
    assert max(most) <= 3 < len(most)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    changes = [change(key(n), 5 + n % 20, bins={"n": n}, user_key=n) for n in range(400)]
    changes.append(change(key(3), 50, unobserved_since=30))
    export_state(archive(tmp_path / "archive", changes), AT, tmp_path / "out", now=NOW)
    return tmp_path / "out"


def nothing(new: Settings) -> bool:
    return not [p for p in new.archive.path.rglob("*") if p.is_file()]


def altered(folder: Path, name: str, data: bytes) -> None:
    """The file with other bytes, of which the outline knows."""
    (folder / name).write_bytes(data)
    said = json.loads((folder / NAME).read_text())
    for file in said["files"]:
        if file["name"] == name:
            file |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (folder / NAME).write_text(json.dumps(said))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_is_found_before_anything_is_written(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        changes = [change(key(n), 5 + n % 20, bins={"n": n}) for n in range(60)]
        export_state(archive(Path(directory, "archive"), changes), AT, Path(directory, "out"), now=NOW)
        path = Path(directory, "out", "records", "shard-0000.avro")
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        new = to(Path(directory, "new"))
        with pytest.raises((ObjectDamaged, UsageError), match=r"records/shard-0000\.avro"):
            import_state(Path(directory, "out"), new, now=NOW)
        assert nothing(new)


def test_damage_names_the_file_and_the_record(exported: Path, tmp_path: Path) -> None:
    name = "records/shard-0000.avro"
    data = (exported / name).read_bytes()
    (exported / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ObjectDamaged, match=r"records/shard-0000.avro is damaged at record 1: the file's end"):
        import_state(exported, to(tmp_path / "new"), now=NOW)
    altered(exported, name, data[:-5])
    with pytest.raises(ObjectDamaged, match=r"records/shard-0000.avro is damaged at record 1"):
        import_state(exported, to(tmp_path / "new"), now=NOW)
    assert nothing(to(tmp_path / "new"))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"op": "DELETE", "bins": {}}, "record 6 is not a write"),
        ({"effective_at": AT + 1}, "record 6 took effect after"),
        ({"void_time": AT}, "record 6 had expired by"),
        ({"op": "WRITE", "bins": {}}, "record 6 is not a version that can be"),
        ({"generation": 1, "digest": digest(key(0))}, "is in the files twice"),
    ],
)
def test_what_no_state_has_is_refused_by_name(tmp_path: Path, what: dict[str, Any], said: str) -> None:
    records = rows(12)
    records[5]["change"] |= what
    written(tmp_path / "in" / "a.avro", records)
    new = to(tmp_path / "new")
    with pytest.raises(ObjectDamaged, match=said):
        import_state(tmp_path / "in", new, now=NOW, at=AT)
    assert nothing(new)
    with pytest.raises(ArchiveError):
        opened(new)


def test_the_same_record_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.avro", "b.avro"):
        written(tmp_path / "in" / name, rows(3))
    new = to(tmp_path / "new")
    with pytest.raises(ObjectDamaged, match="twice"):
        import_state(tmp_path / "in", new, now=NOW, at=AT)
    assert nothing(new)


def test_another_schema_is_named(tmp_path: Path) -> None:
    other = fastavro.parse_schema({"type": "record", "name": "Other", "fields": [{"name": "x", "type": "long"}]})
    written(tmp_path / "in" / "a.avro", [{"x": 1}], of=other)
    with pytest.raises(ObjectDamaged, match=r"a.avro: record 1 is not a version"):
        import_state(tmp_path / "in", to(tmp_path / "new"), now=NOW, at=AT)
    (tmp_path / "in" / "a.avro").write_bytes(b"not Avro at all")
    with pytest.raises(ObjectDamaged, match=r"a.avro is not an Avro container file"):
        import_state(tmp_path / "in", to(tmp_path / "new"), now=NOW, at=AT)


def test_an_archive_that_has_the_namespace_is_left_as_it_is(exported: Path, tmp_path: Path) -> None:
    new = to(tmp_path / "archive")
    before = sorted(new.archive.path.rglob("*"))
    with pytest.raises(UsageError, match="has something of the namespace test"):
        import_state(exported, new, now=NOW)
    assert sorted(new.archive.path.rglob("*")) == before


def test_what_is_no_state_as_avro_is_refused(exported: Path, tmp_path: Path) -> None:
    of, new = Archive.open(LocalStore(tmp_path / "archive"), "test"), to(tmp_path / "new")
    export_state(of, AT, tmp_path / "parquet", now=NOW, format="parquet")
    export_changes(of, 20, AT, tmp_path / "changes", now=NOW)
    for folder, at, said in (
        ("parquet", None, "an export of parquet"), ("changes", None, "an export of changes"),
        ("out", AT, "says itself which moment"), ("archive", None, "has no export.json"), ("gone", AT, "no Avro files"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            import_state(tmp_path / folder, new, now=NOW, at=at)
    (exported / NAME).write_text("{}")
    with pytest.raises(ObjectDamaged, match="outline"):
        import_state(exported, new, now=NOW)
    assert nothing(new)


def test_a_file_that_the_outline_names_outside_is_not_read(exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported / "records" / "shard-0000.avro", tmp_path / "elsewhere.avro")
    said = json.loads((exported / NAME).read_text())
    said["files"][0]["name"] = "../elsewhere.avro"
    (exported / NAME).write_text(json.dumps(said))
    with pytest.raises(ObjectDamaged, match="lies elsewhere"):
        import_state(exported, to(tmp_path / "new"), now=NOW)


@pytest.mark.parametrize("phase", ["verify", "read", "write"])
def test_whoever_ends_it_early_finds_no_archive_and_may_begin_again(exported: Path, tmp_path: Path, phase: str) -> None:
    new = to(tmp_path / "new")
    watch = Watch(progress=lambda done, total, of: watch.cancel.set() if of == phase and done else None)
    with pytest.raises(Cancelled):
        import_state(exported, new, now=NOW, watch=watch)
    assert nothing(new)
    assert import_state(exported, new, now=NOW).records == 400


def test_without_cramjam_it_is_said_what_snappy_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "in" / "a.avro", rows(3), "snappy")
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(UsageError) as raised:
        import_state(tmp_path / "in", to(tmp_path / "new"), now=NOW, at=AT)
    assert raised.value.hint == "pip install cramjam"
