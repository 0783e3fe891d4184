"""From a cluster through an archive, an export and an import into a cluster: every record is what it was."""

import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aerospike
import fastavro
import pyarrow.parquet as pq
import pytest

from cdc.clock import rfc3339, wall_clock
from cdc.config import AerospikeSettings
from cdc.errors import NotRecoverable, ObjectDamaged, UsageError
from cdc.wire import Cluster
from tests.e2e.test_fidelity import PATIENT, State, captured, differing, remove
from tests.fixtures import corpus
from tests.fixtures.commands import TARGET, Operator
from tests.fixtures.corpus import CORPUS

SLOW_S = 60
"""A restore reckons a TTL from now, and a busy machine takes its time to write it. What an import keeps of an expiry is
compared to the byte in the unit tests."""


def brought_back(cluster: Cluster, before: State) -> State:
    """What is in the target, with the expiry that each record had, where it has one much like it."""
    return {
        digest: replace(stored, void_time=before[digest].void_time)
        if digest in before and stored.void_time and abs(stored.void_time - before[digest].void_time) <= SLOW_S
        else stored
        for digest, stored in corpus.seen(cluster, TARGET).items()
    }


@pytest.fixture
def cluster(operator: Operator) -> Iterator[Cluster]:
    hosts = tuple(operator.hosts.split(","))
    with Cluster(AerospikeSettings(hosts=hosts, **PATIENT)) as connected:
        yield connected
        for namespace in (operator.namespace, TARGET):  # the official client cannot name every key
            remove(connected, namespace, list(corpus.seen(connected, namespace)))


@pytest.mark.parametrize("with_set", [False, True], ids=["segments", "restore set"])
def test_the_corpus_comes_back_from_plain_avro(operator: Operator, cluster: Cluster, with_set: bool) -> None:
    compactor = {"set_every_s": 0.5 if with_set else 3600}
    operator.configure(aerospike=PATIENT, compactor=compactor)
    assert set(corpus.write(cluster, operator.namespace, CORPUS).values()) == {0}
    corpus.by_client(operator.client, operator.namespace)
    captured(operator)
    before = corpus.seen(cluster, operator.namespace)
    time.sleep(1.2)  # a restore set is made at a multiple of its interval, once that lies behind
    moment = rfc3339(wall_clock())
    time.sleep(0.6)
    remove(cluster, operator.namespace, sorted(before)[::2])
    captured(operator)

    out = str(operator.folder / "out")
    said = operator.good("export", "--at", moment, "--to", out, "--json").json
    assert said["counts"]["records"] == len(before)
    # The same moment, from the archive and from what is made of the export, by a program that has another number
    # of shards.
    operator.configure(aerospike=PATIENT, archive={"path": "imported"}, collector={"shards": 4})
    made = operator.good("import", out, "--json").json
    assert (made["at"], made["records"], made["shards"]) == (moment, len(before), 4)
    operator.good("verify", "--tier", "decode")
    [window] = operator.good("list", "--json").json["windows"]
    assert (window["start"], window["end"]) == (moment, moment)
    operator.good("restore", "--at", "latest", "--into", TARGET, "--yes")
    assert differing(brought_back(cluster, before), before) == {}

    again = operator.run("import", out)
    assert (again.code, "has something of the namespace" in again.err) == (UsageError.exit_code, True)


def test_what_fastavro_made_of_an_export_is_imported_as_well(operator: Operator, cluster: Cluster) -> None:
    operator.configure(aerospike=PATIENT)
    assert set(corpus.write(cluster, operator.namespace, CORPUS).values()) == {0}
    captured(operator)
    before = corpus.seen(cluster, operator.namespace)
    out = operator.folder / "out"
    operator.good("export", "--at", "latest", "--to", str(out))
    rows: list[Any] = []
    for path in out.rglob("records/*.avro"):
        with path.open("rb") as file:
            reader = fastavro.reader(file, return_record_name=True)
            schema: Any = reader.writer_schema
            rows += reader
    theirs = operator.folder / "theirs"
    theirs.mkdir()
    with (theirs / "all.avro").open("wb") as file:
        fastavro.writer(file, schema, rows[::-1], codec="snappy")
    operator.configure(aerospike=PATIENT, archive={"path": "imported"})
    moment = json.loads((out / "export.json").read_text())["at"]
    operator.good("import", str(theirs), "--at", moment)
    operator.good("restore", "--at", "latest", "--into", TARGET, "--yes")
    assert differing(brought_back(cluster, before), before) == {}


