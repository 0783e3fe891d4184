"""Metadata in the archive (indexes, UDF modules, sets, settings …), so that it is there when Kafka is gone.

    <namespace>/metadata/<20-digit number>.json     sealed: everything as it was at a look

The object with the highest number counts. It names the earlier ones that are kept, with their hashes, as a manifest
does; what it does not name is garbage. `cdc.archive.items` says what is known of a moment.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from cdc.archive import items as known
from cdc.archive import manifests
from cdc.archive.items import Line, MetadataState, Snapshot, Told
from cdc.archive.store import Entry, Store
from cdc.errors import ArchiveError, KeyRefused, ObjectDamaged, ObjectMissing
from cdc.model import Item, ItemKind

DAMAGES: Final = (ObjectMissing, ObjectDamaged, KeyRefused)
"""What one object may be."""

_NUMBERED: Final = re.compile(r"\d{20}\.json")


def directory(namespace: str) -> str:
    """Where the metadata of a namespace is."""
    return f"{namespace}/metadata"


def is_one(name: str) -> bool:
    """Whether an object is named as one of metadata is."""
    parts = name.rsplit("/", 2)
    return parts[-2:-1] == ["metadata"] and _NUMBERED.fullmatch(parts[-1]) is not None


def newest(store: Store, namespace: str) -> Snapshot | None:
    """What counts; None where nothing was told yet. Raises ObjectDamaged, FormatTooNew."""
    found = _newest(store, namespace)
    return found[0] if found is not None else None


def add(store: Store, following: Snapshot, before: Snapshot) -> Snapshot | None:
    """Write what follows the newest snapshot, and name that one; returns it as it stands now. None where somebody else
    wrote first: then what follows must be reckoned from theirs.

    One with the same items says all that the one before it says, and more: it takes its place."""
    earlier = before.earlier
    if before.number and following.items != before.items:
        earlier = (*earlier, line_of(before))
    put = _put(store, replace(following, number=before.number + 1, earlier=earlier))
    # Whoever was suspended for long may find its number free again: what had it was pruned.
    return put if put is not None and _counts(store, put.namespace) == name_of(put.namespace, put.number) else None


def at(store: Store, namespace: str, moment: int) -> MetadataState | None:
    """The metadata at a moment (milliseconds); None where nothing is known of it. Raises ObjectMissing, ObjectDamaged,
    FormatTooNew."""
    found = _newest(store, namespace)
    while found is not None:
        last, data = found
        lines = (*last.earlier, _line(last, data))
        numbers = known.needed(lines, moment)
        try:
            read = [_read(store, namespace, line) for line in last.earlier if line.number in numbers]
        except ObjectMissing:  # pruned since: then the newest does not name it any more
            again = _newest(store, namespace)
            if again is None or again[0].number == last.number:
                raise
            found = again
            continue
        return known.state([*read, last], moment)
    return None


def prune(store: Store, namespace: str, since: int, moments: Iterable[int], now: int) -> bool:
    """Let go of the snapshots that neither any moment from `since` on nor one of `moments` needs: the newest does not
    name them any more. Whether there were any. Raises as reading and writing do."""
    wanted = tuple(moments)
    while True:
        found = _newest(store, namespace)
        if found is None:
            return False
        last, data = found
        keep = known.kept((*last.earlier, _line(last, data)), since, wanted)
        earlier = tuple(line for line in last.earlier if line.number in keep)
        if earlier == last.earlier:
            return False
        # It takes the place of the one before it, which says the same of the metadata.
        if _put(store, replace(last, number=last.number + 1, written_at=now, earlier=earlier)) is not None:
            return True


def garbage(store: Store, namespace: str, entries: Sequence[Entry], old: int) -> tuple[list[Entry], str]:
    """Of a listing's objects those that nobody reads any more, and were written by `old`: what is named neither by what
    counts nor by what counted later than that. If one that says so is damaged, none, and why."""
    mine = sorted(e for e in entries if is_one(e.name) and e.name.startswith(directory(namespace) + "/"))
    counted = [e for e in mine if e.modified_at <= old][-1:] + [e for e in mine if e.modified_at > old]
    named = {e.name for e in counted}
    for entry in counted:
        try:
            one = _decode(store.get(entry.name), entry.name, namespace)
        except ObjectMissing:
            continue  # another prune has just removed it
        except (ObjectDamaged, KeyRefused) as error:
            return [], error.message
        named |= {name_of(namespace, line.number) for line in one.earlier}
    return [e for e in mine if e.modified_at <= old and e.name not in named], ""


def check(store: Store, namespace: str, *, content: bool) -> tuple[int, dict[str, ArchiveError], set[str]]:
    """Whether what counts and what it names is there, and with `content` is what was written: how many objects were
    looked at, what is wrong by the object's name, and the names of all that are kept."""
    wrong: dict[str, ArchiveError] = {}
    names = [name for name in store.list(directory(namespace)) if is_one(name)]
    if not names:
        return 0, wrong, set()
    kept = {names[-1]}
    try:
        last = _decode(store.get(names[-1]), names[-1], namespace)
    except DAMAGES as error:
        return 1, {names[-1]: error}, set(names)
    for line in last.earlier:
        name = name_of(namespace, line.number)
        kept.add(name)
        try:
            if content:
                _read(store, namespace, line)
            elif name not in names and not store.exists(name):
                raise ObjectMissing(f"{name} is not in the archive")
        except DAMAGES as error:
            wrong[name] = error
    if wrong and _counts(store, namespace) != names[-1]:
        return check(store, namespace, content=content)  # another one counts by now: it may have been pruned
    return len(kept), wrong, kept


