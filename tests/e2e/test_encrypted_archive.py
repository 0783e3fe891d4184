"""An encrypted archive: a moment comes back with the key, and nothing can be read or done without it."""

import os
from pathlib import Path

import pytest

from cdc.clock import rfc3339
from cdc.errors import KeyRefused, UsageError
from tests.e2e.test_commands import between_looks, captured
from tests.fixtures.commands import TARGET, Operator


def _encrypted(operator: Operator, name: str = "key") -> Path:
    path = operator.folder / name
    if not path.exists():
        path.write_text(os.urandom(32).hex())
    operator.configure(compactor={"set_every_s": 1}, **{"archive.encryption": {"key_file": name}})
    return path


def test_a_moment_comes_back_from_an_encrypted_archive_even_under_a_new_key(operator: Operator) -> None:
    _encrypted(operator)
    shop = operator.shop()
    shop.place(100)
    between_looks()
    captured(operator)
    moment = between_looks()
    expected = shop.at(moment)
    shop.bad_deploy(corrupt=10, delete=5)
    captured(operator)
    (operator.folder / "other").write_text(os.urandom(32).hex())

    said = operator.good("rekey", "--new-key-file", str(operator.folder / "other"))
    assert "set archive.encryption to the new key" in said.out
    for command in (("list",), ("status",), ("restore", "--at", rfc3339(moment), "--yes"), ("compact", "--once")):
        answer = operator.run(*command)
        assert answer.code == KeyRefused.exit_code, answer
        assert "is not the one that wraps" in answer.err
    _encrypted(operator, "other")
    operator.good("restore", "--at", rfc3339(moment), "--yes")
    assert shop.differences(expected) == []
    operator.good("restore", "--at", rfc3339(moment), "--into", TARGET, "--yes")
    assert shop.differences(expected, TARGET) == []


def test_no_value_set_or_bin_can_be_read_in_its_files(operator: Operator) -> None:
    _encrypted(operator)
    operator.client.put((operator.namespace, "patients", "k"), {"illness": "a very private matter"})
    captured(operator)
    files = [p for p in (operator.folder / "archive").rglob("*") if p.is_file()]
    assert len(files) > 4
    for path in files:
        data = path.read_bytes()
        assert not any(word in data for word in (b"patients", b"illness", b"private")), path
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("arguments", [(), ("--new-key-file", "a", "--new-key-env", "B")])
def test_rekey_wants_one_new_key(operator: Operator, arguments: tuple[str, ...]) -> None:
    _encrypted(operator)
    assert operator.run("rekey", *arguments).code == UsageError.exit_code


def test_rekey_of_what_is_not_encrypted_says_so(operator: Operator) -> None:
    (operator.folder / "other").write_text(os.urandom(32).hex())
    answer = operator.run("rekey", "--new-key-file", str(operator.folder / "other"))
    assert (answer.code, "names no key" in answer.err) == (KeyRefused.exit_code, True)
