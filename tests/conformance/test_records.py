"""Single records: what is written comes back, and when a write, read, touch or remove is refused."""

import struct
import time
from typing import Any

import aerospike
import pytest
from aerospike import exception
from aerospike_helpers import expressions as exp
from aerospike_helpers.operations import expression_operations, operations

from tests.fixtures.rawwire import RawRecords

VALUES: list[tuple[str, Any]] = [
    ("zero", 0),
    ("smallest integer", -(2**63)),
    ("largest integer", 2**63 - 1),
    ("float", 0.1),
    ("infinity", float("inf")),
    ("empty string", ""),
    ("text", "grüße 漢字"),
    ("blob", b"\x00\xff\x00"),
    ("empty blob", b""),
    ("true", True),
    ("false", False),
    ("list", [1, "a", 2.5, [b"x", None], {"k": [True]}]),
    ("empty list", []),
    ("map", {"a": 1, 5: "b", "n": {"m": [1]}}),
    ("empty map", {}),
    ("long string", "x" * 100_000),
]


@pytest.mark.parametrize("value", [case[1] for case in VALUES], ids=[case[0] for case in VALUES])
def test_a_value_comes_back_as_it_was_written(client: Any, key: Any, value: Any) -> None:
    client.put(key, {"v": bytearray(value) if isinstance(value, bytes) else value})
    assert client.get(key)[2] == {"v": value}


def test_a_geojson_comes_back_with_its_text(client: Any, key: Any, raw: RawRecords) -> None:
    text = '{"type": "Point", "coordinates": [-122.0, 37.5]}'
    client.put(key, {"g": aerospike.GeoJSON(text)})
    kind, data = raw.read(key)["g"]
    cells = int.from_bytes(data[1:3], "big")
    assert (kind, data[3 + 8 * cells :]) == (23, text.encode())


def test_geojson_that_is_none_is_refused(raw: RawRecords, key: Any) -> None:
    assert raw.write(key, {"g": (23, b"\0\0\0nonsense")}) == 160


def test_incoming_geojson_cells_are_not_believed(raw: RawRecords, key: Any) -> None:
    text = b'{"type": "Point", "coordinates": [1.0, 2.0]}'
    assert raw.write(key, {"g": (23, b"\0\0\2" + b"\xaa" * 16 + text)}) == 0
    assert b"\xaa" * 8 not in raw.read(key)["g"][1]
    assert raw.read(key)["g"][1].endswith(text)


