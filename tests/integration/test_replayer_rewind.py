"""Rewinds in place: what changed since comes back, and nothing else is touched."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import aerospike
import pytest
from aerospike_helpers import expressions as exp

from cdc.archive import Archive, LocalStore
from cdc.clock import wall_clock
from cdc.config import AerospikeSettings, ArchiveSettings, ReplayerSettings
from cdc.embedded.aerospike import Emulator
from cdc.errors import ObjectDamaged
from cdc.model import PARTITIONS
from cdc.replayer.plan import plan
from cdc.replayer.report import Report
from cdc.replayer.rewind import rewind
from cdc.replayer.target import Target
from cdc.replayer.wanted import Wanted
from cdc.source import Scope, Source
from cdc.wire import Cluster
from tests.fixtures.aerospike import Client
from tests.fixtures.restores import History, tick

State = dict[bytes, tuple[int, int, int]]  # digest to checksum, generation, void time


def state(history: History) -> State:
    found = history.source.observe(range(PARTITIONS)).records
    rows = zip(found.digest, found.checksum, found.generation, found.void_time, strict=True)
    return {d.tobytes(): (int(c), int(g), int(v)) for d, c, g, v in rows}


def undo(
    history: History, at: int, target: Target, wanted: Wanted | None = None, named_file: Path | None = None
) -> Report:
    made = plan(history.archive, at, "rewind", now=target.now(), wanted=wanted)
    return rewind(history.archive, made, target, named_file=named_file)


class Shop:
    """Two hundred records, of which some are damaged, removed and added after `at`."""

    def __init__(self, client: Client, history: History, namespace: str, set_name: str) -> None:
        self.client, self.history, self.namespace, self.set_name = client, history, namespace, set_name
        for i in range(200):
            self.put(i, i)
        history.look()
        self.at = history.look()
        self.then = state(history)
        tick(history.now)

    def key(self, i: int) -> tuple[str, str, int]:
        return self.namespace, self.set_name, i

    def digest(self, i: int) -> bytes:
        return bytes(aerospike.calc_digest(*self.key(i)))

    def put(self, i: int, value: int) -> None:
        policy = {"key": aerospike.POLICY_KEY_SEND, "exists": aerospike.POLICY_EXISTS_CREATE_OR_REPLACE}
        self.client.put(self.key(i), {"v": value, "list": [value, "x"]}, policy=policy)

    def damage(self) -> None:
        for i in range(0, 40):
            self.put(i, -1)
        for i in range(40, 60):
            self.client.remove(self.key(i))
        for i in range(200, 210):
            self.put(i, i)
        self.history.look()


@pytest.fixture
def shop(client: Client, history: History, namespace: str, set_name: str) -> Shop:
    return Shop(client, history, namespace, set_name)


@pytest.mark.parametrize("with_set", [False, True])
def test_a_rewind_brings_everything_back_and_writes_only_what_changed(
    shop: Shop, history: History, in_place: Target, with_set: bool
) -> None:
    if with_set:
        history.make_set(shop.at)
    shop.damage()
    damaged = state(history)
    report = undo(history, shop.at, in_place)
    now = state(history)
    assert {d: c for d, (c, _, _) in now.items()} == {d: c for d, (c, _, _) in shop.then.items()}
    assert (report.written, report.removed, report.left, report.conflicts) == (60, 10, 0, 0)
    changed = {shop.digest(i) for i in range(60)}
    assert {d for d in now if now[d] != damaged.get(d)} == changed


def test_what_changed_and_is_as_it_was_is_left(shop: Shop, history: History, in_place: Target) -> None:
    for i in range(10):
        shop.put(i, -1)
    history.look()
    for i in range(5):
        shop.put(i, i)
    history.look()
    before = state(history)
    report = undo(history, shop.at, in_place)
    assert (report.written, report.removed, report.left) == (5, 0, 5)
    after = state(history)
    assert {d for d in after if after[d] != before[d]} == {shop.digest(i) for i in range(5, 10)}


def test_a_record_that_changed_again_since_its_capture_is_kept_named_and_taken_when_told(
    shop: Shop, history: History, in_place: Target, tmp_path: Path
) -> None:
    shop.damage()
    shop.put(0, 1000)  # overwritten after the damage
    shop.put(45, 1045)  # made anew after it was removed
    shop.put(200, 1200)  # one that was not there at the moment
    kept = {shop.digest(i): state(history)[shop.digest(i)] for i in (0, 45, 200)}
    report = undo(history, shop.at, in_place, named_file=tmp_path / "named.jsonl")
    assert (report.written, report.removed, report.conflicts, report.refused) == (58, 9, 3, 0)
    assert {d: state(history)[d] for d in kept} == kept
    lines = [json.loads(line) for line in (tmp_path / "named.jsonl").read_text().splitlines()]
    assert {bytes.fromhex(line["digest"]) for line in lines} == set(kept)
    assert all("changed again" in line["reason"] for line in lines)
    again = undo(history, shop.at, in_place, Wanted(overwrite=True))
    assert again.conflicts == 0
    assert {d: c for d, (c, _, _) in state(history).items()} == {d: c for d, (c, _, _) in shop.then.items()}


def test_a_record_that_was_removed_and_made_anew_is_kept_though_its_generation_is_that_captured_last(
    shop: Shop, history: History, in_place: Target, client: Client
) -> None:
    shop.put(900, 1)
    history.look()
    moment = history.look()
    tick(history.now)
    for i in (900, 901):  # of generation 2 and 1
        shop.put(i, 2)
    history.look()
    tick(history.now)
    for i, writes in ((900, 2), (901, 1)):
        client.remove(shop.key(i))
        for value in range(writes):
            shop.put(i, 70 + value)
    report = undo(history, moment, in_place)
    assert (report.conflicts, report.written, report.removed) == (2, 0, 0)
    assert client.exists(shop.key(900))[1] is not None
    assert client.exists(shop.key(901))[1] is not None
    report = undo(history, moment, in_place, Wanted(overwrite=True))
    assert (report.conflicts, report.written, report.removed) == (0, 1, 1)


def test_what_began_to_match_a_filter_is_not_taken_for_new(
    shop: Shop, history: History, in_place: Target, client: Client, cluster: Cluster, tmp_path: Path
) -> None:
    packed = base64.b64decode(client.get_expression_base64(exp.LT(exp.IntBin("v"), 100).compile()))
    scope = Scope(filter=packed)
    archive = Archive.create(LocalStore(tmp_path / "archive", create=True), shop.namespace, 2)
    some = History(archive, Source(cluster, shop.namespace, scope=scope), history.settings, history.now)
    some.look()
    at = some.look()
    then = state(history)
    tick(history.now)
    shop.put(150, 50)  # was there at the moment, and did not match
    shop.put(50, 150)  # matches no more: looks like a delete
    shop.put(60, 61)
    shop.put(300, 1)  # is new
    some.look()
    damaged = state(history)
    made = plan(archive, at, "rewind", now=in_place.now())
    assert f"filter {base64.b64encode(packed).decode()}" in made.to_text()
    assert "spares     2 records" in made.to_text()
    report = rewind(archive, made, in_place, named_file=tmp_path / "named.jsonl")
    assert (report.written, report.removed, report.conflicts) == (1, 0, 3)
    after = state(history)
    assert {d for d in after if after[d] != damaged[d]} == {shop.digest(60)}
    assert after[shop.digest(60)][0] == then[shop.digest(60)][0]
    lines = [json.loads(line) for line in (tmp_path / "named.jsonl").read_text().splitlines()]
    why = {bytes.fromhex(line["digest"]): line["reason"] for line in lines}
    assert why.keys() == {shop.digest(i) for i in (50, 150, 300)}
    assert all("came into scope" in why[shop.digest(i)] for i in (150, 300))
    told = undo(replace(history, archive=archive), at, in_place, Wanted(overwrite=True))
    assert (told.removed, told.conflicts) == (2, 0)
    assert not {shop.digest(150), shop.digest(300)} & state(history).keys()


def test_a_rewind_run_again_finds_its_work_done(shop: Shop, history: History, in_place: Target, client: Client) -> None:
    client.put((*shop.key(0)[:2], "mortal"), {"v": 1}, policy={"ttl": 5000})
    history.look()
    shop.at = history.look()
    client.put((*shop.key(0)[:2], "mortal"), {"v": 2}, policy={"ttl": 9000})
    shop.damage()
    first = undo(history, shop.at, in_place)
    before = state(history)
    again = undo(history, shop.at, in_place)
    assert (first.written, first.removed) == (61, 10)
    assert (again.written, again.removed, again.left, again.conflicts) == (0, 0, 71, 0)
    assert state(history) == before


def test_a_rewind_is_undone_by_rewinding_to_just_before_it(shop: Shop, history: History, in_place: Target) -> None:
    shop.damage()
    before = history.look()
    damaged = {d: c for d, (c, _, _) in state(history).items()}
    tick(history.now)
    undo(history, shop.at, in_place)
    history.look()
    undo(history, before, in_place)
    assert {d: c for d, (c, _, _) in state(history).items()} == damaged


def test_an_expiry_that_was_changed_comes_back(shop: Shop, history: History, in_place: Target, client: Client) -> None:
    client.touch(shop.key(7), 5000)
    history.look()
    report = undo(history, shop.at, in_place)
    assert report.written == 1
    assert state(history)[shop.digest(7)][2] == 0


def test_a_damaged_block_is_refused_by_name_before_the_first_write(
    shop: Shop, history: History, in_place: Target
) -> None:
    shop.damage()
    made = plan(history.archive, shop.at, "rewind", now=in_place.now())
    info = made.shards[-1].changed[0]  # every block of it is read
    data = bytearray(history.archive.store.get(info.name))
    data[-30] ^= 1
    history.archive.store.delete(info.name)
    assert history.archive.store.put_if_absent(info.name, bytes(data))
    before = state(history)
    with pytest.raises(ObjectDamaged, match=info.name):
        rewind(history.archive, made, in_place)
    assert state(history) == before


def test_a_dry_run_says_what_the_rewind_then_does(shop: Shop, history: History, in_place: Target) -> None:
    shop.damage()
    made = plan(history.archive, shop.at, "rewind", now=in_place.now())
    report = rewind(history.archive, made, in_place)
    assert made.counts is not None
    assert (made.counts.write, made.counts.remove) == (report.written, report.removed) == (60, 10)
    assert "removes    10 records" in made.to_text()


def test_a_write_whose_answer_was_lost_is_no_conflict(tmp_path: Path) -> None:
    with Emulator(namespaces=("lossy",)) as emulator, Cluster(AerospikeSettings(hosts=emulator.hosts)) as cluster:
        store = LocalStore(tmp_path / "archive", create=True)
        source = Source(cluster, "lossy")
        history = History(Archive.create(store, "lossy", 2), source, ArchiveSettings(), wall_clock)
        shop = Shop(cluster.client, history, "lossy", "orders")
        shop.damage()
        target = Target.of(source, ReplayerSettings(batch_records=20, connections=1))
        made = plan(history.archive, shop.at, "rewind", now=target.now())
        emulator.nodes[0].faults.cut_frames = 1
        report = rewind(history.archive, made, target)
        assert emulator.nodes[0].faults.cut_frames == 0
        assert (report.conflicts, report.refused) == (0, 0)
        assert report.written + report.removed + report.left == 70
        assert report.written + report.removed < 70
        assert {d: c for d, (c, _, _) in state(history).items()} == {d: c for d, (c, _, _) in shop.then.items()}
