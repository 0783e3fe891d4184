"""The store's rules of time: LUT, generation, void time, expiry, truncation, and what a device gives back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.embedded.aerospike.record import Bins, Record
from cdc.embedded.aerospike.store import (
    EPOCH_MS,
    TTL_DEFAULT,
    TTL_KEEP,
    TTL_NEVER,
    NamespaceStore,
    partition_id,
    seconds_2010,
)

NOW = 1_800_000_000_000
DIGEST = bytes(range(20))
BINS: Bins = {b"a": (1, bytes(8))}


def write(
    store: NamespaceStore, now: int, digest: bytes = DIGEST, set_name: bytes = b"s", ttl: int = TTL_DEFAULT
) -> Record:
    record = store.successor(store.find(digest), digest, set_name, ttl, now, dict(BINS))
    store.put(record)
    return record


def test_a_write_gets_the_time_and_the_next_generation() -> None:
    store = NamespaceStore("test")
    assert (write(store, NOW).lut_ms, write(store, NOW + 5).lut_ms) == (NOW, NOW + 5)
    found = store.find(DIGEST)
    assert found is not None
    assert found.generation == 2


def test_after_a_clock_step_back_a_write_keeps_the_lut_and_raises_the_generation() -> None:
    store = NamespaceStore("test")
    write(store, NOW)
    again = write(store, NOW - 60_000)
    assert (again.lut_ms, again.generation) == (NOW, 2)


def test_a_delete_forgets_the_lut_so_that_a_new_record_may_have_a_lower_one() -> None:
    store = NamespaceStore("test")
    write(store, NOW)
    store.drop(DIGEST)
    again = write(store, NOW - 60_000)
    assert (again.lut_ms, again.generation) == (NOW - 60_000, 1)


def test_the_generation_wraps_to_one() -> None:
    store = NamespaceStore("test")
    store.put(Record(DIGEST, b"s", None, 0xFFFF, NOW, 0, dict(BINS)))
    assert write(store, NOW).generation == 1


@pytest.mark.parametrize(
    ("default_ttl", "ttl", "expected"),
    [
        (0, TTL_DEFAULT, 0),
        (100, TTL_DEFAULT, 100),
        (100, TTL_NEVER, 0),
        (100, 7, 7),
        (100, TTL_KEEP, 100),
        (0, TTL_KEEP, 0),
    ],
)
def test_a_new_record_s_void_time_follows_its_ttl(default_ttl: int, ttl: int, expected: int) -> None:
    store = NamespaceStore("test", default_ttl)
    assert write(store, NOW, ttl=ttl).void_time_s == (seconds_2010(NOW) + expected if expected else 0)


def test_a_write_that_keeps_the_ttl_keeps_the_void_time() -> None:
    store = NamespaceStore("test", 5)
    first = write(store, NOW, ttl=100)
    assert write(store, NOW + 50_000, ttl=TTL_KEEP).void_time_s == first.void_time_s


def test_a_record_is_visible_in_the_second_of_its_void_time_and_hidden_in_the_next() -> None:
    store = NamespaceStore("test")
    record = write(store, NOW, ttl=10)
    assert not store.hidden(record, seconds_2010(NOW + 10_000))
    assert store.hidden(record, seconds_2010(NOW + 11_000))


def test_nsup_removes_and_counts_what_is_expired_and_nothing_else() -> None:
    store = NamespaceStore("test")
    for i in range(10):
        write(store, NOW, bytes([i]) * 20, ttl=10 if i < 4 else 100)
    write(store, NOW, b"\xff" * 20)
    assert store.expire(NOW + 10_000) == 0
    assert store.expire(NOW + 11_000) == 4
    assert (store.objects, store.counters["expired_objects"], store.sets[b"s"].objects) == (7, 4, 7)
    assert store.expire(NOW + 101_000) == 6
    assert store.objects == 1


def test_a_truncation_hides_exactly_the_lower_luts() -> None:
    store = NamespaceStore("test")
    write(store, NOW - 1, b"\1" * 20)
    write(store, NOW, b"\2" * 20)
    store.truncate(None, NOW)
    assert store.find(b"\1" * 20) is None
    assert store.find(b"\2" * 20) is not None


def test_a_set_s_truncation_leaves_other_sets_alone() -> None:
    store = NamespaceStore("test")
    write(store, NOW - 1, b"\1" * 20, b"s")
    write(store, NOW - 1, b"\2" * 20, b"t")
    store.truncate(b"s", NOW)
    store.truncate(b"never-seen", NOW)
    assert [r.set_name for r in store.all_records()] == [b"t"]
    assert b"never-seen" not in store.sets


def test_an_earlier_truncation_after_a_later_one_does_nothing() -> None:
    store = NamespaceStore("test")
    store.truncate(None, NOW)
    store.truncate(None, NOW - 1000)
    assert store.truncate_lut_ms == NOW
    assert store.truncated_now(b"s", NOW - 1)
    assert not store.truncated_now(b"s", NOW)


def test_a_persisted_namespace_returns_with_its_deleted_and_truncated_records_but_not_the_expired() -> None:
    store = NamespaceStore("test", persisted=True)
    write(store, NOW, b"\1" * 20)
    write(store, NOW, b"\2" * 20)
    write(store, NOW, b"\3" * 20, ttl=10)
    store.drop(b"\1" * 20)
    store.truncate(None, NOW + 1)
    assert store.objects == 0
    store.cold_restart(NOW + 20_000)
    assert {r.digest[0]: r.lut_ms for r in store.all_records()} == {1: NOW, 2: NOW}
    assert (store.objects, store.truncate_lut_ms) == (2, 0)


def test_a_namespace_in_memory_returns_empty() -> None:
    store = NamespaceStore("test")
    write(store, NOW)
    store.cold_restart(NOW)
    assert (store.objects, list(store.all_records())) == (0, [])


def test_seconds_count_from_2010() -> None:
    assert seconds_2010(EPOCH_MS + 1999) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["write", "drop"]), st.integers(-2000, 2000))))
def test_counts_and_luts_hold_whatever_is_done(steps: list[tuple[int, str, int]]) -> None:
    store = NamespaceStore("test")
    luts: dict[int, int] = {}
    now = NOW
    for which, what, step in steps:
        now += step
        digest = bytes([which]) * 20
        if what == "write":
            record = write(store, now, digest, b"s%d" % (which % 2))
            assert record.lut_ms == max(now, luts.get(which, 0))
            luts[which] = record.lut_ms
        elif which in luts:
            store.drop(digest)
            del luts[which]
    assert store.objects == len(luts) == len(list(store.all_records()))
    assert sum(state.objects for state in store.sets.values()) == len(luts)
    assert all(partition_id(r.digest) == r.digest[0] | (r.digest[1] & 15) << 8 for r in store.all_records())
