"""Runs one program for a parent process, and ends it when the parent ends, however that happens.

Run as a script: `python guard.py PROGRAM ARGUMENT…`, with a pipe from the parent as standard input. The pipe's end asks
the program to terminate (and kills it if it does not in time); a `k` on it kills the program at once.
"""

import subprocess
import sys
import threading

PATIENCE_S = 3.0


def _watch(child: "subprocess.Popen[bytes]") -> None:
    if sys.stdin.buffer.read(1) == b"k":
        child.kill()
        return
    child.terminate()
    try:
        child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()


def main(command: list[str]) -> int:
    """Run `command` until it ends or the parent wants it to; its exit code."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as child:
        threading.Thread(target=_watch, args=(child,), daemon=True).start()
        return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
