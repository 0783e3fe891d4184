"""Options that say which records and bins a command is about."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from cdc.errors import UsageError
from cdc.model import PARTITIONS
from cdc.replayer.keys import digest_of, parse_digest, user_key
from cdc.replayer.wanted import Part
from cdc.replayer.where import BIN_NAME_MOST, condition

Sets = Annotated[
    list[str] | None, typer.Option("--set", "-s", help='Only this set, again and again; "": the null set.')
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key", "-k", help="Only this record of the one --set: 17 (or int:17), alice (or str:17), hex:00ff for bytes."
    ),
]
Digests = Annotated[list[str] | None, typer.Option("--digest", help="Only this record, by 40 hexadecimal digits.")]
KeysFile = Annotated[
    str,
    typer.Option(
        "--keys-file", help="Only the records of this file: a digest, or SET, a tab and KEY, a line (-: stdin)."
    ),
]
Partitions = Annotated[
    list[str] | None, typer.Option("--partition", help=f"Only this partition, or A-B; 0 to {PARTITIONS - 1}.")
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="Only records that had such a bin then: BIN == VALUE (or != < <= > >=), BIN exists, BIN missing. All must "
        "hold.",
    ),
]
Bins = Annotated[str, typer.Option("--bins", help="Bring back these bins alone: A,B. Others stay as they are.")]
Expired = Annotated[
    Literal["keep", "leave", "shift"],
    typer.Option(
        "--expired",
        help="What becomes of records whose time has passed since: they are gone (keep), or no part of it (leave); or "
        "every expiry is later by the time that passed (shift).",
    ),
]

_KEY_HINT: Final = "Give one --set with --key, or none for the null set."
_LINE_HINT: Final = "Each line is a digest of 40 hexadecimal digits, or SET, a tab and KEY; an empty SET: the null set."
_NAMED: Final = 3
"""So many lines that are wrong are named."""


def part_of(
    sets: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    digests: Sequence[str] | None = None,
    keys_file: str = "",
    partitions: Sequence[str] | None = None,
    where: Sequence[str] | None = None,
    bins: str = "",
) -> Part:
    """The part that the options mean. With keys the set only says whose they are; everything else are limits of their
    own. Raises UsageError; of a file with lines that are wrong nothing is taken."""
    named = list(dict.fromkeys(sets or ()))
    for name in named:
        if len(name.encode()) > 63 or re.search("[:;]", name):
            raise UsageError(f"--set {name!r} is no set's name", "It has at most 63 bytes, and neither : nor ;.")
    found = {parse_digest(text) for text in digests or ()}
    if keys:
        if len(named) > 1:
            raise UsageError(f"--key with {len(named)} sets: whose key is it?", _KEY_HINT)
        found |= {digest_of(named[0] if named else None, user_key(text)) for text in keys}
        named = []
    if keys_file:
        found |= _lines(keys_file)
    return Part(
        sets=tuple(named),
        digests=tuple(found),
        partitions=tuple(number for text in partitions or () for number in _partitions(text)),
        bins=_bins(bins),
        where=tuple(dict.fromkeys(condition(text) for text in where or ())),
    )


def _lines(path: str) -> set[bytes]:
    """The digests that a file names; lines that are empty say nothing."""
    try:
        text = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        # A mark of the byte order would else be part of the first set's name, and its record be in no archive.
        lines = [line.removesuffix("\r") for line in text.decode("utf-8-sig").split("\n")]
    except OSError as error:
        raise UsageError(f"--keys-file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise UsageError(f"--keys-file {path}: line {line} is not UTF-8", "Write keys of bytes as hex:00ff.") from None
    found, wrong = set(), []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.add(_line(line))
        except UsageError as error:
            wrong.append(f"line {number}: {error.message}")
    if wrong:
        more = f"; and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
        raise UsageError(f"--keys-file {path}: {'; '.join(wrong[:_NAMED])}{more}", _LINE_HINT)
    if not found:
        raise UsageError(f"--keys-file {path} names no record", _LINE_HINT)
    return found


def _line(line: str) -> bytes:
    set_name, tab, key = line.partition("\t")
    return digest_of(set_name or None, user_key(key)) if tab else parse_digest(line)


def _partitions(text: str) -> range:
    found = re.fullmatch(r"\s*([0-9]{1,6})(?:\s*-\s*([0-9]{1,6}))?\s*", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
    if first > last or last >= PARTITIONS:
        raise UsageError(f"--partition {text}: partitions are 0 to {PARTITIONS - 1}", "Write 17, or 16-31.")
    return range(first, last + 1)


def _bins(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    for name in names:
        if not name or len(name.encode()) > BIN_NAME_MOST:
            raise UsageError(f"--bins {text}: a bin's name has 1 to {BIN_NAME_MOST} bytes", "Write --bins price,stock.")
    return tuple(dict.fromkeys(names))
