"""Aerospike's wire protocol: what is too slow through the official client, and what the emulator shares.

cluster     Cluster, Node: members and owners by the official client, authenticated connections of our own
query       query(): all records of partitions, as frames        (numba: imported by name, by bulk work alone)
batch       write(), read(), values(): many records by digest    (numba, as above)
messages    frames, messages, fields, ops: constants, builders, parsers; no I/O
rows        a batch's rows, both ways; no I/O
login       sessions with a secured cluster, and the admin messages, both ways
connection  one socket, with deadlines and limits;  flow: worker threads that feed one generator
scan_kernels, scan_plain   what a frame says of a request's progress, compiled and plain
"""

from cdc.wire.cluster import Cluster, Node

__all__ = ["Cluster", "Node"]
