"""What nodes say of a namespace in answers to info commands, parsed. Pure; ProtocolError for what cannot be read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cdc.clock import CITRUSLEAF_EPOCH_S
from cdc.errors import NamespaceUnknown, ProtocolError
from cdc.model import I64, PARTITIONS, U8

EPOCH_MS = CITRUSLEAF_EPOCH_S * 1000


@dataclass(frozen=True, slots=True)
class PartitionCounts:
    """Live records of each partition at its working master, (4096,); -1 where no node serves it.

    Expired and truncated records count until the server has purged them, though no query shows them. `settled`: no
    partition migrates, each has one master and all nodes answered; otherwise the counts are in flux: conclude nothing.
    """

    records: I64
    settled: bool


@dataclass(frozen=True, slots=True)
class Truncations:
    """Truncations that a node knows, in milliseconds since 1970: records with a LUT before it are gone. 0: never.
    `under_way`: records of one are still being removed."""

    namespace: int
    sets: Mapping[str, int]
    under_way: bool = False


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """What one node says of itself and of a namespace.

    `now_ms` is its clock and `uptime_s` how long it runs, both cut to seconds. `cluster_key` is another after every
    change of the cluster's members, a restart included. `deleted`, `expired` and `evicted` are sums of counters that
    move when a record goes; a restart resets them. They tell that something went, not how many: an operation that was
    proxied counts at two nodes. `shortened` counts writes that brought a record's void time forward (the server's
    `as_record_advance_void_time`); -1 where the server does not say. `copies` is the replication factor in effect;
    `objects` are all records here, `masters` those of them that the node is master of, `sets` the records by set, which
    counts copies too. `migrating` counts the partitions that it still sends or awaits.
    """

    name: str
    now_ms: int
    uptime_s: int
    cluster_key: str
    deleted: int
    expired: int
    evicted: int
    shortened: int
    truncations: Truncations
    copies: int
    objects: int
    masters: int
    tombstones: int
    sets: Mapping[str, int]
    migrating: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What all nodes say of a namespace, each in one answer: the nodes by name, and the counts of their partitions. A
    brief one has no counts."""

    nodes: tuple[NodeStanding, ...]
    counts: PartitionCounts


def pairs(text: str, separator: str = ";") -> dict[str, str]:
    """`a=1;b=2` as a mapping; words without `=` are left out."""
    return {key: value for key, found, value in (word.partition("=") for word in text.split(separator)) if found}


def number(found: Mapping[str, str], key: str) -> int:
    """An integer of an answer; ProtocolError if it is missing or none."""
    try:
        return int(found[key])
    except (KeyError, ValueError) as error:
        raise ProtocolError(f"an info answer says {key}={found.get(key)!r}") from error


def namespace_facts(answer: str, namespace: str) -> dict[str, str]:
    """The answer to `namespace/NAME`; NamespaceUnknown if the node says it has none."""
    found = pairs(answer)
    if "objects" not in found:
        raise NamespaceUnknown(f"a node answers for namespace {namespace!r}: {answer[:80]}")
    return found


def holding(answers: Mapping[str, Mapping[str, str]], namespace: str) -> dict[str, Mapping[str, str]]:
    """Those of the nodes' answers, to `namespace/NAME` among others, that come from a node which has the namespace: not
    every node of a cluster need. NamespaceUnknown if none has it."""
    command = f"namespace/{namespace}"
    found = {node: said for node, said in answers.items() if "objects" in pairs(said[command])}
    if answers and not found:
        namespace_facts(next(iter(answers.values()))[command], namespace)
    return found


_COLUMNS = ("partition", "working_master", "emigrates", "immigrates", "records", "tombstones")
_COLON, _SEMICOLON = ord(":"), ord(";")
_WIDEST = 16
"""Digits of the widest number: a node's name, 64 bits in hexadecimal."""
_DIGIT: I64 = np.full(256, 255, np.int64)
_DIGIT[list(b"0123456789")] = np.arange(10)
_DIGIT[list(b"abcdef")] = _DIGIT[list(b"ABCDEF")] = np.arange(10, 16)


def partition_counts(answers: Mapping[str, str], namespace: str, *, complete: bool) -> PartitionCounts:
    """From every node's answer to `partition-info`, by node name; `complete`: no node is missing.

    Columns are found by the answer's own header line, because versions differ in them.
    """
    records = np.full(PARTITIONS, -1, np.int64)
    masters = np.zeros(PARTITIONS, np.int64)
    migrating = False
    for node, answer in answers.items():
        partition, master, emigrates, immigrates, count, tombstones = _partition_columns(node, answer, namespace)
        migrating = migrating or bool(np.any(emigrates | immigrates))
        mine = master == _node_number(node)
        records[partition[mine]] = (count - tombstones)[mine]
        np.add.at(masters, partition[mine], 1)
    return PartitionCounts(records, complete and not migrating and bool((masters == 1).all()))


def _node_number(name: str) -> int:
    """A node's name as the number that it is in hexadecimal."""
    try:
        return int(np.array(int(name, 16), np.uint64).astype(np.int64))
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"a node has the name {name!r}") from error


