"""Expressions: each is read through `expression_read` and, where it is true or false, used as a filter."""

from collections.abc import Iterator
from typing import Any

import aerospike
import pytest
from aerospike import exception
from aerospike_helpers import cdt_ctx
from aerospike_helpers import expressions as exp
from aerospike_helpers.expressions.resources import ResultType
from aerospike_helpers.operations import expression_operations, operations

BINS = {
    "i": 5,
    "n": -7,
    "big": 2**63 - 1,
    "f": 2.5,
    "s": "Hello World",
    "e": "",
    "b": bytearray(b"\x00\x01\xff"),
    "t": True,
    "l": [3, 1, "x", [1, 2], None],
    "o": [1, 2, 3],
    "m": {"a": 1, "b": [1, 2], "c": {"d": 4}},
    "g": aerospike.GeoJSON('{"type": "Point", "coordinates": [1.5, 2.5]}'),
}
ABSENT = "absent"


class Unknown:
    """Expected where the server answers that the operation does not apply."""


UNKNOWN = Unknown()
INT, N, F, S, T = exp.IntBin("i"), exp.IntBin("n"), exp.FloatBin("f"), exp.StrBin("s"), exp.BoolBin("t")
NONE = exp.IntBin(ABSENT)
RETURN = aerospike.LIST_RETURN_VALUE

