"""Versions made without a server: of any body size, a third of which is random and the rest text."""

import numpy as np

from cdc.archive.versions import Versions
from cdc.codec.avro import long
from cdc.codec.changes import changes
from cdc.model import DIGEST_SIZE, PARTITIONS, U8, Bodies, Columns

T0 = 1_790_000_000_000
SPAN_MS = 600_000
"""Changes begin here and spread over so long."""
HEADER = 46
TEXT = b"the quick brown fox jumps over the lazy dog "


def digests(rows: int, seed: int, shard: int = 0, shards: int = 1) -> U8:
    """Random ones of one shard, (rows, 20)."""
    made = np.random.default_rng(seed).integers(0, 256, (rows, DIGEST_SIZE), dtype=np.uint8)
    each = PARTITIONS // shards
    partition = (made[:, 0].astype(np.int64) | (made[:, 1].astype(np.int64) & 0x0F) << 8) % each + shard * each
    made[:, 0], made[:, 1] = partition & 0xFF, (made[:, 1] & 0xF0) | partition >> 8
    return made


def versions(keys: U8, size: int, seed: int, first_offset: int = 0, began: int = T0) -> Versions:
    """A write of each digest in this order, with bodies of about `size` bytes and ascending moments and offsets."""
    rows = len(keys)
    random = np.random.default_rng(seed)
    lut = np.sort(began + random.integers(0, SPAN_MS, rows))
    columns = Columns(
        digest=keys, op=np.zeros(rows, np.uint8), origin=np.ones(rows, np.uint8), lut=lut,
        generation=np.ones(rows, np.int32), void_time=np.zeros(rows, np.int64), effective_at=lut,
        unobserved_since=lut - 1000, observed_at=lut // 1000 * 1000 + 1000, consecutive=np.ones(rows, np.bool_),
        set_hash=np.zeros(rows, np.uint64), checksum=np.zeros(rows, np.uint64),
    )  # fmt: skip
    contents = _contents(random, rows, size - HEADER)
    ends = np.arange(rows + 1, dtype=np.int64) * contents.shape[1]
    offsets = np.arange(first_offset, first_offset + rows, dtype=np.int64)
    return Versions(columns, changes(columns, Bodies(contents.reshape(-1), ends), np.arange(rows)), offsets)


def _contents(random: np.random.Generator, rows: int, size: int) -> U8:
    """A set, no key, and two bins: a text that begins with a number, and a blob."""
    noise = max(8, size // 3)
    letters = 8 + max(0, size - noise - 34)
    text = np.frombuffer(TEXT * (letters // len(TEXT) + 1), np.uint8)[: letters - 8]
    before = b"\x02" + long(5) + b"bench" + b"\x00" + long(2) + long(4) + b"text\x08" + long(letters)
    between = long(4) + b"blob\x0a" + long(noise)
    number = np.arange(rows)[:, None] // 10 ** np.arange(7, -1, -1) % 10 + ord("0")
    parts = (
        np.broadcast_to(np.frombuffer(before, np.uint8), (rows, len(before))),
        number.astype(np.uint8),
        np.broadcast_to(text, (rows, len(text))),
        np.broadcast_to(np.frombuffer(between, np.uint8), (rows, len(between))),
        random.integers(0, 256, (rows, noise), dtype=np.uint8),
        np.zeros((rows, 1), np.uint8),
    )
    return np.concatenate(parts, axis=1)
