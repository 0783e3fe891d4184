"""A record's key from the words of a person, and its digest."""

import re
from typing import Final

import aerospike
from aerospike import exception

from cdc.errors import UsageError
from cdc.model import DIGEST_SIZE

UserKey = int | str | bytes

_HINT: Final = "Write 17 or int:17 for an integer, alice or str:17 for a string, hex:00ff for bytes."
_DIGEST: Final = re.compile(rf"(?:0x)?([0-9a-fA-F]{{{2 * DIGEST_SIZE}}})")
_INTEGERS: Final = range(-(1 << 63), 1 << 63)


def user_key(text: str) -> UserKey:
    """The user key that `text` means: an integer if it is written as integers are printed, else a string (so is 0017);
    `int:`, `str:` and `hex:` (bytes) say which. UsageError when it is none."""
    kind, _, rest = text.partition(":")
    if kind == "str":
        return rest
    if kind == "hex":
        try:
            return bytes.fromhex(rest)
        except ValueError:
            raise UsageError(f"--key {text}: {rest!r} is not hexadecimal", _HINT) from None
    number = rest if kind == "int" else text
    if not re.fullmatch(r"-?[0-9]+" if kind == "int" else r"0|-?[1-9][0-9]*", number):
        if kind == "int":
            raise UsageError(f"--key {text}: {rest!r} is not an integer", _HINT)
        return text
    if int(number) not in _INTEGERS:
        raise UsageError(f"--key {text}: integer keys have 64 bits", _HINT)
    return int(number)


def digest_of(set_name: str | None, key: UserKey) -> bytes:
    """The digest of a user key in a set (None: the null set). It does not depend on the namespace. UsageError for what
    the official client takes for no key."""
    if isinstance(key, str) and "\0" in key:
        raise UsageError("the official client cuts a string key at its first NUL", "Give the digest instead.")
    # It takes `bytes` for a string.
    given = bytearray(key) if isinstance(key, bytes) else key
    try:
        return bytes(aerospike.calc_digest("any", set_name or "", given))
    except exception.ParamError as error:
        raise UsageError(f"the set {set_name!r} with the key {key!r} names no record: {error.msg}") from None


def parse_digest(text: str) -> bytes:
    """A digest of 40 hexadecimal digits. UsageError when it is none."""
    found = _DIGEST.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is not a digest", f"A digest has {2 * DIGEST_SIZE} hexadecimal digits.")
    return bytes.fromhex(found[1])
