"""What was found, as a table for people and as JSON for programs."""

import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.bench import Bench, Line


def show(bench: Bench) -> None:
    """Print both tables."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title=f"{bench.records:,} records, medians of {bench.rounds} alternating rounds; {machine()}")
    for name in ("", "wall", "CPU", "per second", "per CPU second", "peak", ""):
        table.add_column(name, justify="right" if name else "left")
    part = ""
    for line in bench.lines:
        if line.part != part:
            part = line.part
            table.add_section()
        table.add_row(*_words(line))
    console.print(table)
    held = Table(title="What must hold")
    for name in ("", "", ""):
        held.add_column(name)
    for verdict in bench.verdicts:
        held.add_row("yes" if verdict.holds else "[red]NO[/red]", verdict.what, verdict.found)
    console.print(held)


def save(bench: Bench, path: Path) -> None:
    """Write everything, single rounds too."""
    found: dict[str, Any] = {
        "records": bench.records,
        "rounds": bench.rounds,
        "machine": machine(),
        "server": "real" if bench.place.real else "emulator",
        "lines": [asdict(line) for line in bench.lines],
        "verdicts": [asdict(verdict) for verdict in bench.verdicts],
    }
    path.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def machine() -> str:
    """Cores and Python."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}"


def _words(line: Line) -> list[str]:
    cost = line.cost

    def rate(seconds: float) -> str:
        return f"{line.records / seconds:,.0f}" if line.records and seconds else ""

    def seconds(value: float) -> str:
        return "" if not value else f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"

    peak = f"{cost.peak_bytes / (1 << 20):.0f} MB" if cost.peak_bytes else ""
    return [line.what, seconds(cost.wall_s), seconds(cost.cpu_s), rate(cost.wall_s), rate(cost.cpu_s), peak, line.note]