RAW: list[tuple[str, tuple[int, bytes], tuple[int, bytes] | int]] = [
    ("integer of one byte", (1, b"\xff"), (1, bytes(7) + b"\xff")),
    ("integer of three bytes", (1, b"\0\0\1"), 4),
    ("float of four bytes", (2, b"\0\0\0\0"), 4),
    ("string with NUL", (3, b"a\0b"), (3, b"a\0b")),
    ("string that is not UTF-8", (3, b"\xff\xfe"), (3, b"\xff\xfe")),
    ("Java blob", (7, b"\xac\xed"), (7, b"\xac\xed")),
    ("Python blob", (9, b"pickled"), (9, b"pickled")),
    ("bool that is two", (17, b"\2"), 4),
    ("bool of two bytes", (17, b"\0\1"), 4),
    ("unknown type", (99, b"x"), 4),
    ("ordered list", (20, bytes.fromhex("94c70001010203")), (20, bytes.fromhex("94c70001010203"))),
    ("ordered list out of order", (20, bytes.fromhex("94c70001030201")), 1),
    ("list without flags set", (20, bytes.fromhex("93c700000102")), (20, bytes.fromhex("920102"))),
    ("ordered list with a persisted index", (20, bytes.fromhex("93c700110102")), (20, bytes.fromhex("93c700010102"))),
    ("integers that are not short", (20, bytes.fromhex("92cc05cd0006")), (20, bytes.fromhex("920506"))),
    ("string in a long format", (20, bytes.fromhex("91d9020361")), (20, bytes.fromhex("91a20361"))),
    ("blob in the binary format", (20, bytes.fromhex("91c403040102")), (20, bytes.fromhex("91a3040102"))),
    ("list of 16-bit count", (20, bytes.fromhex("dc000101")), (20, bytes.fromhex("9101"))),
    ("list that is cut", (20, bytes.fromhex("9301")), 1),
    ("list with bytes after it", (20, bytes.fromhex("910102")), 1),
    ("map as a list", (20, bytes.fromhex("810102")), 1),
    ("list as a map", (19, bytes.fromhex("9101")), 1),
    ("map is sorted", (19, bytes.fromhex("82a2036201a2036102")), (19, bytes.fromhex("82a2036102a2036201"))),
    ("map in a list is sorted", (20, bytes.fromhex("91820201" "0102")), (20, bytes.fromhex("9182" "01020201"))),
    ("key-ordered map", (19, bytes.fromhex("83c70001c001020304")), (19, bytes.fromhex("83c70001c001020304"))),
    ("key-value-ordered map", (19, bytes.fromhex("83c70003c001020304")), (19, bytes.fromhex("83c70003c001020304"))),
    ("key-ordered map out of order", (19, bytes.fromhex("83c70001c003040102")), 1),
    ("map with a key twice", (19, bytes.fromhex("8201020103")), 1),
    ("map with a float key", (19, bytes.fromhex("81cb3ff000000000000001")), 1),
    ("map with a nil key", (19, bytes.fromhex("81c001")), 1),
    ("empty ordered map", (19, bytes.fromhex("81c70001c0")), (19, bytes.fromhex("81c70001c0"))),
    ("empty ordered list", (20, bytes.fromhex("91c70001")), (20, bytes.fromhex("91c70001"))),
    ("wildcard", (20, bytes.fromhex("91d4ff00")), 1),
    ("HyperLogLog", (18, bytes([0, 4, 0]) + bytes(8) + bytes(12)), (18, bytes([0, 4, 0]) + bytes(8) + bytes(12))),
    ("HyperLogLog of a wrong size", (18, bytes([0, 4, 0]) + bytes(8) + bytes(11)), 4),
    ("HyperLogLog with three index bits", (18, bytes([0, 3, 0]) + bytes(8) + bytes(6)), 4),
]  # fmt: skip


@pytest.mark.parametrize(("written", "expected"), [case[1:] for case in RAW], ids=[case[0] for case in RAW])
def test_a_raw_particle_is_kept_in_the_servers_form_or_refused(
    raw: RawRecords, key: Any, written: tuple[int, bytes], expected: tuple[int, bytes] | int
) -> None:
    code = raw.write(key, {"v": written})
    if isinstance(expected, int):
        assert code == expected
    else:
        assert code == 0
        assert raw.read(key)["v"] == expected


KEYS: list[tuple[str, Any]] = [
    ("integer", 5), ("negative integer", -5), ("string", "user"), ("blob", bytearray(b"\x00\x01")), ("text", "ü"),
]  # fmt: skip


@pytest.mark.parametrize("user_key", [case[1] for case in KEYS], ids=[case[0] for case in KEYS])
def test_a_user_key_is_kept_when_sent(client: Any, namespace: str, set_name: str, user_key: Any) -> None:
    key = (namespace, set_name, user_key)
    client.put(key, {"a": 1}, policy={"key": aerospike.POLICY_KEY_SEND})
    found: list[Any] = []
    client.query(namespace, set_name).foreach(lambda record: found.append(record[0]))
    assert [(found[0][2], bytes(found[0][3]))] == [(user_key, bytes(aerospike.calc_digest(*key)))]


def test_a_user_key_is_not_kept_when_it_was_not_sent(client: Any, namespace: str, set_name: str) -> None:
    client.put((namespace, set_name, "u"), {"a": 1})
    found: list[Any] = []
    client.query(namespace, set_name).foreach(lambda record: found.append(record[0]))
    assert found[0][2] is None


def test_a_kept_user_key_stays_when_a_later_write_sends_none(client: Any, key: Any) -> None:
    client.put(key, {"a": 1}, policy={"key": aerospike.POLICY_KEY_SEND})
    client.put(key, {"a": 2}, policy={"key": aerospike.POLICY_KEY_DIGEST})
    op = expression_operations.expression_read("k", exp.KeyStr().compile())
    assert client.operate(key, [op])[2] == {"k": "k"}