CASES: list[tuple[str, Any, Any]] = [
    ("integer bin", INT, 5),
    ("float bin", F, 2.5),
    ("string bin", S, "Hello World"),
    ("empty string bin", exp.StrBin("e"), ""),
    ("blob bin", exp.BlobBin("b"), b"\x00\x01\xff"),
    ("bool bin", T, True),
    ("list bin", exp.ListBin("l"), [3, 1, "x", [1, 2], None]),
    ("map bin", exp.MapBin("m"), {"a": 1, "b": [1, 2], "c": {"d": 4}}),
    ("geo bin", exp.GeoBin("g"), aerospike.GeoJSON('{"type": "Point", "coordinates": [1.5, 2.5]}')),
    ("absent bin", NONE, UNKNOWN),
    ("bin of another type", exp.StrBin("i"), UNKNOWN),
    ("eq", exp.Eq(INT, 5), True),
    ("ne", exp.NE(INT, 5), False),
    ("gt", exp.GT(INT, 4), True),
    ("ge", exp.GE(INT, 6), False),
    ("lt", exp.LT(N, 0), True),
    ("le", exp.LE(INT, 5), True),
    ("eq float", exp.Eq(F, 2.5), True),
    ("lt string", exp.LT(S, "I"), True),
    ("prefix is less", exp.GT(S, "Hello"), True),
    ("eq blob", exp.Eq(exp.BlobBin("b"), b"\x00\x01\xff"), True),
    ("gt blob", exp.GT(exp.BlobBin("b"), b"\x00\x01"), True),
    ("eq bool", exp.Eq(T, True), True),
    ("gt bool", exp.GT(T, False), True),
    ("eq list", exp.Eq(exp.ListBin("l"), [3, 1, "x", [1, 2], None]), True),
    ("lt list", exp.LT(exp.ListBin("l"), [3, 2]), True),
    ("gt list by length", exp.GT(exp.ListBin("l"), [3, 1, "x", [1, 2]]), True),
    ("unordered maps do not compare", exp.Eq(exp.MapBin("m"), {"a": 1, "b": [1, 2], "c": {"d": 4}}), UNKNOWN),
    ("compare with absent", exp.Eq(NONE, 5), UNKNOWN),
    ("and", exp.And(exp.Eq(INT, 5), T), True),
    ("and of three", exp.And(exp.Eq(INT, 5), T, exp.Eq(INT, 6)), False),
    ("false decides and", exp.And(exp.Eq(NONE, 5), exp.Eq(INT, 6)), False),
    ("unknown remains in and", exp.And(exp.Eq(NONE, 5), T), UNKNOWN),
    ("or", exp.Or(exp.Eq(INT, 6), T), True),
    ("true decides or", exp.Or(exp.Eq(NONE, 5), T), True),
    ("unknown remains in or", exp.Or(exp.Eq(NONE, 5), exp.Eq(INT, 6)), UNKNOWN),
    ("not", exp.Not(T), False),
    ("not of unknown", exp.Not(exp.Eq(NONE, 5)), UNKNOWN),
    ("exclusive", exp.Exclusive(T, exp.Eq(INT, 6)), True),
    ("exclusive of two", exp.Exclusive(T, exp.Eq(INT, 5)), False),
    ("exclusive of none", exp.Exclusive(exp.Eq(INT, 6), exp.Eq(INT, 7)), False),
    ("exclusive with unknown", exp.Exclusive(T, exp.Eq(NONE, 7)), UNKNOWN),
    ("let", exp.Let(exp.Def("x", exp.Add(INT, 1)), exp.Mul(exp.Var("x"), exp.Var("x"))), 36),
    (
        "let of let",
        exp.Let(exp.Def("x", INT), exp.Def("y", exp.Add(exp.Var("x"), 2)), exp.Sub(exp.Var("y"), exp.Var("x"))),
        2,
    ),
    ("let inside", exp.Let(exp.Def("x", INT), exp.Let(exp.Def("y", N), exp.Add(exp.Var("x"), exp.Var("y")))), -2),
    ("unused unknown variable", exp.Let(exp.Def("x", NONE), exp.Add(INT, 1)), 6),
    ("used unknown variable", exp.Let(exp.Def("x", NONE), exp.Add(exp.Var("x"), 1)), UNKNOWN),
    ("cond first", exp.Cond(exp.Eq(INT, 5), "five", exp.Eq(INT, 6), "six", "other"), "five"),
    ("cond second", exp.Cond(exp.Eq(INT, 6), "six", T, "second", "other"), "second"),
    ("cond default", exp.Cond(exp.Eq(INT, 6), 1, 2), 2),
    ("cond unknown result", exp.Cond(T, exp.Unknown(), 2), UNKNOWN),
    ("cond with unknown condition", exp.Cond(exp.Eq(NONE, 6), 1, 2), UNKNOWN),
    ("add", exp.Add(INT, 1, 2), 8),
    ("add wraps", exp.Add(exp.IntBin("big"), 1), -(2**63)),
    ("add floats", exp.Add(F, 0.5), 3.0),
    ("sub", exp.Sub(INT, 1, 2), 2),
    ("sub of one", exp.Sub(INT), -5),
    ("mul", exp.Mul(INT, N), -35),
    ("mul wraps", exp.Mul(exp.IntBin("big"), 2), -2),
    ("mul of one", exp.Mul(INT), 5),
    ("div truncates to zero", exp.Div(N, 2), -3),
    ("div by several", exp.Div(100, INT, 2), 10),
    ("div of one", exp.Div(INT), 0),
    ("div floats", exp.Div(F, 2.0), 1.25),
    ("div float of one", exp.Div(F), 0.4),
    ("div by zero", exp.Div(INT, 0), UNKNOWN),
    ("div floats by zero", exp.Div(F, 0.0), float("inf")),
    ("add unknown", exp.Add(NONE, 1), UNKNOWN),
    ("pow", exp.Pow(F, 2.0), 6.25),
    ("pow of nothing", exp.Pow(0.0, 0.0), 1.0),
    ("log", exp.Log(8.0, 2.0), 3.0),
    ("mod keeps the sign", exp.Mod(N, 4), -3),
    ("mod by zero", exp.Mod(N, 0), UNKNOWN),
    ("abs", exp.Abs(N), 7),
    ("abs float", exp.Abs(exp.Sub(F)), 2.5),
    ("floor", exp.Floor(exp.Sub(F)), -3.0),
    ("ceil", exp.Ceil(F), 3.0),
    ("to int", exp.ToInt(exp.Sub(F)), -2),
    ("to float", exp.ToFloat(INT), 5.0),
    ("int and", exp.IntAnd(INT, 4), 4),
    ("int or", exp.IntOr(INT, 2, 8), 15),
    ("int xor", exp.IntXOr(INT, 1), 4),
    ("int not", exp.IntNot(INT), -6),
    ("left shift", exp.IntLeftShift(INT, 62), 1 << 62),
    ("right shift", exp.IntRightShift(N, 60), 15),
    ("arithmetic right shift", exp.IntArithmeticRightShift(N, 1), -4),
    ("count", exp.IntCount(N), 62),
    ("left scan", exp.IntLeftScan(INT, True), 61),
    ("left scan for nothing", exp.IntLeftScan(0, True), -1),
    ("left scan for zero", exp.IntLeftScan(N, False), 61),
    ("right scan", exp.IntRightScan(INT, True), 63),
    ("right scan for zero", exp.IntRightScan(INT, False), 62),
    ("right scan for nothing", exp.IntRightScan(0, True), -1),
    ("min", exp.Min(INT, N, 3), -7),
    ("max", exp.Max(F, 1.0, 9.5), 9.5),
    ("set name", exp.GT(exp.SetName(), "cdct"), True),
    ("key", exp.KeyStr(), "the key"),
    ("key of another type", exp.KeyInt(), UNKNOWN),
    ("key exists", exp.KeyExists(), True),
    ("tombstone", exp.IsTombstone(), False),
    ("void time of the immortal", exp.VoidTime(), -1),
    ("ttl of the immortal", exp.TTL(), -1),
    ("since update", exp.LT(exp.SinceUpdateTime(), 60_000), True),
    ("last update", exp.GT(exp.LastUpdateTime(), 1_700_000_000 * 10**9), True),
    ("last update is in milliseconds", exp.Mod(exp.LastUpdateTime(), 1_000_000), 0),
    ("digest modulo", exp.LT(exp.DigestMod(7), 7), True),
    ("bin exists", exp.BinExists("i"), True),
    ("bin does not exist", exp.BinExists(ABSENT), False),
    ("type of nothing", exp.BinType(ABSENT), 0),
    ("type of integer", exp.BinType("i"), 1),
    ("type of float", exp.BinType("f"), 2),
    ("type of string", exp.BinType("s"), 3),
    ("type of blob", exp.BinType("b"), 4),
    ("type of bool", exp.BinType("t"), 17),
    ("type of map", exp.BinType("m"), 19),
    ("type of list", exp.BinType("l"), 20),
    ("type of geo", exp.BinType("g"), 23),
    ("list size", exp.ListSize(None, exp.ListBin("l")), 5),
    ("list size of absent", exp.ListSize(None, exp.ListBin(ABSENT)), UNKNOWN),
    ("list get", exp.ListGetByIndex(None, RETURN, ResultType.INTEGER, 0, exp.ListBin("l")), 3),
    ("list get last", exp.ListGetByIndex(None, RETURN, ResultType.STRING, 2, exp.ListBin("l")), "x"),
    ("list get another type", exp.ListGetByIndex(None, RETURN, ResultType.STRING, 0, exp.ListBin("l")), UNKNOWN),
    ("list get outside", exp.ListGetByIndex(None, RETURN, ResultType.INTEGER, 9, exp.ListBin("l")), UNKNOWN),
    ("list in list", exp.ListGetByIndex(None, RETURN, ResultType.LIST, 3, exp.ListBin("l")), [1, 2]),
    ("size in a context", exp.ListSize([cdt_ctx.cdt_ctx_list_index(3)], exp.ListBin("l")), 2),
    (
        "count by value list",
        exp.ListGetByValueList(None, aerospike.LIST_RETURN_COUNT, [1, 3, 99], exp.ListBin("l")),
        2,
    ),
    (
        "list rank",
        exp.ListGetByRank(None, RETURN, ResultType.INTEGER, -1, exp.ListBin("o")),
        3,
    ),
    ("list append is local", exp.ListAppend(None, None, 4, exp.ListBin("o")), [1, 2, 3, 4]),
    ("size after append", exp.ListSize(None, exp.ListAppend(None, None, 4, exp.ListBin("o"))), 4),
    ("map size", exp.MapSize(None, exp.MapBin("m")), 3),
    ("map get", exp.MapGetByKey(None, aerospike.MAP_RETURN_VALUE, ResultType.INTEGER, "a", exp.MapBin("m")), 1),
    ("map get absent", exp.MapGetByKey(None, aerospike.MAP_RETURN_VALUE, ResultType.INTEGER, "z", exp.MapBin("m")),
     UNKNOWN),
    ("map get list", exp.MapGetByKey(None, aerospike.MAP_RETURN_VALUE, ResultType.LIST, "b", exp.MapBin("m")), [1, 2]),
    (
        "map keys in range",
        exp.MapGetByKeyRange(None, aerospike.MAP_RETURN_KEY, "a", "c", exp.MapBin("m")),
        ["a", "b"],
    ),
    ("map put is local", exp.MapSize(None, exp.MapPut(None, None, "z", 1, exp.MapBin("m"))), 4),
]  # fmt: skip


