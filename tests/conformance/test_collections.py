"""Lists and maps through the official client: its operations reach the server as meant, and order flags survive."""

from typing import Any

import aerospike
import pytest
from aerospike import KeyOrderedDict, exception
from aerospike_helpers import cdt_ctx
from aerospike_helpers.operations import list_operations as lo
from aerospike_helpers.operations import map_operations as mo
from aerospike_helpers.operations import operations

from tests.fixtures.rawwire import RawRecords

ORDERED = {"list_order": aerospike.LIST_ORDERED, "write_flags": aerospike.LIST_WRITE_DEFAULT}
UNIQUE = {"write_flags": aerospike.LIST_WRITE_ADD_UNIQUE}
KEY_ORDERED = {"map_order": aerospike.MAP_KEY_ORDERED}
VALUE = aerospike.LIST_RETURN_VALUE


def _hex(raw: RawRecords, key: Any, name: str) -> str:
    return raw.read(key)[name][1].hex()


LIST_OPS: list[tuple[str, Any, Any, Any]] = [
    ("append", lo.list_append("b", 9), 5, [3, 1, 2, 1, 9]),
    ("append items", lo.list_append_items("b", [8, 9]), 6, [3, 1, 2, 1, 8, 9]),
    ("insert", lo.list_insert("b", 1, "x"), 5, [3, "x", 1, 2, 1]),
    ("insert items", lo.list_insert_items("b", 0, [7, 8]), 6, [7, 8, 3, 1, 2, 1]),
    ("set", lo.list_set("b", 2, 5), None, [3, 1, 5, 1]),
    ("get", lo.list_get("b", 2), 2, None),
    ("get range", lo.list_get_range("b", 1, 2), [1, 2], None),
    ("size", lo.list_size("b"), 4, None),
    ("pop", lo.list_pop("b", 0), 3, [1, 2, 1]),
    ("pop range", lo.list_pop_range("b", 1, 2), [1, 2], [3, 1]),
    ("remove", lo.list_remove("b", 0), 1, [1, 2, 1]),
    ("remove range", lo.list_remove_range("b", 0, 3), 3, [1]),
    ("trim", lo.list_trim("b", 1, 2), 2, [1, 2]),
    ("clear", lo.list_clear("b"), None, []),
    ("increment", lo.list_increment("b", 0, 5), 8, [8, 1, 2, 1]),
    ("sort", lo.list_sort("b"), None, [1, 1, 2, 3]),
    ("sort without duplicates", lo.list_sort("b", aerospike.LIST_SORT_DROP_DUPLICATES), None, [1, 2, 3]),
    ("get by index", lo.list_get_by_index("b", -1, VALUE), 1, None),
    ("get by rank", lo.list_get_by_rank("b", -1, VALUE), 3, None),
    ("get by value", lo.list_get_by_value("b", 1, aerospike.LIST_RETURN_INDEX), [1, 3], None),
    ("get by value list", lo.list_get_by_value_list("b", [1, 3], aerospike.LIST_RETURN_COUNT), 3, None),
    ("get by value range", lo.list_get_by_value_range("b", VALUE, 2, 4), [3, 2], None),
    ("inverted", lo.list_get_by_value_range("b", VALUE, 2, 4, inverted=True), [1, 1], None),
    ("remove by value", lo.list_remove_by_value("b", 1, aerospike.LIST_RETURN_COUNT), 2, [3, 2]),
    ("remove by index range", lo.list_remove_by_index_range("b", 1, VALUE, 2), [1, 2], [3, 1]),
    ("remove by rank range", lo.list_remove_by_rank_range("b", 2, aerospike.LIST_RETURN_NONE, 2), None, [1, 1]),
]


@pytest.mark.parametrize(("op", "result", "after"), [c[1:] for c in LIST_OPS], ids=[c[0] for c in LIST_OPS])
def test_a_list_operation_of_the_client(client: Any, key: Any, op: Any, result: Any, after: Any) -> None:
    client.put(key, {"b": [3, 1, 2, 1]})
    assert client.operate(key, [op])[2].get("b") == result
    assert client.get(key)[2]["b"] == ([3, 1, 2, 1] if after is None else after)


