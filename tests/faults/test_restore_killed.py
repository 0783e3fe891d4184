"""A process that restores is killed at any step: another goes on, and ends where it would have ended."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aerospike
import pytest

from cdc.archive import LocalStore
from cdc.model import PARTITIONS
from cdc.replayer.journal import Entry, Journal
from cdc.replayer.target import Target
from tests.fixtures.aerospike import Client
from tests.fixtures.restores import History, remove_all, tick

PROGRAM = """
import itertools, json, os, signal, sys, threading, time
from pathlib import Path

from cdc.archive import Archive, LocalStore
from cdc.config import AerospikeSettings, ReplayerSettings
from cdc.replayer import journal, log as logs, slices
from cdc.replayer.clone import clone
from cdc.replayer.plan import plan
from cdc.replayer.rewind import rewind
from cdc.replayer.target import Target
from cdc.source import Source
from cdc.wire import Cluster
from cdc.wire import query as queries
from cdc.wire.connection import Connection

lock, calls = threading.Lock(), 0

def dying(call, last):
    def called(*given, **named):
        global calls
        with lock:
            calls += 1
            mine = calls
        if mine < last:
            return call(*given, **named)
        if call is write:
            write(given[0], bytes(given[1])[: len(given[1]) // 2])
        elif mine % 2:
            call(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    return called

def restore(said):
    os.write, os.fsync, Connection.send = (dying(call, said["last"]) for call in (write, os.fsync, Connection.send))
    queries._query_ids = itertools.count(time.time_ns())  # a server refuses a number that a killed query still has
    logs.EVERY_S = 0.0
    slices.of_clone.__defaults__ = slices.of_rewind.__defaults__ = (None, 1)
    archive = Archive.open(LocalStore(Path(said["archive"])), said["namespace"])
    journey = journal.Journal(Path(said["journal"]))
    with Cluster(AerospikeSettings(hosts=tuple(said["hosts"]))) as cluster:
        target = Target.of(Source(cluster, said["into"]), ReplayerSettings(batch_records=20, connections=1))
        if said["resume"]:
            log = journey.resume("last")
            made = log.plan(archive)
        else:
            made = plan(archive, said["at"], said["kind"], now=target.now(), into=said["into"])
            log = journey.begin(made, named_file=Path(said["named"]))
        with log:
            (clone if made.kind == "clone" else rewind)(archive, made, target, named_file=log.asked.named_file, log=log)

write = os.write
for line in sys.stdin:
    child = os.fork()  # before anything has a thread, so that a restore costs no start of a process
    if child == 0:
        restore(json.loads(line))
        print(calls, flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        print(os.waitstatus_to_exitcode(status), flush=True)
"""
FOR_EVER = 1_000_000
DEATHS = 4

Truth = dict[bytes, tuple[int, int]]  # digest to checksum and void time


class Restorer:
    """Restores in processes of their own. Each call returns how many steps it took, or None where it was killed at its
    `last`."""

    def __init__(self, process: "subprocess.Popen[str]", history: History, hosts: list[str], folder: Path) -> None:
        assert isinstance(history.archive.store, LocalStore)
        self.process, self.folder = process, folder
        self.said = {"archive": str(history.archive.store._path), "namespace": history.archive.namespace}
        self.said |= {"hosts": hosts, "journal": str(folder / "journal"), "named": str(folder / "named.jsonl")}
        self.journal = Journal(folder / "journal")

    def run(self, kind: str, at: int, into: str, last: int = FOR_EVER, *, resume: bool = False) -> int | None:
        said = self.said | {"kind": kind, "at": at, "into": into, "last": last, "resume": resume}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(said) + "\n")
        self.process.stdin.flush()
        answer = int(self.process.stdout.readline())
        assert answer in range(1, last) or (answer == -9 and last < FOR_EVER)
        return None if answer < 0 else answer

    def entry(self) -> Entry | None:
        entries = self.journal.entries()
        return entries[-1] if entries else None

    def killed_and_resumed(self, kind: str, at: int, into: str, last: int, again: int) -> Entry | None:
        """Killed at its `last` step, once more while it goes on, and then to the end; None if it had not begun. Either
        step may be one after which only the process had to end."""
        begun = len(self.journal.entries())
        assert self.run(kind, at, into, last) is None
        if len(self.journal.entries()) == begun:
            return None
        killed = self.entry()
        assert killed is not None
        if killed.state == "complete":
            return killed  # it had said so, and only not ended
        assert (killed.state, killed.goes_on) == ("interrupted", True)
        if self.run(kind, at, into, again, resume=True) is None and self.journal.entry(killed.id).goes_on:
            self.run(kind, at, into, resume=True)
        return self.entry()


@pytest.fixture
def restorer(history: History, aerospike_hosts: list[tuple[str, int]], tmp_path: Path) -> Iterator[Restorer]:
    hosts = [f"{host}:{port}" for host, port in aerospike_hosts]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], **pipes) as process:
        yield Restorer(process, history, hosts, tmp_path)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def truth(target: Target) -> Truth:
    found = target.source.observe(range(PARTITIONS)).records
    rows = zip(found.digest, found.checksum, found.void_time, strict=True)
    return {digest.tobytes(): (int(checksum), int(void_time)) for digest, checksum, void_time in rows}


def deaths(whole: int) -> Iterator[tuple[int, int]]:
    """At which of so many steps to die first, and at which of the run after that."""
    dice = random.Random(17)
    for n in range(DEATHS):
        yield dice.randint(whole * n // DEATHS + 1, whole * (n + 1) // DEATHS), dice.randint(1, whole)


def put(client: Client, key: Callable[[int], Any], numbers: range, value: int) -> None:
    for i in numbers:
        client.put(key(i), {"v": value, "text": f"{value} of {i}"}, policy={"key": aerospike.POLICY_KEY_SEND})


def test_a_clone_that_is_killed_twice_at_any_step_ends_as_if_it_had_not_been(
    client: Client, history: History, empty: Target, restorer: Restorer, namespace: str, set_name: str
) -> None:
    put(client, lambda i: (namespace, set_name, i), range(400), 1)
    history.look()
    at = history.look()
    expected = {digest: checksum for digest, (checksum, _) in truth(Target.of(history.source, empty.settings)).items()}
    whole = restorer.run("clone", at, empty.namespace)
    assert whole is not None
    resumed = 0
    for last, again in deaths(whole):
        remove_all(empty)
        entry = restorer.killed_and_resumed("clone", at, empty.namespace, last, again)
        if entry is None:
            assert truth(empty) == {}
            continue
        resumed += 1
        assert {digest: checksum for digest, (checksum, _) in truth(empty).items()} == expected
        assert (entry.state, entry.error) == ("complete", "")
        counts = entry.standing.counts
        assert counts["written"] + counts["left"] == counts["exact"] == entry.standing.touched == len(expected)
    assert resumed >= DEATHS // 2


def test_a_rewind_that_is_killed_twice_at_any_step_ends_as_if_it_had_not_been(
    client: Client, history: History, in_place: Target, restorer: Restorer, namespace: str, set_name: str
) -> None:
    def key(i: int) -> tuple[str, str, int]:
        return namespace, set_name, i

    put(client, key, range(300), 1)
    history.look()
    at = history.look()
    then = truth(in_place)
    tick(history.now)
    whole, resumed = None, 0

    def damage() -> None:
        put(client, key, range(120), -1)
        put(client, key, range(300, 340), -1)
        for i in range(120, 160):
            client.remove(key(i))
        history.look()
        put(client, key, range(1), 7)  # a good write that nobody has captured

    damage()
    whole = restorer.run("rewind", at, namespace)
    assert whole is not None
    good = bytes(aerospike.calc_digest(*key(0)))
    for last, again in deaths(whole):
        damage()
        damaged = truth(in_place)
        entry = restorer.killed_and_resumed("rewind", at, namespace, last, again)
        if entry is None:
            assert truth(in_place) == damaged
            restorer.run("rewind", at, namespace)
        else:
            resumed += 1
            assert entry.state == "complete"
            counts = entry.standing.counts
            assert counts["written"] + counts["removed"] + counts["left"] == 199
            assert counts["conflicts"] == 1
            [named] = [json.loads(line) for line in (restorer.folder / "named.jsonl").read_text().splitlines()]
            assert named["digest"] == good.hex()
        now = truth(in_place)
        assert now.pop(good) == damaged[good]
        assert now == {digest: held for digest, held in then.items() if digest != good}
    assert resumed >= DEATHS // 2
