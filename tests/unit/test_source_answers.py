"""A node that answers less than it was asked: what it leaves out must not be left out of what is captured."""

import struct
from collections.abc import Callable

import pytest

from cdc.errors import ProtocolError
from cdc.source import Source
from cdc.wire import messages as m
from tests.fixtures.wire import Loopback, OneNode

Start = Callable[..., tuple[Loopback, OneNode]]
DIGEST = struct.pack("<H", 7) + bytes(18)
MS = 1_700_000_000_000


def integer(number: int) -> bytes:
    return m.Op(m.OpType.READ, b"v", m.Particle.INTEGER, struct.pack(">q", number)).pack()


NOTHING = m.Op(m.OpType.READ, b"v").pack()


def serving(start: Start, lut: bytes) -> Source:
    """The source of a node with one record, which answers with the bin `lut` when asked for its update time."""

    def answer(number: int, kind: int, payload: bytes) -> bytes:
        if kind == m.TYPE_INFO:
            return m.frame(kind, b"build\t8.1.2.0\n")
        request = m.parse_message(payload)
        batch = request.field(m.FieldType.BATCH) is not None
        projects = batch or any(op.op == m.OpType.EXPRESSION_READ for op in request.ops)
        fields = [] if batch else [m.field(m.FieldType.DIGEST, DIGEST)]
        said = m.message(m.Header(generation=1), fields, [lut if projects else integer(1)])
        return m.frame(m.TYPE_MESSAGE, said + m.message(m.Header(info3=m.INFO3_LAST)))

    _, cluster = start(answer)
    return Source(cluster, "test")


@pytest.mark.parametrize("records_per_second", [0, 1_000], ids=["by batch", "by query"])
def test_a_record_whose_update_time_is_not_said_is_not_passed_over(loopback: Start, records_per_second: int) -> None:
    whole = serving(loopback, integer(MS * 1_000_000)).observe([7], records_per_second=records_per_second)
    assert whole.lut.tolist() == [MS]
    with pytest.raises(ProtocolError, match="without"):
        serving(loopback, NOTHING).observe([7], records_per_second=records_per_second)
