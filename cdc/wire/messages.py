"""The bytes of Aerospike's wire protocol: constants, builders, and parsers that raise ProtocolError and nothing else.

Shared by the client side and the emulator. The layout is the server's `as/include/base/proto.h`: a frame is 8 bytes
(version 2, type, 48 bits of size) and its payload; the payload of type 3 is one or more messages, each a 22-byte
header, fields and ops. All big-endian, but partition ids in a query are little-endian. Here is no I/O.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from cdc.errors import ProtocolError

Buffer = bytes | bytearray | memoryview

VERSION = 2
FRAME_HEAD = 8
FRAME_LIMIT = 128 << 20
"""The server refuses larger frames (PROTO_SIZE_MAX); so do we, before any memory is taken."""

TYPE_INFO = 1
TYPE_SECURITY = 2
TYPE_MESSAGE = 3
TYPE_COMPRESSED = 4

INFO1_READ = 1 << 0
INFO1_GET_ALL = 1 << 1
INFO1_SHORT_QUERY = 1 << 2
INFO1_BATCH = 1 << 3
INFO1_NO_BINS = 1 << 5
INFO1_COMPRESS_RESPONSE = 1 << 7

INFO2_WRITE = 1 << 0
INFO2_DELETE = 1 << 1
INFO2_GENERATION = 1 << 2
INFO2_GENERATION_GT = 1 << 3
INFO2_DURABLE_DELETE = 1 << 4
INFO2_CREATE_ONLY = 1 << 5
INFO2_RESPOND_ALL_OPS = 1 << 7

INFO3_LAST = 1 << 0
INFO3_COMMIT_LEVEL_MASTER = 1 << 1
INFO3_PARTITION_DONE = 1 << 2
INFO3_UPDATE_ONLY = 1 << 3
INFO3_CREATE_OR_REPLACE = 1 << 4
INFO3_REPLACE_ONLY = 1 << 5

BATCH_INLINE_MEMORY = 1 << 0
BATCH_INLINE_DEVICE = 1 << 1
BATCH_REPORT_ALL_ERRORS = 1 << 2

ROW_REPEAT = 1 << 0
ROW_EXTRA_INFO = 1 << 1
ROW_GENERATION = 1 << 2
ROW_TTL = 1 << 3
ROW_INFO4 = 1 << 4


class FieldType(IntEnum):
    """Types of a message's fields."""

    NAMESPACE = 0
    SET = 1
    KEY = 2
    RECORD_VERSION = 3
    DIGEST = 4
    TRANSACTION_ID = 7  # of a query: its number
    SOCKET_TIMEOUT = 9
    RECORDS_PER_SECOND = 10
    PARTITIONS = 11
    DIGESTS = 12
    SAMPLE_MAX = 13
    INDEX_NAME = 21
    INDEX_RANGE = 22
    UDF_FILENAME = 30
    UDF_FUNCTION = 31
    UDF_ARGUMENTS = 32
    UDF_OP = 33
    BATCH = 41
    BATCH_WITH_SET = 42
    FILTER = 43


class OpType(IntEnum):
    """What an op does."""

    READ = 1
    WRITE = 2
    CDT_READ = 3
    CDT_MODIFY = 4
    INCREMENT = 5
    EXPRESSION_READ = 7
    EXPRESSION_MODIFY = 8
    APPEND = 9
    PREPEND = 10
    TOUCH = 11
    BITS_READ = 12
    BITS_MODIFY = 13
    DELETE_ALL = 14
    HLL_READ = 15
    HLL_MODIFY = 16


class Particle(IntEnum):
    """Particle types of bin values and user keys."""

    NULL = 0
    INTEGER = 1
    FLOAT = 2
    STRING = 3
    BLOB = 4
    JAVA_BLOB = 7
    CSHARP_BLOB = 8
    PYTHON_BLOB = 9
    RUBY_BLOB = 10
    PHP_BLOB = 11
    ERLANG_BLOB = 12
    VECTOR = 13
    BOOL = 17
    HLL = 18
    MAP = 19
    LIST = 20
    GEOJSON = 23