def test_a_record_can_be_addressed_by_its_digest(client: Any, key: Any) -> None:
    client.put(key, {"a": 1})
    by_digest = (key[0], key[1], None, aerospike.calc_digest(*key))
    assert client.get(by_digest)[2] == {"a": 1}


def test_records_of_the_null_set_are_apart(client: Any, namespace: str) -> None:
    key = (namespace, None, "cdct-null-set")
    client.put(key, {"a": 1})
    assert client.get(key)[2] == {"a": 1}
    client.remove(key)


def test_what_is_absent_is_not_found(client: Any, key: Any) -> None:
    for attempt in (client.get, client.remove, client.touch, lambda k: client.select(k, ["a"])):
        with pytest.raises(exception.RecordNotFound):
            attempt(key)
    assert client.exists(key)[1] is None


def test_put_adds_bins_and_replaces_those_named(client: Any, key: Any) -> None:
    client.put(key, {"a": 1, "b": 2})
    client.put(key, {"b": 3, "c": 4})
    assert client.get(key)[2] == {"a": 1, "b": 3, "c": 4}


def test_a_bin_written_as_null_goes_and_the_last_one_takes_the_record_along(client: Any, key: Any) -> None:
    client.put(key, {"a": 1, "b": 2})
    client.remove_bin(key, ["a"])
    assert client.get(key)[2] == {"b": 2}
    client.remove_bin(key, ["b"])
    assert client.exists(key)[1] is None


def test_select_reads_only_the_named_bins(client: Any, key: Any) -> None:
    client.put(key, {"a": 1, "b": 2})
    assert client.select(key, ["b", "zzz"])[2] == {"b": 2}


def test_bins_come_back_in_the_order_of_creation(raw: RawRecords, key: Any) -> None:
    one = (1, bytes(8))
    raw.write(key, {"z": one, "a": one})
    raw.write(key, {"m": one, "z": one})
    assert list(raw.read(key)) == ["z", "a", "m"]


EXISTS: list[tuple[str, int, bool, type[Exception] | None]] = [
    ("create where nothing is", aerospike.POLICY_EXISTS_CREATE, False, None),
    ("create where a record is", aerospike.POLICY_EXISTS_CREATE, True, exception.RecordExistsError),
    ("update where nothing is", aerospike.POLICY_EXISTS_UPDATE, False, exception.RecordNotFound),
    ("update where a record is", aerospike.POLICY_EXISTS_UPDATE, True, None),
    ("replace where nothing is", aerospike.POLICY_EXISTS_REPLACE, False, exception.RecordNotFound),
    ("replace where a record is", aerospike.POLICY_EXISTS_REPLACE, True, None),
    ("create or replace where nothing is", aerospike.POLICY_EXISTS_CREATE_OR_REPLACE, False, None),
    ("create or replace where a record is", aerospike.POLICY_EXISTS_CREATE_OR_REPLACE, True, None),
]


@pytest.mark.parametrize(("policy", "present", "error"), [c[1:] for c in EXISTS], ids=[c[0] for c in EXISTS])
def test_existence_policies(client: Any, key: Any, policy: int, present: bool, error: type[Exception] | None) -> None:
    if present:
        client.put(key, {"old": 1})
    if error:
        with pytest.raises(error):
            client.put(key, {"new": 2}, policy={"exists": policy})
        return
    client.put(key, {"new": 2}, policy={"exists": policy})
    kept = {"old": 1} if policy == aerospike.POLICY_EXISTS_UPDATE else {}
    assert client.get(key)[2] == kept | {"new": 2}


def test_generation_counts_writes(client: Any, key: Any) -> None:
    for expected in (1, 2, 3):
        client.put(key, {"a": expected})
        assert client.get(key)[1]["gen"] == expected
    client.touch(key)
    assert client.get(key)[1]["gen"] == 4
    client.get(key)
    assert client.get(key)[1]["gen"] == 4


def test_generation_starts_again_after_a_remove(client: Any, key: Any) -> None:
    client.put(key, {"a": 1})
    client.put(key, {"a": 2})
    client.remove(key)
    client.put(key, {"a": 3})
    assert client.get(key)[1]["gen"] == 1


