"""The store that the settings name."""

from pathlib import Path

from cdc.archive import keyring
from cdc.archive.cloud import CloudStore, Limits
from cdc.archive.local import LocalStore
from cdc.archive.overlay import OverlayStore
from cdc.archive.sealed import SealedStore
from cdc.archive.store import Store
from cdc.config import ArchiveSettings
from cdc.errors import KeyRefused


def open_store(settings: ArchiveSettings, *, create: bool = False, over: Path | None = None) -> Store:
    """The store, asked once whether it answers. `create` makes a local directory; a bucket is a person's to make.
    `over` is a directory, made if it is not there, that takes all that is written, encrypted as the archive is, while
    the archive itself is only read (`cdc.archive.overlay`). It survives the process, and perhaps not the machine.

    Raises ConfigError, ObjectMissing where there is no directory, StoreForbidden, StoreUnreachable, and KeyRefused
    where the archive is encrypted and the key is not given or another, or a key is given and it is not encrypted.
    """
    store = plain_store(settings, create=create)
    if over is not None:
        store = OverlayStore(store, LocalStore(over, create=True, lasting=False))
    if not settings.encryption.enabled:
        if keyring.names(store):
            raise KeyRefused(
                f"the archive at {settings.place} is encrypted", f"Set {settings.section}.encryption to its key."
            )
        return store
    outer = keyring.outer_key(settings.encryption)
    keys = keyring.load(store, outer)
    if keys is None:
        if store.list(""):
            raise KeyRefused(
                f"the archive at {settings.place} is not encrypted, and {settings.section}.encryption names a key",
                "Choose another place for an encrypted archive, or take the key out of the settings. If it was "
                "encrypted, its keyring is lost: bring the directory keyring back from another copy.",
            )
        if not create:
            return store  # nothing is there; whoever writes first makes the keyring
        keys = keyring.create(store, outer)
    return SealedStore(store, keys)


def plain_store(settings: ArchiveSettings, *, create: bool = False) -> Store:
    """The same without its encryption: objects as they lie there."""
    if not settings.url:
        return LocalStore(settings.path, create=create)
    options = settings.options | {key: value.get_secret_value() for key, value in settings.secrets.items()}
    limits = Limits(settings.requests, settings.timeout_s, settings.retry_s)
    store = CloudStore(settings.url, options, limits, settings.destination)
    store.check()
    return store
