"""Counts, sizes and spans of time as people read them. Pure."""

_TIMES = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def span(ms: int) -> str:
    """A span of time in its two largest units: `2 d 3 h`, `1.25 s`, `40 ms`."""
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.3g} s"
    parts = []
    for size, unit in _TIMES:
        if ms >= size:
            parts.append(f"{ms // size} {unit}")
            ms %= size
    return " ".join(parts[:2])


def count(number: int, what: str) -> str:
    """So many of something: `1 record`, `1,234 records`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def size(count: float) -> str:
    """Bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
