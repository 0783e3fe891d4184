"""Some bins of bodies are what the plain twin says, byte for byte, and their checksum is equal where they are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc import codec
from cdc.codec import bins, bins_plain, records_plain
from cdc.codec.bins import Absent
from cdc.codec.decode import encode_content
from cdc.codec.values_plain import to_avro
from cdc.errors import BodyDamaged, RecordNotEncodable
from cdc.wire import messages as m
from cdc.wire.rows import HEAD, parse_batch
from tests.unit.test_codec_batch import NOW_MS, SOON, one
from tests.unit.test_codec_changes import bodies_of, changes

MODES: list[Absent] = ["found", "nulls", "blank"]


@st.composite
def named(draw: st.DrawFn, made: list[dict[str, Any]]) -> list[str]:
    there = sorted({name for change in made for name in change["bins"]})
    names = draw(st.lists(st.sampled_from([*there, "absent", "b"]), min_size=1, max_size=4, unique=True))
    return draw(st.permutations(names))


@given(st.lists(changes(), min_size=1, max_size=5), st.sampled_from(MODES), st.data())
@settings(max_examples=150, deadline=None)
def test_chosen_bins_are_those_of_the_plain_twin(
    made: list[dict[str, Any]], absent: Absent, data: st.DataObject
) -> None:
    names = data.draw(named(made))
    bodies = bodies_of([codec.encode_python(c) for c in made])
    chosen = bins.choose(bodies, names, absent)
    codec.check(chosen.bodies)
    expected = [bins_plain.choose(body, names, absent) for body in bodies]
    assert list(zip(chosen.bodies, chosen.found.tolist(), chosen.checksum.tolist(), strict=True)) == expected


@given(st.lists(changes(), min_size=1, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_of_contents_the_same_bins_are_chosen_as_of_changes(made: list[dict[str, Any]], data: st.DataObject) -> None:
    made = [one for one in made if one["op"] == "WRITE"]
    names = data.draw(named(made))
    bodies = bodies_of([codec.encode_python(c) for c in made])
    contents = bodies_of([encode_content(c["set"], c["user_key"], c["bins"]) for c in made])
    of_changes, of_contents = (
        bins.choose(bodies, names, "nulls"), bins.choose(contents, names, "nulls", contents=True)
    )  # fmt: skip
    assert of_changes.found.tolist() == of_contents.found.tolist()
    assert of_changes.checksum.tolist() == of_contents.checksum.tolist()
    assert all(body.endswith(content) for body, content in zip(of_changes.bodies, of_contents.bodies, strict=True))


@given(st.lists(changes(), min_size=1, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_values_are_found_where_they_stand(made: list[dict[str, Any]], data: st.DataObject) -> None:
    names = data.draw(named(made))
    bodies = bodies_of([codec.encode_python(c) for c in made])
    spans = bins.find(bodies, names)
    for change, found in zip(made, spans, strict=True):
        for name, (start, end) in zip(names, found.tolist(), strict=True):
            assert (start >= 0) == (name in change["bins"])
            if start >= 0:
                said = bodies.buffer[start:end].tobytes()
                assert said == to_avro(change["bins"][name])


@given(st.lists(changes(), min_size=1, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_rows_that_update_are_those_of_the_plain_twin(made: list[dict[str, Any]], data: st.DataObject) -> None:
    made = [{**c, "void_time": data.draw(st.none() | SOON)} for c in made]
    bodies = bins.choose(bodies_of([codec.encode_python(c) for c in made]), data.draw(named(made)), "nulls").bodies
    rows = np.arange(len(made))
    guards = np.array([data.draw(st.sampled_from([-1, 0, 5])) for _ in rows], np.int32)
    out = codec.batch_rows(bodies, rows, b"space", NOW_MS, guards, update=True)
    assert out == b"".join(
        records_plain.row(bodies[i], i, b"space", NOW_MS, int(guards[i]), update=True) for i in rows.tolist()
    )


def test_a_bin_that_is_null_is_removed_by_an_update_and_left_out_of_a_new_record() -> None:
    chosen = bins.choose(one(bins={"a": 1, "b": 2}, user_key=7), ["b", "c"], "nulls").bodies

    def ops(update: bool) -> list[tuple[bytes, int]]:
        data = codec.batch_rows(chosen, np.array([0]), b"test", NOW_MS, update=update)
        (row,) = parse_batch(HEAD.pack(1, 0) + data)[1]
        assert row.info3 == (m.INFO3_UPDATE_ONLY if update else m.INFO3_CREATE_OR_REPLACE)
        assert row.ttl == (0xFFFFFFFE if update else 0xFFFFFFFF)
        assert (2 in dict(row.fields)) is not update
        return [(op.name, op.particle) for op in row.ops]

    assert ops(update=True) == [(b"b", 1), (b"c", 0)]
    assert ops(update=False) == [(b"b", 1)]
    blank = bins.choose(chosen, ["b", "c"], "blank").bodies
    with pytest.raises(RecordNotEncodable):  # a record without bins
        codec.batch_rows(blank, np.array([0]), b"test", NOW_MS)


def test_what_is_no_change_is_named_and_a_bin_is_named_once() -> None:
    whole = one()
    cut = bodies_of([whole[0], whole[0][:-3]])
    with pytest.raises(BodyDamaged, match="row 1"):
        bins.choose(cut, ["b"], "found")
    with pytest.raises(BodyDamaged, match="row 1"):
        bins.find(cut, ["b"])
    with pytest.raises(ValueError, match="twice"):
        bins.choose(whole, ["b", "b"], "found")


@given(changes(), st.data())
@settings(max_examples=200, deadline=None)
def test_bytes_that_changed_are_refused_or_read_within_bounds(change: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(codec.encode_python(change))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    bodies = bodies_of([bytes(body[: data.draw(st.integers(0, len(body)))])])
    try:
        spans = bins.find(bodies, ["a", "b"])
        bins.choose(bodies, ["a", "b"], data.draw(st.sampled_from(MODES)))
    except BodyDamaged:
        return
    there = spans[0, spans[0, :, 0] >= 0]
    assert (there[:, 0] < there[:, 1]).all()
    assert there.max(initial=0) <= len(bodies.buffer)