MAP = {"a": 1, "b": 5, "c": 3}
MAP_OPS: list[tuple[str, Any, Any, Any]] = [
    ("put", mo.map_put("b", "d", 4), 4, MAP | {"d": 4}),
    ("put over", mo.map_put("b", "a", 9), 3, MAP | {"a": 9}),
    ("put items", mo.map_put_items("b", {"x": 1, "y": 2}), 5, MAP | {"x": 1, "y": 2}),
    ("increment", mo.map_increment("b", "a", 10), 11, MAP | {"a": 11}),
    ("increment anew", mo.map_increment("b", "z", 2), 2, MAP | {"z": 2}),
    ("decrement", mo.map_decrement("b", "b", 1), 4, MAP | {"b": 4}),
    ("size", mo.map_size("b"), 3, None),
    ("clear", mo.map_clear("b"), None, {}),
    ("get by key", mo.map_get_by_key("b", "b", aerospike.MAP_RETURN_VALUE), 5, None),
    ("get absent key", mo.map_get_by_key("b", "zz", aerospike.MAP_RETURN_VALUE), None, None),
    ("get by keys", mo.map_get_by_key_list("b", ["a", "c"], aerospike.MAP_RETURN_VALUE), [1, 3], None),
    ("get by key range", mo.map_get_by_key_range("b", "a", "c", aerospike.MAP_RETURN_KEY), ["a", "b"], None),
    ("get by index", mo.map_get_by_index("b", 0, aerospike.MAP_RETURN_KEY), "a", None),
    ("get by rank", mo.map_get_by_rank("b", -1, aerospike.MAP_RETURN_KEY), "b", None),
    ("get by value", mo.map_get_by_value("b", 3, aerospike.MAP_RETURN_KEY), ["c"], None),
    ("index of key", mo.map_get_by_key("b", "c", aerospike.MAP_RETURN_INDEX), 2, None),
    ("rank of key", mo.map_get_by_key("b", "c", aerospike.MAP_RETURN_RANK), 1, None),
    ("exists", mo.map_get_by_key("b", "c", aerospike.MAP_RETURN_EXISTS), True, None),
    ("remove by key", mo.map_remove_by_key("b", "a", aerospike.MAP_RETURN_VALUE), 1, {"b": 5, "c": 3}),
    ("remove absent key", mo.map_remove_by_key("b", "zz", aerospike.MAP_RETURN_COUNT), 0, None),
    ("remove by keys", mo.map_remove_by_key_list("b", ["a", "b"], aerospike.MAP_RETURN_COUNT), 2, {"c": 3}),
    ("remove by rank", mo.map_remove_by_rank("b", 0, aerospike.MAP_RETURN_KEY), "a", {"b": 5, "c": 3}),
    ("remove by index range", mo.map_remove_by_index_range("b", 0, 2, aerospike.MAP_RETURN_COUNT), 2, {"c": 3}),
    ("remove by value range", mo.map_remove_by_value_range("b", 1, 4, aerospike.MAP_RETURN_COUNT), 2, {"b": 5}),
]


@pytest.mark.parametrize(("op", "result", "after"), [c[1:] for c in MAP_OPS], ids=[c[0] for c in MAP_OPS])
@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "key-ordered"])
def test_a_map_operation_of_the_client(client: Any, key: Any, ordered: bool, op: Any, result: Any, after: Any) -> None:
    client.put(key, {"b": KeyOrderedDict(MAP) if ordered else MAP})
    assert client.operate(key, [op])[2].get("b") == result
    assert client.get(key)[2]["b"] == (MAP if after is None else after)


def test_the_order_of_a_list_is_a_flag_in_its_bytes(client: Any, raw: RawRecords, key: Any) -> None:
    client.operate(key, [lo.list_append_items("b", [3, 1, 2], ORDERED)])
    assert _hex(raw, key, "b") == "94c70001010203"
    client.operate(key, [lo.list_set_order("b", aerospike.LIST_UNORDERED)])
    assert _hex(raw, key, "b") == "93010203"


