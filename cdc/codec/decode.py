"""One change at a time, for people and programs: to Python values, to JSON, and from Python values back to bytes.

Also the plain twin of the kernels that put changes together and take them apart.
"""

import base64
import json
import math
import struct
from typing import Any

from cdc.clock import rfc3339
from cdc.codec.avro import long, read_long
from cdc.codec.values_plain import (
    GeoJSON,
    HyperLogLog,
    List,
    Map,
    Raw,
    from_avro,
    read_fixed,
    read_raw,
    read_sized,
    read_text,
    sized,
    to_avro,
)
from cdc.errors import BodyDamaged
from cdc.model import DIGEST_SIZE, NEVER, Op, Origin

TIMES = ("lut", "void_time", "effective_at", "unobserved_since", "observed_at")
"""The fields of a change that are milliseconds since 1970."""

_KEY_BRANCHES: dict[int, Any] = {2: read_long, 6: read_text, 8: read_sized, 10: read_raw}
_NAN = b"\x7f\xf8" + bytes(6)
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999: RFC 3339 goes no further


def to_python(body: bytes) -> dict[str, Any]:
    """The fields of a change by the names of `change.avsc`.

    `op` and `origin` are their symbols, times are milliseconds (`void_time` None: never), `bins` is a dict of values as
    `codec.values_plain` has them: plain ones where Python has the type, else List, Map, GeoJSON, HyperLogLog and Raw.
    BodyDamaged for anything that `codec.check` would refuse.
    """
    digest, at = read_fixed(body, 0, DIGEST_SIZE)
    op, at = _symbol(body, at, Op)
    origin, at = _symbol(body, at, Origin)
    lut, at = read_long(body, at)
    generation, at = read_long(body, at)
    if not -(1 << 31) <= generation < 1 << 31:
        raise BodyDamaged(f"an encoded change has the generation {generation}")
    (branch,), at = read_fixed(body, at, 1)
    void_time = None
    if branch == 2:
        void_time, at = read_long(body, at)
    elif branch:
        raise BodyDamaged("an encoded change has a void time of an unknown kind")
    effective_at, at = read_long(body, at)
    unobserved_since, at = read_long(body, at)
    observed_at, at = read_long(body, at)
    (consecutive,), at = read_fixed(body, at, 1)
    if consecutive > 1:
        raise BodyDamaged("an encoded change holds a boolean that is neither true nor false")
    set_name, user_key, bins = content_to_python(body[at:])
    if (op == "WRITE") != bool(bins):
        raise BodyDamaged("an encoded change is a write without bins, or an end with bins")
    return {
        "digest": digest,
        "op": op,
        "origin": origin,
        "lut": lut,
        "generation": generation,
        "void_time": void_time,
        "effective_at": effective_at,
        "unobserved_since": unobserved_since,
        "observed_at": observed_at,
        "consecutive": consecutive == 1,
        "set": set_name,
        "user_key": user_key,
        "bins": dict(bins),
    }


def content_to_python(content: bytes) -> tuple[str | None, Any, list[tuple[str, Any]]]:
    """Set, user key and bins of a whole content. BodyDamaged if it is not exactly one."""
    (branch,), at = read_fixed(content, 0, 1)
    set_name = None
    if branch == 2:
        set_name, at = read_text(content, at)
    elif branch:
        raise BodyDamaged("an encoded change has a set of an unknown kind")
    (branch,), at = read_fixed(content, at, 1)
    user_key = None
    if branch == 4:
        user_key, at = from_avro(b"\x06" + read_fixed(content, at, 8)[0], 0)[0], at + 8
    elif branch in _KEY_BRANCHES:
        user_key, at = _KEY_BRANCHES[branch](content, at)
    elif branch:
        raise BodyDamaged("an encoded change has a user key of an unknown kind")
    count, at = read_long(content, at)
    if not 0 <= count <= len(content) - at:
        raise BodyDamaged(f"an encoded change announces {count} bins")
    bins = []
    for _ in range(count):
        name, at = read_text(content, at)
        value, at = from_avro(content, at)
        bins.append((name, value))
    if count:
        (end,), at = read_fixed(content, at, 1)
        if end:
            raise BodyDamaged("an encoded change holds its bins in more than one block")
    if at != len(content):
        raise BodyDamaged(f"{len(content) - at} bytes are left after an encoded change")
    return set_name, user_key, bins


