"""What nodes say of a namespace in answers to info commands, parsed. Pure; ProtocolError for what cannot be read."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cdc.clock import CITRUSLEAF_EPOCH_S
from cdc.errors import NamespaceUnknown, ProtocolError
from cdc.model import I64, PARTITIONS

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
class DeletionCounters:
    """A node's counters that move when something is deleted; a restart resets them. They tell that something was
    deleted, not how many: an operation that was proxied counts at two nodes.

    `started_ms`: when the node started, in its own time, to a second or two.
    """

    started_ms: int
    deleted: int
    expired: int
    evicted: int


@dataclass(frozen=True, slots=True)
class Truncations:
    """Truncations known to the nodes, in milliseconds since 1970: records with a LUT before it are gone. 0: never."""

    namespace: int
    sets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SecondaryIndex:
    """A secondary index, in the words of the server's `sindex-list`."""

    name: str
    set: str
    bin: str
    type: str
    index_type: str
    context: str
    expression: str


@dataclass(frozen=True, slots=True)
class Udf:
    """A registered module and its source text."""

    filename: str
    type: str
    hash: str
    content: bytes


@dataclass(frozen=True, slots=True)
class SetFacts:
    """A set: its records on all nodes (copies included), and its settings as the server names them."""

    name: str
    records: int
    settings: Mapping[str, str]


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


_COLUMNS = ("partition", "working_master", "emigrates", "immigrates", "records", "tombstones")


def partition_counts(answers: Mapping[str, str], namespace: str, *, complete: bool) -> PartitionCounts:
    """From every node's answer to `partition-info`, by node name; `complete`: no node is missing.

    Columns are found by the answer's own header line, because versions differ in them.
    """
    records = np.full(PARTITIONS, -1, np.int64)
    masters = np.zeros(PARTITIONS, np.int64)
    migrating = False
    for node, answer in answers.items():
        lines = answer.split(";")
        header = lines[0].split(":")
        try:
            at = [header.index(name) for name in _COLUMNS]
        except ValueError as error:
            raise ProtocolError(f"partition-info of node {node} has the columns {lines[0][:200]!r}") from error
        start = namespace + ":"
        for line in lines:
            if not line.startswith(start):
                continue
            values = line.split(":")
            try:
                partition, emigrates, immigrates, count, tombstones = (int(values[at[i]]) for i in (0, 2, 3, 4, 5))
                master = values[at[1]]
                migrating = migrating or emigrates > 0 or immigrates > 0
                if master.lstrip("0").upper() == node.lstrip("0").upper():
                    records[partition] = count - tombstones
                    masters[partition] += 1
            except (ValueError, IndexError) as error:
                raise ProtocolError(f"partition-info of node {node} says {line[:200]!r}") from error
    return PartitionCounts(records, complete and not migrating and bool((masters == 1).all()))


def deletion_counters(namespace_answer: str, statistics: str, namespace: str) -> DeletionCounters:
    """From a node's answers to `namespace/NAME` and `statistics`."""
    found = namespace_facts(namespace_answer, namespace)
    # One that timed out, for instance waiting for a replica, may have removed the master's copy all the same.
    removing = ("_delete_success", "_delete_timeout")
    deleted = sum(number(found, key) for key in found if key.endswith(removing))
    now_ms = number(found, "current_time") * 1000 + EPOCH_MS
    return DeletionCounters(
        started_ms=now_ms - number(pairs(statistics), "uptime") * 1000,
        deleted=deleted + int(found.get("deleted_last_bin", 0)),
        expired=number(found, "expired_objects"),
        evicted=number(found, "evicted_objects"),
    )


def set_lines(answer: str) -> list[dict[str, str]]:
    """The sets of an answer to `sets/NAME`, each as a mapping."""
    return [found for line in answer.split(";") if "set" in (found := pairs(line, ":"))]


def truncations(namespace_answers: Mapping[str, str], set_answers: Mapping[str, str], namespace: str) -> Truncations:
    """The latest that any node knows, from the answers to `namespace/NAME` and `sets/NAME` by node name."""
    whole = [number(namespace_facts(a, namespace), "truncate_lut") for a in namespace_answers.values()]
    sets: dict[str, int] = {}
    for answer in set_answers.values():
        for found in set_lines(answer):
            moment = _since_1970(number(found, "truncate_lut"))
            if moment:
                sets[found["set"]] = max(moment, sets.get(found["set"], 0))
    return Truncations(_since_1970(max(whole, default=0)), dict(sorted(sets.items())))


def _since_1970(lut: int) -> int:
    """The server counts truncations in milliseconds since 2010."""
    return lut + EPOCH_MS if lut else 0


_SET_FACTS = {"ns", "set", "objects", "tombstones", "truncate_lut", "truncating", "index_populating", "sindexes"}


def set_facts(answers: Mapping[str, str]) -> tuple[SetFacts, ...]:
    """The sets, sorted by name, from every node's answer to `sets/NAME`."""
    merged: dict[str, SetFacts] = {}
    for answer in answers.values():
        for found in set_lines(answer):
            settings = {k: v for k, v in found.items() if k not in _SET_FACTS and not k.endswith("_bytes")}
            before = merged[found["set"]].records if found["set"] in merged else 0
            merged[found["set"]] = SetFacts(found["set"], before + number(found, "objects"), settings)
    return tuple(merged[name] for name in sorted(merged))


def secondary_indexes(answer: str, namespace: str) -> tuple[SecondaryIndex, ...]:
    """The namespace's indexes, sorted by name, from the answer to `sindex-list`."""
    indexes = []
    for line in answer.split(";"):
        found = pairs(line, ":")
        if found.get("ns") != namespace:
            continue
        if "indexname" not in found:
            raise ProtocolError(f"sindex-list says {line[:200]!r}")
        word = {key: "" if value in ("NULL", "null") else value for key, value in found.items()}
        indexes.append(
            SecondaryIndex(
                name=word["indexname"],
                set=word.get("set", ""),
                bin=word.get("bin", ""),
                type=word.get("type", ""),
                index_type=word.get("indextype", ""),
                context=word.get("context", ""),
                expression=word.get("exp", ""),
            )
        )
    return tuple(sorted(indexes, key=lambda index: index.name))


def udf_names(answer: str) -> list[dict[str, str]]:
    """The modules of an answer to `udf-list`, sorted by name."""
    found = [pairs(line, ",") for line in answer.split(";")]
    return sorted((word for word in found if "filename" in word), key=lambda word: word["filename"])


def udf_content(answer: str) -> bytes:
    """The source text of an answer to `udf-get:filename=…`."""
    found = pairs(answer)
    try:
        return base64.b64decode(found["content"], validate=True)
    except (KeyError, binascii.Error, ValueError) as error:
        raise ProtocolError(f"udf-get says {answer[:80]!r}") from error
