"""`rekey`: another key for an encrypted archive, without writing an object again."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cdc.archive import keyring
from cdc.archive.stores import plain_store
from cdc.cli import common
from cdc.cli.common import Destination
from cdc.config import EncryptionSettings
from cdc.errors import KeyRefused, UsageError


def rekey(
    context: typer.Context,
    new_key_file: Annotated[Path | None, typer.Option("--new-key-file", help="A file with the new key.")] = None,
    new_key_env: Annotated[str, typer.Option("--new-key-env", help="An environment variable with it.")] = "",
    destination: Destination = "",
) -> None:
    """Change the key of an encrypted archive; of several destinations, name one. What runs goes on; then set its
    encryption to the new key."""
    if (new_key_file is None) == (not new_key_env):
        raise UsageError("the new key must be named once", "Give --new-key-file or --new-key-env.")
    settings = common.settings(context, destination=destination)
    if len(settings.destination_names) > 1:
        raise UsageError(
            f"there are several destinations: {', '.join(settings.destination_names)}",
            "Say whose key is to be changed: --destination NAME.",
        )
    archive = settings.archive
    if not archive.encryption.enabled:
        raise KeyRefused(f"{archive.section}.encryption names no key, so there is none to be changed")
    old = keyring.outer_key(archive.encryption)
    new = keyring.outer_key(EncryptionSettings(key_file=new_key_file, key_env=new_key_env))
    keys = keyring.rekey(plain_store(archive), old, new)
    are = "key is" if len(keys.keys) == 1 else "keys are"
    sys.stdout.write(
        f"{archive.place}: {len(keys.keys)} {are} wrapped by {keyring.fingerprint(new)} now, no longer by "
        f"{keyring.fingerprint(old)}; set {archive.section}.encryption to the new key before anything is started "
        "again\n"
    )
