"""What readings of counts and counters prove, what an end is called, and what a restart cannot hide."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.collector.deletes import Reading, agreeing, cleared, ends_of, proven
from cdc.collector.entries import ASIDE, Entries
from cdc.model import PARTITIONS, Op
from cdc.source import NodeStanding, Scope, Truncations

NOW = 1_700_000_000_000
ALL = Scope()
CLEAR = np.zeros(PARTITIONS, np.bool_)
NODE = NodeStanding("A", NOW, 1000, "K", 0, 0, 0, 0, Truncations(0, {}), 1, 0, 0, 0, {})


def of(count: int) -> np.ndarray:
    return np.full(PARTITIONS, count, np.int64)


def reading(at_s: float, *nodes: NodeStanding, count: int = 3, settled: bool = True) -> Reading:
    """At so many seconds; nodes have run for as long as it was since they were made."""
    aged = tuple(replace(n, uptime_s=n.uptime_s + int(at_s)) for n in nodes or (NODE,))
    return Reading(NOW + int(at_s * 1000), at_s, at_s, aged, of(count), settled)


def digests(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint8).repeat(20).reshape(n, 20)


BEFORE = reading(1)


def test_equal_counts_prove_a_partition_that_is_not_hazy() -> None:
    catalogued, hazy = of(3), CLEAR.copy()
    catalogued[:3], hazy[3] = (2, 4, -1), True
    out = proven(BEFORE, reading(2), catalogued, hazy, ALL)
    assert np.flatnonzero(~out).tolist() == [0, 1, 2, 3]


def test_a_count_that_has_fallen_since_proves_nothing() -> None:
    assert not proven(BEFORE, reading(2, count=2), of(3), CLEAR, ALL).any()
    assert proven(BEFORE, reading(2, count=4), of(3), CLEAR, ALL).all()


@pytest.mark.parametrize(
    ("after", "unrest"),
    [
        (reading(2, replace(NODE, deleted=1)), ""),
        (reading(2, replace(NODE, expired=1)), ""),
        (reading(2, replace(NODE, evicted=1)), ""),
        (reading(2, replace(NODE, truncations=Truncations(5, {}))), ""),
        (reading(2, replace(NODE, truncations=Truncations(0, {"s": 5}))), ""),
        (reading(2, replace(NODE, truncations=Truncations(0, {}, under_way=True))), ""),
        (reading(2, replace(NODE, uptime_s=0)), "node A restarted"),
        (reading(2, replace(NODE, cluster_key="L")), "the cluster's members changed"),
        (reading(2, settled=False), "partitions migrate, or a node does not answer"),
        (reading(2, NODE, replace(NODE, name="B")), "a node came or went"),
        (reading(2, replace(NODE, name="B")), "a node came or went"),
    ],
)
def test_counts_prove_nothing_once_something_went_restarted_migrated_or_was_truncated(
    after: Reading, unrest: str
) -> None:
    assert not proven(BEFORE, after, of(3), CLEAR, ALL).any()
    assert after.unrest_since(BEFORE) == unrest


def test_a_truncation_that_a_second_node_learns_later_is_a_disturbance_of_its_own() -> None:
    cut, other = replace(NODE, truncations=Truncations(5, {})), replace(NODE, name="B")
    halfway = reading(1, cut, other)
    assert not reading(2, cut, replace(other, truncations=Truncations(5, {}))).undisturbed_since(halfway)


def test_a_truncation_undone_is_a_disturbance() -> None:
    assert not reading(2).undisturbed_since(reading(1, replace(NODE, truncations=Truncations(0, {"s": 5}))))


@given(
    st.integers(0, 10**6), st.floats(0, 3600), st.floats(0, 2), st.floats(0, 1), st.integers(0, 5), st.integers(0, 5)
)
@settings(max_examples=200)
def test_a_restart_is_noticed_whatever_the_counters_and_the_key_say(
    ran_s: int, passed_s: float, answered_in_s: float, restarted: float, gone: int, after: int
) -> None:
    """Unless the node ran, and then passed, less than what uptimes cannot tell: there only key and counters do."""
    before = reading(0, replace(NODE, uptime_s=ran_s, deleted=gone))
    later = Reading(NOW, passed_s, passed_s + answered_in_s, before.nodes, of(3), True)
    quiet = replace(NODE, uptime_s=int(ran_s + passed_s + answered_in_s), deleted=gone)
    assert not replace(later, nodes=(quiet,)).unrest_since(before)
    again = replace(NODE, uptime_s=int((passed_s + answered_in_s) * restarted), deleted=after)
    noticed = replace(later, nodes=(again,)).unrest_since(before)
    assert noticed or (ran_s <= 2 + answered_in_s and after >= gone)
    assert replace(later, nodes=(replace(again, cluster_key="L"),)).unrest_since(before)


SCOPES = {"partitions": ALL, "a set": Scope(include=("s",)), "totals": ALL}
HOW = st.sampled_from(sorted(SCOPES))
"""What of it is counted."""


def counts(how: str, first: int) -> np.ndarray:
    """Partition counts of a reading: all records are in the first one. A brief reading has none."""
    return np.append([first], np.zeros(PARTITIONS - 1, np.int64)) if how != "totals" else np.empty(0, np.int64)


@given(
    st.sets(st.integers(0, 9), min_size=1), st.sets(st.integers(0, 9)), st.sets(st.integers(10, 14)),
    st.sets(st.integers(15, 19)), st.sets(st.integers(0, 19)), st.booleans(), HOW,
)  # fmt: skip
@settings(max_examples=600)
def test_a_proven_partition_hides_no_delete_whatever_came_and_went(
    catalogued: set[int], deleted: set[int], inserted: set[int], later: set[int], vanishing: set[int], counted: bool,
    how: str,
) -> None:  # fmt: skip
    """Deletes before the reading, inserts before and after it, records that vanish before the sweep: whenever the rule
    says proven, every record of the catalog was there at the reading."""
    at_reading = (catalogued - deleted) | inserted
    vanished = vanishing & at_reading if counted else set()
    at_sweep = (at_reading - vanished) | later
    known = len(catalogued | at_sweep)
    before, after = (
        replace(
            reading(at, replace(NODE, deleted=gone, objects=n, masters=n, sets={"s": n})),
            counts=counts(how, n),
        )
        for at, gone, n in ((1, 0, len(at_reading)), (2, len(vanished), len(at_sweep)))
    )
    mine = np.append([known], np.zeros(PARTITIONS - 1, np.int64))
    if proven(before, after, mine, CLEAR, SCOPES[how])[0]:
        assert catalogued <= at_reading


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.integers(0, 3), st.integers(0, 3), HOW)
@settings(max_examples=600)
def test_since_nothing_went_and_no_life_was_shortened_equal_counts_leave_no_known_record_that_is_over(
    deleted: set[int], shortened: set[int], unseen: int, seen: int, how: str
) -> None:
    """Ten known records: some were deleted, some got a shorter life that is over; others came and expired before any
    sweep showed them, and others came and were shown. What has expired still counts."""
    known, there = 10 + seen, 10 - len(deleted) + unseen + seen
    gone = replace(
        NODE, deleted=len(deleted), shortened=len(shortened), objects=there, masters=there, sets={"s": there}
    )
    before, after = (replace(reading(at, gone), counts=counts(how, there)) for at in (1, 2))
    mine = np.append([known], np.zeros(PARTITIONS - 1, np.int64))
    agree = agreeing(before, after, mine, SCOPES[how])
    if after.quiet_since(reading(0)) and agree[0]:
        assert not deleted
        assert not shortened
        assert not unseen


def test_of_a_server_that_does_not_count_shortened_lives_nothing_is_quiet() -> None:
    assert reading(2).quiet_since(BEFORE)
    silent = replace(NODE, shortened=-1)
    assert not reading(2, silent).quiet_since(reading(1, silent))


PLACES = st.dictionaries(st.integers(0, 12), st.tuples(st.integers(0, 2), st.booleans()), max_size=13)


@given(PLACES, st.sets(st.integers(0, 12)), st.sets(st.integers(0, 12)), st.sets(st.integers(0, 12)))
@settings(max_examples=400)
def test_the_records_of_sets_are_counted_over_nodes_and_copies_or_not_at_all(
    records: dict[int, tuple[int, bool]], half_written: set[int], ghosts: set[int], gone: set[int]
) -> None:
    """Three nodes, two copies of a record: one at its master, one at the next node. A copy not written yet makes the
    sum smaller; one that outlived its record (a ghost) makes it say nothing, or is outweighed by a copy not written."""
    scope = Scope(include=("in",))
    held = [{"in": 0, "out": 0} for _ in range(3)]
    masters = [0, 0, 0]
    live = set(records) - gone
    for key, (node, inside) in records.items():
        name = "in" if inside else "out"
        if key in live:
            masters[node] += 1
            held[node][name] += 1
        if (key in live and key not in half_written) or (key not in live and key in ghosts):
            held[(node + 1) % 3][name] += 1
    nodes = tuple(
        replace(NODE, name=str(i), copies=2, objects=sum(held[i].values()), masters=masters[i], sets=held[i])
        for i in range(3)
    )
    found = reading(1, *nodes).records_in(scope)
    truth = sum(records[key][1] for key in live)
    clean = not (half_written & live) and not (ghosts & (set(records) - live))
    assert not clean or found == truth
    if not ghosts & (set(records) - live):
        assert found is None or found <= truth


def test_what_counts_say_of_a_scope() -> None:
    node = replace(NODE, objects=10, masters=10, sets={"a": 4, "b": 3})
    now = reading(1, node)
    assert now.records_in(Scope(include=("a", ""))) == 7
    assert now.records_in(Scope(exclude=("a",))) == 6
    assert now.records_in(Scope(include=("nix",))) == 0
    assert now.records_in(Scope(include=("a",), filter=b"x")) is None
    assert reading(1, replace(node, tombstones=1)).records_in(Scope(include=("a",))) is None
    assert reading(1, replace(node, copies=2)).records_in(Scope(include=("a",))) is None
    one_node_less = replace(node, objects=20, masters=10, copies=2, sets={"a": 8})
    assert reading(1, one_node_less).records_in(Scope(include=("a",))) == 4
    assert reading(1, node, replace(node, name="B", objects=30, masters=7)).records_in(ALL) == 17


@pytest.mark.parametrize("how", ["a set", "totals"])
def test_sets_and_totals_are_proven_as_one_and_only_by_who_has_all_shards(how: str) -> None:
    scope = SCOPES[how]
    node = replace(NODE, objects=3 * PARTITIONS, masters=3 * PARTITIONS, sets={"s": 3 * PARTITIONS})
    first, before, after = (replace(reading(at, node), counts=counts(how, 0)) for at in (0, 1, 2))
    assert proven(before, after, of(3), CLEAR, scope).all()
    fewer = replace(node, objects=3 * PARTITIONS - 1, masters=3 * PARTITIONS - 1, sets={"s": 3 * PARTITIONS - 1})
    assert not proven(before, replace(after, nodes=(fewer,)), of(3), CLEAR, scope).any()
    assert not proven(first, after, of(4), CLEAR, scope).any()
    hazy = CLEAR.copy()
    hazy[5] = True
    assert not proven(before, after, of(3), hazy, scope).any()
    part = of(3)
    part[5] = -1
    assert not proven(before, after, part, CLEAR, scope).any()
    assert not proven(before, replace(after, nodes=(replace(node, deleted=1),)), of(3), CLEAR, scope).any()
    if how == "totals":
        return  # a look never follows a brief reading
    assert cleared(before, after, after, ~CLEAR, of(3), scope).all()
    assert not cleared(before, after, after, ~CLEAR, of(2), scope).any()
    assert not cleared(before, after, after, hazy, of(3), scope).any()


def test_a_look_frees_of_haze_where_counts_and_records_agree() -> None:
    looked = CLEAR.copy()
    looked[:2] = True
    shown = of(3)
    shown[1] = 2
    assert np.flatnonzero(cleared(BEFORE, reading(2), reading(3), looked, shown, ALL)).tolist() == [0]
    assert not cleared(BEFORE, reading(2), reading(3, replace(NODE, expired=1)), looked, shown, ALL).any()


def test_only_evictions_between_two_readings_are_told_from_deletes_beside_them() -> None:
    assert reading(2, replace(NODE, evicted=4)).only_evicted_since(BEFORE)
    assert reading(2, replace(NODE, evicted=4, expired=2)).only_evicted_since(BEFORE)
    assert not reading(2).only_evicted_since(BEFORE)
    assert not reading(2, replace(NODE, evicted=4, deleted=1)).only_evicted_since(BEFORE)
    assert not reading(2, replace(NODE, evicted=4, cluster_key="L")).only_evicted_since(BEFORE)


def gone(void_times: list[int], numbers: list[int] | None = None) -> Entries:
    n = len(void_times)
    return Entries.of(
        digests(n), np.full(n, NOW - 9000), np.ones(n, np.int32), np.array(void_times), np.zeros(n, np.uint64),
        np.array(numbers or [0] * n, np.uint16),
    )  # fmt: skip


def test_an_end_is_a_truncation_an_expiry_an_eviction_or_a_delete_in_this_order() -> None:
    entries = gone([0, NOW - 1000, NOW + 1000, NOW - 1000, 0], [0, 0, 0, 0, ASIDE])
    cut = np.array([0, 0, 0, NOW - 5000, NOW - 5000])
    for evicting in (False, True):
        rows, effective_at = ends_of(entries, cut, np.full(5, NOW - 6000), NOW, evicting)
        assert {op: list(r) for op, r in rows.items()} == {
            Op.DELETE: [0, 4] if evicting else [0, 2, 4], Op.EXPIRY: [1], Op.EVICTION: [2] if evicting else [],
            Op.TRUNCATION: [3],
        }  # fmt: skip
        assert effective_at.tolist() == [NOW, NOW - 1000, NOW, NOW - 5000, NOW]


def test_a_truncation_that_names_an_earlier_time_does_not_say_when_its_records_went() -> None:
    """`truncate` with a LUT removes, now, what was last written before that LUT: until now those records were there."""
    rows, effective_at = ends_of(gone([0]), np.array([NOW - 5000]), np.array([NOW - 1000]), NOW)
    assert rows[Op.DELETE].tolist() == [0]
    assert effective_at.tolist() == [NOW]


def test_a_truncation_in_the_future_has_happened_when_its_records_are_found_gone() -> None:
    """Its moment is that of a node whose clock was ahead, or set back since."""
    rows, effective_at = ends_of(gone([0]), np.array([NOW + 60_000]), np.array([NOW - 1000]), NOW)
    assert rows[Op.TRUNCATION].tolist() == [0]
    assert effective_at.tolist() == [NOW]
