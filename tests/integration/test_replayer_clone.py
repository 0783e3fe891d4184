"""Clones into an empty namespace, compared particle for particle with what was there at the moment."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import aerospike
import pytest

from cdc.config import AerospikeSettings, ReplayerSettings
from cdc.embedded.aerospike import Emulator
from cdc.errors import Differs, NotRecoverable, ObjectDamaged, RecordsRefused, TargetNotEmpty
from cdc.model import PARTITIONS
from cdc.replayer.clone import clone
from cdc.replayer.plan import plan
from cdc.replayer.report import Report, Watch
from cdc.replayer.target import Target
from cdc.replayer.verify import verify
from cdc.replayer.wanted import Existing, Wanted
from cdc.source import Source
from cdc.wire import Cluster
from cdc.wire.messages import Result
from tests.fixtures.aerospike import Client
from tests.fixtures.rawwire import Particles, RawRecords
from tests.fixtures.restores import History, remove_all, tick

VALUES: dict[str, Particles] = {
    "scalars": {
        "i": (1, (-7).to_bytes(8, "big", signed=True)),
        "f": (2, b"\x3f\xf8" + bytes(6)),
        "s": (3, "ü€".encode()),
    },
    "bytes": {"b": (4, bytes(range(256))), "e": (4, b""), "t": (17, b"\x01")},
    "containers": {
        "l": (20, b"\x93\x01\xa2\x03x\x92\x02\xc0"),
        "o": (20, b"\x93\xc7\x00\x01\x01\x02"),
        "m": (19, b"\x82\xc7\x00\x01\xc0\xa2\x03a\x01"),
    },
    "foreign": {"p": (9, b"\x80\x04K\x01."), "j": (7, b"\xac\xed\x00\x05")},
}


def particles(raw: RawRecords, namespace: str, keys: list[tuple[str, str, Any]]) -> dict[Any, Particles]:
    return {key[2]: raw.read((namespace, *key[1:])) for key in keys}


def full_clone(
    history: History, at: int, target: Target, existing: Existing = "fail", named_file: Path | None = None
) -> Report:
    wanted = Wanted(existing=existing)
    made = plan(history.archive, at, now=target.now(), into=target.namespace, wanted=wanted)
    return clone(history.archive, made, target, named_file=named_file)


def test_a_clone_has_every_particle_set_key_and_expiry_as_it_was(
    client: Client, raw: RawRecords, history: History, empty: Target, namespace: str, set_name: str
) -> None:
    keys = [(namespace, set_name, name) for name in VALUES]
    for key in keys:
        assert raw.write(key, VALUES[key[2]]) == 0
    for i in range(300):
        key = (namespace, set_name, i)
        ttl = 5000 + i if i % 3 else aerospike.TTL_NEVER_EXPIRE
        client.put(key, {"n": i, "blob": bytearray(i)}, policy={"key": aerospike.POLICY_KEY_SEND, "ttl": ttl})
        keys.append(key)
    history.look()
    at = history.look()
    then = particles(raw, namespace, keys)
    before = history.source.observe(range(PARTITIONS)).records
    report = full_clone(history, at, empty)
    assert (report.complete, report.written, report.refused, report.fuzzy) == (True, len(before), 0, 0)
    assert particles(raw, empty.namespace, keys) == then
    after = empty.source.observe(range(PARTITIONS)).records
    # The checksum covers set, user key and bins.
    expected = {
        d.tobytes(): (int(c), int(v)) for d, c, v in zip(before.digest, before.checksum, before.void_time, strict=True)
    }
    got = {d.tobytes(): (int(c), int(v)) for d, c, v in zip(after.digest, after.checksum, after.void_time, strict=True)}
    assert {d: c for d, (c, _) in got.items()} == {d: c for d, (c, _) in expected.items()}
    assert all(abs(got[d][1] - expected[d][1]) <= 1000 for d in expected)
    assert all((got[d][1] == 0) == (expected[d][1] == 0) for d in expected)


def test_each_of_three_moments_is_cloned_as_it_was_with_every_record_written_once(
    client: Client, history: History, empty: Target, namespace: str, set_name: str
) -> None:
    def put(keys: range, value: int) -> None:
        for i in keys:
            client.put((namespace, set_name, i), {"v": value})

    def truth() -> dict[bytes, int]:
        found = history.source.observe(range(PARTITIONS)).records
        return {d.tobytes(): int(c) for d, c in zip(found.digest, found.checksum, strict=True)}

    put(range(100), 1)
    history.look()
    first = history.look(), truth()
    tick(history.now)
    put(range(50, 120), 2)
    for i in range(0, 60, 2):
        client.remove((namespace, set_name, i))
    second = history.look(), truth()
    history.make_set(second[0])
    tick(history.now)
    put(range(0, 100, 5), 3)
    third = history.look(), truth()
    for at, expected in (first, second, third):
        report = full_clone(history, at, empty)
        found = empty.source.observe(range(PARTITIONS)).records
        assert {d.tobytes(): int(c) for d, c in zip(found.digest, found.checksum, strict=True)} == expected
        assert report.written == len(expected)
        assert found.generation.tolist() == [1] * len(expected)
        remove_all(empty)


def test_a_clone_is_verified_record_by_record(
    client: Client, history: History, empty: Target, thirty: int, set_name: str
) -> None:
    made = plan(history.archive, thirty, now=empty.now())
    report = clone(history.archive, made, empty)
    verified = verify(history.archive, made, empty)
    assert (verified.expected, verified.found) == (report.written, report.written)
    client.put((empty.namespace, set_name, 1), {"v": -1})
    client.remove((empty.namespace, set_name, 2))
    client.touch((empty.namespace, set_name, 3), 5000)
    client.put((empty.namespace, "mine", 4), {"v": 4})
    wrong = verify(history.archive, made, empty).error()
    assert isinstance(wrong, Differs)
    assert "1 of 30 records are missing, 2 are different, 1 should not be there" in wrong.message


@pytest.fixture
def thirty(client: Client, history: History, namespace: str, set_name: str) -> int:
    for i in range(30):
        client.put((namespace, set_name, i), {"v": i})
    history.look()
    return history.look()


def test_a_target_that_holds_records_is_refused_and_left_as_it_is(
    client: Client, history: History, empty: Target, thirty: int
) -> None:
    client.put((empty.namespace, "mine", 1), {"v": "mine"})
    with pytest.raises(TargetNotEmpty, match=empty.namespace):
        full_clone(history, thirty, empty)
    assert len(empty.source.digests(range(PARTITIONS))) == 1


@pytest.mark.parametrize(("existing", "left", "value"), [("keep", 1, "mine"), ("replace", 0, 5)])
def test_records_that_are_there_are_kept_or_replaced_when_told(
    client: Client, history: History, empty: Target, thirty: int, namespace: str, set_name: str,
    existing: Existing, left: int, value: Any,
) -> None:  # fmt: skip
    client.put((empty.namespace, set_name, 5), {"v": "mine"})
    report = full_clone(history, thirty, empty, existing=existing)
    assert report.left == left
    assert client.get((empty.namespace, set_name, 5))[2] == {"v": value}
    assert len(empty.source.digests(range(PARTITIONS))) == report.written + left


def test_a_damaged_segment_is_refused_by_name_before_the_first_write(
    history: History, empty: Target, thirty: int
) -> None:
    made = plan(history.archive, thirty, now=empty.now())
    store = history.archive.store
    for info in made.objects:
        whole = store.get(info.name)
        damaged = bytearray(whole)
        damaged[-30] ^= 1
        store.delete(info.name)
        assert store.put_if_absent(info.name, bytes(damaged))
        with pytest.raises(ObjectDamaged, match=info.name):
            clone(history.archive, made, empty)
        store.delete(info.name)
        assert store.put_if_absent(info.name, whole)
    assert len(empty.source.digests(range(PARTITIONS))) == 0


def test_a_moment_outside_the_windows_is_refused_with_the_windows(history: History, thirty: int) -> None:
    for at in (thirty + 3_600_000, history.archive.windows()[0].start - 1):
        with pytest.raises(NotRecoverable, match="recoverable window"):
            plan(history.archive, at, now=history.now())


def test_refused_records_are_counted_named_in_a_file_and_raised(
    client: Client, history: History, namespace: str, set_name: str, tmp_path: Path
) -> None:
    for i in range(5):
        client.put((namespace, set_name, i), {"v": i}, policy={"key": aerospike.POLICY_KEY_SEND})
    history.look()
    at = history.look()
    with Emulator(namespaces=("elsewhere",)) as emulator, Cluster(AerospikeSettings(hosts=emulator.hosts)) as cluster:
        target = Target.of(Source(cluster, "elsewhere"), ReplayerSettings(batch_records=50))
        made = plan(history.archive, at, now=target.now())
        emulator.nodes[0].faults.refuse_records.extend([int(Result.RECORD_TOO_BIG), int(Result.OUT_OF_SPACE)])
        with pytest.raises(RecordsRefused, match="2 records") as caught:
            clone(history.archive, made, target, named_file=tmp_path / "refused.jsonl")
        written = {d.tobytes() for d in target.source.digests(range(PARTITIONS)).digest}
    report = caught.value.report
    assert isinstance(report, Report)
    assert (report.written, report.refused) == (made.counts.write - 2 if made.counts else 0, 2)
    assert report.refusals == {Result.RECORD_TOO_BIG: 1, Result.OUT_OF_SPACE: 1}
    lines = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert sorted(line["code"] for line in lines) == [8, 13]
    for line in lines:
        assert bytes(aerospike.calc_digest(namespace, set_name, line["key"])).hex() == line["digest"]
        assert line["set"] == set_name
        assert bytes.fromhex(line["digest"]) not in written


def test_a_dry_run_says_in_text_and_json_what_the_clone_then_does(history: History, empty: Target, thirty: int) -> None:
    made = plan(history.archive, thirty, now=empty.now(), into=empty.namespace)
    assert made.counts is not None
    report = clone(history.archive, made, empty)
    assert (made.counts.write, made.counts.bytes, made.counts.exact) == (report.written, report.bytes, report.exact)
    said = json.loads(json.dumps(made.to_dict()))
    assert said["counts"]["write"] == report.written
    assert f"{report.written:,} records" in made.to_text()
    assert json.loads(json.dumps(report.to_dict()))["written"] == report.written


def test_progress_reaches_its_end_and_a_cancelled_clone_says_that_it_is_not_whole(
    history: History, empty: Target, thirty: int
) -> None:
    seen: list[tuple[int, int, str]] = []
    made = plan(history.archive, thirty, now=empty.now())
    clone(history.archive, made, empty, watch=Watch(lambda *said: seen.append(said)))
    assert {phase for _, _, phase in seen} == {"verify", "write"}
    assert all(0 <= done <= total for done, total, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    cancelled = threading.Event()
    cancelled.set()
    again = replace(made, wanted=Wanted(existing="replace"))
    report = clone(history.archive, again, empty, watch=Watch(cancel=cancelled))
    assert (report.complete, report.written) == (False, 0)
