"""Parts of restores: some sets, records, partitions and bins, and what has expired since."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aerospike
import pytest

from cdc.errors import RecordsRefused
from cdc.model import NEVER, PARTITIONS
from cdc.replayer import refusals, slices
from cdc.replayer.clone import clone
from cdc.replayer.journal import Journal
from cdc.replayer.keys import digest_of
from cdc.replayer.plan import Plan, plan
from cdc.replayer.report import Report, Watch
from cdc.replayer.rewind import rewind
from cdc.replayer.target import Target
from cdc.replayer.verify import verify
from cdc.replayer.wanted import Expired, Part, Wanted
from cdc.replayer.where import condition
from tests.fixtures.aerospike import Client, empty_set
from tests.fixtures.rawwire import RawRecords
from tests.fixtures.restores import History, tick

Bins = dict[str, Any]


class Shop:
    """A few records of two sets, and what is done to them after `at`."""

    def __init__(self, client: Client, history: History, namespace: str, set_name: str) -> None:
        self.client, self.history, self.namespace = client, history, namespace
        self.sets = (f"{set_name}-a", f"{set_name}-b")

    def key(self, i: int, of: int = 0) -> tuple[str, str, int]:
        return self.namespace, self.sets[of], i

    def digest(self, i: int, of: int = 0) -> bytes:
        return digest_of(self.sets[of], i)

    def put(self, i: int, bins: Bins, of: int = 0, ttl: int = aerospike.TTL_NEVER_EXPIRE) -> None:
        policy = {"exists": aerospike.POLICY_EXISTS_CREATE_OR_REPLACE, "ttl": ttl}
        self.client.put(self.key(i, of), bins, policy=policy)

    def bins(self, i: int, of: int = 0) -> Bins | None:
        _, meta, bins = self.client.get(self.key(i, of)) if self.there(i, of) else (None, None, None)
        return None if meta is None else dict(bins)

    def there(self, i: int, of: int = 0) -> bool:
        return self.client.exists(self.key(i, of))[1] is not None

    def moment(self) -> int:
        """A moment at which all is as it is now, and after which something else may be written."""
        self.history.look()
        at = self.history.look()
        tick(self.history.now)
        return at

    def checksums(self) -> dict[bytes, tuple[int, int]]:
        found = self.history.source.observe(range(PARTITIONS)).records
        rows = zip(found.digest, found.checksum, found.generation, strict=True)
        return {d.tobytes(): (int(c), int(g)) for d, c, g in rows}

    def planned(self, at: int, target: Target, kind: Any, part: Part, expired: Expired, overwrite: bool) -> Plan:
        wanted = Wanted(part=part, expired=expired, overwrite=overwrite, existing="fail")
        return plan(self.history.archive, at, kind, now=target.now(), into=target.namespace, wanted=wanted)

    def rewind(self, at: int, target: Target, part: Part, expired: Expired = "keep", overwrite: bool = False) -> Report:
        """Rewinds, and holds the plan to what was done, and the place to the plan."""
        made = self.planned(at, target, "rewind", part, expired, overwrite)
        report = rewind(self.history.archive, made, target)
        assert verify(self.history.archive, made, target, report=report).wrong == 0
        assert made.counts is not None
        if not report.conflicts and not overwrite:
            done = (report.written, report.removed, report.left, report.expired)
            assert done == (made.counts.write, made.counts.remove, made.counts.leave, made.counts.expired)
        return report

    def clone(self, at: int, target: Target, part: Part, expired: Expired = "keep") -> Report:
        """Clones, and holds the place to the plan."""
        made = self.planned(at, target, "clone", part, expired, False)
        report = clone(self.history.archive, made, target)
        assert verify(self.history.archive, made, target, report=report).wrong == 0
        return report


@pytest.fixture
def shop(client: Client, history: History, namespace: str, set_name: str) -> Iterator[Shop]:
    made = Shop(client, history, namespace, set_name)
    yield made
    for name in made.sets:
        empty_set(client, namespace, name)


def damaged(shop: Shop) -> tuple[int, dict[bytes, tuple[int, int]]]:
    """Twenty records of each set, of which ten are then damaged, two removed and two added."""
    for of in (0, 1):
        for i in range(20):
            shop.put(i, {"v": i, "odd": i % 2}, of)
    at = shop.moment()
    then = shop.checksums()
    for of in (0, 1):
        for i in range(10):
            shop.put(i, {"v": -1, "odd": i % 2}, of)
        for i in (10, 11):
            shop.client.remove(shop.key(i, of))
        for i in (20, 21):
            shop.put(i, {"v": i, "odd": i % 2}, of)
    shop.history.look()
    return at, then


def by_set(shop: Shop) -> tuple[Part, set[bytes]]:
    return Part(sets=(shop.sets[1],)), {shop.digest(i, 1) for i in range(22)}


def by_digest(shop: Shop) -> tuple[Part, set[bytes]]:
    these = {shop.digest(3), shop.digest(10, 1), shop.digest(20), shop.digest(999)}
    return Part(digests=tuple(sorted(these))), these


def by_partition(shop: Shop) -> tuple[Part, set[bytes]]:
    these = tuple(range(100, 2100))
    every = {shop.digest(i, of) for i in range(22) for of in (0, 1)}
    return Part(partitions=these), {d for d in every if d[0] | (d[1] & 15) << 8 in these}


def by_bins(shop: Shop) -> tuple[Part, set[bytes]]:
    conditions = (condition("odd == 1"), condition("v >= 5"))
    return Part(where=conditions), {shop.digest(i, of) for i in range(5, 22) if i % 2 for of in (0, 1)}


PARTS: list[Callable[[Shop], tuple[Part, set[bytes]]]] = [by_set, by_digest, by_partition, by_bins]


@pytest.mark.parametrize("of", PARTS)
@pytest.mark.parametrize("with_set", [False, True])
def test_a_rewind_of_a_part_brings_back_its_records_and_touches_no_other(
    shop: Shop, in_place: Target, of: Callable[[Shop], tuple[Part, set[bytes]]], with_set: bool
) -> None:
    at, then = damaged(shop)
    if with_set:
        shop.history.make_set(at)
    before = shop.checksums()
    part, concerned = of(shop)
    report = shop.rewind(at, in_place, part)
    now = shop.checksums()
    assert {d: c for d, (c, _) in now.items() if d in concerned} == {
        d: c for d, (c, _) in then.items() if d in concerned
    }
    assert {d: v for d, v in now.items() if d not in concerned} == {
        d: v for d, v in before.items() if d not in concerned
    }
    changed = {d for d in before.keys() | then.keys() if before.get(d, (0,))[0] != then.get(d, (0,))[0]}
    assert report.written + report.removed == len(changed & concerned) > 0


@pytest.mark.parametrize("of", PARTS)
def test_a_clone_of_a_part_has_its_records_and_no_other(
    shop: Shop, empty: Target, of: Callable[[Shop], tuple[Part, set[bytes]]]
) -> None:
    at, then = damaged(shop)
    part, concerned = of(shop)
    report = shop.clone(at, empty, replace(part, sets=part.sets or shop.sets))  # others are in the namespace too
    found = empty.source.observe(range(PARTITIONS)).records
    got = {d.tobytes(): int(c) for d, c in zip(found.digest, found.checksum, strict=True)}
    assert got == {d: c for d, (c, _) in then.items() if d in concerned}
    assert report.written == len(got) > 0


def test_some_bins_are_brought_back_and_the_others_expiry_and_set_stay(
    shop: Shop, in_place: Target, raw: RawRecords
) -> None:
    listed = (20, b"\x93\xc7\x00\x01\x01\x02")  # an ordered list
    odd = (9, b"\x80\x04K\x01.")  # what only bytes can say
    assert raw.write(shop.key(0), {"price": (1, bytes(7) + b"\x05"), "tags": listed, "note": odd, "stock": odd}) == 0
    shop.put(1, {"price": 1, "stock": 1})
    shop.put(2, {"price": 2, "stock": 2, "note": "x"}, ttl=5000)
    shop.put(3, {"stock": 3})
    shop.put(4, {"stock": 4})
    shop.put(5, {"price": 5, "stock": 5})
    shop.put(6, {"price": 6, "stock": 6})
    at = shop.moment()
    was = raw.read(shop.key(0))
    shop.put(0, {"price": 50, "tags": [9], "stock": 100}, ttl=7000)
    shop.put(1, {"stock": 11})  # lost a bin that it had
    shop.client.remove(shop.key(2))
    shop.put(3, {"stock": 33, "price": 33})  # got a bin that it had not
    shop.put(4, {"stock": 44})  # has none of them, before or after
    shop.client.put(shop.key(5), {"stock": 55})  # these bins are as they were
    shop.put(7, {"price": 7, "stock": 7})  # was not there
    shop.put(8, {"price": 8})  # was not there, and has no other bins
    shop.history.look()
    before = shop.checksums()
    report = shop.rewind(at, in_place, Part(bins=("tags", "price", "note")))
    assert (report.written, report.removed, report.left, report.conflicts) == (3, 3, 2, 0)
    now = raw.read(shop.key(0))
    assert {name: now[name] for name in ("price", "tags", "note")} == {
        name: was[name] for name in ("price", "tags", "note")
    }
    assert now["stock"][1] == bytes(7) + b"\x64"
    assert 6990 <= shop.client.exists(shop.key(0))[1]["ttl"] <= 7000
    assert shop.bins(1) == {"price": 1, "stock": 11}
    assert shop.bins(2) == {"price": 2, "note": "x"}
    assert 4990 <= shop.client.exists(shop.key(2))[1]["ttl"] <= 5000
    assert [shop.bins(i) for i in (3, 4, 5, 6)] == [
        {"stock": 33}, {"stock": 44}, {"price": 5, "stock": 55}, {"price": 6, "stock": 6},
    ]  # fmt: skip
    assert (shop.bins(7), shop.bins(8)) == ({"stock": 7}, None)
    after = shop.checksums()
    assert {d for d in before if after.get(d) != before[d]} == {shop.digest(i) for i in (0, 1, 3, 7, 8)}
    again = shop.rewind(at, in_place, Part(bins=("tags", "price", "note")), overwrite=True)
    assert again.conflicts == 0
    assert {d: c for d, (c, _) in shop.checksums().items()} == {d: c for d, (c, _) in after.items()}


def test_of_some_bins_too_a_record_that_changed_again_is_kept_until_it_is_told_otherwise(
    shop: Shop, in_place: Target
) -> None:
    for i in range(6):
        shop.put(i, {"price": i, "stock": i})
    at = shop.moment()
    for i in range(4):
        shop.put(i, {"price": -1, "stock": -1})
    shop.client.remove(shop.key(4))
    shop.put(9, {"price": 9, "stock": 9})
    shop.history.look()
    shop.put(0, {"price": -2, "stock": -2})  # changed again
    shop.client.remove(shop.key(1))  # gone since
    shop.put(4, {"stock": 44})  # made anew since
    shop.put(9, {"price": 99, "stock": 99})
    part = Part(bins=("price",))
    report = shop.rewind(at, in_place, part)
    assert (report.written, report.removed, report.conflicts) == (2, 0, 4)
    assert [shop.bins(i) for i in (0, 1, 2, 4, 9)] == [
        {"price": -2, "stock": -2}, None, {"price": 2, "stock": -1}, {"stock": 44}, {"price": 99, "stock": 99},
    ]  # fmt: skip
    again = shop.rewind(at, in_place, part)
    assert (again.written, again.removed, again.left, again.conflicts) == (0, 0, 2, 4)
    told = shop.rewind(at, in_place, part, overwrite=True)
    assert told.conflicts == told.refused == 0
    assert [shop.bins(i) for i in (0, 1, 2, 4, 9)] == [
        {"price": 0, "stock": -2}, {"price": 1}, {"price": 2, "stock": -1}, {"price": 4, "stock": 44}, {"stock": 99},
    ]  # fmt: skip


def test_of_some_bins_a_record_that_is_gone_and_past_its_time_is_not_made_again(shop: Shop, in_place: Target) -> None:
    shop.put(0, {"price": 0, "stock": 0}, ttl=2)
    shop.put(1, {"price": 1, "stock": 1}, ttl=600)
    at = shop.moment()
    for i in (0, 1):
        shop.put(i, {"price": -1, "stock": -1})
    shop.history.look()
    for i in (0, 1):
        shop.client.remove(shop.key(i))  # nobody has captured that yet
    while in_place.now() < at + 3000:
        tick(shop.history.now)
    report = shop.rewind(at, in_place, Part(bins=("price",)), overwrite=True)
    assert (report.written, report.expired, report.conflicts) == (1, 1, 0)
    assert not shop.there(0)
    assert shop.bins(1) == {"price": 1}


def test_a_clone_of_some_bins_has_the_records_that_had_any_of_them(shop: Shop, empty: Target) -> None:
    shop.put(0, {"a": 1, "b": [1, "x"], "c": 3}, ttl=5000)
    shop.put(1, {"c": 3, "a": 7})
    shop.put(2, {"c": 3})
    at = shop.moment()
    report = shop.clone(at, empty, Part(bins=("b", "a"), sets=(shop.sets[0],)))
    assert (report.written, report.exact) == (2, 2)
    there = [shop.client.get((empty.namespace, *shop.key(i)[1:])) for i in (0, 1)]
    assert [record[2] for record in there] == [{"a": 1, "b": [1, "x"]}, {"a": 7}]
    assert 4990 <= there[0][1]["ttl"] <= 5000


def test_an_expired_record_is_gone_or_left_or_has_the_life_that_it_had(
    shop: Shop, in_place: Target, empty: Target
) -> None:
    shop.put(0, {"v": 0}, ttl=2)
    shop.put(1, {"v": 1}, ttl=2)
    shop.put(2, {"v": 2}, ttl=600)
    shop.put(3, {"v": 3})
    at = shop.moment()
    shop.put(1, {"v": -1}, ttl=9000)
    shop.put(2, {"v": -2}, ttl=9000)
    shop.put(3, {"v": -3})
    shop.history.look()
    while shop.there(0) or in_place.now() < at + 3000:
        tick(shop.history.now)
    shop.history.look()
    mine = Part(sets=(shop.sets[0],))
    kept = shop.planned(at, in_place, "rewind", mine, "keep", False)
    assert kept.counts is not None
    assert (kept.counts.write, kept.counts.remove, kept.counts.expired) == (2, 1, 2)
    left = shop.planned(at, in_place, "rewind", mine, "leave", False)
    assert left.counts is not None
    assert (left.counts.write, left.counts.remove, left.counts.expired) == (2, 0, 2)
    shift = shop.clone(at, empty, mine, "shift")
    assert (shift.written, shift.expired) == (4, 2)
    found = empty.source.observe(range(PARTITIONS)).records
    expiry = {d.tobytes(): int(v) for d, v in zip(found.digest, found.void_time, strict=True)}
    assert expiry[shop.digest(3)] == NEVER
    assert 598_000 <= expiry[shop.digest(2)] - empty.now() <= 601_000
    report = shop.rewind(at, in_place, mine, "shift")
    assert (report.written, report.removed, report.expired) == (4, 0, 2)
    assert [shop.client.get(shop.key(i))[2]["v"] for i in (1, 2, 3)] == [1, 2, 3]
    assert shop.client.exists(shop.key(1))[1]["ttl"] <= 3
    for i in (0, 1):
        shop.client.remove(shop.key(i))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_part_that_was_interrupted_goes_on_and_ends_as_it_would_have(
    shop: Shop, in_place: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    monkeypatch.setattr(slices.of_rewind, "__defaults__", (None, 1))  # a slice for every few records
    for i in range(60):
        shop.put(i, {"price": i, "stock": i})
    at = shop.moment()
    for i in range(50):
        shop.put(i, {"price": -1, "stock": -1} if i % 3 else {"stock": -1})
    for i in range(50, 70):
        shop.client.remove(shop.key(i)) if i < 60 else shop.put(i, {"price": i, "stock": i})
    shop.history.look()
    part = Part(bins=("price",), sets=(shop.sets[0],), where=(condition("stock < 65"),))
    made = shop.planned(at, in_place, "rewind", part, "shift", overwrite)
    assert made.counts is not None
    assert (made.counts.write, made.counts.remove) == (60, 5)
    journal, stop = Journal(tmp_path / "journal"), Watch()
    cancel = Watch(progress=lambda done, _, phase: stop.cancel.set() if phase == "write" and done > 10 else None,
                   cancel=stop.cancel)  # fmt: skip
    with journal.begin(made, named_file=None) as log:
        first = rewind(shop.history.archive, made, in_place, watch=cancel, log=log)
    assert not first.complete
    with journal.resume("last") as log:
        again = log.plan(shop.history.archive)
        assert again.wanted == made.wanted
        report = rewind(shop.history.archive, again, in_place, log=log)
    assert (report.complete, report.written + report.removed + report.left, report.conflicts) == (True, 65, 0)
    assert verify(shop.history.archive, again, in_place, report=report).wrong == 0
    damage = [{"price": i, "stock": -1} for i in range(50)]
    assert [shop.bins(i) for i in range(70)] == [
        *damage, *({"price": i} for i in range(50, 60)), *({"stock": i} for i in range(60, 65)),
        *({"price": i, "stock": i} for i in range(65, 70)),
    ]  # fmt: skip


def test_who_has_no_key_keeps_nobody_else_out_of_another_set(
    shop: Shop, empty: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        shop.put(i, {"n": i})
        shop.client.put(shop.key(100 + i), {"n": i}, policy={"key": aerospike.POLICY_KEY_SEND})
    wanted = Wanted(Part(sets=shop.sets[:1]), into_set=shop.sets[1])
    made = plan(shop.history.archive, shop.moment(), now=empty.now(), into=empty.namespace, wanted=wanted)
    monkeypatch.setattr(refusals, "IN_A_ROW", 5)
    with pytest.raises(RecordsRefused) as caught:
        clone(shop.history.archive, made, empty)
    report = caught.value.report
    assert isinstance(report, Report)
    assert (report.complete, report.written, report.refused) == (True, 40, 40)
