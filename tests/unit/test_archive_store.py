"""The local directory as a store."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cdc.archive import LocalStore
from cdc.errors import ObjectDamaged, ObjectMissing, StoreForbidden


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "archive", create=True)


def test_an_object_is_read_as_it_was_written(store: LocalStore) -> None:
    assert store.put_if_absent("a/b/c.avro", b"0123456789")
    assert store.get("a/b/c.avro") == b"0123456789"
    assert store.get_range("a/b/c.avro", 2, 3) == b"234"
    assert store.get_range("a/b/c.avro", 10, 0) == b""
    assert store.exists("a/b/c.avro")


def test_a_taken_name_is_never_written_again(store: LocalStore) -> None:
    assert store.put_if_absent("x", b"first")
    assert not store.put_if_absent("x", b"second")
    assert store.get("x") == b"first"


def test_of_many_writers_of_one_name_exactly_one_wins(store: LocalStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.put_if_absent("m/1.json", b"%d" % i), range(32)))
    assert won.count(True) == 1
    assert store.get("m/1.json") == b"%d" % won.index(True)


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


def test_list_is_sorted_and_of_one_prefix(store: LocalStore) -> None:
    for name in ("t/b", "t/a", "t/c/d", "u/a"):
        store.put_if_absent(name, b"")
    assert store.list("t") == ["t/a", "t/b", "t/c/d"]
    assert store.list("nothing") == []


def test_deleted_is_gone(store: LocalStore) -> None:
    store.put_if_absent("x", b"1")
    store.delete("x")
    assert not store.exists("x")
    with pytest.raises(ObjectMissing, match="x is not in the archive"):
        store.delete("x")


def test_what_is_missing_is_named(store: LocalStore) -> None:
    for read in (lambda: store.get("a/b"), lambda: store.get_range("a/b", 0, 1)):
        with pytest.raises(ObjectMissing, match="a/b is not in the archive"):
            read()


def test_a_range_beyond_the_end_is_damage(store: LocalStore) -> None:
    store.put_if_absent("x", b"12345")
    with pytest.raises(ObjectDamaged, match="x has 5 bytes where 6 are needed"):
        store.get_range("x", 3, 3)


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="there is no archive at"):
        LocalStore(tmp_path / "nowhere")


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
