"""One suite for every store: a local directory, and servers that speak S3, Azure Blob and Google Cloud Storage."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cdc import metrics
from cdc.archive import Store
from cdc.archive.cloud import MULTIPART_BYTES, CloudStore, Limits
from cdc.archive.sealed import SealedStore
from cdc.clock import wall_clock
from cdc.errors import ConfigError, ObjectDamaged, ObjectMissing, StoreForbidden, StoreUnreachable
from tests.fixtures.stores import QUICK, Bucket, Failing

NAME = "test/shard-0000/segments/00000000000000000001-ab.avro"
FAULTS = (500, 503, 429, "reset", "slow")


def test_an_object_is_read_as_it_was_written(store: Store) -> None:
    store.put(NAME, b"0123456789")
    assert store.get(NAME) == b"0123456789"
    assert store.get_range(NAME, 2, 3) == b"234"
    assert store.get_range(NAME, 10, 0) == b""
    assert store.size(NAME) == 10
    assert store.exists(NAME)


@pytest.mark.parametrize("data", [b"", bytearray(b"ab"), memoryview(b"abc")], ids=["empty", "bytearray", "view"])
def test_every_kind_of_buffer_is_written_whole(store: Store, data: bytes) -> None:
    store.put(NAME, data)
    assert store.put_if_absent("test/other", data)
    assert store.get(NAME) == store.get("test/other") == bytes(data)


def test_a_large_object_comes_back_whole(store: Store) -> None:
    data = bytes(range(256)) * ((MULTIPART_BYTES + (1 << 20)) // 256)
    store.put(NAME, data)
    assert store.size(NAME) == len(data)
    assert store.get(NAME) == data
    assert store.get_range(NAME, len(data) - 5, 5) == data[-5:]


def test_a_taken_name_is_never_written_again(store: Store) -> None:
    assert store.put_if_absent("test/m/1.json", b"first")
    assert not store.put_if_absent("test/m/1.json", b"second")
    assert store.get("test/m/1.json") == b"first"


def test_of_many_writers_of_one_name_exactly_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.put_if_absent("test/m/1.json", b"%d" % i), range(16)))
    assert won.count(True) == 1
    assert store.get("test/m/1.json") == b"%d" % won.index(True)


def test_list_is_sorted_and_of_one_prefix(store: Store) -> None:
    for name in ("t/b", "t/a", "t/c/d", "tt/a", "u/a"):
        store.put(name, b"")
    assert store.list("t") == ["t/a", "t/b", "t/c/d"]
    assert store.list("nothing") == []


def test_entries_are_those_listed_with_their_size_and_the_time_of_writing(store: Store) -> None:
    began = wall_clock()
    for name in ("t/b", "t/c/d", "tt/a"):
        store.put(name, name.encode() * 10)
    ended = wall_clock()
    found = store.entries("t")
    assert [entry.name for entry in found] == store.list("t")
    sealed = isinstance(store, SealedStore)
    assert all(entry.size > 30 if sealed else entry.size == 10 * len(entry.name) for entry in found)
    # Some stores tell whole seconds.
    assert all(began - 1000 <= entry.modified_at <= ended + 1000 for entry in found)
    assert store.entries("nothing") == []


def test_a_listing_of_more_than_one_page_is_whole(store: Store) -> None:
    names = [f"t/{i:05d}" for i in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b""), names))
    assert store.list("t") == names


def test_deleted_is_gone_and_deleting_again_is_nothing(store: Store) -> None:
    store.put("t/x", b"1")
    store.delete("t/x")
    store.delete("t/x")
    assert not store.exists("t/x")
    assert store.list("t") == []


def test_what_is_missing_is_named(store: Store) -> None:
    for read in (lambda: store.get("t/b"), lambda: store.get_range("t/b", 0, 1), lambda: store.size("t/b")):
        with pytest.raises(ObjectMissing, match="t/b is not in the archive"):
            read()


@pytest.mark.parametrize("start", [3, 5, 9])
def test_a_range_beyond_the_end_is_damage(store: Store, start: int) -> None:
    store.put("t/x", b"12345")
    with pytest.raises(ObjectDamaged, match=r"t/x has \d bytes where"):
        store.get_range("t/x", start, 3)


def test_a_bucket_that_is_not_there_is_one_clear_line(bucket: Bucket) -> None:
    scheme, _, rest = bucket.url.partition("://")
    missing = Bucket(f"{scheme}://no-such-bucket/{rest.partition('/')[2]}", bucket.options, bucket.port)
    with pytest.raises(StoreForbidden, match="no such bucket"):
        missing.store().check()


def test_a_bucket_that_is_there_passes_the_check(bucket: Bucket) -> None:
    store = bucket.store()
    store.check()
    store.put("test/x", b"1")
    store.check()


def test_an_option_that_nobody_knows_is_a_setting_to_be_corrected(bucket: Bucket) -> None:
    with pytest.raises(ConfigError, match="option not usable"):
        CloudStore(bucket.url, bucket.options(bucket.port) | {"endpiont": "x"})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_read_gets_over_what_passes(bucket: Bucket, failing: Failing, fault: int | str) -> None:
    bucket.store().put("test/x", b"0123456789" * 1000)
    store = bucket.store(failing.port, Limits(requests=4, timeout_s=0.5, retry_s=10))
    failing.faults.extend([fault, fault])
    assert store.get("test/x") == b"0123456789" * 1000
    failing.faults.append(fault)
    assert store.get_range("test/x", 5, 5) == b"56789"
    assert len(failing.asked) == 5


@pytest.mark.parametrize("fault", [*FAULTS, "lost"])
def test_a_write_gets_over_what_passes_and_is_written_once(bucket: Bucket, failing: Failing, fault: int | str) -> None:
    store = bucket.store(failing.port, Limits(requests=4, timeout_s=0.5, retry_s=10))
    failing.faults.extend([fault, fault])
    assert store.put_if_absent("test/m/1.json", b"mine")
    assert bucket.store().get("test/m/1.json") == b"mine"
    failing.faults.clear()
    assert not store.put_if_absent("test/m/1.json", b"not mine")
    failing.faults.append(fault)
    store.put("test/s/1.avro", b"data")
    assert bucket.store().get("test/s/1.avro") == b"data"


def test_a_lost_answer_does_not_make_anothers_object_our_own(bucket: Bucket, failing: Failing) -> None:
    assert bucket.store().put_if_absent("test/m/1.json", b"another's")
    failing.faults.append("lost")
    assert not bucket.store(failing.port).put_if_absent("test/m/1.json", b"mine")


def test_a_store_that_stays_away_is_named_after_the_time_allowed(bucket: Bucket, failing: Failing) -> None:
    failing.faults.extend([503] * 1000)
    store = bucket.store(failing.port, Limits(requests=4, timeout_s=0.5, retry_s=0.5))
    with pytest.raises(StoreUnreachable, match="test/x"):
        store.get("test/x")
    assert 2 <= len(failing.asked) < 10


def test_a_refusal_is_not_tried_again(bucket: Bucket, failing: Failing) -> None:
    failing.faults.append(403)
    with pytest.raises(StoreForbidden, match="test/x"):
        bucket.store(failing.port).get("test/x")
    assert len(failing.asked) == 1


def test_requests_are_counted_by_outcome(bucket: Bucket, failing: Failing) -> None:
    failing.faults.append(503)
    store = bucket.store(failing.port)
    store.put("test/x", b"12345")
    labels = ("test", "main", store.url, "put")
    assert metrics.STORE_REQUESTS.labels(*labels, "failed")._value.get() == 1
    assert metrics.STORE_REQUESTS.labels(*labels, "ok")._value.get() == 1
    assert metrics.STORE_BYTES.labels(*labels)._value.get() == 5


def test_no_more_requests_are_under_way_than_allowed(bucket: Bucket, failing: Failing) -> None:
    bucket.store().put("test/x", b"1")
    store = bucket.store(failing.port, Limits(requests=2, timeout_s=20, retry_s=20))
    failing.faults.extend(["slow"] * 2)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(store.get, "test/x") for _ in range(4)]
        # Two are held; the other two do not even get to the server before one of these ends.
        while len(failing.asked) < 2:
            assert not any(a.done() for a in answers)
        assert len(failing.asked) == 2
        failing.released.set()
        assert [a.result(30) for a in answers] == [b"1"] * 4
    assert QUICK.requests > 2
