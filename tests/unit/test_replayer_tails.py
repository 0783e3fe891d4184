"""Directories for what is taken from Kafka: gone with whoever made them, however that ended."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cdc.errors import StoreForbidden
from cdc.replayer.tails import PREFIX, STALE_S, Directories


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def long_ago(path: Path) -> None:
    os.utime(path, (time.time() - 2 * STALE_S,) * 2)


def test_they_are_private_and_removed_when_they_are_not_wanted_any_more(parent: Path) -> None:
    own = Directories()
    made = [own.make() for _ in range(3)]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 3
    (made[0] / "x").write_text("1")
    own.remove(made[0])
    assert {*parent.iterdir()} == {*made[1:]}
    own.close()
    assert list(parent.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(parent: Path) -> None:
    program = f"""
import os, tempfile
tempfile.tempdir = {str(parent)!r}
from cdc.errors import StoreForbidden
from cdc.replayer.tails import Directories
directories = Directories()
(directories.make() / "x").write_text("1")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    [left] = parent.iterdir()
    others, own = Directories(), Directories()
    used = others.make()
    assert left.exists()  # it may be that somebody is just about to lock it
    file, pipe = parent / f"{PREFIX}file", parent / f"{PREFIX}pipe"
    file.write_text("not a directory")
    os.mkfifo(pipe)
    others_own = [parent / name for name in ("other", "aerospike-cdc-import-x", "aerospike-cdc-kafka-x")]
    for path in others_own:
        path.mkdir()
    for path in (left, used, file, pipe, *others_own):
        long_ago(path)
    made = own.make()
    assert {*parent.iterdir()} == {used, made, file, pipe, *others_own}
    own.close()
    others.close()


def test_where_there_is_no_place_for_them_it_is_said_what_to_do(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as in a container whose disk is read-only."""
    monkeypatch.setattr(tempfile, "tempdir", str(parent / "nowhere"))
    with pytest.raises(StoreForbidden, match="no place for what Kafka has") as raised:
        Directories().make()
    assert "TMPDIR" in raised.value.hint
    assert "--tail never" in raised.value.hint
