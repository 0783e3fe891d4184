"""Indexes, UDFs, sets, settings, roles and users as items, from nodes' answers. Pure; ProtocolError for what cannot be
read.

Names may hold nearly any character, those included that an answer is divided by: lines are taken apart from the side on
which every value is a word of the server's own.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cdc.clock import rfc3339
from cdc.errors import ProtocolError, SourceError
from cdc.model import Item, ItemKind
from cdc.source.facts import EPOCH_MS, namespace_facts, number, pairs, set_lines


@dataclass(frozen=True, slots=True)
class Described:
    """What a look at the metadata brought: the items of every kind that could be read, and why others could not;
    `disputed`, in words, are items that nodes do not agree on."""

    items: Mapping[ItemKind, tuple[Item, ...]]
    failed: Mapping[ItemKind, SourceError]
    disputed: frozenset[str]


_INDEX = re.compile(
    r"ns=(?P<ns>[^:;]*):indexname=(?P<name>.*):set=(?P<set>.*):bin=(?P<bin>.*):type=(?P<type>[^:]*)"
    r":indextype=(?P<indextype>[^:]*):context=(?P<context>[^:]*)(?::exp=(?P<exp>[^:]*))?:state=[^:]*",
    re.DOTALL,
)
_SET_INDEX = re.compile(
    r"ns=(?P<ns>[^:;]*):indexname=(?P<name>.*):set=(?P<set>.*):indextype=(?P<indextype>set)", re.DOTALL
)
_UDF = re.compile(r"filename=(?P<name>.*),hash=(?P<hash>[^,;]*),type=(?P<type>[^,;]*)", re.DOTALL)


def indexes(answer: str, namespace: str) -> list[Item]:
    """From the answer to `sindex-list:namespace=NAME;b64=true`. Without b64 the server shows contexts and expressions
    in words, from which none can be made again (its `as_sindex_list_str`).

    The facts are the parameters of `sindex-create`. An index over all sets and one over a set named `null` look alike.
    Whether it is still being built is left out. Of several of one name, which only a server of long ago can have left,
    the second is called `name (2)`.
    """
    refused(answer)
    found: Counter[str] = Counter()
    out = []
    for line in filter(None, re.split(r";(?=ns=)", answer.rstrip(";"))):
        match = _INDEX.fullmatch(line) or _SET_INDEX.fullmatch(line)
        if match is None:
            raise ProtocolError(f"sindex-list says {line[:200]!r}")
        if match["ns"] != namespace:
            continue
        found[match["name"]] += 1
        count = found[match["name"]]
        # A bin may be called null: what is indexed is a bin, an expression or a set.
        names_bin = match.re is _INDEX and match["exp"] in (None, "null")
        facts = {
            key: value
            for key, value in match.groupdict().items()
            if key not in ("ns", "name") and value and (value.lower() != "null" or (key == "bin" and names_bin))
        }
        out.append(Item(ItemKind.INDEX, match["name"] if count == 1 else f"{match['name']} ({count})", facts))
    return out


def udfs(answer: str) -> list[Item]:
    """From the answer to `udf-list`, without their content. The hash is of the server's own form of the module."""
    refused(answer)
    out = []
    for line in filter(None, re.split(r";(?=filename=)", answer.rstrip(";"))):
        match = _UDF.fullmatch(line)
        if match is None:
            raise ProtocolError(f"udf-list says {line[:200]!r}")
        out.append(Item(ItemKind.UDF, match["name"], {"hash": match["hash"], "type": match["type"]}))
    return out


def udf_content(answer: str) -> bytes:
    """The source of an answer to `udf-get:filename=…`."""
    found = pairs(answer)
    try:
        return base64.b64decode(found["content"], validate=True)
    except (KeyError, binascii.Error, ValueError) as error:
        raise ProtocolError(f"udf-get says {answer[:80]!r}") from error


_SET_STATE = {"set", "objects", "tombstones", "truncate_lut", "truncating", "index_populating", "sindexes"}


def sets(answer: str) -> list[Item]:
    """The sets and their settings, from the answer to `sets/NAME`: without what changes by itself."""
    refused(answer)
    return [
        Item(
            ItemKind.SET,
            found["set"],
            {k: v for k, v in found.items() if k not in _SET_STATE and not k.endswith("_bytes")},
        )
        for found in set_lines(answer)
    ]


