"""Parts in words: conditions, the options of the command line, and what a journal keeps of them."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdc.cli.parts import part_of
from cdc.codec.values_plain import GeoJSON, List, Raw
from cdc.errors import UsageError
from cdc.model import PARTITIONS, partition_of, partitions_of
from cdc.replayer.keys import digest_of
from cdc.replayer.wanted import WHOLE, Part
from cdc.replayer.where import Condition, condition

TESTS = ["==", "!=", "<", "<=", ">", ">="]
INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = WORDS.filter(lambda name: 1 <= len(name.encode()) <= 15)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    name = draw(NAMES)
    if draw(st.booleans()):
        return Condition(name, draw(st.sampled_from(["exists", "missing"])))
    test: Any = draw(st.sampled_from(TESTS))
    value = draw(INTEGERS | FLOATS | WORDS | (st.booleans() if test in ("==", "!=") else st.nothing()))
    return Condition(name, test, value)


@given(conditions())
@example(Condition("a", "==", "17"))
@example(Condition("exists", "exists"))
@example(Condition("it's", "<", "both \" and '"))
@example(Condition("a", "==", "= b"))
def test_a_condition_is_read_as_it_is_told(said: Condition) -> None:
    again = condition(str(said))
    assert again == said
    assert type(again.value) is type(said.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status == open", Condition("status", "==", "open")),
        ("status!='to ship'", Condition("status", "!=", "to ship")),
        ("n>=-3", Condition("n", ">=", -3)),
        ("n < 2.5e3", Condition("n", "<", 2500.0)),
        ('code == "17"', Condition("code", "==", "17")),
        ("paid == true", Condition("paid", "==", True)),
        ("paid == True", Condition("paid", "==", "True")),
        ('"a b" exists', Condition("a b", "exists")),
        ("  exists missing ", Condition("exists", "missing")),
        ('s == "tab\\t"', Condition("s", "==", "tab\t")),
    ],
)
def test_what_a_person_writes_is_understood(text: str, expected: Condition) -> None:
    assert condition(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no condition"), ("status", "no condition"), ("== 5", "no condition"), ("a <", "no condition"),
        ("a = 5", "write =="), ("a === 5", "'==='"), ("a like b", "no condition"), ("a exists now", "no condition"),
        ("sixteen-bytes-xx == 1", "15 bytes"), ('"" exists', "15 bytes"), ("paid < true", "greater or less"),
        (f"a == {1 << 63}", "64 bits"), ("a == 1e999", "64 bits"),
        ('a == "\\q"', "escape"), ('a == "x" y', "quotation"),
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_and_says_why(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        condition(text)
    assert said in caught.value.message
    assert repr(text) in caught.value.message
    assert "BIN OP VALUE" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("a == 5", 5, True), ("a == 5", 5.0, True), ("a == 5", "5", False), ("a == 1", True, False),
        ("a < 6", 5.5, True), ("a > 9007199254740992.0", 9007199254740993, True), ("a != 5", "x", True),
        ("a != 5", 5.0, False), ("a < x", "w", True), ("a < x", 3, False), ("a == true", True, True),
        ("a == true", 1, False), ("a != true", b"", True), ("a == x", GeoJSON("x"), False), ("a >= 0", math.nan, False),
        ("a != 0", math.nan, True), ("a exists", Raw(9, b""), True), ("a exists", None, True),
        ("a missing", List(0, ()), False), ("a != x", None, True),
    ],
)  # fmt: skip
def test_a_value_is_compared_with_its_like(text: str, value: Any, met: bool) -> None:
    said = condition(text)
    assert said.met(True, value) is met
    assert said.met(False, None) is (said.test == "missing")


@given(conditions(), INTEGERS | FLOATS | WORDS | st.booleans() | st.binary())
def test_a_value_meets_a_comparison_or_its_opposite(said: Condition, value: Any) -> None:
    if said.test in ("==", "!="):
        opposite = Condition(said.bin, "!=" if said.test == "==" else "==", said.value)
        assert said.met(True, value) != opposite.met(True, value)


DIGESTS = st.binary(min_size=20, max_size=20)


@st.composite
def some_parts(draw: st.DrawFn) -> Part:
    return Part(
        sets=tuple(draw(st.lists(WORDS, max_size=2))),
        digests=tuple(sorted(draw(st.sets(DIGESTS, max_size=6)))),
        partitions=tuple(sorted(draw(st.sets(st.integers(0, PARTITIONS - 1), max_size=6)))),
        bins=tuple(draw(st.lists(NAMES, max_size=2, unique=True))),
        where=tuple(draw(st.lists(conditions(), max_size=2))),
    )


@settings(max_examples=50, deadline=None)
@given(some_parts())
def test_a_part_is_kept_as_json_and_told_in_a_line(part: Part) -> None:
    assert Part.from_dict(json.loads(json.dumps(part.to_dict()))) == part
    assert part.whole == (part == WHOLE) == (part.told == "")


@settings(max_examples=50, deadline=None)
@given(some_parts(), st.sampled_from([1, 2, 8, 4096]), st.lists(DIGESTS, max_size=5))
def test_the_parts_of_shards_are_the_part(part: Part, shards: int, more: list[bytes]) -> None:
    every = [*part.digests, *more]
    column = np.frombuffer(b"".join(every), np.uint8).reshape(-1, 20)
    numbers = partition_of(column).tolist()
    concerned = part.shards(shards)
    for digest, number in zip(every, numbers, strict=True):
        has = (not part.digests or digest in part.digests) and (not part.partitions or number in part.partitions)
        here = next(k for k in range(shards) if number in partitions_of(k, shards))
        mine = part.of_shard(here, shards)
        row = np.frombuffer(digest, np.uint8).reshape(1, -1)
        if has:
            low, high = mine.bounds()
            assert here in concerned
            assert low is None or digest >= low
            assert high is None or digest < high
        if here in concerned:
            assert has == ((not mine.digests or digest in mine.digests) and bool(mine.in_partitions(row)[0]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"digests": (b"short",)}, {"partitions": (4096,)}, {"partitions": (-1, 3)}, {"bins": ("a", "a")},
    ],
)  # fmt: skip
def test_what_is_no_part_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"20 bytes|0 to 4095|twice"):
        Part(**wrong)


def test_digests_and_partitions_stand_in_order_each_once() -> None:
    part = Part(digests=(b"\1" * 20, b"\0" * 20, b"\1" * 20), partitions=(9, 3, 9))
    assert (part.digests, part.partitions) == ((b"\0" * 20, b"\1" * 20), (3, 9))


def test_many_partitions_are_told_by_their_number() -> None:
    assert Part(partitions=tuple(range(0, 16, 2))).told == "partitions 0, 2, 4, 6, 8, 10, 12, 14"
    assert Part(partitions=tuple(range(0, 4096, 2))).told == "2,048 partitions"
    assert Part(partitions=(7,)).told == "partition 7"


def test_options_make_a_part(tmp_path: Path) -> None:
    listed = tmp_path / "keys"
    listed.write_bytes(b"users\tanna\r\n\n\t17\nusers\thex:00ff\n" + b"ab" * 20 + b"\nuser s\ta\xe2\x80\xa8b\n")
    in_file = [
        digest_of("users", "anna"), digest_of(None, 17), digest_of("users", b"\x00\xff"), b"\xab" * 20,
        digest_of("user s", "a\u2028b"),
    ]  # fmt: skip
    assert part_of() == WHOLE
    assert part_of(["users"], ["anna", "int:7"]).digests == tuple(
        sorted([digest_of("users", "anna"), digest_of("users", 7)])
    )
    assert part_of(["users"], ["anna"]).sets == ()  # the set is the key's
    assert part_of(None, ["anna"]).digests == (digest_of(None, "anna"),)
    assert part_of(keys_file=str(listed)).digests == tuple(sorted(in_file))
    whole = part_of(
        ["a", "", "a"], None, ["ab" * 20], "", ["9", "4-6", "5"], ["n > 1", "n > 1", "b exists"], "price, stock,price"
    )
    assert (whole.sets, whole.partitions, whole.bins) == (("a", ""), (4, 5, 6, 9), ("price", "stock"))
    assert [str(one) for one in whole.where] == ["n > 1", "b exists"]
    assert whole.told == (
        "set a or the null set; one record by name; partitions 4-6, 9; where n > 1 and b exists; "
        "of each only the bins price, stock"
    )


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    listed = tmp_path / "keys"
    listed.write_bytes(b"\xef\xbb\xbforders\t1\r\norders\t2\r\n")
    assert part_of(keys_file=str(listed)).digests == tuple(sorted(digest_of("orders", i) for i in (1, 2)))
    listed.write_bytes(b"\xef\xbb\xbf" + b"ab" * 20)
    assert part_of(keys_file=str(listed)).digests == (b"\xab" * 20,)


def test_keys_are_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"s\t1\n")))
    assert part_of(keys_file="-").digests == (digest_of("s", 1),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sets": ["x" * 64]}, "--set"), ({"sets": ["a:b"]}, "--set"),
        ({"sets": ["a", "b"], "keys": ["1"]}, "whose key"), ({"keys": ["hex:0"]}, "hexadecimal"),
        ({"digests": ["ab"]}, "not a digest"), ({"partitions": ["4096"]}, "0 to 4095"),
        ({"partitions": ["5-4"]}, "--partition 5-4"), ({"partitions": ["-1"]}, "--partition -1"),
        ({"where": ["n = 1"]}, "write =="), ({"bins": "a,,b"}, "--bins"), ({"bins": "a" * 16}, "15 bytes"),
        ({"keys_file": "/nowhere/keys"}, "cannot be read"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        part_of(**given)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"s\t1\n\nnonsense\n", "line 3: 'nonsense' is not a digest"),
        (b"s\thex:1\n", "line 1:"),
        (b"s\t1\ns\t\xff\n", "line 2 is not UTF-8"),
        (b"x\n" * 9, "and 6 more"),
        (b" \n", "names no record"),
    ],
)
def test_a_file_with_a_line_that_is_wrong_is_refused_whole(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        part_of(keys_file=str(path))
    assert said in caught.value.message
    assert str(path) in caught.value.message
