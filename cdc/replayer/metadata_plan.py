"""What of the metadata at a moment a restore would make in its target, what it would only tell, and what became of it.
Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from cdc.archive.items import Known, MetadataState
from cdc.clock import rfc3339
from cdc.model import Item, ItemKind

KINDS: Final = (ItemKind.UDF, ItemKind.INDEX)
"""What is made, in this order."""


Outcome = Literal["made", "building", "left", "conflict", "refused"]
"""`building`: made, and not readable yet. `left`: it was there as it should be. `conflict`: something else has its
name. `refused`: it could not be made."""


@dataclass(frozen=True, slots=True)
class Other:
    """What is told and not made, with its values. `detail` says why, where it is not for its kind."""

    kind: ItemKind
    name: str
    facts: Mapping[str, str]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MetadataPlan:
    """What would be made where it is missing, before the target is asked; and what would not."""

    at: int
    looked_at: int
    wanted: tuple[Known, ...] = ()
    others: tuple[Other, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "looked_at": rfc3339(self.looked_at),
            "make": [
                {
                    "kind": known.told.item.kind.value,
                    "name": known.told.item.name,
                    "certainty": _sure(known.exact),
                    "facts": dict(sorted(known.told.item.facts.items())),
                }
                for known in self.wanted
            ],
            "not_restored": _others(self.others),
        }

    def to_text(self, when: str) -> list[str]:
        """For people, a line each; `when` is before or after the records."""
        names = [
            f"{word(known.told.item.kind)} {known.told.item.name}" + ("" if known.exact else " (presumed)")
            for known in self.wanted
        ]
        said = ", ".join(names) or "nothing"
        return [
            f"  metadata   {when} the records makes {said}, where it is missing; looked at {rfc3339(self.looked_at)}",
            *_told(self.others),
        ]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an item. `exact`: that it was so at the moment is sure. `detail` says why, where that must be
    said."""

    kind: ItemKind
    name: str
    outcome: Outcome
    exact: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MetadataReport:
    """What was made in `namespace` of the metadata at a moment, and what was not."""

    namespace: str
    at: int
    looked_at: int
    done: tuple[Done, ...] = ()
    others: tuple[Other, ...] = ()

    def of(self, *outcomes: Outcome) -> tuple[Done, ...]:
        """The items with one of these outcomes."""
        return tuple(one for one in self.done if one.outcome in outcomes)

    @property
    def whole(self) -> bool:
        """Whether all that should be there is."""
        return not self.of("conflict", "refused")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "namespace": self.namespace,
            "at": rfc3339(self.at),
            "looked_at": rfc3339(self.looked_at),
            "items": [
                {
                    "kind": one.kind.value,
                    "name": one.name,
                    "outcome": one.outcome,
                    "certainty": _sure(one.exact),
                    "detail": one.detail,
                }
                for one in self.done
            ],
            "not_restored": _others(self.others),
        }

    def to_text(self) -> str:
        """For people."""
        lines = [f"metadata of {self.namespace}, as of {rfc3339(self.at)}: {_counted(self.done)}"]
        lines += [
            f"  {one.outcome} {word(one.kind)} {one.name}" + (f": {one.detail}" if one.detail else "")
            for one in self.of("conflict", "refused", "building")
        ]
        return "\n".join([*lines, *_told(self.others)])


def metadata_plan(state: MetadataState, sets: Iterable[str] = ()) -> MetadataPlan:
    """What of the metadata at a moment is to be made, for a restore of these sets alone (empty: of all). Pure.

    An index over all sets, and a module, is for every set.
    """
    only = set(sets)
    wanted, others = [], []
    indexes = [known.told.item.facts for known in state.of(ItemKind.INDEX)]
    indexed = {facts.get("set", "") for facts in indexes if facts.get("indextype") == "set"}
    for known in state.items:
        item = known.told.item
        of = {ItemKind.INDEX: item.facts.get("set", ""), ItemKind.SET: item.name}.get(item.kind, "")
        if only and of and of not in only:
            if item.kind in KINDS:
                others.append(Other(item.kind, item.name, item.facts, f"its set {of} is not restored"))
        elif item.kind in KINDS or _enabled(item, indexed):
            wanted.append(known)
        elif item.kind != ItemKind.TRUNCATION:  # its records' ends are restored
            others.append(Other(item.kind, item.name, item.facts))
    others += [
        Other(told.item.kind, told.item.name, told.item.facts, "it may have been there, and may not")
        for told in state.maybe
        if told.item.kind in KINDS
    ]
    order = [*KINDS, ItemKind.SET]
    wanted.sort(key=lambda known: (order.index(known.told.item.kind), known.told.item.name))
    return MetadataPlan(state.at, state.looked_at, tuple(wanted), tuple(others))


def word(kind: ItemKind) -> str:
    """What an item is called."""
    return {ItemKind.UDF: "module", ItemKind.SET: "index of the set"}.get(kind, kind.value.lower())


def _enabled(item: Item, indexed: set[str]) -> bool:
    """Whether a set has an index by its settings alone, in the way of servers before 8.1.2."""
    return item.kind == ItemKind.SET and item.facts.get("enable-index") == "true" and item.name not in indexed


def _sure(exact: bool) -> str:
    """Certainty in a word."""
    return "exact" if exact else "presumed"


def _others(others: Iterable[Other]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {"kind": one.kind.value, "name": one.name, "facts": dict(sorted(one.facts.items())), "detail": one.detail}
        for one in others
    ]


def _told(others: Iterable[Other]) -> list[str]:
    """A line for each that is not made; settings are many, and JSON has them."""
    lines = []
    settings = 0
    for one in others:
        if one.kind in (ItemKind.SET, ItemKind.NAMESPACE):
            settings += 1
        else:
            why = one.detail or " ".join(f"{key}={value}" for key, value in sorted(one.facts.items()))
            lines.append(f"  not restored: {word(one.kind)} {one.name}" + (f": {why}" if why else ""))
    if settings:
        lines.append(f"  not restored: settings of the namespace and of sets ({settings} items, which --json has)")
    return lines


def _counted(done: Iterable[Done]) -> str:
    found = [one.outcome for one in done]
    words = ("made", "building", "left", "conflict", "refused")
    return ", ".join(f"{found.count(one)} {one}" for one in words if one in found) or "nothing to make"