class Result(IntEnum):
    """Result codes that something here or in the emulator acts on."""

    OK = 0
    UNKNOWN = 1
    NOT_FOUND = 2
    GENERATION = 3
    PARAMETER = 4
    RECORD_EXISTS = 5
    BIN_EXISTS = 6
    CLUSTER_KEY_MISMATCH = 7
    OUT_OF_SPACE = 8
    TIMEOUT = 9
    UNAVAILABLE = 11
    INCOMPATIBLE_TYPE = 12
    RECORD_TOO_BIG = 13
    KEY_BUSY = 14
    QUERY_ABORT = 15
    UNSUPPORTED_FEATURE = 16
    BIN_NOT_FOUND = 17
    DEVICE_OVERLOAD = 18
    KEY_MISMATCH = 19
    NAMESPACE = 20
    BIN_NAME = 21
    FORBIDDEN = 22
    ELEMENT_NOT_FOUND = 23
    ELEMENT_EXISTS = 24
    ENTERPRISE_ONLY = 25
    OP_NOT_APPLICABLE = 26
    FILTERED_OUT = 27
    SECURITY_NOT_SUPPORTED = 51
    SECURITY_NOT_CONFIGURED = 52
    SECURITY_SCHEME = 53
    SECURITY_COMMAND = 54
    SECURITY_FIELD = 55
    SECURITY_STATE = 56
    USER = 60
    PASSWORD = 62
    EXPIRED_PASSWORD = 63
    CREDENTIAL = 65
    EXPIRED_SESSION = 66
    NOT_AUTHENTICATED = 80
    ROLE_VIOLATION = 81
    NOT_WHITELISTED = 82
    QUOTA_EXCEEDED = 83
    BATCH_DISABLED = 150
    BATCH_MAX_REQUESTS = 151
    BATCH_QUEUES_FULL = 152
    INDEX_NOT_FOUND = 201


def result_name(code: int) -> str:
    """A result code for people: its number, and its name where it has one."""
    try:
        return f"{code} ({Result(code).name})"
    except ValueError:
        return str(code)


_HEADER = struct.Struct(">BBBBBBIIIHH")
HEADER_SIZE = _HEADER.size
_FIELD = struct.Struct(">IB")
_OP = struct.Struct(">IBBBB")
_ROW = struct.Struct(">I20sB")
_BATCH = struct.Struct(">IB")


@dataclass(frozen=True, slots=True)
class Header:
    """A message's header. `record_ttl` is a TTL in seconds in a request and a void time (seconds since 2010) in an
    answer; `transaction_ttl` is a time-out in milliseconds in a request and the row's index in a batch's answer;
    `generation` is the partition's number in a partition-done message.
    """

    info1: int = 0
    info2: int = 0
    info3: int = 0
    info4: int = 0
    result: int = 0
    generation: int = 0
    record_ttl: int = 0
    transaction_ttl: int = 0
    n_fields: int = 0
    n_ops: int = 0

    def pack(self) -> bytes:
        """The 22 bytes."""
        return _HEADER.pack(
            HEADER_SIZE, self.info1, self.info2, self.info3, self.info4, self.result,
            self.generation, self.record_ttl, self.transaction_ttl, self.n_fields, self.n_ops,
        )  # fmt: skip

    @classmethod
    def parse(cls, buffer: Buffer, at: int = 0) -> Self:
        """The header that begins at `at`; ProtocolError if there is none."""
        if at < 0 or at + HEADER_SIZE > len(buffer):
            raise ProtocolError(f"a message is cut in its header at byte {at} of {len(buffer)}")
        size, *values = _HEADER.unpack_from(buffer, at)
        if size != HEADER_SIZE:
            raise ProtocolError(f"a message's header at byte {at} has size {size}, not {HEADER_SIZE}")
        return cls(*values)


