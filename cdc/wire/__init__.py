"""Aerospike's protocol: messages, connections, login, TLS, the cluster's members, bulk queries and batches.

Modules with kernels are imported by name (`cdc.wire.query`, `cdc.wire.batch`), because numba takes a second to import.
"""
