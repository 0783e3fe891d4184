"""Answers about metadata, parsed: the answers kept here are a real server's (8.1.2), and whatever else comes is a
SourceError."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.errors import ProtocolError, SourceError
from cdc.model import Item, ItemKind
from cdc.source import metadata

ANSWERS: dict[str, str] = json.loads(Path(__file__).with_name("metadata_answers.json").read_text())
LISTED = ANSWERS["sindex-list:namespace=test;b64=true"]
WORDS = st.text("test:;=,0159AZ\n x", max_size=60)


@settings(max_examples=60)
@given(WORDS)
def test_any_words_are_metadata_or_a_source_error(text: str) -> None:
    for parse in (
        lambda: metadata.sets("ns=test:set=a:objects=1:" + text),
        lambda: metadata.sets(text),
        lambda: metadata.truncations("objects=1;truncate_lut=" + text, text, "test"),
        lambda: metadata.truncations(
            "objects=1;truncate_lut=0", "ns=test:set=a:objects=1:truncate_lut=" + text, "test"
        ),
        lambda: metadata.settings(text, "test"),
        lambda: metadata.indexes("ns=test:" + text, "test"),
        lambda: metadata.indexes(text, "test"),
        lambda: metadata.udfs("filename=" + text),
        lambda: metadata.udf_content("content=" + text),
    ):
        with contextlib.suppress(SourceError):
            assert parse() is not None


def indexes() -> dict[str, dict[str, str]]:
    return {item.name: dict(item.facts) for item in metadata.indexes(LISTED, "test")}


def test_every_index_of_a_server_is_told_by_what_makes_it_again() -> None:
    found = indexes()
    assert len(found) == len([line for line in LISTED.split(";ns=") if line])
    plain = {(facts["type"], facts["indextype"]) for facts in found.values() if "bin" in facts}
    assert plain == {
        *((k, over) for k in ("numeric", "string", "blob") for over in ("default", "list", "mapkeys", "mapvalues")),
        *(("geo2dsphere", over) for over in ("default", "list", "mapvalues")),
    }  # fmt: skip
    assert found["one-1"] == {"set": "one", "bin": "b", "type": "numeric", "indextype": "default"}
    assert found["one-17"] == {"bin": "b", "type": "numeric", "indextype": "default"}
    assert found["one-19"] == {
        "set": "one", "bin": "b", "type": "numeric", "indextype": "list", "context": "kiKoA2E7YjpjPWQ=",
    }  # fmt: skip
    assert found["one-22"] == {
        "set": "one", "type": "numeric", "indextype": "default", "exp": "lHuTBJNRAqNhZ2USk1ECo2FnZZEA",
    }  # fmt: skip
    assert found["one-25"] == {"set": "one", "indextype": "set"}


def test_names_that_hold_what_divides_an_answer_are_whole() -> None:
    assert indexes()["one:c"]["bin"] == "a:b=c"
    assert {item.name for item in metadata.sets(ANSWERS["sets/test"])} == {
        "one", "one x,y", "one-none", "a:b", "x;y", "p=q", "null",
    }  # fmt: skip
    assert [item.name for item in metadata.udfs(ANSWERS["udf-list"])] == ["one.lua", "two,hash=1.lua"]


def test_a_bin_named_null_is_not_taken_for_none() -> None:
    line = "ns=test:indexname=i:set=null:bin=null:type=string:indextype=default:context=null:exp=null:state=RW"
    assert metadata.indexes(line, "test") == [
        Item(ItemKind.INDEX, "i", {"bin": "null", "type": "string", "indextype": "default"})
    ]


def test_an_older_servers_index_has_no_expression_and_one_in_building_is_the_same() -> None:
    line = "ns=test:indexname=i:set=s:bin=b:type=string:indextype=default:context=null"
    [item] = metadata.indexes(line + ":state=WO;ns=other:" + "indexname=j:set=NULL:bin=b:type=string:indextype=list:"
                              "context=null:state=RW", "test")  # fmt: skip
    assert item == metadata.indexes(line + ":exp=null:state=RW", "test")[0]


def test_two_indexes_of_one_name_are_both_told() -> None:
    line = "ns=t:indexname=i:set=s:bin={}:type=string:indextype=default:context=null:exp=null:state=RW"
    found = metadata.indexes(f"{line.format('a')};{line.format('b')}", "t")
    assert [(item.name, item.facts["bin"]) for item in found] == [("i", "a"), ("i (2)", "b")]


def test_without_base_64_an_answer_that_cannot_be_taken_apart_is_refused() -> None:
    assert "[map_key(<string#7>)]" in ANSWERS["sindex-list"]
    with pytest.raises(ProtocolError, match="na:me"):
        metadata.indexes(ANSWERS["sindex-list"], "test")


def test_a_module_has_its_hash_and_its_source() -> None:
    one = metadata.udfs(ANSWERS["udf-list"])[0]
    assert one.facts.keys() == {"hash", "type"}
    assert metadata.udf_content(ANSWERS["udf-get:filename=one.lua"]) == b"function one(record)\n  return 1\nend\n"
    with pytest.raises(ProtocolError):
        metadata.udf_content("type=LUA;content=a;")


def test_a_set_has_its_settings_and_nothing_that_changes_by_itself() -> None:
    found = {item.name: item.facts for item in metadata.sets(ANSWERS["sets/test"])}
    assert found["one"] == {
        "default-read-touch-ttl-pct": "0", "default-ttl": "0", "disable-eviction": "false", "enable-index": "true",
        "stop-writes-count": "0", "stop-writes-size": "0",
    }  # fmt: skip


def test_a_namespace_has_its_settings_without_where_its_keys_lie() -> None:
    [item] = metadata.settings(ANSWERS["get-config:context=namespace;namespace=test"], "test")
    assert (item.kind, item.name) == (ItemKind.NAMESPACE, "test")
    assert item.facts["replication-factor"] == "1"
    assert item.facts["storage-engine.stripe[0]"] == "stripe-0"
    assert [key for key in item.facts if "key" in key] == []


def test_a_truncation_is_told_in_the_servers_time_and_in_ours() -> None:
    found = metadata.truncations(ANSWERS["namespace/test"], ANSWERS["sets/test"], "test")
    [item] = found
    assert item.name == "one"
    assert item.facts["truncated_at"].startswith("2026-")
    whole = metadata.truncations("objects=0;truncate_lut=1", "", "test")
    assert whole == [Item(ItemKind.TRUNCATION, "", {"truncate_lut": "1", "truncated_at": "2010-01-01T00:00:00.001Z"})]
    later = Item(ItemKind.TRUNCATION, "one", {"truncate_lut": "999999999999"})
    assert metadata.latest([found, [later], whole]) == (whole[0], later)


def test_users_have_roles_and_never_a_password() -> None:
    found = {"eva": {"roles": ["write", "read"], "conns_in_use": 3, "read_info": [1, 2]}, "tom": {"roles": []}}
    assert metadata.users(found) == [
        Item(ItemKind.USER, "eva", {"roles": "read,write"}),
        Item(ItemKind.USER, "tom", {"roles": ""}),
    ]


def test_roles_have_privileges_with_their_scope_whitelist_and_quotas() -> None:
    found = {
        "sets": {
            "privileges": [{"code": 13, "ns": "test", "set": "s"}, {"code": 10, "ns": "", "set": ""}, {"code": 77}],
            "whitelist": ["10.0.0.1", "10.0.0.2"], "read_quota": 5, "write_quota": 0,
        },
        "none": {},
    }  # fmt: skip
    assert metadata.roles(found, {10: "read", 13: "write"}) == [
        Item(ItemKind.ROLE, "sets",
             {"privileges": "77,read,write.test.s", "whitelist": "10.0.0.1,10.0.0.2", "read_quota": "5"}),
        Item(ItemKind.ROLE, "none", {}),
    ]  # fmt: skip


def said(**facts: str) -> Item:
    return Item(ItemKind.SET, "s", facts)


def test_what_nodes_agree_on_is_told_plainly_and_what_they_do_not_by_node() -> None:
    items, disputed = metadata.merged({"A": [said(ttl="1", size="2")], "B": [said(ttl="1", size="3")]})
    assert items == (said(**{"ttl": "1", "size@A": "2", "size@B": "3"}),)
    assert disputed == {"SET s is not the same at nodes A, B"}
    assert metadata.merged({"A": [said(a="1")], "B": [said(a="1")]}) == ((said(a="1"),), frozenset())


def test_a_set_may_be_known_to_some_nodes_only_but_an_index_should_not() -> None:
    assert metadata.merged({"A": [said(a="1")], "B": []}) == ((said(a="1"),), frozenset())
    _, disputed = metadata.merged({"A": [said(a="1")], "B": []}, everywhere=True)
    assert disputed == {"SET s is not known to node B"}


@pytest.mark.parametrize("answer", ["ERROR:20:namespace not found on node", "error=not_found", "ns_type=unknown"])
def test_a_nodes_refusal_is_an_error_and_not_an_empty_list(answer: str) -> None:
    for parse in (metadata.sets, metadata.udfs):
        with pytest.raises(ProtocolError):
            parse(answer)
    with pytest.raises(ProtocolError):
        metadata.indexes(answer, "test")
    with pytest.raises(ProtocolError):
        metadata.settings(answer, "test")
