"""What `history` and `show` share: which record is meant, and a version in words."""

import json
from typing import Annotated, Any

import typer

from cdc.codec.decode import to_json
from cdc.errors import UsageError
from cdc.replayer.history import Captured
from cdc.replayer.keys import digest_of, parse_digest, user_key

Set = Annotated[str, typer.Option("--set", "-s", help="The record's set; without it the null set.")]
Key = Annotated[
    str | None,
    typer.Option("--key", "-k", help="The user key: 17 (or int:17), alice (or str:17), hex:00ff for bytes."),
]
Digest = Annotated[str, typer.Option("--digest", help="The record's digest instead, 40 hexadecimal digits.")]


def meant(set_name: str, key: str | None, digest: str) -> tuple[bytes, str]:
    """The digest of the record that the options name, and its name for people. Raises UsageError."""
    if (key is None) == (not digest):
        raise UsageError("one record is needed: --key (with --set), or --digest", "Give the one or the other.")
    if digest:
        if set_name:
            raise UsageError("--set goes with --key: a digest names a record by itself")
        found = parse_digest(digest)
        return found, found.hex()
    assert key is not None
    named = user_key(key)
    found = digest_of(set_name or None, named)
    kind = {int: "integer", str: "string", bytes: "bytes"}[type(named)]
    return found, f"{found.hex()} ({kind} key {key} of {f'set {set_name}' if set_name else 'the null set'})"


def version_dict(version: Captured) -> dict[str, Any]:
    """A version for programs: what `consume` says of it, and where it stands."""
    return {"epoch": version.epoch, "offset": version.offset, **json.loads(to_json(version.change))}