def sound(store: Store, namespace: str) -> Snapshot | None:
    """The newest object that is whole; None where none is."""
    for name in reversed([name for name in store.list(directory(namespace)) if is_one(name)]):
        try:
            return _decode(store.get(name), name, namespace)
        except DAMAGES:
            continue
    return None


def line_of(snapshot: Snapshot) -> Line:
    """What a later snapshot says of one that is there."""
    return _line(snapshot, _encode(snapshot))


def highest(store: Store, namespace: str) -> int:
    """The number of the object that counts; 0: there is none."""
    name = _counts(store, namespace)
    return int(name[-25:-5]) if name else 0


def bytes_of(store: Store, namespace: str, line: Line) -> bytes | None:
    """The bytes of a snapshot, as it stands in a store under its name; None where it does not."""
    try:
        data = store.get(name_of(namespace, line.number))
    except DAMAGES:
        return None
    return data if manifests.sha256(data) == line.sha256 else None


def renew(store: Store, said: Snapshot, earlier: Sequence[Line], now: int) -> str:
    """Write what counts from now on, above all numbers that there are: what is said, and the snapshots that are kept;
    returns its name. What stands there that it does not name is removed."""
    names = [name for name in store.list(directory(said.namespace)) if is_one(name)]
    number = highest(store, said.namespace)
    made = None
    while made is None:
        number += 1
        made = _put(store, replace(said, number=number, written_at=now, earlier=tuple(earlier)))
    stays = {line.number for line in earlier}
    for name in names:
        if int(name[-25:-5]) not in stays:
            store.delete(name)
    return name_of(said.namespace, number)


def name_of(namespace: str, number: int) -> str:
    """The name of the object with this number."""
    return f"{directory(namespace)}/{number:020d}.json"


def _counts(store: Store, namespace: str) -> str:
    return max((name for name in store.list(directory(namespace)) if is_one(name)), default="")


def _newest(store: Store, namespace: str) -> tuple[Snapshot, bytes] | None:
    while True:
        name = _counts(store, namespace)
        if not name:
            return None
        try:
            data = store.get(name)
        except ObjectMissing:
            if _counts(store, namespace) == name:
                raise
            continue  # long ago: whoever was suspended in between finds a newer one
        return _decode(data, name, namespace), data


def _read(store: Store, namespace: str, line: Line) -> Snapshot:
    name = name_of(namespace, line.number)
    data = store.get(name)
    if manifests.sha256(data) != line.sha256:
        raise ObjectDamaged(f"{name} is not the object that a later one names")
    return _decode(data, name, namespace)


def _put(store: Store, snapshot: Snapshot) -> Snapshot | None:
    name, data = name_of(snapshot.namespace, snapshot.number), _encode(snapshot)
    # A lost answer: it is ours if its bytes are.
    return snapshot if store.put_if_absent(name, data) or store.get(name) == data else None


def _line(snapshot: Snapshot, data: bytes) -> Line:
    return Line(snapshot.number, manifests.sha256(data), snapshot.until, snapshot.looked)


def _encode(snapshot: Snapshot) -> bytes:
    said = {
        "version": manifests.FORMAT_VERSION,
        "namespace": snapshot.namespace,
        "number": snapshot.number,
        "written_at": snapshot.written_at,
        "looked": dict(snapshot.looked),
        "items": [_item(told) for told in snapshot.items],
        "earlier": [asdict(line) for line in snapshot.earlier],
    }
    return manifests.seal("metadata", said)


def _item(told: Told) -> dict[str, Any]:
    item = told.item
    return {
        "kind": item.kind,
        "name": item.name,
        "removed": told.removed,
        "observed_at": told.observed_at,
        "unobserved_since": told.unobserved_since,
        "facts": dict(item.facts),
        "content": None if item.content is None else base64.b64encode(item.content).decode(),
    }


def _decode(data: bytes, name: str, namespace: str) -> Snapshot:
    said = manifests.unseal("metadata", data, name)
    said.pop("version")
    try:
        said["looked"] = _looked(said["looked"])
        said["items"] = tuple(_told(**item) for item in said["items"])
        said["earlier"] = tuple(Line(**line | {"looked": _looked(line["looked"])}) for line in said["earlier"])
        found = Snapshot(**said)
    except (TypeError, KeyError, ValueError, binascii.Error) as error:
        raise ObjectDamaged(f"{name} does not have the form of metadata") from error
    if name_of(found.namespace, found.number) != name or found.namespace != namespace:
        raise ObjectDamaged(f"{name} is metadata of something else")
    return found


def _looked(said: dict[str, int]) -> dict[ItemKind, int]:
    return {ItemKind(kind): at for kind, at in said.items()}


def _told(
    kind: str,
    name: str,
    removed: bool,
    observed_at: int,
    unobserved_since: int,
    facts: dict[str, str],
    content: str | None,
) -> Told:
    source = None if content is None else base64.b64decode(content, validate=True)
    return Told(Item(ItemKind(kind), name, facts, source), removed, observed_at, unobserved_since)