@pytest.mark.filterwarnings("ignore:meta parameter is deprecated:DeprecationWarning")
def test_a_write_with_another_generation_is_refused(client: Any, key: Any) -> None:
    client.put(key, {"a": 1})
    equal = {"gen": aerospike.POLICY_GEN_EQ}
    with pytest.raises(exception.RecordGenerationError):
        client.put(key, {"a": 2}, {"gen": 7}, equal)
    client.put(key, {"a": 2}, {"gen": 1}, equal)
    greater = {"gen": aerospike.POLICY_GEN_GT}
    with pytest.raises(exception.RecordGenerationError):
        client.put(key, {"a": 3}, {"gen": 2}, greater)
    client.put(key, {"a": 3}, {"gen": 3}, greater)
    with pytest.raises(exception.RecordGenerationError):
        client.remove(key, {"gen": 9}, equal)
    client.remove(key, {"gen": 3}, equal)


def test_a_filter_on_a_write_and_a_remove(client: Any, key: Any) -> None:
    client.put(key, {"a": 1})
    never = {"expressions": exp.Eq(exp.IntBin("a"), 99).compile()}
    for attempt in (lambda: client.put(key, {"a": 2}, policy=never), lambda: client.remove(key, policy=never)):
        with pytest.raises(exception.FilteredOut):
            attempt()
    assert client.get(key)[2] == {"a": 1}


def _void_time(client: Any, key: Any) -> int:
    op = expression_operations.expression_read("v", exp.VoidTime().compile())
    return int(client.operate(key, [op])[2]["v"])


def test_a_ttl_of_never_and_of_no_change(client: Any, key: Any) -> None:
    client.put(key, {"a": 1}, policy={"ttl": 500})
    first = _void_time(client, key)
    assert first > 0
    client.put(key, {"a": 2}, policy={"ttl": aerospike.TTL_DONT_UPDATE})
    assert _void_time(client, key) == first
    client.put(key, {"a": 2}, policy={"ttl": aerospike.TTL_NEVER_EXPIRE})
    assert _void_time(client, key) == -1
    client.touch(key, 700)
    assert _void_time(client, key) > first


def test_the_namespaces_default_ttl_applies(client: Any, key: Any, info: Any, namespace: str) -> None:
    default = dict(pair.split("=", 1) for pair in info(f"namespace/{namespace}").split(";"))["default-ttl"]
    client.put(key, {"a": 1}, policy={"ttl": aerospike.TTL_NAMESPACE_DEFAULT})
    assert (_void_time(client, key) == -1) is (default == "0")


def test_a_record_expires(client: Any, key: Any, until: Any) -> None:
    client.put(key, {"a": 1}, policy={"ttl": 1})
    assert client.exists(key)[1]["ttl"] in (0, 1)
    until(lambda: client.exists(key)[1] is None, 5.0)
    with pytest.raises(exception.RecordNotFound):
        client.get(key)
    client.put(key, {"b": 1})
    assert client.get(key)[1:] == ({"gen": 1, "ttl": client.get(key)[1]["ttl"]}, {"b": 1})


INCREMENT, APPEND, PREPEND = 5, 9, 10
INTEGER, FLOAT, STRING, BLOB = 1, 2, 3, 4
SAMPLES = {"s": "a", "i": 1, "f": 1.5, "b": bytearray(b"b"), "l": [1], "t": True}


def test_increments_appends_and_prepends(client: Any, raw: RawRecords, key: Any) -> None:
    client.put(key, SAMPLES)
    ops = [
        (INCREMENT, INTEGER, "i", (-7 & (1 << 64) - 1).to_bytes(8, "big")),
        (INCREMENT, FLOAT, "f", struct.pack(">d", 0.25)),
        (INCREMENT, INTEGER, "new", (3).to_bytes(8, "big")),
        (APPEND, STRING, "s", b"c"),
        (PREPEND, STRING, "s", b"_"),
        (APPEND, BLOB, "b", b"c"),
        (APPEND, STRING, "fresh", b"x"),
    ]
    assert raw.operate(key, ops)[0] == 0
    expected = SAMPLES | {"i": -6, "f": 1.75, "new": 3, "s": "_ac", "b": b"bc", "fresh": "x"}
    assert client.get(key)[2] == expected


