"""Rehearsed restores and what came of them, remembered in the archive itself, so that any machine can tell.

<namespace>/drills/<20-digit number>.json     {"drill": {"version", …}, "sha256"}, the newest KEPT of them
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from cdc.archive import manifests
from cdc.archive.store import Store
from cdc.clock import rfc3339
from cdc.errors import ObjectDamaged, ObjectMissing
from cdc.model import PARTITIONS

KEPT: Final = 100
"""So many are kept, the newest."""

_NUMBERED: Final = re.compile(r"\d{20}\.json")


@dataclass(frozen=True, slots=True)
class Drilled:
    """A restore of `partitions` of the 4096 to a moment into a scratch namespace, and what it showed.

    `wrong` says in words what was not as it must be; empty: it passed. `written`, `bytes`, `expired`, `exact`,
    `presumed` and `fuzzy` are the restore's. `missing`, `different` and `extra` compare the scratch with the archive.
    The live source is compared with the scratch as far as it has not changed since the moment: `live_same`;
    `live_different` and `live_missing` (from the scratch) must not be; `live_unsure` differ too, but were not exact at
    the moment, or the archive knows of a later change; `live_changed` were written since, or have gone, and are not
    judged. `uncompared` says why the live
    source was not asked; empty: it was. `left` records could not be removed from the scratch again.

    `read_s`, `write_s`, `verify_s`, `compare_s` and `clean_s` are seconds: of the restore, until all that it needs was
    read once and found undamaged, and from its first write to its last; and of what came after. `read_bytes` were read
    of the archive in the first of these, and `stored_bytes` is what everything at that moment takes there.
    """

    namespace: str
    into: str
    at: int
    began_at: int
    partitions: int
    wrong: str = ""
    written: int = 0
    bytes: int = 0
    expired: int = 0
    exact: int = 0
    presumed: int = 0
    fuzzy: int = 0
    missing: int = 0
    different: int = 0
    extra: int = 0
    live_same: int = 0
    live_different: int = 0
    live_missing: int = 0
    live_unsure: int = 0
    live_changed: int = 0
    uncompared: str = ""
    left: int = 0
    read_bytes: int = 0
    stored_bytes: int = 0
    read_s: float = 0.0
    write_s: float = 0.0
    verify_s: float = 0.0
    compare_s: float = 0.0
    clean_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether all was as it must be."""
        return not self.wrong

    @property
    def recovery_s(self) -> float:
        """How long the restore took, from its begin to its last write."""
        return self.read_s + self.write_s

    @property
    def projected_s(self) -> float:
        """How long one of everything would take: a projection. Reading takes longer by the bytes, because a sample
        reads whole blocks of which it needs little; writing by the share of the partitions. A small sample makes it too
        long rather than too short: much takes as long however little is restored."""
        reading = max(1.0, self.stored_bytes / self.read_bytes) if self.read_bytes else PARTITIONS / self.partitions
        whole = self.partitions == PARTITIONS
        return self.read_s * (1.0 if whole else reading) + self.write_s * PARTITIONS / self.partitions

    @property
    def records_per_s(self) -> float:
        """Records written a second, from the begin to the last write."""
        return self.written / self.recovery_s if self.recovery_s else 0.0

    @property
    def differences(self) -> int:
        """Records that are not as they must be."""
        return self.missing + self.different + self.extra + self.live_different + self.live_missing

    def to_dict(self) -> dict[str, Any]:
        """For JSON; moments are RFC 3339."""
        found = asdict(self) | {name: rfc3339(getattr(self, name)) for name in ("at", "began_at")}
        rounded = {f.name: round(found[f.name], 3) for f in fields(self) if f.name.endswith("_s")}
        more = {name: round(getattr(self, name), 3) for name in ("recovery_s", "projected_s", "records_per_s")}
        return {"passed": self.passed, **found, **rounded, **more, "differences": self.differences}


def directory(namespace: str) -> str:
    """Where the drills of a namespace are."""
    return f"{namespace}/drills"


def is_record(name: str) -> bool:
    """Whether an object is named as a drill is."""
    parts = name.rsplit("/", 2)
    return parts[-2:-1] == ["drills"] and _NUMBERED.fullmatch(parts[-1]) is not None


def load(store: Store, namespace: str) -> list[Drilled]:
    """All that are kept, the newest last. Raises ObjectDamaged, FormatTooNew."""
    return list(newest(store, namespace))[::-1]


def newest(store: Store, namespace: str) -> Iterator[Drilled]:
    """The same, the newest first; each is read when it is asked for."""
    for name in reversed(_names(store, namespace)):
        try:
            data = store.get(name)
        except ObjectMissing:
            continue  # another drill has just made it superfluous
        said = manifests.unseal("drill", data, name)
        said.pop("version")
        try:
            one = Drilled(**said)
        except TypeError as error:
            raise ObjectDamaged(f"{name} does not have the form of a drill") from error
        yield one


def remember(store: Store, namespace: str, done: Drilled) -> None:
    """Keep a drill, and remove those beyond KEPT. Raises as the store does."""
    names = _names(store, namespace)
    data = manifests.seal("drill", {"version": manifests.FORMAT_VERSION, **asdict(done)})
    number = max((int(name[-25:-5]) for name in names), default=0) + 1
    while not store.put_if_absent(f"{directory(namespace)}/{number:020d}.json", data):
        number += 1  # another drill ended meanwhile
    for name in names[: max(0, len(names) + 1 - KEPT)]:
        store.delete(name)


def _names(store: Store, namespace: str) -> list[str]:
    return [name for name in store.list(directory(namespace)) if is_record(name)]
