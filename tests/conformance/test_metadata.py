"""Metadata as the collector sees it: enough to make everything again."""

import base64
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aerospike import exception
from aerospike_helpers import cdt_ctx
from aerospike_helpers import expressions as exp

from cdc.clock import parse_rfc3339, wall_clock
from cdc.model import Item, ItemKind
from cdc.source import describe
from cdc.wire import Cluster

Ask = Callable[[str], str]
MODULE = b"function one(record)\n  return 1\nend\n"


def found(cluster: Cluster, namespace: str, kind: ItemKind) -> dict[str, Item]:
    described = describe(cluster, namespace, {})
    assert not described.failed
    return {item.name: item for item in described.items[kind]}


def definitions(client: Any, set_name: str) -> dict[str, str]:
    """An index of every kind: name to the parameters that make it."""
    over = ("default", "list", "mapkeys", "mapvalues")
    made = [
        f"set={set_name};bin=b;type={kind};indextype={collection}"
        for kind in ("numeric", "string", "blob", "geo2dsphere")
        for collection in over
        if (kind, collection) != ("geo2dsphere", "mapkeys")  # the server has none
    ]
    contexts = (
        [cdt_ctx.cdt_ctx_map_key("a;b:c=d")],
        [cdt_ctx.cdt_ctx_list_index(0), cdt_ctx.cdt_ctx_map_value(5)],
        [cdt_ctx.cdt_ctx_map_key(bytearray(b"\x00\xff"))],
    )
    made += [f"set={set_name};bin=b;type=numeric;context={client.get_cdtctx_base64(ctx)}" for ctx in contexts]
    adult = exp.Cond(exp.GE(exp.IntBin("age"), 18), exp.IntBin("age"), exp.Unknown())
    made.append(f"set={set_name};type=numeric;exp={client.get_expression_base64(adult.compile())}")
    strange = exp.StrBin("a:b;exp=c").compile()
    made.append(f"set={set_name};type=string;exp={client.get_expression_base64(strange)}")
    made.append(f"type=blob;indextype=list;exp={client.get_expression_base64(exp.ListBin('l').compile())}")
    made += ["bin=b;type=numeric", "bin=null;type=string", f"set={set_name};bin=my:bin=x;type=string"]
    made.append(f"set={set_name};indextype=set")
    return {f"cdct-m{i}": parameters for i, parameters in enumerate(made)}


@pytest.fixture
def elsewhere(info: Ask, namespace: str) -> str:
    """Another namespace, where there is one."""
    return next((name for name in info("namespaces").split(";") if name != namespace), namespace)


@pytest.fixture
def indexes(client: Any, info: Ask, namespace: str, elsewhere: str, set_name: str) -> Iterator[dict[str, str]]:
    made = definitions(client, set_name)
    for name, parameters in made.items():
        assert info(f"sindex-create:namespace={namespace};indexname={name};{parameters}").lower() == "ok", parameters
    yield made
    for name in made:
        for where in (namespace, elsewhere):
            info(f"sindex-delete:namespace={where};indexname={name}")


def test_every_kind_of_index_is_made_again_from_what_is_known_of_it(
    cluster: Cluster,
    info: Ask,
    namespace: str,
    elsewhere: str,
    indexes: dict[str, str],
    until: Callable[..., Any],
) -> None:
    def mine(where: str) -> dict[str, Item]:
        return {name: item for name, item in found(cluster, where, ItemKind.INDEX).items() if name in indexes}

    before = until(lambda: len(seen := mine(namespace)) == len(indexes) and seen)
    for name in indexes:
        assert info(f"sindex-delete:namespace={namespace};indexname={name}").lower() == "ok"
    until(lambda: not mine(namespace))
    for name, item in before.items():
        parameters = ";".join(f"{key}={value}" for key, value in item.facts.items())
        assert info(f"sindex-create:namespace={elsewhere};indexname={name};{parameters}").lower() == "ok"
    assert until(lambda: len(seen := mine(elsewhere)) == len(indexes) and seen) == before
    assert [item.facts for item in before.values() if item.facts.get("bin") == "null"] == [
        {"bin": "null", "type": "string", "indextype": "default"}
    ]