def encode_content(set_name: str | None, user_key: Any, bins: dict[str, Any]) -> bytes:
    """The inverse of `content_to_python`. CodecError for a value that the schema does not have."""
    out = b"\x00" if set_name is None else b"\x02" + sized(set_name.encode())
    if user_key is None:
        out += b"\x00"
    elif isinstance(user_key, Raw):
        out += b"\x0a" + to_avro(user_key)[1:]
    else:
        # The key's union lacks the boolean, so its branches stand one lower than those of a bin's.
        value = to_avro(user_key)
        out += bytes([value[0] - 2]) + value[1:]
    if bins:
        out += long(len(bins)) + b"".join(sized(name.encode()) + to_avro(value) for name, value in bins.items())
    return out + b"\x00"


def encode_python(change: dict[str, Any]) -> bytes:
    """The inverse of `to_python`: the body of one change, without framing."""
    void_time = change["void_time"]
    parts = [
        change["digest"],
        long(Op[change["op"]]),
        long(Origin[change["origin"]]),
        long(change["lut"]),
        long(change["generation"]),
        b"\x00" if void_time is None else b"\x02" + long(void_time),
        long(change["effective_at"]),
        long(change["unobserved_since"]),
        long(change["observed_at"]),
        b"\x01" if change["consecutive"] else b"\x00",
        encode_content(change["set"], change["user_key"], change["bins"]),
    ]
    return b"".join(parts)


def to_json(change: dict[str, Any] | bytes) -> str:
    """A change as one line of JSON, without ambiguity: the same line is the same change.

    The digest is hexadecimal, times are RFC 3339. Numbers, strings, booleans and null are themselves, an unordered list
    is an array, an unordered map with string keys an object; everything else is an object whose keys begin with `$`:
    {"$bytes": base64}, {"$double": "inf"}, {"$list": […], "$flags": 1}, {"$map": [[key, value]…], "$flags": 1},
    {"$geojson": text}, {"$hll": base64}, {"$raw": base64, "$type": 7}. A "nan" has its bits in `$bits`, in hexadecimal,
    unless they are 7ff8000000000000.
    """
    fields = to_python(change) if isinstance(change, bytes) else dict(change)
    for name in TIMES:
        if fields[name] is not None:
            fields[name] = _moment(fields[name])
    fields["digest"] = fields["digest"].hex()
    fields["user_key"] = jsonable(fields["user_key"])
    fields["bins"] = {name: jsonable(value) for name, value in fields["bins"].items()}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _symbol(body: bytes, at: int, kind: type[Op] | type[Origin]) -> tuple[str, int]:
    number, at = read_long(body, at)
    if not 0 <= number < len(kind):
        raise BodyDamaged(f"an encoded change has the {kind.__name__.lower()} number {number}")
    return kind(number).name, at


def _moment(ms: int) -> str | int:
    return rfc3339(ms) if NEVER <= ms <= _LATEST_MS else ms


def jsonable(value: Any) -> Any:
    """A user key or a bin's value as `to_json` says it."""
    match value:
        case float() if math.isnan(value):
            bits = struct.pack(">d", value)
            return {"$double": "nan"} | ({"$bits": bits.hex()} if bits != _NAN else {})
        case float() if math.isinf(value):
            return {"$double": repr(value)}
        case bytes():
            return {"$bytes": _base64(value)}
        case List(0, items):
            return [jsonable(item) for item in items]
        case List(flags, items):
            return {"$list": [jsonable(item) for item in items], "$flags": flags}
        case Map(0, entries) if _plain_keys(entries):
            return {key: jsonable(item) for key, item in entries}
        case Map(flags, entries):
            return {"$map": [[jsonable(key), jsonable(item)] for key, item in entries], "$flags": flags}
        case GeoJSON(text):
            return {"$geojson": text}
        case HyperLogLog(data):
            return {"$hll": _base64(data)}
        case Raw(kind, data):
            return {"$raw": _base64(data), "$type": kind}
    return value


def _plain_keys(entries: tuple[tuple[Any, Any], ...]) -> bool:
    keys = [key for key, _ in entries]
    return all(isinstance(k, str) and not k.startswith("$") for k in keys) and len(set(keys)) == len(keys)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