def _partition_columns(node: str, answer: str, namespace: str) -> list[I64]:
    """_COLUMNS of the namespace's lines. A whole column is read at a time: there are thousands of lines a node."""
    header, _, rest = answer.partition(";")
    names = header.split(":")
    if missing := [name for name in _COLUMNS if name not in names]:
        raise ProtocolError(f"partition-info of node {node} lacks {missing}: {header[:200]!r}")
    mine = _lines_of(namespace, rest)
    text = np.frombuffer(mine.encode("latin-1", "replace"), np.uint8)
    ends = np.append(np.flatnonzero((text == _COLON) | (text == _SEMICOLON)), len(text))
    starts = np.concatenate([[0], ends[:-1] + 1])
    if not len(text):
        ends = starts = ends[:0]
    lines = len(ends) // len(names)
    whole = lines * len(names) == len(ends) and np.all(text[ends[len(names) - 1 : -1 : len(names)]] == _SEMICOLON)
    if not whole or mine.count(f";{namespace}:") != max(lines - 1, 0):
        raise ProtocolError(f"partition-info of node {node} has lines unlike its columns {header[:200]!r}")
    columns = []
    for name in _COLUMNS:
        at = slice(names.index(name), None, len(names))
        value = _numbers_at(text, starts[at], ends[at], 16 if name == "working_master" else 10)
        if value is None or (name == "partition" and np.any((value < 0) | (value >= PARTITIONS))):
            raise ProtocolError(f"partition-info of node {node} has no numbers in column {name}")
        columns.append(value)
    return columns


def _lines_of(namespace: str, lines: str) -> str:
    """Where the lines of a namespace stand: a server tells of one namespace after the other."""
    every, start = ";" + lines, f";{namespace}:"
    first, last = every.find(start), every.rfind(start)
    end = every.find(";", last + 1)
    return every[first + 1 : end if end >= 0 else len(every)] if first >= 0 else ""


def _numbers_at(text: U8, starts: I64, ends: I64, base: int) -> I64 | None:
    """The numbers that stand between the places, modulo 2^64; None where one is none."""
    width = ends - starts
    if len(width) == 0:
        return np.empty(0, np.int64)
    if width.min() < 1 or width.max() > _WIDEST:
        return None
    out = np.zeros(len(width), np.int64)
    for i in range(int(width.max())):
        there = i < width
        digit = _DIGIT[text[np.minimum(starts + i, len(text) - 1)]]
        if np.any(there & (digit >= base)):
            return None
        out = np.where(there, out * base + digit, out)
    return out


def standing(
    answers: Mapping[str, Mapping[str, str]], namespace: str, *, complete: bool, brief: bool = False
) -> Standing:
    """From every node's answers to `standing_commands`, by node name and command; `complete`: no node is missing. A
    brief one has no counts: settled it is if all nodes answered and none has partitions to send or to receive."""
    nodes = tuple(_node_standing(name, said, namespace) for name, said in sorted(answers.items()))
    if brief:
        settled = complete and not any(node.migrating for node in nodes)
        return Standing(nodes, PartitionCounts(np.empty(0, np.int64), settled))
    partitions = {name: said.get("partition-info", "") for name, said in answers.items()}
    return Standing(nodes, partition_counts(partitions, namespace, complete=complete))


def standing_commands(namespace: str, *, brief: bool = False) -> tuple[str, ...]:
    """What a node is asked for its NodeStanding and, unless that is to be brief, its PartitionCounts: hundreds of
    kilobytes, of all its namespaces. The server answers in this order, and counters and truncations must be read before
    what is counted: see `collector.deletes`."""
    about = f"namespace/{namespace}", "statistics", f"sets/{namespace}"
    return about if brief else (*about, "partition-info")


_SHORTENED = "ttl_reductions_applied"
_MIGRATING = ("migrate_tx_partitions_remaining", "migrate_rx_partitions_remaining")


def _node_standing(name: str, said: Mapping[str, str], namespace: str) -> NodeStanding:
    space, node, _ = (said.get(command, "") for command in standing_commands(namespace, brief=True))
    found, general = namespace_facts(space, namespace), pairs(node)
    sets = set_lines(said.get(f"sets/{namespace}", ""))
    # One that timed out, for instance waiting for a replica, may have removed the master's copy all the same.
    removing = ("_delete_success", "_delete_timeout")
    cut = {one["set"]: moment for one in sets if (moment := _since_1970(number(one, "truncate_lut")))}
    return NodeStanding(
        name=name,
        now_ms=number(found, "current_time") * 1000 + EPOCH_MS,
        uptime_s=number(general, "uptime"),
        cluster_key=general.get("cluster_key", ""),
        deleted=sum(number(found, key) for key in found if key.endswith(removing))
        + (number(found, "deleted_last_bin") if "deleted_last_bin" in found else 0),
        expired=number(found, "expired_objects"),
        evicted=number(found, "evicted_objects"),
        shortened=number(found, _SHORTENED) if _SHORTENED in found else -1,
        truncations=Truncations(
            _since_1970(number(found, "truncate_lut")),
            cut,
            "true" in (found.get("truncating"), *(one.get("truncating") for one in sets)),
        ),
        copies=number(found, "effective_replication_factor"),
        objects=number(found, "objects"),
        masters=number(found, "master_objects"),
        tombstones=number(found, "tombstones"),
        sets={one["set"]: number(one, "objects") for one in sets},
        migrating=sum(number(found, key) for key in _MIGRATING),
    )


def set_lines(answer: str) -> list[dict[str, str]]:
    """The sets of an answer to `sets/NAME`, each as a mapping. A set's name may hold whatever divides an answer: what
    is said of it begins with its objects. ProtocolError."""
    out = []
    for part in re.split(r"(?:^|;)ns=[^:;]*:set=", answer)[1:]:
        name, found, rest = part.partition(":objects=")
        if not found:
            raise ProtocolError(f"an answer about sets holds {part[:200]!r}")
        out.append({"set": name} | pairs("objects=" + rest.rstrip(";"), ":"))
    return out


def _since_1970(lut: int) -> int:
    """The server counts truncations in milliseconds since 2010."""
    return lut + EPOCH_MS if lut else 0
