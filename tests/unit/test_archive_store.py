"""What a local directory does beyond what every store does (tests/integration/test_stores.py)."""

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cdc.archive import LocalStore
from cdc.errors import ObjectMissing, StoreForbidden, StoreUnreachable


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "archive", create=True)


def test_files_and_directories_are_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        LocalStore(tmp_path / "deep" / "archive", create=True).put_if_absent("a/b", b"x")
    finally:
        os.umask(before)
    made = [tmp_path / "deep", *(tmp_path / "deep").rglob("*")]
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in made}
    assert modes == {"deep": 0o700, "archive": 0o700, "a": 0o700, "b": 0o600}


def test_an_unfinished_file_is_not_listed(store: LocalStore, tmp_path: Path) -> None:
    store.put_if_absent("s/0001.avro", b"x")
    (tmp_path / "archive" / "s" / "0002.avro#123000000").write_bytes(b"half of")
    assert store.list("s") == ["s/0001.avro"]
    assert store.put_if_absent("s/0002.avro", b"whole")


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="there is no archive at"):
        LocalStore(tmp_path / "nowhere")


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    # In a container every process has the same number, and does the same first.
    program = """
import os, sys
from pathlib import Path
from cdc.archive import LocalStore
os.getpid = lambda: 1
if sys.argv[2] == "dies":
    os.link = lambda *_: os._exit(9)
LocalStore(Path(sys.argv[1]), create=True).put("test/format.json", b"whole")
"""
    path = tmp_path / "archive"
    codes = [subprocess.run([sys.executable, "-c", program, path, how]).returncode for how in ("dies", "lives")]
    assert codes == [9, 0]
    assert LocalStore(path).get("test/format.json") == b"whole"
    assert len(list((path / "test").iterdir())) == 2


def test_a_directory_that_went_is_not_made_again_and_misses_no_object(store: LocalStore, tmp_path: Path) -> None:
    store.put("a/x", b"1")
    (tmp_path / "archive").rename(tmp_path / "away")
    for ask in (
        lambda: store.put("a/y", b"2"), lambda: store.list("a"), lambda: store.get("a/x"), lambda: store.exists("a/x"),
        lambda: store.get_range("a/x", 0, 1), lambda: store.delete("a/x"),
    ):  # fmt: skip
        with pytest.raises(StoreUnreachable, match="archive is gone"):
            ask()
    assert not (tmp_path / "archive").exists()
    (tmp_path / "away").rename(tmp_path / "archive")
    assert store.get("a/x") == b"1"


def test_a_directory_that_goes_in_the_middle_of_a_write_is_not_made_again_either(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "archive", create=True, lasting=False)
    over = threading.Event()

    def move() -> None:
        while not over.is_set():
            (tmp_path / "archive").rename(tmp_path / "away")
            (tmp_path / "away").rename(tmp_path / "archive")  # fails where an archive was begun in its place

    written, errors = [], set()
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        try:
            for i in range(500):
                try:
                    store.put(f"a/{i}/b/c", b"1")
                    written.append(i)
                except (StoreUnreachable, ObjectMissing) as error:
                    errors.add(type(error))
        finally:
            over.set()
        moving.result()
    assert StoreUnreachable in errors
    assert [i for i in range(500) if store.exists(f"a/{i}/b/c")] == written


def test_a_file_where_a_directory_should_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for create in (True, False):
        with pytest.raises(StoreForbidden):
            LocalStore(tmp_path / "file", create=create)
    with pytest.raises(StoreForbidden, match="Not a directory"):
        LocalStore(tmp_path / "file" / "archive", create=True)


def test_a_file_that_cannot_grow_is_forbidden_and_leaves_nothing(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from cdc.archive import LocalStore
from cdc.errors import StoreForbidden
store = LocalStore(Path(sys.argv[1]), create=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.put_if_absent("a/x", bytes(5000))
except StoreForbidden as error:
    print(error.exit_code, error)
"""
    path = tmp_path / "archive"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "42 a/x: File too large\n"
    assert [p.name for p in (path / "a").iterdir()] == []


def test_what_a_killed_writer_left_is_an_entry_that_is_not_listed(store: LocalStore, tmp_path: Path) -> None:
    store.put("a/x", b"1")
    (tmp_path / "archive" / "a" / "y#17000001").write_bytes(b"half")
    assert store.list("a") == ["a/x"]
    assert [(entry.name, entry.size) for entry in store.entries("a")] == [("a/x", 1), ("a/y#17000001", 4)]
    store.delete("a/y#17000001")
    assert [entry.name for entry in store.entries("a")] == ["a/x"]
