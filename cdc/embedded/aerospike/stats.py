"""Statistics and configuration, as far as anyone asks: true counters, and the settings the emulator really has."""

from typing import TYPE_CHECKING

from cdc.embedded.aerospike.store import EPOCH_MS, seconds_2010

if TYPE_CHECKING:
    from cdc.embedded.aerospike.cluster import Node

_ORIGINS = ("client", "from_proxy", "batch_sub", "from_proxy_batch_sub")
_COUNTERS = (
    *(
        f"{o}_{name}"
        for o in ("client", "batch_sub")
        for name in ("tsvc_error", "proxy_complete", "proxy_error", "proxy_timeout")
    ),
    *(
        f"{o}_{kind}_{outcome}"
        for o in _ORIGINS
        for kind, outcomes in (
            ("read", ("success", "error", "timeout", "not_found", "filtered_out")),
            ("write", ("success", "error", "timeout", "filtered_out")),
            ("delete", ("success", "error", "timeout", "not_found", "filtered_out")),
            ("lang", ("read_success", "write_success", "delete_success", "error")),
        )
        for outcome in outcomes
    ),
    *(f"xdr_{o}_delete_success" for o in ("client", "from_proxy")),
    "udf_sub_lang_delete_success",
    "pi_query_long_basic_complete",
    "fail_generation",
    "fail_record_too_big",
    "deleted_last_bin",
    "ttl_reductions_applied",
)


def namespace(node: "Node", name: str) -> str:
    """What `namespace/NAME` tells of this node."""
    emulator, store, now = node.emulator, node.stores[name], node.now()
    alive = sum(n.alive for n in emulator.nodes)
    master = sum(
        len(records)
        for records, owners in zip(store.partitions, emulator.owners(name), strict=True)
        if records and owners and owners[0] is node
    )
    remaining = node.faults.migrations_remaining
    values: dict[str, object] = {
        "ns_cluster_size": alive,
        "effective_replication_factor": min(emulator.replication, alive),
        "objects": store.objects,
        "tombstones": 0,
        "xdr_tombstones": 0,
        "master_objects": master,
        "master_tombstones": 0,
        "prole_objects": store.objects - master,
        "prole_tombstones": 0,
        "non_replica_objects": 0,
        "non_replica_tombstones": 0,
        "dead_partitions": 0,
        "unavailable_partitions": 0,
        "clock_skew_stop_writes": "false",
        "stop_writes": str(store.settings.stop_writes).lower(),
        "hwm_breached": "false",
        "current_time": seconds_2010(now),
        "expired_objects": store.counters["expired_objects"],
        "evicted_objects": store.counters["evicted_objects"],
        "evict_ttl": 0,
        "evict_void_time": 0,
        "smd_evict_void_time": 0,
        "truncate_lut": store.truncate_lut_ms - EPOCH_MS if store.truncate_lut_ms else 0,
        "truncating": "false",
        "data_used_bytes": store.objects * 64,
        "migrate_tx_partitions_initial": remaining,
        "migrate_tx_partitions_remaining": remaining,
        "migrate_rx_partitions_initial": 0,
        "migrate_rx_partitions_remaining": 0,
        **{counter: store.counters[counter] for counter in _COUNTERS},
    }
    return _joined(values) + ";" + namespace_config(node, name)


def namespace_config(node: "Node", name: str) -> str:
    """The settings of a namespace."""
    store = node.stores[name]
    values: dict[str, object] = {
        "allow-ttl-without-nsup": str(store.settings.allow_ttl_without_nsup).lower(),
        "conflict-resolution-policy": "generation",
        "default-ttl": store.default_ttl,
        "max-record-size": store.settings.max_record_size,
        "nsup-period": store.settings.nsup_period,
        "replication-factor": node.emulator.replication,
        "single-query-threads": 4,
        "stop-writes-sys-memory-pct": store.settings.stop_writes_sys_memory_pct,
        "strong-consistency": "false",
        "storage-engine": "device" if store.persisted else "memory",
    }
    return _joined(values)


def service_config(node: "Node") -> str:
    """The settings of a node."""
    values: dict[str, object] = {
        "batch-max-requests": 0,
        "cluster-name": node.emulator.cluster_name,
        "node-id": node.id,
        "query-threads-limit": 128,
        "service.port": node.server.port,
        "service.address": "127.0.0.1",
    }
    return _joined(values)


def node(node: "Node") -> str:
    """What `statistics` tells of this node."""
    emulator = node.emulator
    alive = [n for n in emulator.nodes if n.alive]
    clocks = [n.now() for n in alive]
    values: dict[str, object] = {
        "cluster_size": len(alive),
        "cluster_key": f"{emulator.cluster_key:X}",
        "cluster_generation": emulator.peers_generation + 1,
        "cluster_principal": max(n.id for n in alive) if alive else "0",
        "cluster_integrity": "true",
        "cluster_is_member": "true",
        "cluster_clock_skew_stop_writes_sec": 0,
        "cluster_clock_skew_ms": max(clocks) - min(clocks) if clocks else 0,
        "uptime": max(node.emulator.clock() - node.started_ms, 0) // 1000,  # no step of its clock moves it
        "objects": sum(store.objects for store in node.stores.values()),
        "tombstones": 0,
        "client_connections": node.server.connections,
        "time_since_rebalance": 0,
        "migrate_allowed": "true",
        "migrate_partitions_remaining": node.faults.migrations_remaining,
    }
    return _joined(values)


def _joined(values: dict[str, object]) -> str:
    return ";".join(f"{name}={value}" for name, value in values.items())
