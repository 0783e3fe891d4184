"""Marks that keep a moment for ever, each under a name.

    <namespace>/keeps/<name>.json     {"keep": {"version", "name", "at", "made_at", "note"}, "sha256"}

A name begins with a letter, so that it never looks like a moment or a duration. What stands here is only a wish: until
the changes around the moment go, they keep it; then `cdc.archive.prune` gives it a restore set.
"""

import re
from dataclasses import asdict, dataclass
from typing import Final

from cdc.archive import manifests
from cdc.archive.store import Store
from cdc.errors import ObjectDamaged, ObjectMissing, UsageError

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
RESERVED: Final = "latest"
"""The word for the end of the last window."""


@dataclass(frozen=True, slots=True)
class Keep:
    """A moment that is kept, in milliseconds, and when and why somebody said so."""

    at: int
    made_at: int
    note: str = ""


def directory(namespace: str) -> str:
    """Where the marks of a namespace are."""
    return f"{namespace}/keeps"


def is_mark(name: str) -> bool:
    """Whether an object is named as a mark is."""
    parts = name.rsplit("/", 2)
    return parts[-2:-1] == ["keeps"] and parts[-1].endswith(".json") and is_name(parts[-1].removesuffix(".json"))


def is_name(text: str) -> bool:
    """Whether a mark may have this name."""
    return NAME.fullmatch(text) is not None and text.lower() != RESERVED


def load(store: Store, namespace: str) -> dict[str, Keep]:
    """Every mark by its name. Raises ObjectDamaged, FormatTooNew."""
    found = {}
    for name in store.list(directory(namespace)):
        if not is_mark(name):
            continue  # garbage
        try:
            found[_name(name)] = decode(store.get(name), name)
        except ObjectMissing:
            continue  # just removed
    return found


def decode(data: bytes, name: str) -> Keep:
    """The mark of such bytes in an object of this name. Raises ObjectDamaged, also if it is another's, FormatTooNew."""
    said = manifests.unseal("keep", data, name)
    said.pop("version")
    try:
        if said.pop("name") != _name(name):
            raise ObjectDamaged(f"{name} is a mark of another name")
        return Keep(**said)
    except (TypeError, KeyError) as error:
        raise ObjectDamaged(f"{name} does not have the form of a mark") from error


def add(store: Store, namespace: str, name: str, keep: Keep) -> None:
    """Set a mark. Raises UsageError where the name is none or is taken by another moment."""
    if not is_name(name):
        raise UsageError(
            f"{name!r} cannot be the name of a mark",
            "A name begins with a letter, has up to 64 letters, digits, dots, dashes and underscores, and is not "
            f"{RESERVED}.",
        )
    data = manifests.seal("keep", {"version": manifests.FORMAT_VERSION, "name": name, **asdict(keep)})
    if not store.put_if_absent(_object(namespace, name), data) and load(store, namespace)[name].at != keep.at:
        raise UsageError(f"{name} already keeps another moment", f"`keep {name} --remove` first, or take another name.")


def remove(store: Store, namespace: str, name: str) -> None:
    """Take a mark away. Raises UsageError where there is none of this name."""
    if not is_name(name) or not store.exists(_object(namespace, name)):
        known = ", ".join(load(store, namespace))
        raise UsageError(f"there is no mark {name}", f"There are: {known}." if known else "There is none at all.")
    store.delete(_object(namespace, name))


def _name(of: str) -> str:
    return of.rsplit("/", 1)[-1].removesuffix(".json")


def _object(namespace: str, name: str) -> str:
    return f"{directory(namespace)}/{name}.json"
