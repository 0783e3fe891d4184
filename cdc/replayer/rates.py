"""How fast restores were, remembered beside the journal, and how long the next one takes by that.

What a restore takes is reading, then writing, then looking again; each goes at a rate of its own, which depends on the
records and on the cluster. So the last restores of a kind into a place tell it better than any constant.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Final, Literal

from cdc.errors import RestoreError

FILE: Final = "rates.json"
KEPT: Final = 20
"""So many restores are remembered of a kind and place."""
TELLING: Final = 5
"""The median of the last so many is taken."""
ENOUGH: Final = 1_000
"""A rate of fewer records says more about how long it takes to begin."""
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What one restore took. `place` names cluster and namespace. `rows` versions, at most, were read in `read_s`,
    `records` written or removed in `write_s`, and `compared` looked at again in `compare_s`; 0 where none were."""

    kind: str
    place: str
    rows: int
    read_s: float
    records: int
    write_s: float
    compared: int = 0
    compare_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Versions read, records written or removed, and records compared a second, as `measured` restores had it; 0: as it
    is assumed."""

    reads_per_s: float
    writes_per_s: float
    compares_per_s: float
    measured: int = 0

    def seconds(self, rows: int, records: int, compared: int, throttle: int = 0) -> float:
        """How long so much takes; `throttle` is the most that is written a second, 0: as much as can be."""
        writes = min(self.writes_per_s, throttle) if throttle else self.writes_per_s
        return rows / self.reads_per_s + records / writes + compared / self.compares_per_s


ASSUMED: Final[Mapping[str, Speed]] = MappingProxyType(
    {"clone": Speed(1_000_000, 200_000, 300_000), "rewind": Speed(1_000_000, 100_000, 100_000)}
)
"""By kind, where nothing was measured."""


def place(namespace: str, hosts: Sequence[str]) -> str:
    """The name of a namespace of a cluster."""
    return f"{namespace}@{','.join(sorted(hosts))}"


def speed(known: Sequence[Measured], kind: Literal["clone", "rewind"], where: str) -> Speed:
    """How fast a restore of a kind into a place is taken to be, by what is known, the oldest first. Pure."""
    own = [one for one in known if (one.kind, one.place) == (kind, where)][-TELLING:]
    usual = ASSUMED[kind]

    def rate(pairs: list[tuple[int, float]], otherwise: float) -> float:
        rates = [count / seconds for count, seconds in pairs if count >= ENOUGH and seconds > 0]
        return median(rates) if rates else otherwise

    told = sum(one.records >= ENOUGH and one.write_s > 0 for one in own)
    return Speed(
        rate([(one.rows, one.read_s) for one in own], usual.reads_per_s),
        rate([(one.records, one.write_s) for one in own], usual.writes_per_s),
        rate([(one.compared, one.compare_s) for one in own], usual.compares_per_s),
        told,
    )


def load(journal: Path) -> list[Measured]:
    """What is known, the oldest first; nothing where there is no file. Raises RestoreError where it cannot be read."""
    path = journal / FILE
    try:
        said = json.loads(path.read_text())
        return [Measured(**one) for one in said["rates"]] if said["version"] == _VERSION else []
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RestoreError(
            f"{path}, which has the rates of past restores, cannot be read: {error}", "Remove it: it grows again."
        ) from error


def remember(journal: Path, one: Measured) -> None:
    """Add what was measured, and forget what is older than KEPT others of its kind and place. Two that do this at once
    may lose one of theirs. Raises RestoreError where the file cannot be read or written."""
    known = [*load(journal), one]
    own = [i for i, other in enumerate(known) if (other.kind, other.place) == (one.kind, one.place)]
    forgotten = set(own[:-KEPT])
    kept = [asdict(other) for i, other in enumerate(known) if i not in forgotten]
    said: dict[str, Any] = {"version": _VERSION, "rates": kept}
    path = journal / FILE
    draft = path.with_name(f".{FILE}.{secrets.token_hex(4)}")
    try:
        journal.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(said, indent=1) + "\n")
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise RestoreError(f"{path}, which has the rates of past restores, failed: {error.strerror}") from error
