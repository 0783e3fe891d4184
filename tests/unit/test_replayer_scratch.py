"""What a drill notes of its scratch namespace, and which namespace is none."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import RestoreError
from cdc.replayer.scratch import Member, Notes, notes

MEMBER = Member("A1", "C7BD13B3F0A7", "10.0.0.5:3000")
words = st.sampled_from(["one", "two"])


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (MEMBER, True),
        (Member("A1", "5E1F", "10.0.0.5:3000"), True),  # members came or went between two questions
        (Member("A1", "C7BD13B3F0A7", "192.168.0.5:3000"), True),
        (Member("A1", "5E1F", "10.9.9.9:3000"), False),  # another cluster, whose nodes were numbered alike
        (Member("A2", "C7BD13B3F0A7", "10.0.0.6:3000"), False),
    ],
)
def test_a_node_is_known_by_its_id_and_by_its_cluster_or_its_addresses(other: Member, same: bool) -> None:
    assert MEMBER.same(other) is same
    assert other.same(MEMBER) is same


@given(words, words, words)
def test_a_node_is_itself(name: str, key: str, addresses: str) -> None:
    assert Member(name, key, addresses).same(Member(name, key, addresses))


def digests(*numbers: int) -> np.ndarray:
    return np.array([[number] * 20 for number in numbers], np.uint8)


def read(found: Notes) -> list[int]:
    return [int(digest[0]) for part in found.read() for digest in part]


def test_what_is_noted_is_there_until_it_is_forgotten(tmp_path: Path) -> None:
    with notes(tmp_path / "restores", "scratch@a:1") as one:
        one.add(digests(1, 2))
        one.add(digests(3))
    with notes(tmp_path / "restores", "scratch@a:1") as again, notes(tmp_path / "restores", "scratch@b:1") as other:
        assert (read(again), len(again), read(other)) == ([1, 2, 3], 3, [])
        again.forget()
        assert (read(again), len(again)) == ([], 0)
        again.add(digests(4))
        assert read(again) == [4]


def test_while_one_has_the_notes_nobody_else_does(tmp_path: Path) -> None:
    with notes(tmp_path, "scratch@a:1"), pytest.raises(RestoreError, match="another drill is at work in scratch@a:1"):
        notes(tmp_path, "scratch@a:1").__enter__()


def test_what_a_killed_drill_wrote_in_part_is_no_digest(tmp_path: Path) -> None:
    with notes(tmp_path, "scratch@a:1") as one:
        one.add(digests(1, 2))
    [file] = tmp_path.iterdir()
    os.truncate(file, 39)
    with notes(tmp_path, "scratch@a:1") as again:
        assert read(again) == [1]


def test_what_does_not_fit_on_the_disk_is_not_noted_in_part(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with notes(tmp_path, "scratch@a:1") as one:
        one.add(digests(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
        try:
            with pytest.raises(RestoreError, match="cannot be written"):
                one.add(digests(2, 3))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        one.add(digests(4))
        assert read(one) == [1, 4]


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RestoreError, match="cannot be written"):
        notes(tmp_path / "file", "scratch@a:1").__enter__()
