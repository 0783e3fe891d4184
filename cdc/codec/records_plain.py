"""The plain twins of the kernels for frames, hashes and batch rows: the same in Python, slow and easy to read."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from cdc.clock import CITRUSLEAF_EPOCH_S
from cdc.codec.avro import long
from cdc.codec.decode import to_python
from cdc.codec.values_plain import Raw, from_particle, sized, to_avro, to_particle
from cdc.wire import messages as m
from cdc.wire.rows import Row

_TYPED_MOST = 8 << 20
_MASK = (1 << 64) - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def xxh64(data: bytes) -> int:
    """XXH64, seed 0, by its public specification."""
    at = 0
    if len(data) >= 32:
        lanes = [_P1 + _P2 & _MASK, _P2, 0, -_P1 & _MASK]
        while len(data) - at >= 32:
            lanes = [_round(v, w) for v, w in zip(lanes, struct.unpack_from("<4Q", data, at), strict=True)]
            at += 32
        h = sum(_rotate(v, n) for v, n in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            h = ((h ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        h = _P5
    h = h + len(data) & _MASK
    while len(data) - at >= 8:
        h = (_rotate(h ^ _round(0, struct.unpack_from("<Q", data, at)[0]), 27) * _P1 + _P4) & _MASK
        at += 8
    if len(data) - at >= 4:
        h = (_rotate(h ^ struct.unpack_from("<I", data, at)[0] * _P1 & _MASK, 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        h = _rotate(h ^ byte * _P5 & _MASK, 11) * _P1 & _MASK
    h = (h ^ h >> 33) * _P2 & _MASK
    h = (h ^ h >> 29) * _P3 & _MASK
    return h ^ h >> 32


def _rotate(v: int, n: int) -> int:
    return (v << n | v >> 64 - n) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotate(lane + word * _P2 & _MASK, 31) * _P1 & _MASK


def records(frame: bytes) -> Iterator[tuple[bytes, int, int, int, int, bytes]]:
    """Digest, generation, void time in ms, set hash, checksum and content of each record of a frame's payload.

    Those that `codec.records` rejects are left out. ProtocolError where it raises CodecError.
    """
    for message in m.parse_messages(frame):
        header = message.header
        if header.info3 & (m.INFO3_LAST | m.INFO3_PARTITION_DONE) or header.result:
            continue
        set_name, key = message.field(m.FieldType.SET), message.field(m.FieldType.KEY)
        try:
            content = b"\x00" if set_name is None else b"\x02" + sized(set_name.decode().encode())
            content += b"\x00" if key is None else _key(key[0], key[1:])
            bins = _bins(message.ops, from_particle)
        except UnicodeDecodeError:
            continue
        if not message.ops or len({op.name for op in message.ops}) < len(message.ops):
            continue
        count = long(len(message.ops))
        if len(content) + len(count) + len(bins) + 1 > _TYPED_MOST:
            bins = _bins(message.ops, _untyped)
        content += count + bins + b"\x00"
        void = header.record_ttl and (header.record_ttl + CITRUSLEAF_EPOCH_S) * 1000
        hashed = 0 if set_name is None else xxh64(set_name)
        yield message.field(m.FieldType.DIGEST) or b"", header.generation, void, hashed, xxh64(content), content


def _bins(ops: tuple[m.Op, ...], value_of: Callable[[int, bytes], Any]) -> bytes:
    return b"".join(sized(op.name.decode().encode()) + to_avro(value_of(op.particle, op.value)) for op in ops)


def _untyped(kind: int, data: bytes) -> Any:
    return Raw(kind, data) if kind in (m.Particle.LIST, m.Particle.MAP) else from_particle(kind, data)


def _key(kind: int, data: bytes) -> bytes:
    value = from_particle(kind, data) if kind in (1, 2, 3, 4) else Raw(kind, data)
    encoded = to_avro(value)
    return (b"\x0a" if isinstance(value, Raw) else bytes([encoded[0] - 2])) + encoded[1:]


def row(body: bytes, index: int, namespace: bytes, now_ms: int, guard: int = -1, *, update: bool = False) -> bytes:
    """One row of `codec.batch_rows`."""
    change = to_python(body)
    fields = [(int(m.FieldType.NAMESPACE), namespace)]
    if change["set"] is not None:
        fields.append((int(m.FieldType.SET), change["set"].encode()))
    generation = None if guard < 0 else guard
    expect = 0 if guard < 0 else m.INFO2_GENERATION
    if change["op"] != "WRITE":
        info2 = m.INFO2_WRITE | m.INFO2_DELETE | expect
        return Row(index, change["digest"], 0, info2, 0, generation=generation, fields=tuple(fields)).pack()
    if change["user_key"] is not None and not update:
        kind, data = to_particle(change["user_key"])
        fields.append((int(m.FieldType.KEY), bytes([kind]) + data))
    bins = {name: value for name, value in change["bins"].items() if update or value is not None}
    particles = [(name, *to_particle(value)) for name, value in bins.items()]
    ops = tuple(m.Op(2, name.encode(), kind, value) for name, kind, value in particles)
    void = change["void_time"]
    ttl = 0xFFFFFFFF if void is None else max(void // 1000 - now_ms // 1000, 1)
    info2, info3 = m.INFO2_WRITE | expect, m.INFO3_CREATE_OR_REPLACE
    if update:
        ttl, info3 = 0xFFFFFFFE, m.INFO3_UPDATE_ONLY
    packed = Row(
        index, change["digest"], 0, info2, info3, generation=generation, ttl=ttl, fields=tuple(fields), ops=ops
    )
    return packed.pack()
