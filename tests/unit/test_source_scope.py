"""Scopes: what is in, how it is asked for, and that equal scopes read the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.archive import Epoch
from cdc.config import ScopeSettings
from cdc.source import Scope, expressions
from cdc.source.scope import MOST_QUERIES, Part, set_indexes

FILTER = b"\x93\x05\x01\x02"
NAMES = st.lists(st.sampled_from(["", "a", "b", "c", 'a", "b', "sets"]), max_size=4).map(tuple)


@st.composite
def scopes(draw: st.DrawFn) -> Scope:
    include, exclude = draw(NAMES), draw(NAMES)
    return Scope(include, tuple(n for n in exclude if n not in include), draw(st.sampled_from([b"", FILTER, b"\x91"])))


@given(scopes(), scopes())
def test_scopes_read_the_same_exactly_when_they_hold_the_same(one: Scope, other: Scope) -> None:
    every = ("", "a", "b", "c", 'a", "b', "sets", "another")
    same = one.sets(every) == other.sets(every) and one.filter == other.filter
    assert (one.text() == other.text()) == same


@given(scopes())
def test_nothing_is_said_of_everything_and_something_of_all_else(scope: Scope) -> None:
    assert (scope.text() == "") == scope.everything
    assert (scope.expression() is None) == scope.everything
    assert scope.counted == (not scope.filter)
    assert Epoch(1, 0, 0, scope=scope.text()).filtered == bool(scope.filter)


def test_a_set_both_included_and_excluded_is_no_scope() -> None:
    with pytest.raises(ValueError, match="both"):
        Scope(include=("a", "b"), exclude=("b",))


def test_a_scope_is_what_the_settings_say() -> None:
    assert Scope.of(None).everything
    said = ScopeSettings(include=("a", ""), filter="kwUBAg==")
    assert Scope.of(said) == Scope(("a", ""), (), FILTER)


def test_the_cheap_part_of_an_expression_stands_first() -> None:
    assert Scope(exclude=("a",), filter=FILTER).expression() == b"\x93\x10" + expressions.not_in_sets(["a"]) + FILTER


def test_one_included_set_is_named_to_servers_that_know_it() -> None:
    one = Scope(include=("a",), filter=FILTER)
    assert one.parts({}) == (Part(None, one.expression()),)
    assert one.parts({"a": False}) == (Part("a", FILTER),)
    assert Scope(include=("",)).parts({"a": True}) == (Part(None, expressions.in_sets([""])),)


def test_several_sets_are_asked_for_one_by_one_where_each_has_an_index() -> None:
    two = Scope(include=("a", "b"))
    assert two.parts({"a": True, "b": True, "c": False}) == (Part("a", None), Part("b", None))
    whole = (Part(None, two.expression()),)
    assert two.parts({"a": True, "b": False}) == whole
    assert two.parts({"a": True}) == whole
    many = Scope(include=tuple(f"s{i}" for i in range(MOST_QUERIES + 1)))
    assert many.parts(dict.fromkeys(many.include, True)) == (Part(None, many.expression()),)


def test_without_included_sets_there_is_one_query() -> None:
    assert Scope().parts({"a": True}) == (Part(None, None),)
    but = Scope(exclude=("a",))
    assert but.parts({"a": True, "b": True}) == (Part(None, but.expression()),)


def line(name: str, enabled: str = "true", populating: str = "false") -> str:
    return f"ns=test:set={name}:objects=0:index_populating={populating}:enable-index={enabled};"


def test_a_set_index_counts_when_every_node_has_it_and_has_filled_it() -> None:
    one, other = line("a") + line("b") + line("c"), line("a") + line("b", "false")
    assert set_indexes({"n1": one, "n2": other}) == {"a": True, "b": False}
    assert set_indexes({"n1": line("a", populating="true")}) == {"a": False}
    assert set_indexes({"n1": one, "n2": ""}) == {}
    assert set_indexes({}) == {}
