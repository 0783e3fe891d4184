"""What an expression can read of a record: metadata, the user key, bins."""

import struct
from collections.abc import Callable

from cdc.embedded.aerospike.expressions.types import PARTICLES, UNKNOWN, Node, Type, Value
from cdc.embedded.aerospike.record import Particle as Bin
from cdc.embedded.aerospike.record import RecordView
from cdc.wire.messages import Particle

Read = Callable[[RecordView], Value]

METADATA: dict[int, tuple[Type, Read]] = {
    65: (Type.INTEGER, lambda view: 0),
    66: (Type.INTEGER, lambda view: view.lut_ns),
    67: (Type.INTEGER, lambda view: max(0, (view.now_ns - view.lut_ns) // 1_000_000)),
    68: (Type.INTEGER, lambda view: view.void_time_ns),
    69: (Type.INTEGER, lambda view: view.ttl),
    70: (Type.STRING, lambda view: (Particle.STRING, view.set_name)),
    71: (Type.BOOL, lambda view: view.key is not None),
    72: (Type.BOOL, lambda view: False),
    73: (Type.INTEGER, lambda view: view.device_size),
    74: (Type.INTEGER, lambda view: view.device_size),
}
"""By operation: device size (0 in memory), LUT, milliseconds since it, void time, TTL, set, whether the key is stored,
tombstone, memory size, record size."""


def of_metadata(operation: int) -> Node:
    """A node that reads metadata."""
    kind, read = METADATA[operation]
    return Node(kind, lambda view, _: read(view))


def value_of(particle: Bin) -> Value:
    """A particle as the value that expressions work on."""
    kind, data = particle
    if kind == Particle.INTEGER:
        return int.from_bytes(data, "big", signed=True)
    if kind == Particle.FLOAT:
        return struct.unpack(">d", data)[0]
    return bool(data[0]) if kind == Particle.BOOL else particle


def digest_modulo(modulus: int) -> Node:
    """The last four bytes of the digest, little-endian and unsigned, modulo a number (as C does it)."""

    def run(view: RecordView, _: list[Value]) -> Value:
        return int.from_bytes(view.digest[16:20], "little") % abs(modulus)

    return Node(Type.INTEGER, run)


def user_key(kind: Type) -> Node:
    """The stored user key; unknown if there is none or it has another type."""
    wanted = PARTICLES[kind]

    def run(view: RecordView, _: list[Value]) -> Value:
        return value_of(view.key) if view.key is not None and view.key[0] == wanted else UNKNOWN

    return Node(kind, run)


def bin_value(kind: Type, name: bytes) -> Node:
    """A bin's value; unknown if there is no such bin or it has another type."""
    wanted = PARTICLES.get(kind)

    def run(view: RecordView, _: list[Value]) -> Value:
        particle = view.bins.get(name)
        return value_of(particle) if particle is not None and particle[0] == wanted else UNKNOWN

    return Node(kind, run)


def bin_type(name: bytes) -> Node:
    """A bin's particle type; 0 if there is no such bin."""

    def run(view: RecordView, _: list[Value]) -> Value:
        particle = view.bins.get(name)
        return particle[0] if particle is not None else 0

    return Node(Type.INTEGER, run)