@dataclass(frozen=True, slots=True)
class Op:
    """An op of a request, or a bin of an answer."""

    op: int
    name: bytes
    particle: int = 0
    value: bytes = b""

    def pack(self) -> bytes:
        """The op's bytes."""
        size = 4 + len(self.name) + len(self.value)
        return _OP.pack(size, self.op, self.particle, 0, len(self.name)) + self.name + self.value


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message: fields in order, with their types; `end` is where the next message begins."""

    header: Header
    fields: tuple[tuple[int, bytes], ...]
    ops: tuple[Op, ...]
    end: int

    def field(self, kind: int) -> bytes | None:
        """The data of the first field of a type; None if there is none."""
        return next((data for k, data in self.fields if k == kind), None)


def frame(kind: int, payload: Buffer) -> bytes:
    """A whole frame."""
    return frame_head(kind, len(payload)) + bytes(payload)


def frame_head(kind: int, size: int) -> bytes:
    """The 8 bytes before a payload of `size` bytes."""
    return struct.pack(">Q", VERSION << 56 | kind << 48 | size)


def parse_frame_head(head: Buffer, limit: int = FRAME_LIMIT) -> tuple[int, int]:
    """Type and payload size that 8 bytes announce. ProtocolError: another version, an unknown type, above the limit."""
    if len(head) != FRAME_HEAD:
        raise ProtocolError(f"a frame's head of {len(head)} bytes")
    (word,) = struct.unpack(">Q", head)
    version, kind, size = word >> 56, word >> 48 & 0xFF, word & 0xFFFF_FFFF_FFFF
    if version != VERSION:
        raise ProtocolError(f"a frame of protocol version {version}, not {VERSION}")
    if kind not in (TYPE_INFO, TYPE_SECURITY, TYPE_MESSAGE, TYPE_COMPRESSED):
        raise ProtocolError(f"a frame of unknown type {kind}")
    if size > limit:
        raise ProtocolError(f"a frame announces {size} bytes; at most {limit} are allowed")
    return kind, size


def decompress(payload: Buffer, limit: int = FRAME_LIMIT) -> bytes:
    """The whole frame (with its head) inside a compressed frame's payload: 8 bytes of its size, then zlib."""
    if len(payload) < 8:
        raise ProtocolError("a compressed frame without a size")
    (size,) = struct.unpack_from(">Q", payload)
    if not FRAME_HEAD <= size <= limit + FRAME_HEAD:
        raise ProtocolError(f"a compressed frame announces {size} bytes")
    unpacker = zlib.decompressobj()
    try:
        inner = unpacker.decompress(memoryview(payload)[8:], size)
    except zlib.error as error:
        raise ProtocolError(f"a compressed frame is damaged: {error}") from error
    if len(inner) != size or unpacker.unconsumed_tail:
        raise ProtocolError(f"a compressed frame announces {size} bytes and holds another number")
    return inner


def compress(whole_frame: Buffer) -> bytes:
    """A compressed frame around a whole frame."""
    return frame(TYPE_COMPRESSED, struct.pack(">Q", len(whole_frame)) + zlib.compress(whole_frame))


def field(kind: int, data: Buffer) -> bytes:
    """A field's bytes."""
    return _FIELD.pack(len(data) + 1, kind) + bytes(data)


def message(header: Header, fields: Iterable[bytes] = (), ops: Iterable[bytes] = ()) -> bytes:
    """A message's bytes (no frame) of packed fields and ops; the header's counts are set here."""
    fields, ops = list(fields), list(ops)
    packed = bytearray(header.pack())
    struct.pack_into(">HH", packed, 18, len(fields), len(ops))
    return bytes(packed) + b"".join(fields) + b"".join(ops)


def parse_fields(buffer: Buffer, at: int, count: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """`count` fields from `at` on, and where they end. ProtocolError if they are cut."""
    found = []
    for _ in range(count):
        if at + 5 > len(buffer):
            raise ProtocolError(f"a field is cut at byte {at} of {len(buffer)}")
        size, kind = _FIELD.unpack_from(buffer, at)
        end = at + 4 + size
        if size < 1 or end > len(buffer):
            raise ProtocolError(f"a field of type {kind} at byte {at} announces {size} bytes of {len(buffer)}")
        found.append((kind, bytes(buffer[at + 5 : end])))
        at = end
    return tuple(found), at


def parse_ops(buffer: Buffer, at: int, count: int) -> tuple[tuple[Op, ...], int]:
    """`count` ops from `at` on, and where they end. ProtocolError if they are cut."""
    found = []
    for _ in range(count):
        if at + 8 > len(buffer):
            raise ProtocolError(f"an op is cut at byte {at} of {len(buffer)}")
        size, op, particle, flags, name_size = _OP.unpack_from(buffer, at)
        end, value = at + 4 + size, at + 8 + name_size
        if value > end or end > len(buffer):
            raise ProtocolError(f"an op at byte {at} announces {size} bytes, {name_size} of them its name")
        if flags & 1:
            value += 8  # a bin's own LUT, which only XDR sends
            if value > end:
                raise ProtocolError(f"an op at byte {at} is too short for its LUT")
        found.append(Op(op, bytes(buffer[at + 8 : at + 8 + name_size]), particle, bytes(buffer[value:end])))
        at = end
    return tuple(found), at


def parse_message(buffer: Buffer, at: int = 0) -> Message:
    """The message that begins at `at`. ProtocolError if it is cut or wrong."""
    header = Header.parse(buffer, at)
    fields, end = parse_fields(buffer, at + HEADER_SIZE, header.n_fields)
    ops, end = parse_ops(buffer, end, header.n_ops)
    return Message(header, fields, ops, end)


def parse_messages(payload: Buffer) -> Iterator[Message]:
    """All messages of a frame's payload."""
    at = 0
    while at < len(payload):
        parsed = parse_message(payload, at)
        yield parsed
        at = parsed.end
