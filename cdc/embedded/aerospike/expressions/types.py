"""What an expression is made of when it has been built: typed nodes, run against a record."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cdc.embedded.aerospike.record import RecordView
from cdc.wire.messages import Particle


class Type(IntEnum):
    """Result types, numbered as on the wire (`exp.c`)."""

    NIL = 0
    BOOL = 1
    INTEGER = 2
    STRING = 3
    LIST = 4
    MAP = 5
    BLOB = 6
    FLOAT = 7
    GEOJSON = 8
    HLL = 9


PARTICLES: dict[Type, Particle] = {
    Type.BOOL: Particle.BOOL,
    Type.INTEGER: Particle.INTEGER,
    Type.STRING: Particle.STRING,
    Type.LIST: Particle.LIST,
    Type.MAP: Particle.MAP,
    Type.BLOB: Particle.BLOB,
    Type.FLOAT: Particle.FLOAT,
    Type.GEOJSON: Particle.GEOJSON,
    Type.HLL: Particle.HLL,
}


class Unknown:
    """The value of whatever needs something that is not there: neither true nor false."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()

Value = Any
"""None, bool, int, float, a particle (strings, blobs, lists, maps, GeoJSON, HyperLogLog), or UNKNOWN."""
Run = Callable[[RecordView, list[Value]], Value]
"""Evaluates a node for a record, with the values of the variables in scope."""


@dataclass(frozen=True, slots=True)
class Node:
    """A built expression: its type, and how to evaluate it. `unknown`: it is the expression that is always unknown."""

    type: Type
    run: Run
    unknown: bool = False
