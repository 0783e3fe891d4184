"""Avro's longs in Python, for single values."""

from cdc.errors import BodyDamaged


def long(value: int) -> bytes:
    """Zigzag, then seven bits a byte, lowest first."""
    left = (value << 1) ^ (value >> 63)
    out = bytearray()
    while left >= 0x80:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def read_long(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The long at a place, and the place after it. BodyDamaged if it is cut, too long or not in its shortest form."""
    value = shift = 0
    while True:
        if at >= len(data):
            raise BodyDamaged("an encoded change is cut in a number")
        byte = data[at]
        at += 1
        if shift == 63 and byte > 1:
            raise BodyDamaged("an encoded change holds a number of more than 64 bits")
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if byte == 0 and shift:
        raise BodyDamaged("an encoded change holds a number that is not in its shortest form")
    return (value >> 1) ^ -(value & 1), at
