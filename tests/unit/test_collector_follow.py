"""Folding published changes into a catalog: in whatever chunks and order they are read, it is what a collector had."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive.versions import order
from cdc.codec.changes import columns, gather
from cdc.collector.catalog import Catalog
from cdc.collector.entries import ASIDE
from cdc.collector.follow import fold
from cdc.collector.state import ShardState
from cdc.model import END_OF_TIME, Op
from tests.fixtures.versions import bodies, change, digest

T0 = 1_700_000_000_000
Step = tuple[int, Op, bool]  # which record, what is said of it, whether late
steps = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([Op.WRITE, Op.WRITE, Op.DELETE, Op.EXPIRY, Op.ASIDE]), st.booleans()),
    max_size=25,
)


def said(at: int, step: Step) -> dict[str, Any]:
    """The change at an offset. Late ones take effect after their LUT."""
    record, op, late = step
    lut = T0 + at * 1000
    effective_at = END_OF_TIME if op == Op.ASIDE else lut + (600 if late else 0)
    written = {"generation": at + 1, "set": f"set-{at % 3}", "void_time": T0 + 10**9 + at * 1000 if at % 2 else None}
    return change(record, lut, op=op) | written | {"lut": 0 if op == Op.ASIDE else lut, "effective_at": effective_at}


def known(catalog: Catalog) -> dict[bytes, tuple[Any, ...]]:
    """Of each record LUT, generation, void time, set and whether it was kept aside."""
    entries = catalog.partitions(0, 4095)
    out = {}
    for row, name in enumerate(entries.digest):
        number = int(entries.set_number[row])
        out[name.tobytes()] = (
            int(entries.lut[row]), int(entries.generation[row]), int(entries.void_time[row]),
            catalog.state.sets[number & ~ASIDE], bool(number & ASIDE),
        )  # fmt: skip
    return out


def naive(changes: list[dict[str, Any]]) -> tuple[dict[bytes, tuple[Any, ...]], dict[bytes, int]]:
    """The same of a plain reading one by one, and the floors: the last end or late version that was told."""
    live: dict[bytes, tuple[Any, ...]] = {}
    floors: dict[bytes, int] = {}
    for c in changes:
        name = c["digest"]
        if c["op"] == "WRITE":
            live[name] = (c["lut"], c["generation"], c["void_time"] or 0, c["set"], False)
        elif c["op"] == "ASIDE":
            lut, _, _, set_name, _ = live.get(name, (0, 0, 0, None, False))
            live[name] = (lut, 0, 0, set_name, True)
        else:
            live.pop(name, None)
        if c["op"] != "ASIDE" and c["effective_at"] > c["lut"]:
            floors[name] = c["effective_at"]
    return live, floors


@given(steps, st.lists(st.integers(0, 25), max_size=4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_in_any_chunks_and_in_the_archives_order_it_is_what_one_by_one_gives(
    told: list[Step], cuts: list[int], archived: bool
) -> None:
    changes = [said(at, step) for at, step in enumerate(told)]
    encoded = bodies(changes)
    offsets = np.arange(len(changes))
    if archived:  # whole digests stay together there
        rows = order(columns(encoded).digest, offsets)
        parts = [rows]
    else:
        parts = np.split(offsets, sorted(c for c in cuts if c < len(changes)))
    directory = Path(tempfile.mkdtemp())
    catalog = Catalog.begin(directory, ShardState.begin(0, 1, T0))
    try:
        for part in parts:
            some = gather(encoded, part)
            fold(catalog, columns(some), some, int(part.max(initial=-1)) + 1, 0)
        live, floors = naive(changes)
        assert known(catalog) == live
        # Of a record written once more, without delay, any earlier floor may stay: it is below that version anyway.
        held = catalog.state.floors
        kept = {d.tobytes(): int(at) for d, at in zip(held.digest, held.effective_at, strict=True)}
        assert all(at <= floors[name] for name, at in kept.items())
        newest = {c["digest"]: c for c in changes if c["op"] != "ASIDE"}
        raised = {n: c["effective_at"] for n, c in newest.items() if c["effective_at"] > c["lut"]}
        assert raised.items() <= kept.items()
        if changes:
            assert catalog.state.changes_through == len(changes)
    finally:
        catalog.close()
        shutil.rmtree(directory)


def test_floors_that_no_later_change_can_fall_below_are_not_kept(tmp_path: Path) -> None:
    some = bodies([said(0, (1, Op.DELETE, True)), said(9, (2, Op.DELETE, True))])
    catalog = Catalog.begin(tmp_path, ShardState.begin(0, 1, T0))
    fold(catalog, columns(some), some, 2, T0 + 5000)
    assert [d.tobytes() for d in catalog.state.floors.digest] == [digest(2)]
    catalog.close()
