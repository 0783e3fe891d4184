"""Metadata in a target: made as it was where it is missing, else left alone, by an emulator and by real servers."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cdc.archive.items import Known, MetadataState, Told
from cdc.config import AerospikeSettings
from cdc.embedded.aerospike import Emulator
from cdc.model import Item, ItemKind
from cdc.replayer.metadata import restore
from cdc.replayer.metadata_plan import MetadataReport, metadata_plan
from cdc.source import describe
from cdc.wire import Cluster
from tests.conformance.test_metadata import definitions

Ask = Callable[[str], str]
MODULE = b"function one(record)\n  return 1\nend\n"
OTHER = "restore"


def known(item: Item, *, exact: bool = True) -> Known:
    return Known(Told(item, False, 1, 0), exact)


def state(*items: Item) -> MetadataState:
    return MetadataState(5, 5, tuple(sorted(map(known, items), key=lambda one: one.told.key)))


def of(cluster: Cluster, namespace: str, kind: ItemKind) -> dict[str, Item]:
    found = describe(cluster, namespace, {})
    assert not found.failed
    return {item.name: item for item in found.items[kind] if item.name.startswith("cdct-")}


def restored(cluster: Cluster, *items: Item, **given: Any) -> MetadataReport:
    return restore(metadata_plan(state(*items)), cluster, OTHER, **given)


def outcomes(report: MetadataReport) -> dict[str, str]:
    return {one.name: one.outcome for one in report.done}


@pytest.fixture(autouse=True)
def cleaned(info: Ask, cluster: Cluster, namespace: str) -> Iterator[None]:
    yield
    for where in {namespace, OTHER}:
        for name in of(cluster, where, ItemKind.INDEX):
            info(f"sindex-delete:namespace={where};indexname={name}")
    for name in of(cluster, namespace, ItemKind.UDF):
        info(f"udf-remove:filename={name};")


def test_an_index_of_every_kind_comes_back_with_the_same_definition_and_can_be_read(
    cluster: Cluster, client: Any, info: Ask, namespace: str, set_name: str, until: Callable[..., Any]
) -> None:
    made = definitions(client, set_name)
    for name, parameters in made.items():
        assert info(f"sindex-create:namespace={namespace};indexname={name};{parameters}").lower() == "ok", parameters
    before = until(lambda: len(seen := of(cluster, namespace, ItemKind.INDEX)) == len(made) and seen)
    assert {item.facts.get("indextype") for item in before.values()} >= {
        "default",
        "list",
        "mapkeys",
        "mapvalues",
        "set",
    }
    assert {item.facts.get("type") for item in before.values()} >= {"numeric", "string", "blob", "geo2dsphere"}
    assert any("context" in item.facts for item in before.values())
    assert any("exp" in item.facts for item in before.values())
    report = restored(cluster, *before.values())
    assert set(outcomes(report).values()) == {"made"}, report.to_text()
    assert report.whole
    assert of(cluster, OTHER, ItemKind.INDEX) == before
    again = restored(cluster, *before.values())
    assert set(outcomes(again).values()) == {"left"}
    assert of(cluster, OTHER, ItemKind.INDEX) == before


def test_a_module_comes_back_byte_for_byte_and_one_that_is_another_is_left(
    cluster: Cluster, info: Ask, namespace: str, until: Callable[..., Any]
) -> None:
    content = base64.b64encode(MODULE).decode()
    info(f"udf-put:filename=cdct-m.lua;content={content};content-len={len(content)};udf-type=LUA;")
    module = until(lambda: of(cluster, namespace, ItemKind.UDF).get("cdct-m.lua"))
    info("udf-remove:filename=cdct-m.lua;")
    until(lambda: not of(cluster, namespace, ItemKind.UDF))
    assert outcomes(restored(cluster, module)) == {"cdct-m.lua": "made"}
    assert of(cluster, namespace, ItemKind.UDF) == {"cdct-m.lua": module}
    assert outcomes(restored(cluster, module)) == {"cdct-m.lua": "left"}
    other = base64.b64encode(MODULE.replace(b"1", b"2")).decode()
    info(f"udf-put:filename=cdct-m.lua;content={other};content-len={len(other)};udf-type=LUA;")
    until(lambda: of(cluster, namespace, ItemKind.UDF)["cdct-m.lua"] != module)
    report = restored(cluster, module)
    assert outcomes(report) == {"cdct-m.lua": "conflict"}
    assert not report.whole
    assert of(cluster, namespace, ItemKind.UDF)["cdct-m.lua"].content == base64.b64decode(other)


def test_what_has_the_name_or_the_definition_already_is_left_and_told(
    cluster: Cluster, info: Ask, set_name: str, until: Callable[..., Any]
) -> None:
    over = f"sindex-create:namespace={OTHER};set={set_name}"
    assert info(f"{over};indexname=cdct-one;bin=b;type=numeric").lower() == "ok"
    assert info(f"{over};indexname=cdct-two;bin=c;type=numeric").lower() == "ok"
    before = until(lambda: len(seen := of(cluster, OTHER, ItemKind.INDEX)) == 2 and seen)
    one, two = before["cdct-one"].facts, before["cdct-two"].facts
    same_name = Item(ItemKind.INDEX, "cdct-one", {**one, "type": "string"})
    same_definition = Item(ItemKind.INDEX, "cdct-three", two)
    report = restored(cluster, same_name, same_definition)
    assert outcomes(report) == {"cdct-one": "conflict", "cdct-three": "left"}
    assert "type=numeric" in report.of("conflict")[0].detail
    assert report.of("left")[0].detail == "it is there under the name cdct-two"
    assert of(cluster, OTHER, ItemKind.INDEX) == before


def test_what_cannot_be_made_is_named_with_the_servers_words_and_the_rest_is_made(
    cluster: Cluster, set_name: str
) -> None:
    good = Item(ItemKind.INDEX, "cdct-good", {"set": set_name, "bin": "b", "type": "numeric", "indextype": "default"})
    unheard = Item(ItemKind.INDEX, "cdct-new", {"set": set_name, "bin": "b", "type": "vector", "indextype": "default"})
    unsaid = Item(ItemKind.INDEX, "cdct-x;y", {"bin": "b", "type": "numeric"})
    torn = Item(ItemKind.INDEX, "cdct-torn", {"bin": "b", "type@A": "numeric", "type@B": "string"})
    report = restored(cluster, unheard, unsaid, good, torn)
    assert outcomes(report) == {
        "cdct-good": "made", "cdct-new": "refused", "cdct-x;y": "refused", "cdct-torn": "refused",
    }  # fmt: skip
    details = {one.name: one.detail for one in report.of("refused")}
    assert "a node answers" in details["cdct-new"]
    assert "no command can say" in details["cdct-x;y"]
    assert "did not agree" in details["cdct-torn"]
    assert list(of(cluster, OTHER, ItemKind.INDEX)) == ["cdct-good"]


def test_a_set_that_is_indexed_by_its_settings_alone_is_so_again(
    cluster: Cluster, client: Any, info: Ask, namespace: str, set_name: str, until: Callable[..., Any]
) -> None:
    client.put((namespace, set_name, 1), {"a": 1})
    said = "set-config:context=namespace;namespace={};set={};enable-index={}"
    assert info(said.format(namespace, set_name, "true")).lower() == "ok"
    try:
        found = until(
            lambda: (one := of(cluster, namespace, ItemKind.SET)[set_name]).facts["enable-index"] == "true" and one
        )
        assert outcomes(restored(cluster, found)) == {set_name: "made"}
        assert of(cluster, OTHER, ItemKind.SET)[set_name].facts["enable-index"] == "true"
        assert outcomes(restored(cluster, found)) == {set_name: "left"}
    finally:
        for where in (namespace, OTHER):
            info(said.format(where, set_name, "false"))


def test_settings_users_and_what_may_have_been_there_are_told_and_not_made(cluster: Cluster, set_name: str) -> None:
    user, role = Item(ItemKind.USER, "eva", {"roles": "read"}), Item(ItemKind.ROLE, "r", {"privileges": "read.test"})
    space = Item(ItemKind.NAMESPACE, "test", {"default-ttl": "0"})
    plain = Item(ItemKind.SET, set_name, {"enable-index": "false", "default-ttl": "7"})
    doubtful = Told(Item(ItemKind.INDEX, "cdct-d", {"bin": "b", "type": "numeric"}), False, 9, 2)
    found = metadata_plan(MetadataState(5, 4, tuple(map(known, (user, role, space, plain))), (doubtful,)))
    assert found.wanted == ()
    assert {one.name for one in found.others} == {"eva", "r", "test", set_name, "cdct-d"}
    report = restore(found, cluster, OTHER)
    assert report.done == ()
    assert report.whole
    text = report.to_text()
    assert "not restored: user eva: roles=read" in text
    assert "not restored: index cdct-d: it may have been there" in text
    assert {one["name"]: one["facts"] for one in report.to_dict()["not_restored"]}["test"] == {"default-ttl": "0"}


def test_for_a_part_only_indexes_of_its_sets_and_of_all_sets_are_made() -> None:
    items = [
        Item(ItemKind.INDEX, "a", {"set": "one", "bin": "b"}), Item(ItemKind.INDEX, "b", {"set": "two", "bin": "b"}),
        Item(ItemKind.INDEX, "c", {"bin": "b"}), Item(ItemKind.UDF, "m", {}, b"x"),
    ]  # fmt: skip
    found = metadata_plan(state(*items), ["one"])
    assert [one.told.item.name for one in found.wanted] == ["m", "a", "c"]
    assert [(one.name, one.detail) for one in found.others] == [("b", "its set two is not restored")]
    assert len(metadata_plan(state(*items)).wanted) == 4
    assert "before the records makes module m, index a, index c, where it is missing" in found.to_text("before")[0]


def test_all_nodes_of_a_cluster_have_what_was_made() -> None:
    made = Item(ItemKind.INDEX, "cdct-i", {"set": "s", "bin": "b", "type": "numeric", "indextype": "default"})
    by_setting = Item(ItemKind.SET, "cdct-s", {"enable-index": "true"})
    with (
        Emulator(nodes=2, namespaces=("test", OTHER)) as emulator,
        Cluster(AerospikeSettings(hosts=tuple(emulator.hosts))) as both,
    ):
        report = restored(both, made, by_setting)
        assert outcomes(report) == {"cdct-i": "made", "cdct-s": "made"}, report.to_text()
        found = describe(both, OTHER, {})
        assert not found.disputed
        assert found.items[ItemKind.INDEX] == (made,)
        assert found.items[ItemKind.SET][0].facts["enable-index"] == "true"
