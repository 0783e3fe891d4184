"""The plain twin of `scan_kernels.py`: the same answers, message by message."""

import struct

from cdc.errors import ProtocolError
from cdc.model import I32, I64, PARTITIONS, U8
from cdc.wire import messages as m

UNFINISHED = -1
DAMAGED = -2


def query_frame(b: U8, done: I32) -> int:
    """See `scan_kernels.query_frame`."""
    payload, at = b.tobytes(), 0
    while at < len(payload):
        try:
            message = m.parse_message(payload, at)
        except ProtocolError:
            return DAMAGED
        header = message.header
        partition_done = header.info3 & m.INFO3_PARTITION_DONE
        if header.info3 & m.INFO3_LAST or (header.result and not partition_done):
            return header.result if message.end == len(payload) else DAMAGED
        if partition_done:
            if header.generation >= PARTITIONS:
                return DAMAGED
            done[header.generation] = header.result
        at = message.end
    return UNFINISHED


def batch_frame(b: U8, result: I32, generation: I32, void_time: I64, value: I64, at: int) -> int:
    """See `scan_kernels.batch_frame`."""
    payload, i = b.tobytes(), 0
    while i < len(payload):
        try:
            message = m.parse_message(payload, i)
        except ProtocolError:
            return DAMAGED
        header = message.header
        if header.info3 & m.INFO3_LAST:
            return header.result if message.end == len(payload) else DAMAGED
        row = header.transaction_ttl
        if row >= at:
            return DAMAGED
        result[row], generation[row], void_time[row] = header.result, header.generation, header.record_ttl
        if message.ops and message.ops[0].particle == m.Particle.INTEGER and len(message.ops[0].value) == 8:
            (value[row],) = struct.unpack(">q", message.ops[0].value)
        i = message.end
    return UNFINISHED
