"""Exports say exactly what the archive says, in files that anybody reads, or leave nothing."""

import io
import json
import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import fastavro
import fastavro.read
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, Versions
from cdc.archive.segments import schema
from cdc.archive.versions import concat, order
from cdc.clock import rfc3339
from cdc.codec import to_json
from cdc.codec.values_plain import GeoJSON, HyperLogLog, List, Map, Raw
from cdc.errors import NotRecoverable, ObjectDamaged, StoreForbidden, UsageError
from cdc.exchange import Outline, avro, export_changes, export_state, parquet
from cdc.exchange.outline import NAME
from cdc.model import END_OF_TIME, Op
from cdc.replayer.plan import plan
from cdc.replayer.report import Cancelled, Watch
from cdc.replayer.versions import ABSENT, Certainty, states
from tests.fixtures.versions import change, digest, versions
from tests.fixtures.versions_archived import END, FIRST, SETS, archive, histories, key

NOW = 1000


def files(folder: Path, part: str) -> list[Path]:
    return sorted((folder / part).rglob("*.*"))


def by_fastavro(folder: Path, part: str = "records") -> list[dict[str, Any]]:
    """Every record of a part as fastavro gives it, moments in milliseconds."""
    found: list[Any] = []
    for path in files(folder, part) if (folder / part).exists() else []:
        with path.open("rb") as file:
            found += fastavro.reader(file)
    for row in found:
        change = row["change"]
        row["change"] = {n: round(v.timestamp() * 1000) if isinstance(v, datetime) else v for n, v in change.items()}
    return found


def exported(folder: Path, part: str = "records") -> Versions:
    return concat([v for path in files(folder, part) for v in avro.read(path, path.name)])


def everything(changes: list[dict[str, Any]]) -> Versions:
    every = versions(changes, list(range(len(changes))))
    return every.take(order(every.columns.digest, every.offsets))