def test_an_unordered_list_is_sorted_when_it_becomes_ordered(client: Any, raw: RawRecords, key: Any) -> None:
    client.put(key, {"b": ["b", 2, None, 1.5, [1], True, "a", {"k": 1}, bytearray(b"x")]})
    client.operate(key, [lo.list_set_order("b", aerospike.LIST_ORDERED)])
    assert client.get(key)[2]["b"] == [None, True, 2, "a", "b", [1], {"k": 1}, b"x", 1.5]
    assert _hex(raw, key, "b").startswith("9ac70001c0c302")


def test_the_order_of_a_map_is_a_flag_in_its_bytes(client: Any, raw: RawRecords, key: Any) -> None:
    client.put(key, {"b": {"b": 1, "a": 2}})
    assert _hex(raw, key, "b") == "82a2036102a2036201"
    client.operate(key, [mo.map_set_policy("b", KEY_ORDERED)])
    assert _hex(raw, key, "b") == "83c70001c0a2036102a2036201"
    client.operate(key, [mo.map_set_policy("b", {"map_order": aerospike.MAP_KEY_VALUE_ORDERED})])
    assert _hex(raw, key, "b") == "83c70003c0a2036102a2036201"
    client.operate(key, [mo.map_set_policy("b", {"map_order": aerospike.MAP_UNORDERED})])
    assert _hex(raw, key, "b") == "82a2036102a2036201"


def test_nested_order_flags_are_set_through_contexts(client: Any, raw: RawRecords, key: Any) -> None:
    client.put(key, {"b": {"l": [3, 1], "m": {"z": 1, "y": {"q": 2}}}})
    in_list = [cdt_ctx.cdt_ctx_map_key("l")]
    in_map = [cdt_ctx.cdt_ctx_map_key("m")]
    deeper = [*in_map, cdt_ctx.cdt_ctx_map_key("y")]
    client.operate(
        key,
        [
            lo.list_set_order("b", aerospike.LIST_ORDERED, in_list),
            mo.map_set_policy("b", {"map_order": aerospike.MAP_KEY_VALUE_ORDERED}, in_map),
            mo.map_set_policy("b", KEY_ORDERED, deeper),
        ],
    )
    assert _hex(raw, key, "b") == "82a2036c93c700010103a2036d83c70003c0a2037982c70001c0a2037102a2037a01"


def test_what_was_read_raw_can_be_written_raw(client: Any, raw: RawRecords, key: Any, namespace: str) -> None:
    client.put(key, {"b": KeyOrderedDict({"m": KeyOrderedDict({"x": [1, {"u": True}]}), "l": [None, 2.5]})})
    client.operate(key, [lo.list_set_order("b", aerospike.LIST_ORDERED, [cdt_ctx.cdt_ctx_map_key("l")])])
    particles = raw.read(key)
    client.remove(key)
    assert raw.write(key, particles) == 0
    assert raw.read(key) == particles


def test_deserialize_false_gives_the_raw_bytes(client: Any, raw: RawRecords, key: Any) -> None:
    client.operate(key, [lo.list_append_items("b", [3, 1], ORDERED)])
    assert bytes(client.get(key, {"deserialize": False})[2]["b"]) == raw.read(key)["b"][1]


