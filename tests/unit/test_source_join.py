"""Rows matched by digest, and what a look makes of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.codec.frames import Records, Rejected
from cdc.model import Bodies
from cdc.source import expressions, join_kernels, join_plain
from cdc.source.observed import Look, once

FEW = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12)


def digests(pairs: list[tuple[int, int]]) -> np.ndarray:
    """Digests that agree in the bytes that are hashed, in the others, in both, or in none."""
    made = np.zeros((len(pairs), 20), np.uint8)
    for row, (hashed, other) in enumerate(pairs):
        made[row, 15], made[row, 3] = hashed, other
    return made


@settings(deadline=None)
@given(FEW, FEW)
def test_rows_are_matched_alike_by_kernel_and_twin(wanted: list, among: list) -> None:
    found = join_kernels.last_rows(digests(wanted), digests(among))
    assert found.tolist() == join_plain.last_rows(digests(wanted), digests(among)).tolist()


def test_many_rows_find_themselves() -> None:
    many = np.random.default_rng(1).integers(0, 256, (10_000, 20), dtype=np.uint8)
    order = np.random.default_rng(2).permutation(len(many))
    assert np.array_equal(join_kernels.last_rows(many[order], many), order)


def records(pairs: list[tuple[int, int]], contents: list[bytes], rejected: tuple[Rejected, ...] = ()) -> Records:
    n = len(pairs)
    offsets = np.cumsum([0, *map(len, contents)])
    return Records(
        digests(pairs), np.arange(n, dtype=np.int32), np.zeros(n, np.int64), np.zeros(n, np.uint64),
        np.arange(n, dtype=np.uint64), Bodies(np.frombuffer(b"".join(contents), np.uint8), offsets), rejected,
        np.full(n, -1, np.int64),
    )  # fmt: skip


def test_of_a_record_that_came_twice_the_later_one_holds() -> None:
    twice = (Rejected(b"x", "first", b""), Rejected(b"", "nameless", b""), Rejected(b"x", "second", b""))
    kept = once(records([(1, 1), (2, 2), (1, 1)], [b"old", b"two", b"new"], twice))
    assert kept.generation.tolist() == [1, 2]
    assert [kept.contents[i] for i in range(2)] == [b"two", b"new"]
    assert sorted(r.reason for r in kept.rejected) == ["nameless", "second"]


def test_parts_of_a_look_are_joined_in_order() -> None:
    one = Look(records([(1, 1)], [b"a"]), np.array([5]), np.array([0]))
    two = Look(records([(2, 2), (3, 3)], [b"b", b"c"]), np.array([6, 7]), np.array([0, 0]))
    whole = Look.joined([one, two.take(np.array([1]))])
    assert [whole.records.contents[i] for i in range(2)] == [b"a", b"c"]
    assert whole.lut.tolist() == [5, 7]
    assert whole.torn.tolist() == [False, True]


def test_filters_nest_and_an_absent_one_is_true_everywhere() -> None:
    a, b = expressions.lut_at_least(1), expressions.in_sets(["x"])
    assert expressions.both(None, None) is None
    assert expressions.both(a, None) == a
    assert expressions.both(None, b) == b
    assert expressions.both(a, b) == b"\x93\x10" + a + b


@pytest.mark.parametrize(
    "wrong",
    [lambda: expressions.lut_at_least(-1), lambda: expressions.in_sets([]), lambda: expressions.not_in_sets([])],
)
def test_a_filter_that_cannot_be_said_is_a_wrong_value(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"negative|no set"):
        wrong()
