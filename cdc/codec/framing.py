"""Avro single-object encoding: the ten bytes before a body that name its schema (Avro 1.12, "Single object encoding").

The one place that knows how a body stands in Kafka, and where a schema registry would fit.
"""

from collections.abc import Callable

import numpy as np

from cdc.codec.schemas import fingerprint
from cdc.errors import BodyDamaged
from cdc.model import Bodies

MARKER = b"\xc3\x01"
SIZE = 10


def head(name: str) -> bytes:
    """The ten bytes before a body of the schema `change`, `progress` or `metadata`."""
    return MARKER + fingerprint(name)


def frame(bodies: Bodies, name: str) -> Bodies:
    """The bodies, each with its head before it."""
    from cdc.codec.framing_kernels import insert_heads

    sizes = np.diff(bodies.offsets) + SIZE
    offsets = np.zeros(len(bodies) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    out = np.empty(int(offsets[-1]), np.uint8)
    insert_heads(bodies.buffer, bodies.offsets, np.frombuffer(head(name), np.uint8), out, offsets)
    return Bodies(out, offsets)


def unframe(framed: Bodies, name: str, where: Callable[[int], str] = "row {}".format) -> Bodies:
    """The bodies without their heads. BodyDamaged says `where` the first row stands whose head is not the schema's."""
    from cdc.codec.framing_kernels import remove_heads

    offsets = framed.offsets - framed.offsets[0] - SIZE * np.arange(len(framed) + 1, dtype=np.int64)
    # One head a row more than is needed: a row too short to have one must not shorten the room of those before it.
    out = np.empty(int(framed.offsets[-1] - framed.offsets[0]), np.uint8)
    bad = remove_heads(framed.buffer, framed.offsets, np.frombuffer(head(name), np.uint8), out)
    if bad >= 0:
        raise BodyDamaged(_complaint(framed[bad], name, where(bad)))
    return Bodies(out[: int(offsets[-1])], offsets)


def unframe_one(value: bytes, name: str, where: str) -> bytes:
    """One body without its head. BodyDamaged says `where` it stands."""
    if value[:SIZE] != head(name):
        raise BodyDamaged(_complaint(value, name, where))
    return value[SIZE:]


def _complaint(value: bytes, name: str, where: str) -> str:
    start = value[:SIZE].hex() or "nothing"
    return f"{where} begins with {start}, not with {head(name).hex()}: not a {name} of this version's schema"