CONTEXTS: list[tuple[str, Any, list[Any], Any]] = [
    ("list index", [[1, 2], [3]], [cdt_ctx.cdt_ctx_list_index(-1)], [[1, 2], [3, 9]]),
    ("list rank", [[5], [1], [3]], [cdt_ctx.cdt_ctx_list_rank(0)], [[5], [1, 9], [3]]),
    ("list value", [[5], [1]], [cdt_ctx.cdt_ctx_list_value([5])], [[5, 9], [1]]),
    ("map key", {"a": [1], "b": [2]}, [cdt_ctx.cdt_ctx_map_key("b")], {"a": [1], "b": [2, 9]}),
    ("map index", {"a": [1], "b": [2]}, [cdt_ctx.cdt_ctx_map_index(0)], {"a": [1, 9], "b": [2]}),
    ("map rank", {"a": [7], "b": [2]}, [cdt_ctx.cdt_ctx_map_rank(0)], {"a": [7], "b": [2, 9]}),
    ("map value", {"a": [7], "b": [2]}, [cdt_ctx.cdt_ctx_map_value([7])], {"a": [7, 9], "b": [2]}),
    (
        "several levels",
        {"a": [{"k": [1]}]},
        [cdt_ctx.cdt_ctx_map_key("a"), cdt_ctx.cdt_ctx_list_index(0), cdt_ctx.cdt_ctx_map_key("k")],
        {"a": [{"k": [1, 9]}]},
    ),
    (
        "a map that is made",
        {},
        [cdt_ctx.cdt_ctx_map_key("n"), cdt_ctx.cdt_ctx_map_key_create("l", aerospike.MAP_KEY_ORDERED)],
        None,
    ),
    ("a key that is made", {"a": 1}, [cdt_ctx.cdt_ctx_map_key_create("n", aerospike.MAP_UNORDERED)],
     {"a": 1, "n": [9]}),
    ("an index that is made", [1], [cdt_ctx.cdt_ctx_list_index_create(3, aerospike.LIST_UNORDERED, True)],
     [1, None, None, [9]]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "context", "after"), [c[1:] for c in CONTEXTS], ids=[c[0] for c in CONTEXTS])
def test_a_context_leads_to_a_nested_list(client: Any, key: Any, value: Any, context: list[Any], after: Any) -> None:
    client.put(key, {"b": value})
    op = lo.list_append("b", 9, ctx=context)
    if after is None:
        with pytest.raises(exception.OpNotApplicable):
            client.operate(key, [op])
        return
    client.operate(key, [op])
    assert client.get(key)[2]["b"] == after


def test_an_operation_may_create_its_bin(client: Any, key: Any) -> None:
    ops = [lo.list_append("l", 1), mo.map_put("m", "k", 1, KEY_ORDERED), lo.list_size("l"), mo.map_size("m")]
    assert client.operate_ordered(key, ops)[2] == [("l", 1), ("m", 1), ("l", 1), ("m", 1)]
    assert client.get(key)[2] == {"l": [1], "m": {"k": 1}}
    assert isinstance(client.get(key)[2]["m"], KeyOrderedDict)


def test_a_refused_operation_undoes_the_whole_operate(client: Any, key: Any) -> None:
    client.put(key, {"l": [1, 2], "n": 1})
    with pytest.raises(exception.ElementExistsError):
        client.operate(key, [operations.write("n", 2), lo.list_append("l", 2, UNIQUE)])
    assert client.get(key)[2] == {"l": [1, 2], "n": 1}
    assert client.get(key)[1]["gen"] == 1


def test_map_write_flags(client: Any, key: Any) -> None:
    client.put(key, {"m": {"a": 1}})
    create = {"map_write_flags": aerospike.MAP_WRITE_FLAGS_CREATE_ONLY}
    update = {"map_write_flags": aerospike.MAP_WRITE_FLAGS_UPDATE_ONLY}
    with pytest.raises(exception.ElementExistsError):
        client.operate(key, [mo.map_put("m", "a", 2, create)])
    with pytest.raises(exception.ElementNotFoundError):
        client.operate(key, [mo.map_put("m", "b", 2, update)])
    client.operate(key, [mo.map_put("m", "b", 2, create), mo.map_put("m", "a", 5, update)])
    assert client.get(key)[2]["m"] == {"a": 5, "b": 2}


def test_key_value_pairs_come_in_rank_order(client: Any, key: Any) -> None:
    client.put(key, {"m": {"a": 3, "b": 1, "c": 2}})
    op = mo.map_get_by_rank_range("m", 0, 3, aerospike.MAP_RETURN_KEY_VALUE)
    assert client.operate(key, [op])[2]["m"] in (["b", 1, "c", 2, "a", 3], [("b", 1), ("c", 2), ("a", 3)])
