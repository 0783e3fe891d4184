"""What the subcommands share: settings of the invocation, moments and sizes as people read them, tables."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from cdc.archive import Archive, LocalStore
from cdc.cli import settings as loading
from cdc.clock import rfc3339
from cdc.config import Settings

Json = Annotated[bool, typer.Option("--json", help="For programs.")]

UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def settings(context: typer.Context) -> Settings:
    """The settings of this invocation. Raises ConfigError."""
    path: Path | None = context.obj
    return loading.load(path)


def archive(of: Settings) -> Archive:
    """The archive that the settings name. Raises ObjectMissing when there is none yet."""
    return Archive.open(LocalStore(of.archive.path), of.aerospike.namespace)


def console() -> Console:
    """Standard output. Lines are not folded where it is no terminal."""
    wide = None if sys.stdout.isatty() else 200
    return Console(highlight=False, width=wide, soft_wrap=not sys.stdout.isatty())


def table(*columns: str) -> Table:
    """A plain table; a name that begins with `>` stands to the right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return made


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(plain(value), indent=2) + "\n")


def plain(value: object) -> Any:
    """Dataclasses, enums and paths as what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in asdict(value).items()}
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    return str(value) if isinstance(value, Path) else value


def moment(ms: int | None) -> str:
    """A moment, or a dash."""
    return rfc3339(ms) if ms else "-"


def span(ms: int) -> str:
    """A span of time in its two largest units: `2 d 3 h`, `1.25 s`, `40 ms`."""
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.3g} s"
    parts = []
    for size, unit in UNITS:
        if ms >= size:
            parts.append(f"{ms // size} {unit}")
            ms %= size
    return " ".join(parts[:2])


def size(count: float) -> str:
    """Bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
