"""Single-record transactions and batches on a store, without sockets, with time in hand."""

import contextlib
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.embedded.aerospike import batch, query
from cdc.embedded.aerospike.commands import execute
from cdc.embedded.aerospike.record import Record, Refused
from cdc.embedded.aerospike.requests import Op, Reply, Request, parse
from cdc.embedded.aerospike.store import TTL_KEEP, TTL_MAX, NamespaceStore
from cdc.errors import ProtocolError
from cdc.wire import messages as m

NOW = 1_800_000_000_000
DIGEST = bytes(range(20))
ONE: Op = (2, 1, b"a", struct.pack(">q", 1))
TWO: Op = (2, 1, b"b", struct.pack(">q", 2))


def request(
    ops: Sequence[Op] = (ONE,), *, info1: int = 0, info2: int = m.INFO2_WRITE, info3: int = 0, generation: int = 0,
    ttl: int = 0, set_name: bytes = b"s", key: bytes | None = None,
) -> Request:  # fmt: skip
    fields: dict[int, bytes] = {m.FieldType.NAMESPACE: b"test"}
    if set_name:
        fields[m.FieldType.SET] = set_name
    if key is not None:
        fields[m.FieldType.KEY] = key
    return Request(info1, info2, info3, generation, ttl, fields, list(ops), 100)


def do(store: NamespaceStore, asked: Request, now: int = NOW) -> Reply:
    return execute(store, asked, DIGEST, now, "client")


def stored(store: NamespaceStore) -> Record:
    record = store.find(DIGEST)
    assert record is not None
    return record


def test_an_expired_record_is_written_as_a_new_one() -> None:
    store = NamespaceStore("test")
    do(store, request(ttl=10))
    later = NOW + 20_000
    assert do(store, request(info2=0, info1=m.INFO1_READ | m.INFO1_GET_ALL), later)[0] == m.Result.NOT_FOUND
    assert do(store, request([TWO], info3=m.INFO3_UPDATE_ONLY), later)[0] == m.Result.NOT_FOUND
    assert do(store, request([TWO]), later)[:2] == (m.Result.OK, 1)
    assert (list(stored(store).bins), stored(store).lut_ms) == ([b"b"], later)


def test_a_touch_changes_lut_and_generation_and_nothing_else() -> None:
    store = NamespaceStore("test")
    do(store, request())
    before = stored(store)
    assert do(store, request([(m.OpType.TOUCH, 0, b"", b"")]), NOW + 7)[:2] == (m.Result.OK, 2)
    assert (stored(store).lut_ms, stored(store).bins) == (NOW + 7, before.bins)


def test_a_failed_write_leaves_the_record_as_it_was() -> None:
    store = NamespaceStore("test")
    do(store, request())
    before = stored(store)
    bad: Op = (m.OpType.APPEND, 3, b"a", b"x")
    reply = do(store, request([TWO, bad]), NOW + 1)
    assert reply[:2] == (m.Result.INCOMPATIBLE_TYPE, 1)
    assert stored(store) is before
    assert list(before.bins) == [b"a"]


def test_a_stored_key_stays_and_another_is_refused() -> None:
    store = NamespaceStore("test")
    do(store, request(key=b"\3k"))
    do(store, request([TWO], info3=m.INFO3_CREATE_OR_REPLACE))
    assert (stored(store).key, list(stored(store).bins)) == (b"\3k", [b"b"])
    for info in ({"info2": m.INFO2_WRITE}, {"info2": m.INFO2_WRITE | m.INFO2_DELETE}):
        assert do(store, request(key=b"\3other", **info))[0] == m.Result.KEY_MISMATCH
    read = request(key=b"\3other", info2=0, info1=m.INFO1_READ | m.INFO1_NO_BINS)
    assert do(store, read)[0] == m.Result.KEY_MISMATCH


def test_a_record_created_behind_a_truncation_is_forbidden() -> None:
    store = NamespaceStore("test")
    store.truncate(None, NOW)
    assert do(store, request(), NOW - 1)[0] == m.Result.FORBIDDEN
    assert do(store, request(), NOW)[0] == m.Result.OK