@pytest.fixture(scope="module")
def record(client: Any, namespace: str) -> Iterator[tuple[str, str, str]]:
    key = (namespace, "cdct-expressions", "the key")
    client.put(key, BINS, policy={"ttl": aerospike.TTL_NEVER_EXPIRE, "key": aerospike.POLICY_KEY_SEND})
    yield key
    client.remove(key)


def _evaluate(client: Any, key: Any, expression: Any) -> Any:
    op = expression_operations.expression_read("r", expression.compile())
    try:
        return client.operate(key, [op])[2]["r"]
    except exception.OpNotApplicable:
        return UNKNOWN


def _comparable(value: Any) -> Any:
    return value.dumps() if isinstance(value, aerospike.GeoJSON) else value


@pytest.mark.parametrize(("expression", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_expression_evaluates_as_the_server_does(client: Any, record: Any, expression: Any, expected: Any) -> None:
    found = _evaluate(client, record, expression)
    assert _comparable(found) == _comparable(expected)
    assert type(found) is type(expected) or isinstance(expected, bytes)


FILTERS = [case for case in CASES if isinstance(case[2], bool) and case[0] != "bool bin"]


@pytest.mark.parametrize(("expression", "expected"), [case[1:] for case in FILTERS], ids=[case[0] for case in FILTERS])
def test_a_filter_lets_a_record_through_only_when_true(
    client: Any, record: Any, expression: Any, expected: bool
) -> None:
    policy = {"expressions": expression.compile()}
    if expected:
        assert client.get(record, policy)[2]["i"] == 5
    else:
        with pytest.raises(exception.FilteredOut):
            client.get(record, policy)


def test_unknown_filters_a_record_out(client: Any, record: Any) -> None:
    with pytest.raises(exception.FilteredOut):
        client.get(record, {"expressions": exp.Eq(NONE, 5).compile()})


MALFORMED = [
    ("types that differ", exp.Eq(INT, "five")),
    ("number that is a string", exp.Add(INT, S)),
    ("logic over a number", exp.And(INT, T)),
    ("variable that is not defined", exp.Add(exp.Var("x"), 1)),
    ("float function of an integer", exp.Floor(INT)),
    ("cond with two types", exp.Cond(T, 1, "two")),
    ("comparison of geo", exp.Eq(exp.GeoBin("g"), exp.GeoBin("g"))),
]


@pytest.mark.parametrize("expression", [case[1] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_an_expression_that_does_not_fit_is_a_parameter_error(client: Any, record: Any, expression: Any) -> None:
    compiled = expression.compile()
    with pytest.raises(exception.InvalidRequest):
        client.operate(record, [expression_operations.expression_read("r", compiled)])
    with pytest.raises(exception.InvalidRequest):
        client.get(record, {"expressions": compiled})


def test_a_filter_that_is_no_bool_is_a_parameter_error(client: Any, record: Any) -> None:
    with pytest.raises(exception.InvalidRequest):
        client.get(record, {"expressions": INT.compile()})


@pytest.mark.parametrize(
    ("pattern", "flags", "expected"),
    [
        ("^Hel+o", "extended", True),
        ("world$", "extended", False),
        ("WORLD$", "icase", True),
        ("Hel+o", "none", False),
        (r"Hel\+o", "none", True),
        ("(Hello|Bye) World", "extended", True),
        ("[[:upper:]]ello", "extended", True),
        ("^[^H]", "extended", False),
        ("l{2}", "extended", True),
        ("l*z", "none", False),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:CmpRegex expression is deprecated:DeprecationWarning")
def test_a_regular_expression_is_posix(client: Any, record: Any, pattern: str, flags: str, expected: bool) -> None:
    options = {
        "extended": aerospike.REGEX_EXTENDED, "none": aerospike.REGEX_NONE,
        "icase": aerospike.REGEX_EXTENDED | aerospike.REGEX_ICASE,
    }[flags]  # fmt: skip
    assert _evaluate(client, record, exp.CmpRegex(options, pattern, S)) is expected


def test_record_size_is_positive_and_grows(client: Any, record: Any, key: Any) -> None:
    client.put(key, {"a": 1})
    small = _evaluate(client, key, exp.RecordSize())
    client.put(key, {"a": 1, "b": bytearray(5000)})
    assert 0 < small < small + 4900 < _evaluate(client, key, exp.RecordSize())


def test_a_ttl_and_its_void_time_agree(client: Any, key: Any) -> None:
    client.put(key, {"a": 1}, policy={"ttl": 1000})
    assert 995 <= _evaluate(client, key, exp.TTL()) <= 1000
    void_time = _evaluate(client, key, exp.VoidTime())
    update = _evaluate(client, key, exp.LastUpdateTime())
    assert void_time % 10**9 == 0
    assert 998 * 10**9 <= void_time - update <= 1001 * 10**9


def test_an_expression_write_stores_its_result(client: Any, key: Any) -> None:
    client.put(key, {"a": 1})
    write = expression_operations.expression_write("d", exp.Add(exp.IntBin("a"), 41).compile())
    client.operate(key, [write])
    assert client.get(key)[2] == {"a": 1, "d": 42}


def test_an_expression_read_sees_a_write_of_the_same_operate(client: Any, key: Any) -> None:
    read = expression_operations.expression_read("r", exp.IntBin("a").compile())
    lut = expression_operations.expression_read("lut", exp.LastUpdateTime().compile())
    bins = client.operate(key, [operations.write("a", 9), read, lut])[2]
    assert bins["r"] == 9
    assert bins["lut"] == _evaluate(client, key, exp.LastUpdateTime())


def test_eval_no_fail_leaves_an_unknown_result_out(client: Any, key: Any) -> None:
    client.put(key, {"a": 1})
    op = expression_operations.expression_read("r", NONE.compile(), aerospike.EXP_READ_EVAL_NO_FAIL)
    assert client.operate(key, [op])[2] in ({}, {"r": None})
