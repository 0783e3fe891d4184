"""Records in another set: the same contents, under the digests that their keys have there. Pure, over bodies."""

from typing import Final, NamedTuple

import numpy as np

from cdc.codec import gather
from cdc.codec.avro import long, read_long
from cdc.codec.contents import begins, heads_of
from cdc.errors import UsageError
from cdc.model import DIGEST_SIZE, I64, U8, Bodies, Bool
from cdc.replayer.keys import UserKey, digest_of

NO_KEY: Final = "its user key is not stored, or of a kind that the official client does not reckon digests of"
"""Why a record cannot be in another set."""
_NULL, _INTEGER, _STRING, _BYTES = 0, 2, 6, 8
"""Branches of the key's union in `schemas/change.avsc`, as encoded."""


class Resettled(NamedTuple):
    """Changes as they are in another set, their digests (n, 20), and which of the rows asked for they are: the others
    have no digest there, NO_KEY says why."""

    bodies: Bodies
    digest: U8
    known: Bool


def resettled(bodies: Bodies, rows: I64, name: str) -> Resettled:
    """The named changes in the set `name`. A digest follows from set and user key. BodyDamaged for a malformed one."""
    chosen, heads = gather(bodies, rows), heads_of(bodies, rows)
    starts = begins(chosen).tolist()
    known = np.zeros(len(rows), np.bool_)
    moved: list[bytes] = []
    own = b"\x02" + long(len(name.encode())) + name.encode()
    for i, start in enumerate(starts):
        head = heads[i]
        at = _after_set(head)
        digest = _digest(name, head, at)
        if digest is None:
            continue
        known[i] = True
        body = chosen[i]
        content = start - int(chosen.offsets[i])
        moved.append(digest + body[DIGEST_SIZE:content] + own + body[content + at :])
    ends = np.cumsum([0, *map(len, moved)]).astype(np.int64)
    digests = np.frombuffer(b"".join(body[:DIGEST_SIZE] for body in moved), np.uint8).reshape(-1, DIGEST_SIZE)
    return Resettled(Bodies(np.frombuffer(b"".join(moved), np.uint8), ends), digests, known)


def _after_set(head: bytes) -> int:
    if head[0] == _NULL:
        return 1
    size, at = read_long(head, 1)
    return at + size


def _digest(name: str, head: bytes, at: int) -> bytes | None:
    """The digest that the user key in a head has in a set; None where there is no key, or the client takes it for
    none."""
    key: UserKey | None = None
    branch = head[at]
    if branch == _INTEGER:
        key = read_long(head, at + 1)[0]
    elif branch in (_STRING, _BYTES):
        size, start = read_long(head, at + 1)
        raw = head[start : start + size]
        key = raw if branch == _BYTES else raw.decode()
    try:
        return None if key is None else digest_of(name, key)
    except UsageError:  # a string with a NUL, or no bytes at all
        return None
