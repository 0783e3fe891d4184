"""Frames become columns and contents as their plain twin says; what cannot be said is kept; bounds are kept too."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc import codec
from cdc.clock import CITRUSLEAF_EPOCH_S
from cdc.codec import msgpack, records_plain
from cdc.codec.decode import content_to_python, encode_content
from cdc.codec.values_plain import List, Map, Raw
from cdc.errors import CodecError
from cdc.model import Bodies
from cdc.wire import messages as m

NUMBERS = ("generation", "void_time", "set_hash", "checksum")
names = st.text(max_size=5).map(str.encode) | st.just(b"\xff")
bins = st.lists(
    st.builds(lambda n, k, v: m.Op(1, n, k, v).pack(), names, st.sampled_from([1, 3, 4, 20]), st.binary(max_size=9)),
    max_size=3,
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A query's message: mostly a record, sometimes a partition that is done, an error or the last one."""
    info3 = draw(st.sampled_from([0, 0, 0, 0, m.INFO3_PARTITION_DONE, m.INFO3_LAST]))
    header = m.Header(
        info3=info3,
        result=draw(st.sampled_from([0, 0, 0, 0, 11])),
        generation=draw(st.integers(0, 65535)),
        record_ttl=draw(st.sampled_from([0, 1, 500_000_000, 0xFFFFFFFF])),
    )
    fields = [m.field(4, draw(st.binary(min_size=20, max_size=20)))]
    fields += [m.field(1, draw(names))] if draw(st.booleans()) else []
    fields += [m.field(2, draw(st.binary(min_size=1, max_size=10)))] if draw(st.booleans()) else []
    return m.message(header, draw(st.permutations(fields)), draw(bins))


def as_rows(got: codec.Records) -> list[tuple[Any, ...]]:
    return [
        (got.digest[i].tobytes(), *(int(getattr(got, name)[i]) for name in NUMBERS), got.contents[i])
        for i in range(len(got))
    ]


@given(st.lists(st.lists(answers(), max_size=6).map(b"".join), max_size=4))
@settings(max_examples=200, deadline=None)
def test_kernel_and_plain_twin_see_the_same_records(frames: list[bytes]) -> None:
    got = codec.records(frames)

    assert as_rows(got) == [row for frame in frames for row in records_plain.records(frame)]
    said = [x for f in frames for x in m.parse_messages(f) if not x.header.info3]
    assert len(got) + len(got.rejected) == len(said)


@given(st.lists(answers(), min_size=1, max_size=3).map(b"".join), st.data())
@settings(max_examples=300, deadline=None)
def test_a_cut_frame_is_refused_unless_it_ends_between_messages(frame: bytes, data: st.DataObject) -> None:
    ends = [0, *(x.end for x in m.parse_messages(frame))]
    cut = data.draw(st.integers(0, len(frame)))
    if cut in ends:
        codec.records([frame[:cut]])
        codec.digests([frame[:cut]])
    else:
        for read in (codec.records, codec.digests, codec.projections):
            with pytest.raises(CodecError, match="frame 1 is malformed at byte"):
                read([frame, frame[:cut]])


def record(digest: bytes, ops: list[bytes], **header: int) -> bytes:
    return m.message(m.Header(generation=3, **header), [m.field(4, digest), m.field(1, b"s")], ops)


def test_what_cannot_be_said_is_rejected_with_its_message_and_the_rest_goes_on() -> None:
    good = m.Op(1, b"b", 1, bytes(8)).pack()
    cases = {
        b"name": (record(b"n" * 20, [m.Op(1, b"\xff", 1, bytes(8)).pack()]), "bin's name"),
        b"bare": (record(b"e" * 20, []), "no bins"),
        b"huge": (record(b"h" * 20, [m.Op(1, b"b", 4, bytes(500)).pack()]), "larger"),
        b"code": (record(b"c" * 20, [good], result=14), "result code 14"),
        b"flag": (record(b"f" * 20, [good[:6] + b"\x02" + good[7:]]), "flags"),
        b"twice": (record(b"t" * 20, [good, m.Op(1, b"c", 1, bytes(8)).pack(), good]), "the same name"),
        b"set": (m.message(m.Header(), [m.field(4, b"s" * 20), m.field(1, b"\xc3")], [good]), "set's name"),
    }
    whole = b"".join(record(b"g" * 20, [good]) + message for message, _ in cases.values())

    got = codec.records([whole], limit=400)

    assert len(got) == len(cases)
    assert [got.contents[i] for i in range(len(got))] == [encode_content("s", None, {"b": 0})] * len(cases)
    assert [(r.message, reason in r.reason) for r, (_, reason) in zip(got.rejected, cases.values(), strict=True)] == [
        (message, True) for message, _ in cases.values()
    ]
    assert [r.digest[:1] for r in got.rejected] == [b"n", b"e", b"h", b"c", b"f", b"t", b"s"]
    assert [r.code for r in got.rejected] == [0, 0, 0, 14, 0, 0, 0]


@given(st.lists(st.integers(0, 2000), min_size=2, max_size=90), st.sampled_from([b"", b"x", b"bin%d", b"%da"]))
@settings(max_examples=100, deadline=None)
def test_a_record_with_two_bins_of_one_name_is_rejected_and_no_other(numbers: list[int], form: bytes) -> None:
    names = [form % i if b"%" in form else form for i in numbers]
    (got,) = [codec.records([record(b"d" * 20, [m.Op(1, name, 4, b"%d" % i).pack() for i, name in enumerate(names)])])]

    assert len(got.rejected) == (len(set(names)) < len(names))


