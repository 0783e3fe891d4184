"""What a collector knows of one shard besides its records: how far each partition was looked at, and when. Pure.

Moments are milliseconds in the nodes' time, each already less the skew allowed for; 0 (BEGINNING) says: never.
"""

import base64
import json
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from cdc.collector.entries import ASIDE, find, key_order, keys_of
from cdc.errors import CatalogError
from cdc.model import BEGINNING, DIGEST_SIZE, I64, U8, U64, partitions_of


@dataclass(frozen=True, slots=True)
class Floors:
    """Digests, by key, whose published `effective_at` is later than their LUT (late versions, ended records): what
    comes next must not run backwards. An entry can go once every later version has a later `effective_at` anyway."""

    digest: U8
    effective_at: I64

    @classmethod
    def empty(cls) -> Self:
        """None."""
        return cls(np.empty((0, DIGEST_SIZE), np.uint8), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.digest)

    def of(self, digest: U8) -> I64:
        """The floor of each digest, BEGINNING where it has none."""
        if len(self) == 0 or len(digest) == 0:
            return np.full(len(digest), BEGINNING, np.int64)
        row = find(keys_of(self.digest), *keys_of(digest))
        return np.where(row >= 0, self.effective_at[row], BEGINNING)

    def after(self, digest: U8, effective_at: I64, above: int) -> Self:
        """With these added (the later holds), and without those that are not above `above`."""
        digests = np.concatenate([self.digest, digest])
        moments = np.concatenate([self.effective_at, effective_at])
        last = key_order(digests)
        last = last[moments[last] > above]
        return type(self)(digests[last], moments[last])

    def to_json(self) -> list[str]:
        """Digests and moments end to end, in base64: a million records may end at once."""
        columns = self.digest, self.effective_at.astype("<i8")
        return [base64.b64encode(column.tobytes()).decode() for column in columns]

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """What `to_json` made, or the pairs that it made before. ValueError and TypeError for other things."""
        if len(raw) == 2 and isinstance(raw[0], str):
            digest, moments = (base64.b64decode(text, validate=True) for text in raw)
            columns = np.frombuffer(digest, np.uint8).reshape(-1, DIGEST_SIZE), np.frombuffer(moments, "<i8")
            if len(columns[0]) != len(columns[1]):
                raise ValueError(f"{len(columns[0])} floors with {len(columns[1])} moments")
            return cls(columns[0], columns[1].astype(np.int64))
        pairs = [(bytes.fromhex(digest), at) for digest, at in raw]
        digests = np.frombuffer(b"".join(digest for digest, _ in pairs), np.uint8).reshape(-1, DIGEST_SIZE)
        return cls.empty().after(digests, np.array([at for _, at in pairs], np.int64), BEGINNING)


