"""The records whose state at a moment is not sure, named one by one. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cdc.clock import rfc3339
from cdc.codec.decode import to_python
from cdc.model import END_OF_TIME
from cdc.replayer.report import printable
from cdc.replayer.slices import Slice
from cdc.replayer.versions import ABSENT, Certainty


@dataclass(frozen=True, slots=True)
class Doubt:
    """A record whose state at a moment is presumed or fuzzy, and the blind interval in which that moment lies.

    `present` says whether the state that a restore takes has the record. `until` is None while nothing was seen since:
    the record was kept aside, or it may have been deleted after the last look for deletes (`since`). `key` is the
    stored user key (bytes as hex), None where none is known.
    """

    digest: bytes
    set_name: str | None
    key: str | int | float | None
    certainty: Certainty
    present: bool
    since: int
    until: int | None

    def to_json(self) -> str:
        """One line, moments as RFC 3339."""
        return json.dumps(
            {
                "digest": self.digest.hex(),
                "set": self.set_name,
                "key": self.key,
                "certainty": self.certainty.name.lower(),
                "present": self.present,
                "unobserved_since": rfc3339(self.since),
                "observed_from": None if self.until is None else rfc3339(self.until),
            },
            ensure_ascii=False,
        )


def doubts(part: Slice, reconciled_at: int) -> Iterator[Doubt]:
    """The records of a slice that its counts call presumed or fuzzy. `reconciled_at` is the shard's."""
    states, versions = part.states, part.versions
    for i in np.flatnonzero(states.certainty != Certainty.EXACT).tolist():
        held, blind, last = (int(rows[i]) for rows in (states.held, states.blind, states.last))
        said = [to_python(versions.bodies[row]) for row in (held, blind, last) if row != ABSENT]
        until = END_OF_TIME if blind == ABSENT else int(versions.columns.effective_at[blind])
        yield Doubt(
            digest=states.digest[i].tobytes(),
            set_name=said[0]["set"],
            key=next((printable(one["user_key"]) for one in said if one["user_key"] is not None), None),
            certainty=Certainty(states.certainty[i]),
            present=held != ABSENT,
            since=reconciled_at if blind == ABSENT else int(versions.columns.unobserved_since[blind]),
            until=None if until == END_OF_TIME else until,
        )