@pytest.mark.parametrize("ttl", [TTL_MAX + 1, TTL_KEEP - 1])
def test_a_ttl_beyond_ten_years_is_refused(ttl: int) -> None:
    assert do(NamespaceStore("test"), request(ttl=ttl))[0] == m.Result.PARAMETER


def test_counters_tell_what_happened() -> None:
    store = NamespaceStore("test")
    read = request(info2=0, info1=m.INFO1_READ | m.INFO1_GET_ALL)
    delete = request((), info2=m.INFO2_WRITE | m.INFO2_DELETE)
    do(store, read)
    do(store, request())
    do(store, read)
    do(store, request(info2=m.INFO2_WRITE | m.INFO2_CREATE_ONLY))
    do(store, request(info2=m.INFO2_WRITE | m.INFO2_GENERATION, generation=9))
    do(store, delete)
    do(store, delete)
    do(store, request())
    do(store, request([(2, 0, b"a", b"")]))
    execute(store, request(), DIGEST, NOW, "batch_sub")
    execute(store, delete, DIGEST, NOW, "batch_sub")
    assert dict(store.counters) == {
        "client_read_not_found": 1, "client_read_success": 1, "client_write_success": 3, "client_write_error": 2,
        "client_delete_success": 1, "client_delete_not_found": 1, "fail_generation": 1, "deleted_last_bin": 1,
        "batch_sub_write_success": 1, "batch_sub_delete_success": 1,
    }  # fmt: skip


def test_a_durable_delete_is_for_the_enterprise() -> None:
    store = NamespaceStore("test")
    do(store, request())
    durable = m.INFO2_WRITE | m.INFO2_DURABLE_DELETE
    assert do(store, request((), info2=durable | m.INFO2_DELETE))[0] == m.Result.ENTERPRISE_ONLY
    assert do(store, request([(2, 0, b"a", b"")], info2=durable))[0] == m.Result.ENTERPRISE_ONLY
    assert store.objects == 1


def _row(index: int, digest: bytes, body: bytes, flags: int = m.ROW_EXTRA_INFO | m.ROW_TTL) -> bytes:
    return struct.pack(">I20sB", index, digest, flags) + body


def _write_body(ttl: int = 0) -> bytes:
    fields = m.field(m.FieldType.NAMESPACE, b"test") + m.field(m.FieldType.SET, b"s")
    op = m.Op(m.OpType.WRITE, b"a", 1, bytes(8)).pack()
    return bytes([0, m.INFO2_WRITE, 0]) + struct.pack(">IHH", ttl, 2, 1) + fields + op


def _batch(store: NamespaceStore, rows: bytes, count: int, flags: int = m.BATCH_REPORT_ALL_ERRORS) -> list[m.Message]:
    data = struct.pack(">IB", count, flags) + rows
    asked = Request(m.INFO1_BATCH, 0, 0, 0, 0, {m.FieldType.BATCH: data}, [], len(data))
    payloads = batch.answers(asked, lambda row, digest: execute(store, row, digest, NOW, "batch_sub"))
    return [message for payload in payloads for message in m.parse_messages(payload)]


def test_a_batch_s_repeated_rows_do_the_same_to_other_digests() -> None:
    store = NamespaceStore("test")
    rows = _row(7, b"\1" * 20, _write_body(50)) + b"".join(
        struct.pack(">I20sB", i, bytes([i]) * 20, m.ROW_REPEAT) for i in (8, 9)
    )
    *answered, last = _batch(store, rows, 3)
    assert [(a.header.transaction_ttl, a.header.result, a.header.generation) for a in answered] == [
        (7, 0, 1), (8, 0, 1), (9, 0, 1),
    ]  # fmt: skip
    assert (last.header.info3, last.header.result) == (m.INFO3_LAST, 0)
    assert len({r.void_time_s for r in store.all_records()}) == 1
    assert store.objects == 3


def test_a_batch_that_is_cut_does_its_whole_rows_and_says_parameter() -> None:
    store = NamespaceStore("test")
    whole = _row(0, b"\1" * 20, _write_body())
    answered = _batch(store, whole + whole[:-3], 2)
    assert [a.header.result for a in answered] == [m.Result.PARAMETER]
    assert store.objects == 1


