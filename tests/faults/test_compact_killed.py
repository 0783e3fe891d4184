"""A process that compacts dies in the middle of a system call: the next one finds nothing lost and nothing doubled."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.archive.verify import verify
from cdc.compactor import Compactor
from cdc.config import KafkaSettings, Settings
from cdc.topics import Membership, Publisher, Topics
from tests.integration.test_compactor import SHARDS, Source, archived, configured, history, opened, spans, state, truth

PROGRAM = """
import os, sys
from pathlib import Path
from cdc.compactor import Compactor
from cdc.config import Settings

settings, last, calls = Settings.model_validate_json(sys.argv[1]), int(sys.argv[2]), 0

def dying(call):
    def called(*given, **named):
        global calls
        calls += 1
        if calls < last:
            return call(*given, **named)
        if call is write:
            write(given[0], bytes(given[1])[: len(given[1]) // 2])
        elif calls % 2:
            call(*given, **named)
        os._exit(9)
    return called

write = os.write
os.write, os.link, os.unlink, os.fsync = map(dying, (os.write, os.link, os.unlink, os.fsync))
Compactor(settings).run_once()
print(calls)
"""
DEATHS = 6


def compacted(settings: Settings, last: int) -> int | None:
    """How many system calls a process needed to compact; None if it died at the last that it was allowed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, settings.model_dump_json(), str(last)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 9), done.stderr
    return None if done.returncode else int(done.stdout)


@pytest.fixture
def source(kafka_settings: KafkaSettings, topics: Topics) -> Iterator[Source]:
    with Membership(kafka_settings, topics) as member, Publisher(kafka_settings, topics, member, "one") as publisher:
        deadline = time.monotonic() + 60
        while len(member.poll(1.0)) < SHARDS:
            assert time.monotonic() < deadline
        yield Source(publisher, kafka_settings, topics)


def test_a_process_killed_within_any_system_call_loses_and_doubles_nothing(
    kafka_settings: KafkaSettings, source: Source, tmp_path: Path
) -> None:
    history(source)
    dice = random.Random(17)
    whole = compacted(configured(kafka_settings, tmp_path / "whole", merge_segments=2), 1_000_000)
    assert whole is not None
    for n in range(DEATHS):
        settings = configured(kafka_settings, tmp_path / str(n), merge_segments=2)
        last = dice.randint(whole * n // DEATHS + 1, whole * (n + 1) // DEATHS)
        assert compacted(settings, last) is None
        if (tmp_path / str(n) / "test" / "format.json").exists():
            for shard, rows in enumerate(archived(opened(tmp_path / str(n)))):
                assert rows.items() <= source.said[shard].items()
        Compactor(settings).run_once()
        archive = opened(tmp_path / str(n))
        assert archived(archive) == source.said
        assert spans(archive) == [(10_100, 21_000)]
        for shard in range(SHARDS):
            for at in (10_100, 14_000, 19_999, 20_600, 21_000):
                assert state(archive, shard, at) == truth(source, shard, at)
        assert verify(archive.store, "test", "hashes").damage == ()
