"""The info protocol: commands in lines, answers in lines (the server's `thr_info.c`, in the syntax of 8.1.2)."""

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

from cdc.embedded.aerospike import admin, stats
from cdc.model import PARTITIONS

if TYPE_CHECKING:
    from cdc.embedded.aerospike.cluster import Node

BUILD = "8.1.2.0"
EDITION = "Aerospike Community Edition"
FEATURES = (
    "batch-any;batch-index;blob-bits;cdt-index;cdt-list;cdt-map;cluster-stable;float;geo;sindex-exists;peers;"
    "pipelining;pquery;pscans;query-show;relaxed-sc;replicas;replicas-all;replicas-master;replicas-max;"
    "truncate-namespace;udf"
)
ENTERPRISE = "ERROR:25:enterprise only"
UNKNOWN = "ERROR:4:unrecognized command"
_PARTITION_INFO = (
    "namespace:partition:state:n_replicas:replica:succession:n_dupl:working_master:proxy_dst:emigrates:"
    "lead_emigrates:immigrates:records:tombstones:regime:tree_id:version:final_version"
)

Command = Callable[["Node", str], str]
"""Answers a command, given what follows its name and the colon or slash."""


def answer(node: "Node", payload: bytes) -> bytes:
    """The answer to a request's payload: a line for each of its lines, with what was asked, a tab and the value."""
    lines = []
    for line in payload.decode("latin-1").split("\n"):
        if line:
            lines.append(f"{line}\t{_one(node, line)}\n")
    return "".join(lines).encode("latin-1")


def refuse(payload: bytes) -> bytes:
    """The answer to somebody who is not logged in."""
    asked = [line for line in payload.decode("latin-1").split("\n") if line]
    return "".join(f"{line}\tERROR:80:not authenticated\n" for line in asked).encode("latin-1")


def _one(node: "Node", line: str) -> str:
    ends = [i for i in (line.find(":"), line.find("/")) if i >= 0]
    end = min(ends, default=len(line))
    command = _COMMANDS.get(line[:end])
    if command is None:
        return UNKNOWN
    with node.emulator.lock:
        return command(node, line[end + 1 :])


def _fixed(text: str) -> Command:
    return lambda node, params: text


def _service(node: "Node", params: str) -> str:
    return node.host


def _peers(node: "Node", params: str) -> str:
    port = node.server.port
    others = [n for n in node.emulator.nodes if n is not node and n.alive]
    peers = ",".join(f"[{n.id},{node.emulator.tls_name},[{n.host}]]" for n in others)
    return f"{node.emulator.peers_generation},{port},[{peers}]"


def _replicas(node: "Node", params: str) -> str:
    emulator = node.emulator
    given = admin.parameters(params).get("max", "")
    shown = min(int(given) if given.isdecimal() and int(given) else emulator.replication, emulator.replication)
    parts = []
    for namespace in emulator.namespaces:
        maps = [bytearray(PARTITIONS // 8) for _ in range(shown)]
        for partition, owners in enumerate(emulator.owners(namespace)):
            for rank, owner in enumerate(owners[:shown]):
                if owner is node:
                    maps[rank][partition >> 3] |= 0x80 >> (partition & 7)
        bitmaps = ",".join(base64.b64encode(bitmap).decode() for bitmap in maps)
        parts.append(f"{namespace}:0,{shown},{bitmaps}")
    return ";".join(parts)


def _partition_info(node: "Node", params: str) -> str:
    emulator = node.emulator
    rows = [_PARTITION_INFO]
    key = f"{emulator.cluster_key:x}"
    for namespace in emulator.namespaces:
        store = node.stores[namespace]
        for partition, owners in enumerate(emulator.owners(namespace)):
            rank = owners.index(node) if node in owners else emulator.replication
            state = "S" if node in owners else "A"
            master = owners[0].id if owners else "0"
            version = f"{key}.0.{'mp-' if rank == 0 else '-p-'}" if state == "S" else "0.0.---"
            records = len(store.partitions[partition])
            emigrates = int(rank == 0 and partition < node.faults.migrations_remaining)
            rows.append(
                f"{namespace}:{partition}:{state}:{len(owners)}:{rank}:{rank}:0:{master}:{master}:{emigrates}:0:0:"
                f"{records}:0:0:"
                f"{1 if state == 'S' else 0}:{version}:{version}"
            )
    return ";".join(rows)


def _cluster_stable(node: "Node", params: str) -> str:
    given = admin.parameters(params)
    alive = sum(n.alive for n in node.emulator.nodes)
    if "size" in given and given["size"] != str(alive):
        return "ERROR::cluster-not-specified-size"
    migrating = any(n.faults.migrations_remaining for n in node.emulator.nodes if n.alive)
    if migrating and given.get("ignore-migrations") != "true":
        return "ERROR::unstable-cluster"
    return f"{node.emulator.cluster_key:X}"


def _namespace(node: "Node", params: str) -> str:
    return stats.namespace(node, params) if params in node.stores else "type=unknown"


def _get_config(node: "Node", params: str) -> str:
    given = admin.parameters(params)
    if given.get("context") == "namespace":
        name = given.get("namespace") or given.get("id") or ""
        if name not in node.stores:
            return f"ERROR:4:bad namespace '{name}'"
        return stats.namespace_config(node, name)
    return stats.service_config(node)


_COMMANDS: dict[str, Command] = {
    "node": lambda node, params: node.id,
    "build": _fixed(BUILD),
    "edition": _fixed(EDITION),
    "version": _fixed(f"{EDITION} build {BUILD}"),
    "release": _fixed(f"edition={EDITION};version={BUILD};os=emulator;arch=python;sha={'0' * 40}"),
    "features": _fixed(FEATURES),
    "status": _fixed("ok"),
    "cluster-name": lambda node, params: node.emulator.cluster_name,
    "cluster-stable": _cluster_stable,
    "partition-generation": lambda node, params: str(node.partition_generation),
    "rebalance-generation": lambda node, params: str(node.emulator.rebalance_generation),
    "peers-generation": lambda node, params: str(node.emulator.peers_generation),
    "peers-clear-std": _peers,
    "peers-clear-alt": _peers,
    "peers-tls-std": _peers,
    "peers-tls-alt": _peers,
    "alumni-clear-std": _peers,
    "service": _service,
    "service-clear-std": _service,
    "service-clear-alt": _fixed(""),
    "service-tls-std": _service,
    "service-tls-alt": _fixed(""),
    "replicas": _replicas,
    "partition-info": _partition_info,
    "rack-ids": _fixed(ENTERPRISE),
    "racks": _fixed(ENTERPRISE),
    "namespaces": lambda node, params: ";".join(node.emulator.namespaces),
    "namespace": _namespace,
    "statistics": lambda node, params: stats.node(node),
    "get-config": _get_config,
    "sets": admin.sets,
    "set-config": admin.set_config,
    "sindex": admin.index_list_or_stat,
    "sindex-list": admin.index_list,
    "sindex-stat": admin.index_stat,
    "sindex-exists": admin.index_exists,
    "sindex-create": admin.index_create,
    "sindex-delete": admin.index_delete,
    "udf-list": admin.udf_list,
    "udf-get": admin.udf_get,
    "udf-put": admin.udf_put,
    "udf-remove": admin.udf_remove,
    "truncate": admin.truncate,
    "truncate-namespace": admin.truncate_namespace,
    "query-show": lambda node, params: "ERROR:2:job not found" if params else "",
    "query-abort": _fixed("ERROR:2:id not active"),
}
