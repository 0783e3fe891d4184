"""How the states of records at two moments differ. Pure, vectorised over columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np

from cdc.archive import Versions
from cdc.clock import rfc3339
from cdc.codec.decode import jsonable, to_python
from cdc.codec.values_plain import to_avro
from cdc.model import I64, U8, U64, Bool, Op, digest_order
from cdc.replayer.report import printable
from cdc.replayer.versions import ABSENT, Certainty, States, states
from cdc.replayer.where import Condition


class Kind(IntEnum):
    """How a record differs. A record that is as it was, or at neither moment there, is SAME."""

    SAME = 0
    TOUCHED = 1  # another version of the same content and expiry
    CREATED = 2
    REMOVED = 3
    EXPIRED = 4  # gone, because its time had come
    CHANGED = 5  # its bins, or the stored user key
    EXPIRY = 6  # nothing but when it expires


BinPair = tuple[tuple[Any, ...], tuple[Any, ...]]
"""A bin's value and the one after it; an empty tuple stands for none: `((), (5,))` of a bin that is new."""
DIFFERENT = Kind.CREATED
"""Kinds from here on are differences."""


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of some digests at one moment: `states` of rows of `versions`, by ascending digest."""

    versions: Versions
    states: States

    @classmethod
    def of(cls, versions: Versions, at: int, reconciled_at: int) -> "Side":
        """From all versions that concern the moment (as for `versions.states`)."""
        return cls(versions, states(versions.columns, at, reconciled_at))

    def take(self, which: Bool) -> "Side":
        """The same of some of them alone."""
        found = self.states
        return replace(self, states=States(**{f.name: getattr(found, f.name)[which] for f in fields(States)}))

    def held(self, i: int) -> dict[str, Any] | None:
        """The version that held of one of them, as `codec.to_python` gives it; None: it was not there."""
        row = int(self.states.held[i])
        return None if row == ABSENT else to_python(self.versions.bodies[row])

    def over(self) -> Bool:
        """Which are not there because their time had come."""
        found = self.states
        gone = (found.held == ABSENT) & (found.chosen != ABSENT)
        op = self._column("op", found.chosen)
        return np.asarray(gone & ((op == Op.EXPIRY) | (op == Op.WRITE)))

    def _column(self, name: str, rows: I64) -> Any:
        """A column at rows, of which ABSENT ones give 0."""
        column = getattr(self.versions.columns, name)
        found = np.zeros(len(rows), column.dtype)
        found[rows != ABSENT] = column[rows[rows != ABSENT]]
        return found

    def aligned(self, digests: U8) -> "Side":
        """The same about these digests, ascending, of which all that it knows of are some. Of the others nothing is
        known, and they are not there."""
        found = self.states
        if len(found) == len(digests):
            return self
        at = np.searchsorted(digest_order(digests), digest_order(found.digest))

        def spread(column: Any, otherwise: int) -> Any:
            wide = np.full(len(digests), otherwise, column.dtype)
            wide[at] = column
            return wide

        return Side(
            self.versions,
            States(
                digest=digests, chosen=spread(found.chosen, ABSENT), held=spread(found.held, ABSENT),
                last=spread(found.last, ABSENT), certainty=spread(found.certainty, Certainty.EXACT),
                blind=spread(found.blind, ABSENT),
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """Some records at two moments, about the same digests. `forward`: the first moment is not the later one."""

    before: Side
    after: Side
    forward: bool

    @classmethod
    def of(cls, before: Side, after: Side, *, forward: bool) -> "Pair":
        """Of all digests that either knows of."""
        sides = (before, after)
        every = np.unique(np.concatenate([digest_order(side.states.digest) for side in sides]))
        digests = np.ascontiguousarray(every).view(np.uint8).reshape(-1, before.states.digest.shape[1])
        return cls(before.aligned(digests), after.aligned(digests), forward)

    def __len__(self) -> int:
        return len(self.before.states)

    @property
    def digest(self) -> U8:
        """Its digests, (m, 20), ascending."""
        return self.before.states.digest

    def take(self, which: Bool) -> "Pair":
        """The named records alone."""
        return replace(self, before=self.before.take(which), after=self.after.take(which))

    def kinds(self) -> U8:
        """How each record differs: numbers of Kind. One that is gone going back in time did not expire."""
        before, after = self.before, self.after
        was, now = before.states.held, after.states.held
        there, is_now = was != ABSENT, now != ABSENT
        both = there & is_now

        def equal(name: str) -> Any:
            return before._column(name, was) == after._column(name, now)

        content, expiry = equal("checksum"), equal("void_time")
        version = equal("lut") & equal("generation")
        gone = np.where(after.over() & self.forward, Kind.EXPIRED, Kind.REMOVED)
        kept = np.where(
            ~content,
            Kind.CHANGED,
            np.where(~expiry, Kind.EXPIRY, np.where(version, Kind.SAME, Kind.TOUCHED)),
        )
        alone = np.where(there, gone, np.where(is_now, Kind.CREATED, Kind.SAME))
        return np.asarray(np.where(both, kept, alone).astype(np.uint8))

    def certainty(self) -> U8:
        """How sure the less sure of both states is: numbers of Certainty."""
        return np.maximum(self.before.states.certainty, self.after.states.certainty)

    def blind(self) -> Bool:
        """Which records have one of the moments in a blind interval."""
        return np.asarray((self.before.states.blind != ABSENT) | (self.after.states.blind != ABSENT))

    def set_hash(self) -> U64:
        """The set of each, by what held, else by what is known last."""
        found = np.zeros(len(self), np.uint64)
        for name in ("last", "held"):
            for side in (self.after, self.before):
                rows = getattr(side.states, name)
                known = rows != ABSENT
                found[known] = side.versions.columns.set_hash[rows[known]]
        return found

    def differences(self, kinds: U8) -> Iterator[tuple[int, "Difference"]]:
        """The records that differ, each with its place and both of its versions."""
        certainty = self.certainty()
        for i in np.flatnonzero(kinds >= DIFFERENT).tolist():
            digest = self.digest[i].tobytes()
            before, after = self.before.held(i), self.after.held(i)
            yield i, Difference(digest, Kind(kinds[i]), Certainty(certainty[i]), before, after)

    def set_name(self, i: int) -> str | None:
        """The set of one record, by the same rule."""
        before, after = self.before, self.after
        for side, rows in ((side, getattr(side.states, name)) for name in ("held", "last") for side in (before, after)):
            if rows[i] != ABSENT:
                name: str | None = to_python(side.versions.bodies[int(rows[i])])["set"]
                return name
        raise AssertionError("a pair has a record of which nothing is known")

    def meeting(self, where: Sequence[Condition], among: Bool) -> Bool:
        """Which of some records meet all conditions by what held at either moment."""
        found = np.zeros(len(self), np.bool_)
        for i in np.flatnonzero(among).tolist():
            held = [one["bins"] for side in (self.before, self.after) if (one := side.held(i)) is not None]
            found[i] = any(all(one.met(one.bin in bins, bins.get(one.bin)) for one in where) for bins in held)
        return found


@dataclass(frozen=True, slots=True)
class Tally:
    """Records of a set that differ, by kind, and by how sure that is: `exact` where both states are. `touched` were
    written anew as they were. `unsure` do not differ by what is known, but one of the moments lies in a blind
    interval of theirs."""

    created: int = 0
    removed: int = 0
    expired: int = 0
    changed: int = 0
    expiry: int = 0
    touched: int = 0
    exact: int = 0
    presumed: int = 0
    fuzzy: int = 0
    unsure: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        mine, others = asdict(self), asdict(other)
        return Tally(**{name: mine[name] + others[name] for name in mine})

    def to_dict(self) -> dict[str, int]:
        """Name to number."""
        return asdict(self)

    @property
    def different(self) -> int:
        """How many differ."""
        return self.created + self.removed + self.expired + self.changed + self.expiry


def tallies(pair: Pair, kinds: U8) -> Iterator[tuple[int, Tally]]:
    """By set: one of its records (a place in the pair), and its tally."""
    different = kinds >= DIFFERENT
    unsure = ~different & pair.blind()
    certainty, hashes = pair.certainty(), pair.set_hash()
    for name in np.unique(hashes):
        rows = np.flatnonzero(hashes == name)
        kind = np.bincount(kinds[rows], minlength=len(Kind))
        sure = np.bincount(certainty[rows[different[rows]]], minlength=len(Certainty))
        yield int(rows[0]), Tally(
            created=int(kind[Kind.CREATED]), removed=int(kind[Kind.REMOVED]), expired=int(kind[Kind.EXPIRED]),
            changed=int(kind[Kind.CHANGED]), expiry=int(kind[Kind.EXPIRY]), touched=int(kind[Kind.TOUCHED]),
            exact=int(sure[Certainty.EXACT]), presumed=int(sure[Certainty.PRESUMED]),
            fuzzy=int(sure[Certainty.FUZZY]), unsure=int(np.count_nonzero(unsure[rows])),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that differs. `before` and `after` are the versions that held, as `codec.to_python` gives them; None:
    it was not there."""

    digest: bytes
    kind: Kind
    certainty: Certainty
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def set_name(self) -> str | None:
        """The record's set; None: the null set."""
        name: str | None = self._any["set"]
        return name

    @property
    def key(self) -> str | int | float | None:
        """The stored user key as JSON has it, of the later version that has one."""
        keys = [one["user_key"] for one in (self.after, self.before) if one is not None]
        return next((printable(key) for key in keys if key is not None), None)

    @property
    def bins(self) -> dict[str, BinPair]:
        """The bins that differ."""
        return bins_between(*(one["bins"] if one else {} for one in (self.before, self.after)))

    def only(self, bins: Sequence[str]) -> "Difference":
        """The same of these bins alone."""

        def less(one: dict[str, Any] | None) -> dict[str, Any] | None:
            return one and {**one, "bins": {name: value for name, value in one["bins"].items() if name in bins}}

        return replace(self, before=less(self.before), after=less(self.after))

    def to_dict(self) -> dict[str, Any]:
        """For JSON; moments are RFC 3339."""
        return {
            "digest": self.digest.hex(),
            "set": self.set_name,
            "key": self.key,
            "kind": self.kind.name.lower(),
            "certainty": self.certainty.name.lower(),
            "before": _version(self.before),
            "after": _version(self.after),
            "bins": told(self.bins),
        }

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @property
    def _any(self) -> dict[str, Any]:
        found = self.after or self.before
        assert found is not None  # what was at neither moment there does not differ
        return found


def bins_between(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, BinPair]:
    """The bins that differ, by name in order: those that were, then new ones."""
    found = {}
    for name in dict.fromkeys((*was, *now)):
        before, after = ((bins[name],) if name in bins else () for bins in (was, now))
        if _encoded(before) != _encoded(after):
            found[name] = before, after
    return found


def told(bins: Mapping[str, BinPair]) -> dict[str, dict[str, Any]]:
    """Bins that differ, for JSON: `before` or `after` is left out where the bin was not there."""
    return {
        name: {word: jsonable(*value) for word, value in zip(("before", "after"), pair, strict=True) if value}
        for name, pair in bins.items()
    }


def _encoded(value: tuple[Any, ...]) -> bytes:
    """Equal for equal values only: by `==`, 1 is True and no NaN is itself."""
    return to_avro(*value) if value else b""


def _version(one: dict[str, Any] | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "effective_at": rfc3339(one["effective_at"]),
        "generation": one["generation"],
        "expires": None if one["void_time"] is None else rfc3339(one["void_time"]),
    }
