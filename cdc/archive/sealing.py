"""A sealed object: AES-256-GCM in chunks, so that a range is read by itself and a missing end is noticed. Pure.

    head    magic, id of the archive's key, chunk size, nonce, and the object's own data key wrapped by the archive's
    chunks  CHUNK bytes of content each, the last one shorter (an empty object has one empty chunk), each with its tag

A chunk's nonce is its number and whether it is the last, so chunks cannot be swapped, repeated or left out: the STREAM
construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, 2015). Every object has a data key of its own, under which no nonce comes twice. Head and name are
authenticated with each chunk, so an object does not open under another's name.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdc.archive.store import Data
from cdc.errors import KeyRefused, ObjectDamaged

CHUNK: Final = 64 << 10
TAG: Final = 16
KEY_SIZE: Final = 32
_MAGIC: Final = b"CDCSEAL\x01"
_HEAD: Final = struct.Struct("<8s16sI12s48s")  # magic, key id, chunk size, nonce, wrapped data key with its tag
HEAD_SIZE: Final = _HEAD.size


@dataclass(frozen=True, slots=True)
class Key:
    """One of the archive's keys."""

    id: bytes  # 16 bytes
    secret: bytes  # KEY_SIZE bytes

    @classmethod
    def new(cls) -> "Key":
        """A random one."""
        return cls(os.urandom(16), os.urandom(KEY_SIZE))


def seal(name: str, data: Data, key: Key) -> bytes:
    """The object of this name, sealed under a fresh data key."""
    secret, nonce = os.urandom(KEY_SIZE), os.urandom(12)
    fixed = _HEAD.pack(_MAGIC, key.id, CHUNK, nonce, b"")[: -KEY_SIZE - TAG]
    head = fixed + AESGCM(key.secret).encrypt(nonce, secret, fixed + name.encode())
    cipher, context, view = AESGCM(secret), head + name.encode(), memoryview(data).cast("B")
    count = max(1, -(-len(view) // CHUNK))
    chunks = (
        cipher.encrypt(_nonce(i, i == count - 1), view[i * CHUNK : (i + 1) * CHUNK], context) for i in range(count)
    )
    return b"".join((head, *chunks))


@dataclass(frozen=True, slots=True)
class Opened:
    """A sealed object whose head was read: what it takes to open any of it. `size` is the content's."""

    name: str
    size: int
    chunks: int
    _cipher: AESGCM
    _context: bytes

    @classmethod
    def of(cls, name: str, head: bytes, sealed_size: int, key_of: Callable[[bytes], Key]) -> "Opened":
        """From its first HEAD_SIZE bytes and its whole size. `key_of` gives the key of an id, or raises. Raises
        ObjectDamaged."""
        body = sealed_size - HEAD_SIZE
        chunks = -(-body // (CHUNK + TAG))
        # The last chunk has its tag at least, and some content unless it is the only one.
        if len(head) < HEAD_SIZE or chunks < 1 or body - (chunks - 1) * (CHUNK + TAG) < TAG + (chunks > 1):
            raise ObjectDamaged(f"{name} is cut off")
        magic, key_id, chunk, nonce, wrapped = _HEAD.unpack(head[:HEAD_SIZE])
        if magic != _MAGIC or chunk != CHUNK:
            raise ObjectDamaged(f"{name} does not begin as an encrypted object does")
        try:
            key = key_of(key_id)
        except KeyRefused as error:
            raise KeyRefused(f"{name}: {error.message}", error.hint) from error
        try:
            secret = AESGCM(key.secret).decrypt(nonce, wrapped, head[: HEAD_SIZE - len(wrapped)] + name.encode())
        except InvalidTag as error:
            raise ObjectDamaged(f"{name} does not have the head that was written under this name") from error
        return cls(name, body - chunks * TAG, chunks, AESGCM(secret), head[:HEAD_SIZE] + name.encode())

    def span(self, start: int, length: int) -> tuple[int, int, int]:
        """For a range of the content: its first chunk, and where the sealed bytes of its chunks begin and end."""
        first, last = start // CHUNK, max(start, start + length - 1) // CHUNK
        end = min(HEAD_SIZE + (last + 1) * (CHUNK + TAG), HEAD_SIZE + self.size + self.chunks * TAG)
        return first, HEAD_SIZE + first * (CHUNK + TAG), end

    def open(self, first: int, sealed: bytes) -> bytes:
        """The content of whole chunks from number `first` on. Raises ObjectDamaged."""
        out = []
        for i, start in enumerate(range(0, len(sealed), CHUNK + TAG), first):
            chunk = memoryview(sealed)[start : start + CHUNK + TAG]
            try:
                out.append(self._cipher.decrypt(_nonce(i, i == self.chunks - 1), chunk, self._context))
            except (InvalidTag, ValueError) as error:
                raise ObjectDamaged(f"{self.name} is damaged in the chunk at byte {i * CHUNK}") from error
        return b"".join(out)


def _nonce(number: int, last: bool) -> bytes:
    return struct.pack(">QB3x", number, last)