def test_a_compactor_goes_on_where_an_import_left_off(operator: Operator) -> None:
    shop = operator.shop()
    shop.place(50)
    captured(operator)
    out = str(operator.folder / "out")
    operator.good("export", "--at", "latest", "--to", out)
    operator.configure(archive={"path": "imported"})
    moment = operator.good("import", out, "--json").json["at"]
    operator.good("collect", "--once")
    operator.good("compact", "--once")
    windows = operator.good("list", "--json").json["windows"]
    assert moment in [window["start"] for window in windows]
    assert len({window["end"] for window in windows}) == 2  # and the history that was in Kafka all the time
    for at in (moment, "latest"):
        answer = operator.good("restore", "--at", at, "--into", TARGET, "--existing", "replace", "--yes", "--json").json
        assert answer["written"] == 50


def test_the_changes_of_a_span_in_both_formats(operator: Operator) -> None:
    policy = {"key": aerospike.POLICY_KEY_SEND}
    operator.client.put((operator.namespace, "s", "a"), {"n": 1}, policy=policy)
    captured(operator)
    time.sleep(0.01)
    began = rfc3339(wall_clock())
    operator.client.put((operator.namespace, "s", "a"), {"n": 2}, policy=policy)
    operator.client.put((operator.namespace, "s", "b"), {"n": 3.5}, policy=policy)
    captured(operator)
    out = operator.folder
    said = operator.good("export", "--from", began, "--to", str(out / "avro"), "--json").json
    operator.good("export", "--from", began, "--to", str(out / "parquet"), "--format", "parquet", "--set", "s")
    rows = [r for p in out.glob("avro/changes/*.avro") for r in fastavro.reader(io.BytesIO(p.read_bytes()))]
    assert (said["counts"]["records"], said["from"]) == (2, began)
    found = {r["change"]["user_key"]: r["change"]["bins"]["n"] for r in rows}
    assert found == {"a": 2, "b": 3.5}
    tables = [pq.read_table(p).to_pydict() for p in out.glob("parquet/changes/s/*.parquet")]
    assert {k: v for t in tables for k, v in zip(t["key"], t["bin_n"], strict=True)} == {"a": "2", "b": "3.5"}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--at", "latest", "--from", "1h"), UsageError),
        ((), UsageError),
        (("--until", "latest"), UsageError),
        (("--at", "2020-01-01T00:00:00Z"), NotRecoverable),
        (("--from", "2020-01-01T00:00:00Z"), NotRecoverable),
    ],
)
def test_words_that_are_wrong_are_one_clear_line(operator: Operator, words: tuple[str, ...], error: Any) -> None:
    operator.client.put((operator.namespace, "s", "a"), {"n": 1})
    captured(operator)
    answer = operator.run("export", *words, "--to", str(operator.folder / "out"))
    assert answer.code == error.exit_code
    assert not Path(operator.folder / "out").exists()


def test_a_damaged_export_is_named_and_makes_no_archive(operator: Operator) -> None:
    operator.client.put((operator.namespace, "s", "a"), {"n": 1})
    captured(operator)
    out = operator.folder / "out"
    operator.good("export", "--at", "latest", "--to", str(out))
    [path] = out.glob("records/*.avro")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    operator.configure(archive={"path": "imported"})
    answer = operator.run("import", str(out))
    assert answer.code == ObjectDamaged.exit_code
    assert path.name in answer.err
    assert operator.run("list").code != 0
