"""The record, as the emulator's modules share it.

- A *particle* is `(type, data)`: the particle type's number and the bytes as they go over the wire (integers and
  floats 8 bytes big-endian, bools 1 byte, lists and maps raw msgpack, GeoJSON with its two flag bytes and cell count).
- `Record` is what the store keeps. It never changes: a write makes another. `Bins` keep the order of creation.
- `RecordView` is a record seen at a moment: what expressions are evaluated against.
- `Refused` is raised by anything that ends a request with a result code; whoever serves the request answers it.

Who offers what inside this package:

    expressions.passes(filter: bytes, record: RecordView) -> bool             raises Refused, as all of these
    expressions.evaluate(expression: bytes, record: RecordView) -> Value
    particles.of_value(value: Value) -> Particle | None                       an expression's result as a particle
    particles.stored(particle: Particle) -> Particle                          as the server keeps what it is sent
    particles.increment / append / prepend(old: Particle | None, argument: Particle) -> Particle
    particles.hll, cdt.apply(op: bytes, old: Particle | None) -> tuple[Particle | None, Particle | None]
                                                                              the bin afterwards, and the result
"""

from dataclasses import dataclass, field

Particle = tuple[int, bytes]
Bins = dict[bytes, Particle]


class Refused(Exception):
    """Ends a request with a result code (`wire.messages` names them)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"result code {code}")
        self.code = code


@dataclass(slots=True, eq=False)
class Record:
    """One stored record. Treat as immutable; `row` alone is filled in later.

    `lut_ms` is milliseconds since 1970, `void_time_s` seconds since 2010 (0: never), `key` the stored user key as
    its field's data (particle type byte and value) or None, `set_name` empty for the null set.
    """

    digest: bytes
    set_name: bytes
    key: bytes | None
    generation: int
    lut_ms: int
    void_time_s: int
    bins: Bins
    row: bytes | None = field(default=None, repr=False)
    """The record as a query sends it with all bins, made when first asked for."""


@dataclass(slots=True)
class RecordView:
    """A record seen at `now_ms` (the node's time, milliseconds since 1970)."""

    record: Record
    now_ms: int

    @property
    def digest(self) -> bytes:
        return self.record.digest

    @property
    def set_name(self) -> bytes:
        return self.record.set_name

    @property
    def key(self) -> Particle | None:
        """The stored user key as (particle type, data), or None."""
        stored = self.record.key
        return None if stored is None else (stored[0], stored[1:])

    @property
    def generation(self) -> int:
        return self.record.generation

    @property
    def lut_ns(self) -> int:
        return self.record.lut_ms * 1_000_000

    @property
    def void_time_ns(self) -> int:
        """Nanoseconds since 1970, -1 if the record never expires."""
        seconds = self.record.void_time_s
        return (seconds + 1_262_304_000) * 1_000_000_000 if seconds else -1

    @property
    def ttl(self) -> int:
        """Seconds left, -1 if the record never expires."""
        seconds = self.record.void_time_s
        return seconds - (self.now_ms // 1000 - 1_262_304_000) if seconds else -1

    @property
    def now_ns(self) -> int:
        return self.now_ms * 1_000_000

    @property
    def bins(self) -> Bins:
        return self.record.bins

    @property
    def device_size(self) -> int:
        """Roughly the bytes that the record takes: a multiple of 16, as the server's flat format does."""
        size = 64 + len(self.set_name) + len(self.record.key or b"")
        size += sum(len(name) + 6 + len(data) for name, (_, data) in self.record.bins.items())
        return (size + 15) & ~15