def test_an_index_defined_like_another_takes_its_place_and_a_name_stands_for_one_definition(
    cluster: Cluster, client: Any, info: Ask, namespace: str, set_name: str, until: Callable[..., Any]
) -> None:
    def made(name: str, over: str) -> str:
        return info(f"sindex-create:namespace={namespace};set={set_name};indexname={name};bin={over};type=numeric")

    def mine() -> set[str]:
        return {name for name in found(cluster, namespace, ItemKind.INDEX) if name.startswith("cdct-r")}

    assert made("cdct-r1", "b").lower() == "ok"
    assert made("cdct-r2", "b").lower() == "ok"
    until(lambda: mine() == {"cdct-r2"})
    with pytest.raises(exception.AerospikeError) as refused:
        made("cdct-r2", "c")
    assert refused.value.code == 200
    assert info(f"sindex-delete:namespace={namespace};indexname=cdct-r2").lower() == "ok"
    until(lambda: not mine())


def test_a_module_is_known_with_its_source_and_fetched_once(
    cluster: Cluster, client: Any, namespace: str, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = base64.b64encode(MODULE).decode()
    name = f"cdct{time.time_ns()}.lua"
    client.info_random_node(f"udf-put:filename={name};content={content};content-len={len(content)};udf-type=LUA;")
    module = until(lambda: found(cluster, namespace, ItemKind.UDF).get(name))
    assert (module.content, module.facts["type"]) == (MODULE, "LUA")
    asked: list[str] = []
    ask = cluster.ask
    monkeypatch.setattr(cluster, "ask", lambda node, *commands: asked.extend(commands) or ask(node, *commands))
    known = {item.name: item for item in describe(cluster, namespace, {name: module}).items[ItemKind.UDF]}
    assert known[name] == module
    assert "udf-list" in asked
    assert f"udf-get:filename={name}" not in asked
    client.info_random_node(f"udf-remove:filename={name};")
    until(lambda: name not in found(cluster, namespace, ItemKind.UDF))


def test_a_set_is_known_with_its_settings(
    cluster: Cluster, client: Any, info: Ask, namespace: str, set_name: str, until: Callable[..., Any]
) -> None:
    client.put((namespace, set_name, 1), {"a": 1})
    item = until(lambda: found(cluster, namespace, ItemKind.SET).get(set_name))
    assert item.facts["enable-index"] == "false"
    assert not item.facts.keys() & {"objects", "truncate_lut", "data_used_bytes", "sindexes"}
    change = f"sindex-create:namespace={namespace};set={set_name};indexname=cdct-s;indextype=set"
    assert info(change).lower() == "ok"
    until(lambda: found(cluster, namespace, ItemKind.SET)[set_name].facts["enable-index"] == "true")
    assert info(f"sindex-delete:namespace={namespace};indexname=cdct-s").lower() == "ok"
    until(lambda: found(cluster, namespace, ItemKind.SET)[set_name] == item)


def test_a_namespaces_settings_are_known_and_stand_still(cluster: Cluster, client: Any, namespace: str) -> None:
    before = found(cluster, namespace, ItemKind.NAMESPACE)
    assert before.keys() == {namespace}
    assert before[namespace].facts["replication-factor"].isdigit()
    client.put((namespace, "cdct-n", 1), {"a": 1})
    client.remove((namespace, "cdct-n", 1))
    assert found(cluster, namespace, ItemKind.NAMESPACE) == before


def test_a_truncation_is_known_with_its_moment(
    cluster: Cluster, client: Any, info: Ask, namespace: str, set_name: str, until: Callable[..., Any]
) -> None:
    client.put((namespace, set_name, 1), {"a": 1})
    earlier = found(cluster, namespace, ItemKind.TRUNCATION).get(set_name)
    before = wall_clock()
    assert info(f"truncate:namespace={namespace};set={set_name}").lower() == "ok"
    item = until(
        lambda: (now := found(cluster, namespace, ItemKind.TRUNCATION).get(set_name)) != earlier and now
    )  # fmt: skip
    assert before - 50 <= parse_rfc3339(item.facts["truncated_at"]) <= wall_clock() + 50
    assert item.facts["truncate_lut"].isdigit()
