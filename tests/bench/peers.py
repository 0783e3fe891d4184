"""The peers, where they are on the PATH: asbackup and asrestore, with the settings that were fastest here."""

import shutil
import time
from pathlib import Path

from tests.bench.measure import Cost, run_command
from tests.bench.workload import Place

PARALLEL = "2"
"""Queries of asbackup at a time; the collector's default is as many connections."""


def there(place: Place) -> bool:
    """Whether both are there, and the server is one that they can be used with."""
    return place.real and all(shutil.which(name) for name in ("asbackup", "asrestore"))


def backup(place: Place, folder: Path, compress: str, since: float | None = None) -> Cost:
    """A backup into an empty folder, full or of what changed `since` (seconds since 1970; a backup knows whole ones);
    `compress` is ZSTD or NONE. Raises measure.Failed."""
    host, _, port = place.hosts[0].rpartition(":")
    after = [] if since is None else ["--modified-after", time.strftime("%Y-%m-%d_%H:%M:%S", time.localtime(since))]
    return run_command(
        ["asbackup", "-h", host, "-p", port, "-n", place.source, "-d", str(folder), "--compress", compress,
         "--parallel", PARALLEL, *after]
    )  # fmt: skip


def restore(place: Place, folder: Path, into: str, *more: str) -> Cost:
    """All files of a ZSTD backup into a namespace. Raises measure.Failed."""
    host, _, port = place.hosts[0].rpartition(":")
    return run_command(
        ["asrestore", "-h", host, "-p", port, "-n", f"{place.source},{into}", "-d", str(folder), "--compress", "ZSTD",
         *more]
    )  # fmt: skip