@pytest.mark.parametrize(("count", "raw"), [(2_796_196, False), (2_796_197, True)])
def test_lists_and_maps_are_raw_where_they_would_make_the_content_larger_than_8_mebibytes(
    count: int, raw: bool
) -> None:
    small = msgpack.list_of([b"\x7f"] * count)
    empty = msgpack.map_of([])
    frame = record(b"a" * 20, [m.Op(1, n, k, v).pack() for n, k, v in ((b"l", 20, small), (b"m", 19, empty))])

    (content,) = codec.records([frame]).contents

    [plain] = records_plain.records(frame)
    assert content == plain[5]
    bins = dict(content_to_python(content)[2])
    assert bins == (
        {"l": Raw(20, small), "m": Raw(19, empty)} if raw else {"l": List(0, (127,) * count), "m": Map(0, ())}
    )
    assert raw or len(content) == 8 << 20


def test_a_record_without_a_digest_makes_the_frame_malformed() -> None:
    frame = m.message(m.Header(), [m.field(1, b"s")], [m.Op(1, b"b", 1, bytes(8)).pack()])

    for read in (codec.records, codec.digests):
        with pytest.raises(CodecError, match="no digest"):
            read([frame])


def test_projections_carry_the_integer_and_reject_what_has_none() -> None:
    lut = (1_700_000_000_123_000_000).to_bytes(8, "big")
    frame = record(b"a" * 20, [m.Op(1, b"v", 1, lut).pack()], record_ttl=60) + record(b"b" * 20, [])

    got = codec.projections([frame])

    assert got.value.tolist() == [1_700_000_000_123_000_000]
    assert got.void_time.tolist() == [(CITRUSLEAF_EPOCH_S + 60) * 1000]
    assert got.generation.tolist() == [3]
    assert [(r.digest, r.reason) for r in got.rejected] == [(b"b" * 20, "the answer has no integer")]
    assert codec.digests([frame]).digest.tobytes() == b"a" * 20 + b"b" * 20


def test_a_batch_s_answers_get_digest_set_and_key_from_what_was_asked() -> None:
    asked = np.frombuffer(b"x" * 20 + b"y" * 20, np.uint8).reshape(2, 20)
    parts = [encode_content("s", "k", {})[:-1], encode_content(None, None, {})[:-1]]
    heads = Bodies(np.frombuffer(b"".join(parts), np.uint8), np.array([0, len(parts[0]), len(parts[0]) + 2]))
    op = m.Op(1, b"b", 1, bytes(8)).pack()
    answers = [
        m.message(m.Header(transaction_ttl=row, result=code), [], [op]) for row, code in ((1, 0), (0, 0), (1, 2))
    ]

    got = codec.records([b"".join(answers)], asked=asked, heads=heads)

    assert [got.contents[i] for i in range(2)] == [
        encode_content(None, None, {"b": 0}),
        encode_content("s", "k", {"b": 0}),
    ]
    assert got.row.tolist() == [1, 0]
    assert got.digest.tobytes() == b"y" * 20 + b"x" * 20
    assert got.set_hash.tolist() == [0, records_plain.xxh64(b"s")]
    assert [(r.row, r.code) for r in got.rejected] == [(1, 2)]
    with pytest.raises(CodecError, match="not asked for"):
        codec.records([m.message(m.Header(transaction_ttl=2), [], [op])], asked=asked, heads=heads)


FUZZ = """
import random, sys
import numpy as np
from cdc import codec
from cdc.codec import msgpack
from cdc.errors import CdcError
from cdc.model import Bodies
from cdc.wire import messages as m
R = random.Random(int(sys.argv[1]))
pack = msgpack.pack
deep = pack([1, {"a": [b"x" * 300, "text", -5, 1 << 40], "b": {"c": None}}, True, 1.5])
def frame():
    geo = b"\\0\\0\\1" + bytes(8) + b"{}"
    values = ((20, deep), (3, b"text"), (1, bytes(8)), (23, geo))
    ops = [m.Op(1, b"bin%d" % i, k, v).pack() for i, (k, v) in enumerate(values)]
    fields = [m.field(4, bytes(20)), m.field(1, b"set"), m.field(2, b"\\x03key")]
    return b"".join(m.message(m.Header(generation=1), fields, ops) for _ in range(3))
good = frame()
contents = codec.records([good]).contents
header = bytes(20) + b"\\0\\2\\2\\2\\0\\2\\2\\2\\0"
body = header + contents[0]
def damage(data):
    data = bytearray(data)
    for _ in range(R.randrange(1, 4)):
        at = R.randrange(len(data))
        data[at] = R.choice((0, 1, 2, 0x7F, 0x80, 0xFF, 0xDF, 0xDD, 0xDB, R.randrange(256)))
    return bytes(data[: R.choice((len(data), R.randrange(len(data)) + 1))])
seen = 0
one = np.array([0])
for _ in range(6000):
    for call in (
        lambda: codec.records([damage(good)]),
        lambda: codec.projections([damage(good)]),
        lambda: codec.split_versions(damage(b"\\x02" + body), 1),
    ):
        try:
            call()
        except CdcError:
            seen += 1
    cut = damage(body)
    bodies = Bodies(np.frombuffer(cut, np.uint8), np.array([0, len(cut)]))
    for call in (codec.columns, codec.check, lambda b: codec.batch_rows(b, one, b"test", 0)):
        try:
            call(bodies)
        except CdcError:
            seen += 1
print("refused", seen)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_no_damage_however_wild_ends_the_process_or_raises_anything_else(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(seed)], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[1]) > 1000
