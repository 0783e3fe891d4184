"""A look at a namespace's metadata: one request to each node, the content of UDFs that are new, and, where this product
logs in, roles and users."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import aerospike
from aerospike import exception as refusals

from cdc.errors import ClusterUnreachable, ProtocolError, SourceError
from cdc.model import Item, ItemKind
from cdc.source import metadata
from cdc.source.facts import holding
from cdc.source.metadata import Described
from cdc.wire.cluster import Cluster, Node, translated

Items = tuple[Item, ...]


def describe(cluster: Cluster, namespace: str, known: Mapping[str, Item]) -> Described:
    """What the nodes say now. `known` are the UDFs that were told already, by name: one whose hash has not changed is
    not fetched again. What cannot be read is in `failed`, kind by kind; ClusterUnreachable when no node answers.

    Indexes and UDFs every node has, so that one that answers is enough. A set, a truncation and a node's settings may
    be known to one node alone: while any does not answer, nothing is known of these.
    """
    indexes = f"sindex-list:namespace={namespace};b64=true"
    configured = f"get-config:context=namespace;namespace={namespace}"
    space, in_sets, modules = f"namespace/{namespace}", f"sets/{namespace}", "udf-list"
    answers = cluster.ask_all(indexes, configured, space, in_sets, modules)
    said: dict[str, Mapping[str, str]] = {
        node.name: _text(one) for node, one in answers.items() if not isinstance(one, ClusterUnreachable)
    }
    silent = [one for one in answers.values() if isinstance(one, ClusterUnreachable)]
    if not said:
        raise silent[0]
    said = holding(said, namespace)
    disputed: set[str] = set()

    def agreed(parse: Callable[[Mapping[str, str]], list[Item]], *, everywhere: bool = False) -> Items:
        items, different = metadata.merged({node: parse(one) for node, one in said.items()}, everywhere=everywhere)
        disputed.update(different)
        return items

    def of_all(read: Callable[[], Items]) -> Callable[[], Items]:
        def reading() -> Items:
            if silent:
                raise silent[0]
            return read()

        return reading

    def udfs() -> Items:
        found = agreed(lambda one: metadata.udfs(one[modules]), everywhere=True)
        holders = [node for node in answers if node.name in said]
        return tuple(_with_content(cluster, holders, one, known.get(one.name)) for one in found)

    kinds: dict[ItemKind, Callable[[], Items]] = {
        ItemKind.INDEX: lambda: agreed(lambda one: metadata.indexes(one[indexes], namespace), everywhere=True),
        ItemKind.UDF: udfs,
        ItemKind.SET: of_all(lambda: agreed(lambda one: metadata.sets(one[in_sets]))),
        # What nodes set for themselves, such as their rack, differs as it should: that is no dispute.
        ItemKind.NAMESPACE: of_all(
            lambda: metadata.merged(
                {node: metadata.settings(one[configured], namespace) for node, one in said.items()}
            )[0]
        ),
        ItemKind.TRUNCATION: of_all(
            lambda: metadata.latest(
                [metadata.truncations(one[space], one[in_sets], namespace) for one in said.values()]
            )
        ),
    }
    if cluster.settings.user:
        kinds |= {ItemKind.ROLE: lambda: _roles(cluster), ItemKind.USER: lambda: _users(cluster)}
    items: dict[ItemKind, Items] = {}
    failed: dict[ItemKind, SourceError] = {}
    for kind, read in kinds.items():
        try:
            items[kind] = read()
        except SourceError as error:
            failed[kind] = error
    return Described(items, failed, frozenset(disputed))


def _text(answers: Mapping[str, str]) -> dict[str, str]:
    """Names need not be UTF-8, but what is told of them is: other bytes are shown as `\\xff`."""
    return {
        command: answer.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        for command, answer in answers.items()
    }


def _with_content(cluster: Cluster, holders: list[Node], module: Item, known: Item | None) -> Item:
    """The content comes from the first node that has the module: one that has just joined may not."""
    if known is not None and known.facts == module.facts:
        return replace(module, content=known.content)
    command = f"udf-get:filename={module.name}"
    reasons: list[SourceError] = []
    for node in holders:
        try:
            return replace(module, content=metadata.udf_content(cluster.ask(node, command)[command]))
        except (ClusterUnreachable, ProtocolError) as error:
            reasons.append(error)
    raise reasons[0]


def _users(cluster: Cluster) -> Items:
    try:
        found = metadata.users(cluster.client.admin_query_users_info())
    except (refusals.SecurityNotSupported, refusals.SecurityNotEnabled):
        return ()
    except refusals.AerospikeError as error:
        raise translated(error, "users cannot be asked for") from error
    return tuple(sorted(found, key=lambda item: item.name))


def _roles(cluster: Cluster) -> Items:
    try:
        found = metadata.roles(cluster.client.admin_get_roles(), _privileges())
    except (refusals.SecurityNotSupported, refusals.SecurityNotEnabled):
        return ()
    except refusals.AerospikeError as error:
        raise translated(error, "roles cannot be asked for") from error
    return tuple(sorted(found, key=lambda item: item.name))


@cache
def _privileges() -> dict[int, str]:
    """The official client's codes, in the words of the server's `security.h`: PRIV_READ_WRITE is `read-write`."""
    prefix = "PRIV_"
    return {
        int(getattr(aerospike, name)): name.removeprefix(prefix).lower().replace("_", "-")
        for name in dir(aerospike)
        if name.startswith(prefix)
    }