def test_increment_wraps(client: Any, key: Any) -> None:
    client.put(key, {"i": 2**63 - 1})
    client.increment(key, "i", 1)
    assert client.get(key)[2] == {"i": -(2**63)}


MISMATCHED: list[tuple[str, tuple[int, int, str, bytes], int]] = [
    ("increment a string", (INCREMENT, INTEGER, "s", bytes(8)), 12),
    ("increment an integer by a float", (INCREMENT, FLOAT, "i", bytes(8)), 12),
    ("increment a bool", (INCREMENT, INTEGER, "t", bytes(8)), 12),
    ("append to an integer", (APPEND, STRING, "i", b"x"), 12),
    ("append a string to a blob", (APPEND, STRING, "b", b"x"), 12),
    ("prepend to a list", (PREPEND, STRING, "l", b"x"), 12),
    ("increment by nothing", (INCREMENT, INTEGER, "i", b""), 4),
    ("list operation on a string", (4, BLOB, "s", b"\x92\x01\x05"), 12),
    ("map operation on a list", (4, BLOB, "l", b"\x93\x43\x05\x05"), 12),
]


@pytest.mark.parametrize(("op", "code"), [case[1:] for case in MISMATCHED], ids=[case[0] for case in MISMATCHED])
def test_an_operation_on_another_type_is_refused_and_changes_nothing(
    client: Any, raw: RawRecords, key: Any, op: tuple[int, int, str, bytes], code: int
) -> None:
    client.put(key, SAMPLES)
    assert raw.operate(key, [(2, INTEGER, "z", bytes(8)), op])[0] == code
    assert client.get(key)[2] == SAMPLES


def test_operate_reads_what_it_wrote_in_order(client: Any, key: Any) -> None:
    client.put(key, {"a": 1})
    ops = [operations.read("a"), operations.write("a", 5), operations.read("a"), operations.increment("a", 2),
           operations.read("a")]  # fmt: skip
    _, meta, bins = client.operate_ordered(key, ops)
    assert bins == [("a", 1), ("a", 5), ("a", 7)]
    assert meta["gen"] == 2


def test_operate_can_touch_and_delete(client: Any, key: Any) -> None:
    client.put(key, {"a": 1}, policy={"ttl": 100})
    client.operate(key, [operations.touch()], policy={"ttl": 900})
    assert client.exists(key)[1]["ttl"] > 800
    client.operate(key, [operations.delete()])
    assert client.exists(key)[1] is None


def test_delete_and_write_in_one_operate_leaves_only_the_new(client: Any, key: Any) -> None:
    client.put(key, {"a": 1, "b": 2})
    client.operate(key, [operations.delete(), operations.write("c", 3)])
    assert client.get(key)[2] == {"c": 3}


def test_a_bin_name_that_is_too_long_is_refused(client: Any, raw: RawRecords, key: Any) -> None:
    assert raw.write(key, {"a" * 15: (1, bytes(8))}) == 0
    assert raw.write(key, {"a" * 16: (1, bytes(8))}) == 21


def test_a_record_that_is_too_big_is_refused(client: Any, key: Any) -> None:
    with pytest.raises(exception.RecordTooBig):
        client.put(key, {"b": bytearray(9 << 20)}, policy={"total_timeout": 5000})


def test_an_unknown_namespace_is_refused(raw: RawRecords, client: Any) -> None:
    with pytest.raises(exception.AerospikeError):
        client.get(("no-such-namespace", "s", "k"))


def test_a_durable_delete_is_for_enterprise_only(client: Any, key: Any) -> None:
    client.put(key, {"a": 1})
    with pytest.raises(exception.AerospikeError) as refused:
        client.remove(key, policy={"durable_delete": True})
    assert refused.value.code == 25


def test_last_update_time_never_goes_back_and_is_the_write_s(client: Any, key: Any) -> None:
    read = expression_operations.expression_read("lut", exp.LastUpdateTime().compile())
    earlier = 0
    for i in range(5):
        lut = client.operate(key, [operations.write("i", i), read])[2]["lut"]
        assert lut >= earlier
        assert abs(lut - time.time_ns()) < 60 * 10**9
        assert client.operate(key, [read])[2]["lut"] == lut
        earlier = lut
