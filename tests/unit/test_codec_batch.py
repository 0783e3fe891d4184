"""Batch rows say what bodies say, as the plain twin and the wire's own parser read them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc import codec
from cdc.codec import records_plain
from cdc.errors import RecordNotEncodable
from cdc.model import Bodies
from cdc.wire import messages as m
from cdc.wire.rows import HEAD, Row, parse_batch
from tests.unit.test_codec_changes import bodies_of, changes

NOW_MS = 1_800_000_000_000
SOON = st.integers(NOW_MS - 10_000, NOW_MS + 1_000_000)


def parsed(data: bytes, count: int) -> tuple[Row, ...]:
    return parse_batch(HEAD.pack(count, 0) + data)[1]


@given(st.lists(changes(), min_size=1, max_size=5), st.data())
@settings(max_examples=100, deadline=None)
def test_rows_are_those_of_the_plain_twin(made: list[dict[str, Any]], data: st.DataObject) -> None:
    made = [{**c, "void_time": data.draw(st.none() | SOON)} for c in made]
    bodies = bodies_of([codec.encode_python(c) for c in made])
    rows = np.array(data.draw(st.lists(st.integers(0, len(made) - 1), min_size=1, max_size=6)))
    guards = np.array([data.draw(st.sampled_from([-1, 0, 5, 65535])) for _ in rows], np.int32)

    out = codec.batch_rows(bodies, rows, b"space", NOW_MS, guards)

    expected = [records_plain.row(bodies[r], i, b"space", NOW_MS, int(guards[i])) for i, r in enumerate(rows)]
    assert out == b"".join(expected)
    bare = codec.batch_rows(bodies, rows, b"space", NOW_MS)
    assert int(codec.row_sizes(bodies, rows, b"space", NOW_MS).sum()) == len(bare)
    assert len(out) == len(bare) + 2 * int((guards >= 0).sum())


def one(**given: Any) -> Bodies:
    change = {"op": "WRITE", "origin": "BASE", "digest": bytes(range(20)), "lut": 1, "generation": 1, "void_time": None,
              "effective_at": 1, "unobserved_since": 0, "observed_at": 2, "consecutive": False, "set": "s",
              "user_key": None, "bins": {"b": 1}}  # fmt: skip
    return bodies_of([codec.encode_python({**change, **given})])


@pytest.mark.parametrize(
    ("void_time", "ttl"),
    [(None, 0xFFFFFFFF), (NOW_MS + 60_000, 60), (NOW_MS + 999, 1), (NOW_MS, 1), (NOW_MS - 5_000, 1)],
)
def test_the_ttl_leads_to_the_absolute_void_time_and_is_never_the_namespace_default(void_time: Any, ttl: int) -> None:
    (row,) = parsed(codec.batch_rows(one(void_time=void_time), np.array([0]), b"test", NOW_MS), 1)

    assert row.ttl == ttl


def test_an_ended_record_becomes_a_remove_without_key_or_bins() -> None:
    (row,) = parsed(codec.batch_rows(one(op="DELETE", bins={}), np.array([0]), b"test", NOW_MS), 1)

    assert (row.info2, row.info3, row.ttl, row.ops) == (m.INFO2_WRITE | m.INFO2_DELETE, 0, None, ())
    assert row.fields == ((0, b"test"), (1, b"s"))


def test_create_only_does_not_replace() -> None:
    (row,) = parsed(codec.batch_rows(one(), np.array([0]), b"test", NOW_MS, create_only=True), 1)

    assert (row.info2, row.info3) == (m.INFO2_WRITE | m.INFO2_CREATE_ONLY, 0)


def test_what_the_protocol_cannot_say_is_refused_by_its_row() -> None:
    for bodies in (one(bins={}), one(bins={"n" * 256: 1}), one(void_time=NOW_MS + (1 << 45))):
        with pytest.raises(RecordNotEncodable, match="row 1"):
            codec.batch_rows(bodies_of([one()[0], bodies[0]]), np.array([0, 1]), b"test", NOW_MS)


def test_guards_must_fit_the_rows() -> None:
    for guards in (np.array([], np.int32), np.array([1, 2], np.int32), np.array([65536], np.int32)):
        with pytest.raises(ValueError, match="guards"):
            codec.batch_rows(one(), np.array([0]), b"test", NOW_MS, guards)


@given(st.lists(st.sampled_from([-1, -1, 0, 7]), max_size=5))
@settings(max_examples=50, deadline=None)
def test_removes_name_every_digest_and_guard_the_generation(guards: list[int]) -> None:
    digests = np.arange(20 * len(guards), dtype=np.uint8).reshape(-1, 20)

    rows = parsed(codec.batch_removes(digests, b"test", np.array(guards, np.int32)), len(guards))

    assert [(r.index, r.digest) for r in rows] == [(i, digests[i].tobytes()) for i in range(len(guards))]
    assert [r.generation for r in rows] == [None if g < 0 else g for g in guards]
    remove = m.INFO2_WRITE | m.INFO2_DELETE
    assert [r.info2 for r in rows] == [remove if g < 0 else remove | m.INFO2_GENERATION for g in guards]


@pytest.mark.parametrize("expression", [None, b"\x93\x01\x02\x03"])
def test_reads_repeat_the_first_row(expression: bytes | None) -> None:
    digests = np.arange(60, dtype=np.uint8).reshape(3, 20)

    rows = parsed(codec.read_rows(digests, np.array([2, 0]), b"test", expression), 2)

    assert [(r.index, r.digest) for r in rows] == [(0, digests[2].tobytes()), (1, digests[0].tobytes())]
    ops = () if expression is None else (m.Op(7, b"v", 0, b"\x92" + expression + b"\x00"),)
    info1 = m.INFO1_READ | (m.INFO1_GET_ALL if expression is None else 0)
    assert {(r.info1, r.fields, r.ops) for r in rows} == {(info1, ((0, b"test"),), ops)}
    assert codec.read_rows(digests, np.array([], np.int64), b"test") == b""
