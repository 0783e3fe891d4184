"""Which records of a namespace are captured: by set, and by a filter of the operator's own. Pure."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from cdc.config import ScopeSettings
from cdc.source import expressions, facts

MOST_QUERIES = 8
"""So many sets are asked for one by one at the most: every query costs a few milliseconds, whatever it finds."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the queries that bring a scope: the set that it names to the server, and its filter."""

    set_name: str | None
    filter: bytes | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Records of the included sets (none named: of every set), without those of the excluded ones, for which the packed
    expression `filter` is true (empty: all). "" names the null set. ValueError for a set that is both."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filter: bytes = b""

    def __post_init__(self) -> None:
        if set(self.include) & set(self.exclude):
            raise ValueError(f"{sorted(set(self.include) & set(self.exclude))} both included and excluded")

    @classmethod
    def of(cls, settings: ScopeSettings | None) -> Self:
        """The scope that the settings of a namespace say; without any, everything."""
        if settings is None:
            return cls()
        return cls(settings.include, settings.exclude, base64.b64decode(settings.filter))

    @property
    def everything(self) -> bool:
        """No record is left out."""
        return not (self.include or self.exclude or self.filter)

    @property
    def counted(self) -> bool:
        """The scope is made of whole sets, whose records the server counts."""
        return not self.filter

    def expression(self) -> bytes | None:
        """A packed expression that is true for the records in scope, None for all: the cheap part, of metadata alone,
        stands first, so that a record of another set is never read from a device for the filter's sake."""
        sets = None
        if self.include:
            sets = expressions.in_sets(self.include)
        elif self.exclude:
            sets = expressions.not_in_sets(self.exclude)
        return expressions.both(sets, self.filter or None)

    def parts(self, indexed: Mapping[str, bool]) -> tuple[Part, ...]:
        """The queries that bring every record in scope, each once. `indexed` are the sets that all nodes know, and
        whether all have an index of the set.

        A query that names a set uses the set's index, or at least looks at no other set's record; one that names a set
        that a node does not know brings nothing from there, and a warning to its log (`get_query_set` of the server's
        `query.c`).
        """
        one_known = len(self.include) == 1 and self.include[0] in indexed
        all_indexed = 1 < len(self.include) <= MOST_QUERIES and all(indexed.get(name) for name in self.include)
        if one_known or all_indexed:
            return tuple(Part(name, self.filter or None) for name in self.include)
        return (Part(None, self.expression()),)

    def text(self) -> str:
        """The scope in words that are equal for equal scopes; "" for everything. `Epoch.filtered` reads them."""
        parts = []
        if self.include:  # nothing else is in then, excluded or not
            parts.append(f"sets {_names(self.include)}")
        elif self.exclude:
            parts.append(f"all sets but {_names(self.exclude)}")
        if self.filter:
            parts.append(f"filter {base64.b64encode(self.filter).decode()}")
        return "; ".join(parts)

    def sets(self, known: Iterable[str]) -> tuple[str, ...]:
        """Those of the named sets that are in scope, in their order."""
        return tuple(name for name in known if (name in self.include if self.include else name not in self.exclude))


def set_indexes(answers: Mapping[str, str]) -> dict[str, bool]:
    """The sets that every node's answer to `sets/NAME` names, and whether every node has an index of the set."""
    nodes = [{line["set"]: _indexed(line) for line in facts.set_lines(answer)} for answer in answers.values()]
    known = set.intersection(*map(set, nodes)) if nodes else set()
    return {name: all(node[name] for node in nodes) for name in sorted(known)}


def _indexed(line: Mapping[str, str]) -> bool:
    return line.get("enable-index") == "true" and line.get("index_populating") == "false"


def _names(sets: tuple[str, ...]) -> str:
    return json.dumps(sorted(set(sets)), ensure_ascii=False)