def test_a_batch_that_must_not_report_errors_ends_with_the_error() -> None:
    store = NamespaceStore("test")
    bad = _row(0, b"\1" * 20, _write_body(TTL_MAX + 1))
    assert [a.header.result for a in _batch(store, bad, 1, flags=0)] == [m.Result.PARAMETER]
    assert [a.header.result for a in _batch(store, bad, 1)] == [m.Result.PARAMETER, m.Result.OK]


def _asked(store: NamespaceStore, **fields: bytes) -> list[bytes]:
    given = {m.FieldType[name.upper()]: data for name, data in fields.items()}
    asked = Request(m.INFO1_READ | m.INFO1_NO_BINS, 0, m.INFO3_PARTITION_DONE, 0, 0, dict(given), [], 100)
    checked = query.check(asked)
    payloads = query.answers(store, checked, lambda p: list(store.partitions[p].values()), lambda: NOW)
    digests = [msg.field(m.FieldType.DIGEST) for payload in payloads for msg in m.parse_messages(payload)]
    return [digest for digest in digests if digest is not None]


def _filled() -> tuple[NamespaceStore, list[bytes]]:
    store = NamespaceStore("test")
    digests = [bytes([5, 0, i]) + bytes(17) for i in (9, 3, 200, 40, 77)]
    for digest in digests:
        execute(store, request(), digest, NOW, "client")
    return store, sorted(digests, reverse=True)


def test_a_query_gives_a_partition_in_descending_order_and_goes_on_after_a_digest() -> None:
    store, expected = _filled()
    partition = struct.pack("<H", 5)
    assert _asked(store, partitions=partition) == expected
    assert _asked(store, digests=expected[1]) == expected[2:]
    assert _asked(store, partitions=partition, sample_max=struct.pack(">Q", 2)) == expected[:2]
    assert _asked(store, partitions=partition, set=b"other") == []
    assert _asked(store, partitions=struct.pack("<H", 6)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"partitions": b""},
        {"partitions": struct.pack("<HH", 5, 5)},
        {"partitions": struct.pack("<H", 4096)},
        {"partitions": struct.pack("<H", 5), "digests": bytes([5]) + bytes(19)},
        {"partitions": struct.pack("<H", 5), "sample_max": b"1"},
        {"partitions": struct.pack("<H", 5), "filter": b"\xff\xff"},
    ],
)
def test_a_query_that_is_wrong_is_refused(fields: dict[str, bytes]) -> None:
    with pytest.raises(Refused) as refused:
        _asked(NamespaceStore("test"), **fields)
    assert refused.value.code == m.Result.PARAMETER


WHOLE = m.message(
    m.Header(info1=3, info2=1),
    [m.field(0, b"test"), m.field(4, DIGEST), m.field(43, b"\x93\x01\x01\x02")],
    [m.Op(2, b"a", 1, bytes(8)).pack(), m.Op(7, b"v", 4, b"\x92\x01\x00").pack()],
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE)), st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4))
def test_whatever_comes_is_answered_or_called_wrong(cut: int, changes: list[tuple[int, int]]) -> None:
    payload = bytearray(WHOLE)
    for at, value in changes:
        payload[at] = value
    try:
        asked = parse(bytes(payload[:cut]))
    except ProtocolError:
        return
    store = NamespaceStore("test")
    assert 0 <= do(store, asked)[0] <= 255
    with contextlib.suppress(Refused):
        assert list(query.answers(store, query.check(asked), lambda p: [], lambda: NOW))
    with contextlib.suppress(Refused):
        assert list(batch.answers(asked, lambda row, digest: do(store, row)))


@pytest.mark.parametrize("cut", range(60))
def test_a_batch_cut_anywhere_ends_with_parameter(cut: int) -> None:
    whole = _row(0, b"\1" * 20, _write_body())
    assert [a.header.result for a in _batch(NamespaceStore("test"), whole[:cut], 1)] == [m.Result.PARAMETER]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 3))
def test_whatever_a_batch_holds_it_ends_with_a_last_message(junk: bytes, count: int) -> None:
    store = NamespaceStore("test")
    row = _row(0, b"\1" * 20, _write_body())
    answered = _batch(store, row + junk, count + 1)
    assert answered[-1].header.info3 == m.INFO3_LAST
