"""An emulator in a process of its own.

The official client keeps Python's lock during some calls (`truncate`, `udf_put`): an emulator in the same process
could never answer them. One in another process can, but its clock and failures are out of reach.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def emulator_process(*arguments: str) -> Iterator[list[str]]:
    """Run `python -m cdc.embedded.aerospike` on free ports with more arguments; gives its hosts.

    Leaving the block stops it. RuntimeError if it does not start, or failed while it served.
    """
    command = [sys.executable, "-m", "cdc.embedded.aerospike", "--port", "0", "--until-eof", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"the emulator did not start: exit code {process.wait()}")
        yield line.split(",")
    finally:
        process.stdin.close()
        code = process.wait()
        process.stdout.close()
    if code:
        raise RuntimeError(f"the emulator failed with exit code {code}; its traceback is on stderr")
