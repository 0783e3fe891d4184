"""The keys that seal an archive, themselves wrapped by a key that a person or a vault keeps.

    keyring/<20-digit number>.json    every key of the archive, wrapped; the highest number counts

The outer key never touches an object: giving it up for another (`rekey`) writes a new keyring and no object again.
"""

import base64
import binascii
import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdc.archive import manifests
from cdc.archive.sealing import KEY_SIZE, Key
from cdc.archive.store import Store
from cdc.config import EncryptionSettings
from cdc.errors import CommitLost, KeyRefused, ObjectDamaged

DIRECTORY: Final = "keyring"
COMMAND_S: Final = 60.0

_NUMBERED: Final = re.compile(DIRECTORY + r"/\d{20}\.json")


@dataclass(frozen=True, slots=True)
class Keyring:
    """The archive's keys; the last one seals what is written now."""

    keys: tuple[Key, ...]

    def of(self, key_id: bytes) -> Key:
        """The key of an id. Raises KeyRefused."""
        for key in self.keys:
            if key.id == key_id:
                return key
        raise KeyRefused(f"the archive's keyring has no key {key_id.hex()}", "The object is of another archive.")

    @property
    def current(self) -> Key:
        """The key for what is written now."""
        return self.keys[-1]


def outer_key(settings: EncryptionSettings) -> bytes:
    """The key that wraps the keyring: 32 bytes, as they are, in hexadecimal or in base64. Raises KeyRefused."""
    if settings.key_file is not None:
        where = str(settings.key_file)
        try:
            text = Path(settings.key_file).read_bytes()
        except OSError as error:
            raise KeyRefused(f"{where}: {error.strerror}") from None
    elif settings.key_env:
        where = f"environment variable {settings.key_env}"
        if settings.key_env not in os.environ:
            raise KeyRefused(f"{where} is not set")
        text = os.environ[settings.key_env].encode()
    else:
        where = settings.key_command[0]
        text = _said_by(settings.key_command)
    key = _parsed(text)
    if key is None:
        raise KeyRefused(f"{where} does not give a key: 32 bytes, plain, in hexadecimal or in base64, are needed")
    return key


def fingerprint(outer: bytes) -> str:
    """Names an outer key without telling anything of it."""
    return hashlib.sha256(b"aerospike-cdc outer key" + outer).hexdigest()[:16]


def load(store: Store, outer: bytes) -> Keyring | None:
    """The keyring of a store; None where it has none. Raises KeyRefused for another key, ObjectDamaged."""
    found = names(store)
    return _unwrapped(store, found[-1], outer) if found else None


def names(store: Store) -> list[str]:
    """The names of all keyrings of a store; the last one counts. What is named otherwise, as a copy that somebody made
    beside it, is none."""
    return [name for name in store.list(DIRECTORY) if _NUMBERED.fullmatch(name)]


def create(store: Store, outer: bytes) -> Keyring:
    """A first keyring. When another process was faster, it is that one's. Raises KeyRefused."""
    made = Keyring((Key.new(),))
    name = _name(1)
    return made if store.put_if_absent(name, _wrapped(name, made, outer)) else _unwrapped(store, name, outer)


def rekey(store: Store, outer: bytes, following: bytes) -> Keyring:
    """Wrap the keys by `following` from now on, and seal what is written later by a new one. The keyrings before, which
    the older outer key opens, are removed. What a killed one has begun is ended by the same call again. Raises
    KeyRefused, and CommitLost when another process did the same."""
    found = names(store)
    if not found:
        raise KeyRefused("the archive is not encrypted", "A new archive is, when archive.encryption names a key.")
    if fingerprint(outer) != fingerprint(following) == _said(store, found[-1]).get("wrapped_by"):
        keyring, old = _unwrapped(store, found[-1], following), found[:-1]
    else:
        keyring, old = Keyring((*_unwrapped(store, found[-1], outer).keys, Key.new())), found
        name = _name(int(found[-1].removeprefix(DIRECTORY + "/").removesuffix(".json")) + 1)
        if not store.put_if_absent(name, _wrapped(name, keyring, following)):
            raise CommitLost(f"{name} was written by another process")
    for before in old:
        store.delete(before)
    return keyring


def _name(number: int) -> str:
    return f"{DIRECTORY}/{number:020d}.json"


def _wrapped(name: str, keyring: Keyring, outer: bytes) -> bytes:
    wrapped = []
    for key in keyring.keys:
        nonce = os.urandom(12)
        data = nonce + AESGCM(outer).encrypt(nonce, key.secret, name.encode() + key.id)
        wrapped.append({"id": key.id.hex(), "wrapped": data.hex()})
    said = {"version": manifests.FORMAT_VERSION, "wrapped_by": fingerprint(outer), "keys": wrapped}
    return manifests.seal("keyring", said)


def _unwrapped(store: Store, name: str, outer: bytes) -> Keyring:
    said = _said(store, name)
    if said.get("wrapped_by") != fingerprint(outer):
        raise KeyRefused(
            f"the key given ({fingerprint(outer)}) is not the one that wraps {name} ({said.get('wrapped_by')})"
        )
    try:
        keys = []
        for one in said["keys"]:
            key_id, data = bytes.fromhex(one["id"]), bytes.fromhex(one["wrapped"])
            keys.append(Key(key_id, AESGCM(outer).decrypt(data[:12], data[12:], name.encode() + key_id)))
        return Keyring(tuple(keys))
    except (InvalidTag, KeyError, TypeError, ValueError) as error:
        raise ObjectDamaged(f"{name} does not hold the keys that were written") from error


def _said(store: Store, name: str) -> dict[str, Any]:
    return manifests.unseal("keyring", store.get(name), name)


def _said_by(command: tuple[str, ...]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no answer within {COMMAND_S:.0f} s"
        raise KeyRefused(f"encryption.key_command {command[0]}: {reason}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said else "it said nothing"
        raise KeyRefused(f"encryption.key_command {command[0]} ended with {done.returncode}: {why}")
    return done.stdout


def _parsed(text: bytes) -> bytes | None:
    if len(text) == KEY_SIZE:
        return text
    stripped = text.strip()
    for decode in (bytes.fromhex, lambda t: base64.b64decode(t, validate=True)):
        try:
            key = decode(stripped.decode("ascii"))
        except (ValueError, binascii.Error):
            continue
        if len(key) == KEY_SIZE:
            return key
    return None
