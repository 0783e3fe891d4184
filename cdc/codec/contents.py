"""Where the content of a change begins: what a batch read does not answer is taken from there."""

import numpy as np

from cdc.codec.changes import gather, heads
from cdc.model import DIGEST_SIZE, I64, U8, Bodies


def heads_of(bodies: Bodies, rows: I64) -> Bodies:
    """The encoded set and user key of the named changes, as `codec.records` wants them. BodyDamaged where one is
    malformed."""
    chosen = gather(bodies, rows)
    ends = np.empty(2 * len(chosen) + 1, np.int64)
    ends[::2], ends[1::2] = chosen.offsets, begins(chosen)
    # Headers and contents in turn.
    return heads(Bodies(chosen.buffer, ends), 2 * np.arange(len(chosen)) + 1)


def begins(bodies: Bodies) -> I64:
    """Where each change's content begins, after the header of `schemas/change.avsc`; of a malformed one somewhere in
    it."""
    buffer, end = bodies.buffer, bodies.offsets[1:]
    at = np.minimum(bodies.offsets[:-1] + DIGEST_SIZE + 2, end)  # op and origin take a byte each
    at = _after_long(buffer, _after_long(buffer, at, end), end)  # lut, generation
    expires = _bytes(buffer, at, end) != 0
    at = np.minimum(at + 1, end)
    at = np.where(expires, _after_long(buffer, at, end), at)
    for _ in ("effective_at", "unobserved_since", "observed_at"):
        at = _after_long(buffer, at, end)
    return np.minimum(at + 1, end)  # consecutive


def _after_long(buffer: U8, at: I64, end: I64) -> I64:
    """The position after the long at each position: bytes with the high bit set, and one without."""
    more = np.ones(len(at), np.bool_)
    while more.any():
        inside = at < end
        more &= inside
        high = _bytes(buffer, at, end) >= 0x80
        at = at + more
        more &= high
    return at


def _bytes(buffer: U8, at: I64, end: I64) -> U8:
    """The byte at each position; 0 beyond the end."""
    if not len(buffer):
        return np.zeros(len(at), np.uint8)
    return np.where(at < end, buffer[np.minimum(at, len(buffer) - 1)], 0).astype(np.uint8)