@dataclass(frozen=True, slots=True)
class ShardState:
    """One shard's place in its history. Arrays have one entry for each of the shard's partitions, in order.

    `watermark`: every write up to it is captured or superseded by a captured one; BEGINNING while the base snapshot
    has not finished the partition. `full`: when the last look at the whole partition (base or audit) began.
    `reconciled`: every delete up to it has been found. `sets[i]` is the name of set number i (None: the null set).
    `changes_through` is the offset in the changes topic up to which the catalog has everything. `asides` counts the
    records of this epoch that were kept aside. `scope` says which records the epoch is about (`source.Scope.text`).
    `observed_at` is when the last look that was noted here had its last answer. Other looks, of which only Kafka knows,
    may have gone on until `unsure_until` (BEGINNING: there were none).
    """

    shard: int
    shards: int
    epoch: int
    sweep: int
    changes_through: int
    watermark: I64
    full: I64
    reconciled: I64
    floors: Floors = field(default_factory=Floors.empty)
    sets: tuple[str | None, ...] = (None,)
    set_hashes: tuple[int, ...] = (0,)
    asides: int = 0
    scope: str = ""
    observed_at: int = BEGINNING
    unsure_until: int = BEGINNING

    @classmethod
    def begin(cls, shard: int, shards: int, epoch: int, scope: str = "") -> Self:
        """A new epoch: nothing has been looked at."""
        size = len(partitions_of(shard, shards))
        never = np.full(size, BEGINNING, np.int64)
        return cls(shard, shards, epoch, 0, 0, never, never.copy(), never.copy(), scope=scope)

    @property
    def based(self) -> bool:
        """Whether the base snapshot is complete."""
        return bool(np.all(self.watermark > BEGINNING))

    @property
    def resolved_at(self) -> int:
        """The lowest watermark; BEGINNING while the base snapshot is unfinished."""
        return int(self.watermark.min())

    @property
    def reconciled_at(self) -> int:
        """Up to when every delete of the shard has been found; BEGINNING while the base snapshot is unfinished."""
        return int(self.reconciled.min()) if self.based else BEGINNING

    def seen(self, now: int) -> int:
        """When what is seen at `now`, by the fastest node's clock, counts as seen: after every watermark. What was
        captured up to one was true of it, and stays so where clocks have been set back since."""
        return max(now, int(self.watermark.max()) + 1)

    def numbers_of(self, hashes: U64, names: dict[int, str | None]) -> "tuple[ShardState, Any]":
        """The set number of each hash, and the state that knows them. `names` says the text of every new hash. Raises
        CatalogError when an entry has no room for another number."""
        numbers = dict(zip(self.set_hashes, range(len(self.set_hashes)), strict=True))
        sets, known = list(self.sets), list(self.set_hashes)
        distinct, inverse = np.unique(hashes, return_inverse=True)
        for value in distinct.tolist():
            if value not in numbers:
                if len(sets) >= ASIDE:
                    raise CatalogError(
                        f"the catalog of shard {self.shard} has seen {ASIDE:,} sets, and can name no more",
                        "Choose another collector.catalog and kafka.prefix: a new history knows the sets of now alone.",
                    )
                numbers[value] = len(sets)
                sets.append(names[value])
                known.append(value)
        found = np.array([numbers[value] for value in distinct.tolist()], np.uint16)[inverse.reshape(-1)]
        return replace(self, sets=tuple(sets), set_hashes=tuple(known)), found

    def to_json(self) -> bytes:
        """The state as text, moments as runs of equal values."""
        return json.dumps(
            {
                "shard": self.shard, "shards": self.shards, "epoch": self.epoch, "sweep": self.sweep,
                "changes_through": self.changes_through, "asides": self.asides, "scope": self.scope,
                "observed_at": self.observed_at, "unsure_until": self.unsure_until,
                "watermark": _runs(self.watermark), "full": _runs(self.full), "reconciled": _runs(self.reconciled),
                "floors": self.floors.to_json(),
                "sets": list(self.sets), "set_hashes": list(self.set_hashes),
            },
            separators=(",", ":"),
        ).encode()  # fmt: skip

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """What `to_json` wrote. Raises CatalogError."""
        try:
            raw = json.loads(text)
            return cls(
                raw["shard"], raw["shards"], raw["epoch"], raw["sweep"], raw["changes_through"],
                _array(raw["watermark"]), _array(raw["full"]), _array(raw["reconciled"]),
                Floors.from_json(raw["floors"]), tuple(raw["sets"]), tuple(raw["set_hashes"]), raw["asides"],
                raw["scope"], raw["observed_at"], raw["unsure_until"],
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise CatalogError(f"a catalog's state cannot be read: {error!r}") from error


def _runs(values: I64) -> list[list[int]]:
    edges = np.flatnonzero(np.diff(values)) + 1
    starts = [0, *edges.tolist()]
    ends = [*edges.tolist(), len(values)]
    return [[end - start, int(values[start])] for start, end in zip(starts, ends, strict=True)]


def _array(runs: list[list[int]]) -> I64:
    return np.repeat(np.array([value for _, value in runs], np.int64), [count for count, _ in runs])
