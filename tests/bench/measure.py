"""What a process took: wall-clock and CPU seconds, peak memory.

Roles and peers each run in a process, and in a session, of their own, as services do: Linux shares its cores out among
sessions (autogroup), and in one of all of them who waits for an answer would pay for those who work.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of wall clock and of CPU (user and system, all threads), and the highest resident memory in bytes."""

    wall_s: float
    cpu_s: float
    peak_bytes: int = 0

    @classmethod
    def median(cls, costs: Sequence["Cost"]) -> "Cost":
        """The median of each number, but the highest peak."""
        return cls(
            median(c.wall_s for c in costs), median(c.cpu_s for c in costs), max(c.peak_bytes for c in costs)
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Role:
    """One run of a role: `ready`, the interpreter's start and the imports; `work`, the measured part; `extra`, what
    the role told of it."""

    ready: Cost
    work: Cost
    extra: dict[str, Any]


class Failed(Exception):
    """A process that was to be measured ended with an error."""


class Running:
    """A role at work in a process of its own (`tests.bench.role`). A context manager: leaving it ends the process."""

    def __init__(self, name: str, **arguments: Any) -> None:
        """Start it with its arguments."""
        self._name = name
        self.lines: list[str] = []
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed on leaving
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.role"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, start_new_session=True,
        )  # fmt: skip
        asked = json.dumps({"role": name, "started_at": time.time(), **arguments}, default=str)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._in.write(asked + "\n")
        self._in.flush()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for file in (self._in, self._out, self._errors):
            with contextlib.suppress(BrokenPipeError):
                file.close()

    def wait_for(self, word: str) -> None:
        """Until the role says this line. Raises Failed when it ends first."""
        for line in self._out:
            self.lines.append(line.rstrip("\n"))
            if self.lines[-1] == word:
                return
        self._ended()

    def result(self) -> Role:
        """End its standard input, wait for its end, and take what it told. Raises Failed with what it wrote to
        stderr."""
        self._in.close()
        self.lines += [line.rstrip("\n") for line in self._out]
        if self._process.wait():
            self._ended()
        told = json.loads(self.lines[-1])
        return Role(Cost(**told["ready"]), Cost(**told["work"]), told["extra"])

    def _ended(self) -> NoReturn:
        code = self._process.wait()
        self._errors.seek(0)
        raise Failed(f"the role {self._name} ended with code {code}:\n{self._errors.read()}")


def run_role(name: str, **arguments: Any) -> Role:
    """Run a role to its end. Raises Failed with what it wrote to stderr."""
    with Running(name, **arguments) as role:
        return role.result()


def run_command(command: Sequence[str]) -> Cost:
    """Run another program to its end, from its start on. Raises Failed with what it wrote. Its peak is not told: Linux
    counts what this process had when it forked."""
    with tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except KeyboardInterrupt:  # which a session of its own does not get
            process.kill()
            raise
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            raise Failed(f"{command[0]} ended with code {process.returncode}:\n{out.read().decode(errors='replace')}")
    return Cost(wall, used.ru_utime + used.ru_stime)


def timed(work: Callable[[], Any]) -> tuple[Cost, Any]:
    """What a call in this process takes, and what it returns."""
    began, used = time.perf_counter(), time.process_time()
    value = work()
    return Cost(time.perf_counter() - began, time.process_time() - used, peak_bytes()), value


def peak_bytes() -> int:
    """This process's highest resident memory. Where /proc tells it, it does not count what the parent had at a fork."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_bytes() -> int:
    """This process's resident memory now; its highest where /proc does not tell."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return peak_bytes()


def session_cpu_s(leader: int) -> float | None:
    """CPU seconds so far of all processes in a session; None where /proc does not tell."""
    ticks, found = 0, False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(words[3]) == leader:
            found = True
            ticks += int(words[11]) + int(words[12])
    return ticks / TICKS_A_SECOND if found else None


def size_of(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
