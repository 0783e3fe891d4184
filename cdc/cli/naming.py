"""Where commands name records one by one: a file, or standard output, a JSON line each."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Protocol

from cdc.replayer.lines import Lines

STDOUT = "-"


class Named(Protocol):
    """A record that is named."""

    def to_json(self) -> str: ...


@contextmanager
def naming(where: str) -> Iterator[Callable[[Iterable[Named]], None] | None]:
    """What names records in a file or on standard output, for several threads; None for no place. Raises UsageError
    where the file cannot be written, RestoreError when it fails."""
    if where == STDOUT:
        lock = Lock()

        def say(records: Iterable[Named]) -> None:
            text = "".join(record.to_json() + "\n" for record in records)
            with lock:
                sys.stdout.write(text)

        yield say
    elif where:
        lines = Lines(Path(where))
        try:
            lines.write([])  # so that an empty file says that there are none
            yield lambda records: lines.write(record.to_json() for record in records)
        finally:
            lines.close()
    else:
        yield None
