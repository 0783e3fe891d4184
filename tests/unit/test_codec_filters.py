"""A filter beside each row of a batch: the row is otherwise what it is without one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc import codec
from cdc.source import expressions
from cdc.wire.messages import FieldType
from tests.unit.test_codec_batch import NOW_MS, SOON, one, parsed
from tests.unit.test_codec_changes import bodies_of, changes


@given(st.lists(changes(), min_size=1, max_size=5), st.data())
@settings(max_examples=50, deadline=None)
def test_rows_with_filters_are_the_same_rows_and_have_each_its_own(
    made: list[dict[str, Any]], data: st.DataObject
) -> None:
    made = [{**c, "void_time": data.draw(st.none() | SOON)} for c in made]
    bodies, rows = bodies_of([codec.encode_python(c) for c in made]), np.arange(len(made))
    guards = np.array([data.draw(st.sampled_from([-1, 0, 5])) for _ in made], np.int32)
    luts = np.array([data.draw(st.integers(0, 4_000_000_000_000)) for _ in made])
    filters = expressions.not_after(luts)

    plain = parsed(codec.batch_rows(bodies, rows, b"space", NOW_MS, guards), len(made))
    filtered = parsed(codec.batch_rows(bodies, rows, b"space", NOW_MS, guards, filters=filters), len(made))

    kind = int(FieldType.FILTER)
    assert [row.field(kind) for row in filtered] == [packed.tobytes() for packed in filters]
    assert [replace(row, fields=tuple(f for f in row.fields if f[0] != kind)) for row in filtered] == list(plain)
    assert all(row.fields[0] == (0, b"space") for row in filtered)


def test_filters_must_be_one_a_row() -> None:
    with pytest.raises(ValueError, match="filters"):
        codec.batch_rows(one(), np.array([0]), b"test", NOW_MS, filters=np.zeros((2, 5), np.uint8))