def settings(answer: str, namespace: str) -> list[Item]:
    """The namespace's settings, from the answer to `get-config:context=namespace;namespace=NAME`. Where keys lie is
    nobody's business here."""
    refused(answer)
    found = {key: value for key, value in pairs(answer).items() if not key.endswith("key-file")}
    if not found:
        raise ProtocolError(f"get-config says {answer[:200]!r}")
    return [Item(ItemKind.NAMESPACE, namespace, found)]


def truncations(namespace_answer: str, sets_answer: str, namespace: str) -> list[Item]:
    """Those that a node knows of, from its answers to `namespace/NAME` and `sets/NAME`."""
    refused(sets_answer)
    luts = {"": number(namespace_facts(namespace_answer, namespace), "truncate_lut")}
    luts |= {found["set"]: number(found, "truncate_lut") for found in set_lines(sets_answer)}
    return [
        Item(ItemKind.TRUNCATION, name, {"truncate_lut": str(lut), "truncated_at": _moment(lut)})
        for name, lut in luts.items()
        if lut
    ]


def _moment(lut: int) -> str:
    try:
        return rfc3339(lut + EPOCH_MS)
    except (ValueError, OverflowError, OSError) as error:
        raise ProtocolError(f"a truncation is at {lut} ms after 2010") from error


def users(found: Mapping[str, Mapping[str, Any]]) -> list[Item]:
    """Names and roles, from the official client's `admin_query_users_info`."""
    return [
        Item(ItemKind.USER, name, {"roles": ",".join(sorted(user.get("roles") or ()))}) for name, user in found.items()
    ]


def roles(found: Mapping[str, Mapping[str, Any]], privilege: Mapping[int, str]) -> list[Item]:
    """From the official client's `admin_get_roles`; `privilege` names its codes. A privilege is told as asadm takes it:
    `read`, `read.NAMESPACE` or `read.NAMESPACE.SET`."""
    out = []
    for name, role in found.items():
        granted = []
        for one in role.get("privileges") or ():
            code = one["code"]
            granted.append(".".join(filter(None, (privilege.get(code, str(code)), one.get("ns"), one.get("set")))))
        facts = {"privileges": ",".join(sorted(granted)), "whitelist": ",".join(_list(role.get("whitelist")))}
        facts |= {key: str(role[key]) for key in ("read_quota", "write_quota") if role.get(key)}
        out.append(Item(ItemKind.ROLE, name, {key: value for key, value in facts.items() if value}))
    return out


def _list(value: Any) -> Iterable[str]:
    return [value] if isinstance(value, str) else list(value or ())


def refused(answer: str) -> None:
    """ProtocolError when a node answered with an error."""
    if re.match(r"(?i)error[:=]|fail[:=]|type=unknown|ns_type=unknown", answer):
        raise ProtocolError(f"a node answers {answer[:120]!r}")


def latest(said: Iterable[Sequence[Item]]) -> tuple[Item, ...]:
    """Of each truncation the latest that any node knows of."""
    out: dict[str, Item] = {}
    for items in said:
        for item in items:
            before = out.get(item.name)
            if before is None or int(before.facts["truncate_lut"]) < int(item.facts["truncate_lut"]):
                out[item.name] = item
    return tuple(out[name] for name in sorted(out))


def merged(said: Mapping[str, Sequence[Item]], *, everywhere: bool = False) -> tuple[tuple[Item, ...], frozenset[str]]:
    """The items that any node has, sorted by name, and in words what the nodes do not agree on.

    A fact that is not the same at all nodes that have the item is told as `fact@node`. With `everywhere` an item that a
    node lacks is disputed, too.
    """
    by_name: dict[str, dict[str, Item]] = {}
    for node, items in sorted(said.items()):
        for item in items:
            by_name.setdefault(item.name, {})[node] = item
    out, disputed = [], set()
    for name, at in sorted(by_name.items()):
        first = next(iter(at.values()))
        what = f"{first.kind} {name}"
        if everywhere and len(at) < len(said):
            disputed.add(f"{what} is not known to node {', '.join(sorted(said.keys() - at.keys()))}")
        if len({tuple(sorted(item.facts.items())) for item in at.values()}) > 1:
            disputed.add(f"{what} is not the same at nodes {', '.join(at)}")
            first = replace(first, facts=_by_node({node: item.facts for node, item in at.items()}))
        out.append(first)
    return tuple(out), frozenset(disputed)


def _by_node(facts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    out = {}
    for key in sorted({key for one in facts.values() for key in one}):
        values = {node: one[key] for node, one in facts.items() if key in one}
        if len(values) == len(facts) and len(set(values.values())) == 1:
            out[key] = next(iter(values.values()))
        else:
            out |= {f"{key}@{node}": value for node, value in values.items()}
    return out