@settings(max_examples=60, deadline=None)
@given(changes=histories(), at=st.integers(FIRST, END), reconciled_at=st.sampled_from([30, END]))
def test_the_state_at_a_moment_is_what_the_plain_rule_says_and_is_counted_as_a_restore_counts_it(
    changes: list[dict[str, Any]], at: int, reconciled_at: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        made = archive(Path(directory, "archive"), changes, reconciled_at)
        said = export_state(made, at, Path(directory, "out"), now=NOW)
        every = everything(changes)
        found = states(every.columns, at, reconciled_at)
        held = found.held[found.held != ABSENT]
        got = exported(Path(directory, "out")) if said.counts.records else None
        assert [*(got.bodies if got else [])] == [every.bodies[row] for row in held]
        counted = plan(made, at, now=at).counts
        assert counted is not None
        assert (said.counts.records, said.counts.exact, said.counts.presumed, said.counts.fuzzy) == (
            counted.write, counted.exact, counted.presumed, counted.fuzzy,
        )  # fmt: skip
        # What makes states doubtful stands beside them: both together give the same states.
        parts = [p for part in ("records", "doubts") if files(Path(directory, "out"), part)
                 for p in [exported(Path(directory, "out"), part)]]  # fmt: skip
        again = concat(parts)
        again = again.take(order(again.columns.digest, again.offsets))
        after = states(again.columns, at, reconciled_at)
        told = (found.held != ABSENT) | (found.certainty != Certainty.EXACT)
        assert _said(after, again) == _said(found, every, told)


def _said(found: Any, of: Versions, told: Any = None) -> list[tuple[bytes, int, bytes | None]]:
    rows = range(len(found)) if told is None else np.flatnonzero(told).tolist()
    return [
        (
            found.digest[i].tobytes(), int(found.certainty[i]),
            None if found.held[i] == ABSENT else of.bodies[int(found.held[i])],
        )
        for i in rows
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(changes=histories(), edges=st.tuples(st.integers(FIRST, END), st.integers(FIRST, END)))
def test_the_changes_of_a_span_are_those_that_took_effect_in_it_and_what_was_kept_aside(
    changes: list[dict[str, Any]], edges: tuple[int, int]
) -> None:
    since, until = sorted(edges)
    with tempfile.TemporaryDirectory() as directory:
        made = archive(Path(directory, "archive"), changes)
        said = export_changes(made, since, until, Path(directory, "out"), now=NOW)
        expected = {}
        for offset, one in enumerate(changes):
            when = one["observed_at"] if one["effective_at"] == END_OF_TIME else one["effective_at"]
            if since <= when <= until:
                expected[offset] = one
        found = by_fastavro(Path(directory, "out"), "changes")
        assert {row["offset"] for row in found} == set(expected)
        for row in found:
            want = expected[row["offset"]]
            assert {n: row["change"][n] for n in want if n != "bins"} == {n: v for n, v in want.items() if n != "bins"}
        ops = [one["op"] for one in expected.values()]
        assert said.counts.records == ops.count("WRITE")
        assert said.counts.aside == ops.count("ASIDE")
        assert said.counts.records + said.counts.ends + said.counts.aside == len(expected)


RICH = {
    "i": 5, "f": 1.5, "s": "x", "t": True, "b": b"\0\xff",
    "l": {"flags": 0, "items": [1, "a"]}, "m": {"flags": 1, "entries": [{"key": "k", "value": 2}]},
    "g": ("aerospike.cdc.GeoJSON", {"json": '{"type":"Point"}'}),
    "h": ("aerospike.cdc.HyperLogLog", {"data": b"sketch"}),
    "r": ("aerospike.cdc.Raw", {"particle_type": 7, "data": b"java"}),
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Archive:
    changes = [change(key(n), 5 + n, bins={"n": n}, set=SETS[n % 3], user_key=n) for n in range(12)]
    changes.append(change(key(3), 30, bins=RICH, void_time=90_000, user_key="text", set=None))
    changes.append(change(key(4), 30, bins={"n": "mixed", "only": None}, set=SETS[1], user_key=4))
    changes.append(change(key(5), 31, op=Op.DELETE, set=SETS[2]))
    return archive(tmp_path / "archive", changes)


@pytest.mark.parametrize("codec", ["deflate", "zstandard", "null"])
def test_any_avro_reader_opens_it_and_the_outline_says_what_is_in_it(
    small: Archive, tmp_path: Path, codec: avro.Codec
) -> None:
    out = tmp_path / "out"
    said = export_state(small, 40, out, now=NOW, codec=codec)
    with files(out, "records")[0].open("rb") as file:
        reader = fastavro.reader(file)
        assert reader.codec == codec
        assert reader.writer_schema["name"] == "aerospike.cdc.Version"
    rich = next(r["change"] for r in by_fastavro(out) if r["change"]["digest"] == digest(key(3)))
    assert (rich["user_key"], rich["set"], rich["void_time"], rich["lut"]) == ("text", None, 90_000, 30)
    assert rich["bins"]["b"] == b"\0\xff"
    outline = json.loads((out / NAME).read_text())
    assert (outline["kind"], outline["at"], outline["counts"]["records"]) == ("state", rfc3339(40), 11)
    assert Outline.decode((out / NAME).read_bytes()) == said
    assert all((out / f["name"]).stat().st_size == f["size"] for f in outline["files"])
    assert {(out / f["name"]).stat().st_mode & 0o777 for f in outline["files"]} == {0o600}


@pytest.mark.parametrize("sets", [("orders",), ("",), ("orders", "odd/name é"), ("nothing",)])
def test_named_sets_alone(small: Archive, tmp_path: Path, sets: tuple[str, ...]) -> None:
    whole, said = (export_state(small, 40, tmp_path / n, now=NOW, sets=s) for n, s in (("all", ()), ("some", sets)))
    wanted = [r for r in by_fastavro(tmp_path / "all") if (r["change"]["set"] or "") in sets]
    assert whole.counts.records == 11
    assert by_fastavro(tmp_path / "some") == wanted
    assert said.counts.records == len(wanted)
    assert said.sets == sets


def table(out: Path, part: str, directory: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(p) for p in files(out / part, directory)])


def test_parquet_has_a_column_a_bin_of_its_type_where_all_values_have_one(small: Archive, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = export_state(small, 40, out, now=NOW, format="parquet")
    assert {f.name.split("/")[1] for f in said.files} == {"orders", "odd%2Fname%20%C3%A9", "%none"}
    orders = table(out, "records", "orders").sort_by("key").to_pydict()
    assert orders["key"] == orders["bin_n"] == [0, 6, 9]
    mixed = table(out, "records", "odd%2Fname%20%C3%A9")
    assert mixed.schema.field("key").type == pa.int64()
    assert sorted(zip(mixed["key"].to_pylist(), mixed["bin_n"].to_pylist(), strict=True)) == [
        (1, "1"), (4, '"mixed"'), (7, "7"), (10, "10"),
    ]  # fmt: skip
    assert mixed["bin_only"].to_pylist() == [None] * 4
    none = table(out, "records", "%none")
    types = {f.name: f.type for f in none.schema}
    assert types["digest"] == pa.binary(20)
    assert types["expires"] == types["lut"] == pa.timestamp("ms", "UTC")
    assert (types["bin_i"], types["bin_f"], types["bin_s"], types["bin_t"], types["bin_b"], types["bin_g"]) == (
        pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.binary(), pa.string(),
    )  # fmt: skip
    [row] = [r for r in none.to_pylist() if r["digest"] == digest(key(3))]
    assert row["expires"].timestamp() == 90
    assert row["set"] is None
    assert {n.removeprefix("bin_"): v for n, v in row.items() if n.startswith("bin_") and v is not None} == {
        "i": 5, "f": 1.5, "s": "x", "t": True, "b": b"\0\xff", "l": '[1,"a"]', "m": '{"$map":[["k",2]],"$flags":1}',
        "g": '{"type":"Point"}', "h": b"sketch", "r": '{"$raw":"amF2YQ==","$type":7}',
    }  # fmt: skip


def test_parquet_has_the_changes_of_a_span_with_what_they_say_of_time(small: Archive, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = export_changes(small, 30, 31, out, now=NOW, format="parquet")
    assert (said.counts.records, said.counts.ends) == (2, 1)
    rows = [r for f in said.files for r in pq.read_table(out / f.name).to_pylist()]
    assert {(r["op"], int(r["effective_at"].timestamp() * 1000), r["offset"]) for r in rows} == {
        ("WRITE", 30, 12), ("WRITE", 30, 13), ("DELETE", 31, 14),
    }  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(changes=histories(), at=st.integers(FIRST, END))
def test_parquet_has_the_records_that_avro_has_and_each_file_of_a_set_has_the_same_columns(
    changes: list[dict[str, Any]], at: int
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        made = archive(Path(directory, "archive"), changes)
        plain = export_state(made, at, Path(directory, "avro"), now=NOW)
        patch.setattr(parquet, "PENDING_BYTES", 300)  # several files a set
        said = export_state(made, at, Path(directory, "parquet"), now=NOW, format="parquet")
        assert said.counts == plain.counts
        tables = [pq.read_table(Path(directory, "parquet", f.name)) for f in said.files]
        schemas = {(f.name.split("/")[1], t.schema.to_string()) for f, t in zip(said.files, tables, strict=True)}
        assert len(schemas) == len({name for name, _ in schemas})
        rows = {r["digest"]: r for t in tables for r in t.to_pylist()}
        assert len(rows) == sum(f.rows for f in said.files) == plain.counts.records
        for one in by_fastavro(Path(directory, "avro")):
            row = rows[one["change"]["digest"]]
            assert (row["generation"], row["set"]) == (one["change"]["generation"], one["change"]["set"])
            for name, value in one["change"]["bins"].items():
                got = row[f"bin_{name}"]
                assert (got is None) == (value is None)
                if type(got) is type(value) and not isinstance(value, float | str):
                    assert got == value


@pytest.mark.parametrize(
    ("values", "kind", "cells"),
    [
        ([1, None], parquet.Kind.INTEGER, [1, None]),
        ([1, 1.5], parquet.Kind.JSON, ["1", "1.5"]),
        ([True, 1], parquet.Kind.JSON, ["true", "1"]),
        ([GeoJSON("{}")], parquet.Kind.GEOJSON, ["{}"]),
        ([GeoJSON("{}"), "{}"], parquet.Kind.JSON, ['{"$geojson":"{}"}', '"{}"']),
        ([HyperLogLog(b"h")], parquet.Kind.HYPERLOGLOG, [b"h"]),
        ([List(0, (1,))], parquet.Kind.JSON, ["[1]"]),
        ([Map(0, (("a", 1),))], parquet.Kind.JSON, ['{"a":1}']),
        ([Raw(7, b"j")], parquet.Kind.JSON, ['{"$raw":"ag==","$type":7}']),
        ([None], None, [None]),
    ],
)
def test_a_column_has_one_kind_whatever_the_order_of_its_values(
    values: list[Any], kind: parquet.Kind | None, cells: list[Any]
) -> None:
    for ordered in (values, values[::-1]):
        found = None
        for value in ordered:
            found = parquet.both(found, parquet.kind_of(value))
        assert found == kind
    assert [parquet.cell(value, kind) for value in values] == cells


@pytest.mark.parametrize("name", ["..", ".", "a/b", "%none", "null", "é", "CON"])
def test_every_set_has_a_directory_of_its_own_below_the_export(name: str) -> None:
    quoted = parquet.directory(name)
    assert "/" not in quoted
    assert quoted not in (".", "..", parquet.directory(None))


def test_a_directory_with_something_in_it_is_refused_and_left(small: Archive, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        export_state(small, 40, tmp_path / "out", now=NOW)
    assert os.listdir(tmp_path / "out") == ["mine"]


@pytest.mark.parametrize("format", ["avro", "parquet"])
@pytest.mark.parametrize("there", [True, False])
def test_whoever_ends_it_early_finds_nothing(small: Archive, tmp_path: Path, format: Any, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
    watch = Watch(progress=lambda done, total, phase: watch.cancel.set() if phase == "write" and done else None)
    with pytest.raises(Cancelled):
        export_state(small, 40, out, now=NOW, format=format, watch=watch)
    assert out.exists() == there
    assert not there or os.listdir(out) == []


def test_a_damaged_archive_leaves_nothing(small: Archive, tmp_path: Path) -> None:
    name = next(n for n in small.store.list("test/shard-0000/segments") if n.endswith(".avro"))
    path = tmp_path / "archive" / name
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    with pytest.raises(ObjectDamaged, match=name):
        export_state(small, 40, tmp_path / "out", now=NOW)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["avro", "parquet"])
def test_a_full_disk_is_one_clear_line(
    small: Archive, tmp_path: Path, format: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full takes nothing, as a full disk does."""
    opened = os.open

    def full(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).endswith((".avro", ".parquet")) and flags & os.O_CREAT:
            opened_real = opened(path, flags, *rest, **more)
            os.close(opened_real)
            return opened("/dev/full", os.O_WRONLY)
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr("cdc.exchange.folder.os.open", full)
    with pytest.raises(StoreForbidden, match="No space left on device"):
        export_state(small, 40, tmp_path / "out", now=NOW, format=format)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("span", [(5, 40), (20, 70)])
def test_a_span_that_is_not_all_recoverable_is_refused(small: Archive, tmp_path: Path, span: tuple[int, int]) -> None:
    with pytest.raises(NotRecoverable, match="one recoverable window"):
        export_changes(small, *span, tmp_path / "out", now=NOW)
    with pytest.raises(NotRecoverable, match="not recoverable"):
        export_state(small, 5, tmp_path / "out", now=NOW)
    assert not (tmp_path / "out").exists()


def test_the_schema_in_the_file_is_the_one_of_segments(small: Archive, tmp_path: Path) -> None:
    export_state(small, 40, tmp_path / "out", now=NOW)
    data = files(tmp_path / "out", "records")[0].read_bytes()
    assert json.loads(fastavro.reader(io.BytesIO(data)).metadata["avro.schema"]) == schema()


def test_json_cells_are_those_of_consume() -> None:
    body = versions([change(1, 1, bins={"m": {"flags": 0, "entries": [{"key": "a", "value": 1.5}]}})], [0]).bodies[0]
    assert json.loads(to_json(body))["bins"]["m"] == json.loads(parquet.cell(Map(0, (("a", 1.5),)), parquet.Kind.JSON))


def test_without_pyarrow_it_is_said_what_to_install(
    small: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError) as raised:
        export_state(small, 40, tmp_path / "out", now=NOW, format="parquet")
    assert "pip install" in raised.value.hint
    assert not (tmp_path / "out").exists()
