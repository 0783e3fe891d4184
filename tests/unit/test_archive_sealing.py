"""Encrypted objects and the keyring: what opens, what does not, and that nothing can be read without the key."""

import base64
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.archive import LocalStore, keyring, open_store
from cdc.archive.keyring import Keyring
from cdc.archive.sealed import SealedStore
from cdc.archive.sealing import CHUNK, HEAD_SIZE, TAG, Key, Opened, seal
from cdc.archive.store import Around, Data
from cdc.config import ArchiveSettings, EncryptionSettings
from cdc.errors import KeyRefused, ObjectDamaged

KEY = Key.new()
SIZES = st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17])


def _open(name: str, sealed: bytes, key: Key = KEY) -> bytes:
    opened = Opened.of(name, sealed[:HEAD_SIZE], len(sealed), lambda _: key)
    return opened.open(0, sealed[HEAD_SIZE:])


@given(SIZES)
def test_what_was_sealed_opens_and_says_its_size(size: int) -> None:
    data = os.urandom(size)
    sealed = seal("a", data, KEY)
    assert _open("a", sealed) == data
    assert Opened.of("a", sealed[:HEAD_SIZE], len(sealed), lambda _: KEY).size == size


@given(st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(seal("a", os.urandom(data.draw(SIZES)), KEY))
    at = data.draw(st.one_of(st.integers(0, HEAD_SIZE), st.integers(0, len(sealed) - 1)))
    sealed[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ObjectDamaged):
        _open("a", bytes(sealed))


@given(st.data())
def test_any_cut_is_noticed(data: st.DataObject) -> None:
    sealed = seal("a", os.urandom(data.draw(SIZES)), KEY)
    ends = [HEAD_SIZE + i * (CHUNK + TAG) for i in range(4)]
    end = data.draw(st.one_of(st.sampled_from(ends), st.integers(0, len(sealed) - 1)))
    if end < len(sealed):
        with pytest.raises(ObjectDamaged):
            _open("a", sealed[:end])


def test_chunks_cannot_be_swapped_repeated_or_left_out() -> None:
    sealed = seal("a", os.urandom(4 * CHUNK), KEY)
    head, body = sealed[:HEAD_SIZE], sealed[HEAD_SIZE:]
    a, b, c, d = (body[i : i + CHUNK + TAG] for i in range(0, len(body), CHUNK + TAG))
    for changed in ((b, a, c, d), (a, a, c, d), (a, b, d), (a, b, c, d, d), (a, b, c)):
        with pytest.raises(ObjectDamaged):
            _open("a", head + b"".join(changed))


def test_an_object_does_not_open_under_anothers_name_or_key() -> None:
    sealed = seal("a", b"content", KEY)
    with pytest.raises(ObjectDamaged):
        _open("b", sealed)
    with pytest.raises(ObjectDamaged):
        _open("a", sealed, Key(KEY.id, Key.new().secret))


def test_every_object_has_a_key_of_its_own() -> None:
    assert seal("a", b"content", KEY)[HEAD_SIZE:] != seal("a", b"content", KEY)[HEAD_SIZE:]


@given(SIZES, st.data())
def test_a_range_needs_its_own_chunks_only(size: int, data: st.DataObject) -> None:
    content = os.urandom(size)
    sealed = seal("a", content, KEY)
    start = data.draw(st.integers(0, size))
    length = data.draw(st.integers(0, size - start))
    opened = Opened.of("a", sealed[:HEAD_SIZE], len(sealed), lambda _: KEY)
    first, begin, end = opened.span(start, length)
    assert end - begin <= (length // CHUNK + 2) * (CHUNK + TAG)
    if length:
        found = opened.open(first, sealed[begin:end])
        assert found[start - first * CHUNK :][:length] == content[start : start + length]


@pytest.fixture
def place(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "archive", create=True)


def test_nothing_readable_is_left_in_the_store(place: LocalStore, tmp_path: Path) -> None:
    outer = os.urandom(32)
    SealedStore(place, keyring.create(place, outer)).put("ns/x", b"a secret that nobody may read" * 10_000)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert not any(b"secret that" in data or outer in data or outer.hex().encode() in data for data in files)


def test_the_keys_of_an_archive_are_found_again_with_the_same_outer_key_only(place: LocalStore) -> None:
    outer = os.urandom(32)
    made = keyring.create(place, outer)
    assert keyring.create(place, outer) == made == keyring.load(place, outer)
    with pytest.raises(KeyRefused, match="is not the one that wraps"):
        keyring.load(place, os.urandom(32))


def test_another_outer_key_takes_over_without_an_object_written_again(place: LocalStore, tmp_path: Path) -> None:
    old, new = os.urandom(32), os.urandom(32)
    SealedStore(place, keyring.create(place, old)).put("ns/before", b"1")
    before = (tmp_path / "archive" / "ns" / "before").read_bytes()
    keys = keyring.rekey(place, old, new)
    store = SealedStore(place, keys)
    store.put("ns/after", b"2")
    assert (store.get("ns/before"), store.get("ns/after")) == (b"1", b"2")
    assert (tmp_path / "archive" / "ns" / "before").read_bytes() == before
    assert (tmp_path / "archive" / "ns" / "after").read_bytes()[8:24] == keys.current.id != before[8:24]
    assert keyring.load(place, new) == keys
    with pytest.raises(KeyRefused):
        keyring.load(place, old)


def test_a_rekey_that_was_killed_is_ended_by_the_same_words_again(place: LocalStore) -> None:
    """At any of its steps; until it is ended one of both keys opens the archive, and never none."""

    class Killed(Exception):
        pass

    class Killing(Around):
        left = 0

        def put_if_absent(self, name: str, data: Data) -> bool:
            self._step()
            return super().put_if_absent(name, data)

        def delete(self, name: str) -> None:
            self._step()
            super().delete(name)

        def _step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    old, new = os.urandom(32), os.urandom(32)
    keyring.create(place, old)
    store = Killing(place)
    for steps in range(2):
        store.left = steps
        with pytest.raises(Killed):
            keyring.rekey(store, old, new)
        assert keyring.load(place, new if steps else old)
    store.left = 9
    keys = keyring.rekey(store, old, new)
    assert keyring.names(place) == ["keyring/00000000000000000002.json"]
    assert keyring.load(place, new) == keys == keyring.rekey(store, old, new)
    assert len(keys.keys) == 2
    with pytest.raises(KeyRefused, match="is not the one that wraps"):
        keyring.rekey(store, old, os.urandom(32))


def test_a_copy_that_somebody_made_beside_the_keyring_is_passed_over(place: LocalStore, tmp_path: Path) -> None:
    old, new = os.urandom(32), os.urandom(32)
    keys = keyring.create(place, old)
    name = tmp_path / "archive" / "keyring" / "00000000000000000001.json"
    for copy in (".bak", ".json"):
        shutil.copy(name, f"{name}{copy}")
    assert keyring.load(place, old) == keys
    assert keyring.rekey(place, old, new).keys[0] == keys.current


def test_a_keyring_with_a_changed_byte_is_refused(place: LocalStore, tmp_path: Path) -> None:
    outer = os.urandom(32)
    keyring.create(place, outer)
    [path] = (tmp_path / "archive" / "keyring").iterdir()
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises((ObjectDamaged, KeyRefused)):
            keyring.load(place, outer)


RAW = bytes(range(100, 132))


@pytest.mark.parametrize("text", [RAW, RAW.hex().encode() + b"\n", base64.b64encode(RAW) + b"\n"])
def test_a_key_may_be_plain_hex_or_base64(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "key").write_bytes(text)
    command = (sys.executable, "-c", f"import sys; sys.stdout.buffer.write({text!r})")
    for settings in (EncryptionSettings(key_file=tmp_path / "key"), EncryptionSettings(key_command=command)):
        assert keyring.outer_key(settings) == RAW


def test_a_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUP_KEY", RAW.hex())
    assert keyring.outer_key(EncryptionSettings(key_env="BACKUP_KEY")) == RAW


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (EncryptionSettings(key_file=Path("nowhere")), "nowhere: No such file"),
        (EncryptionSettings(key_env="NOT_SET"), "environment variable NOT_SET is not set"),
        (EncryptionSettings(key_command=("no-such-program",)), "key_command no-such-program: No such file"),
        (
            EncryptionSettings(key_command=(sys.executable, "-c", "import sys; sys.exit('sealed vault')")),
            "ended with 1: sealed vault",
        ),
        (EncryptionSettings(key_command=(sys.executable, "-c", "import sys; sys.exit(3)")), "with 3: it said nothing"),
        (EncryptionSettings(key_command=(sys.executable, "-c", "print('much too short')")), "does not give a key"),
    ],
)
def test_a_key_that_cannot_be_had_is_one_clear_line(settings: EncryptionSettings, said: str) -> None:
    with pytest.raises(KeyRefused, match=said) as refused:
        keyring.outer_key(settings)
    assert "much too short" not in str(refused.value)


def _settings(tmp_path: Path, key: bytes | None) -> ArchiveSettings:
    if key is None:
        return ArchiveSettings(path=tmp_path / "archive")
    (tmp_path / "key").write_bytes(key)
    return ArchiveSettings(path=tmp_path / "archive", encryption=EncryptionSettings(key_file=tmp_path / "key"))


def test_an_archive_is_encrypted_from_its_beginning_or_not_at_all(tmp_path: Path) -> None:
    open_store(_settings(tmp_path, None), create=True).put("ns/x", b"plain")
    with pytest.raises(KeyRefused, match=r"is not encrypted, and archive\.encryption names a key"):
        open_store(_settings(tmp_path, RAW))


def test_an_encrypted_archive_needs_its_key(tmp_path: Path) -> None:
    open_store(_settings(tmp_path, RAW), create=True).put("ns/x", b"sealed")
    assert open_store(_settings(tmp_path, RAW)).get("ns/x") == b"sealed"
    with pytest.raises(KeyRefused, match="is encrypted"):
        open_store(_settings(tmp_path, None))
    with pytest.raises(KeyRefused, match="is not the one that wraps"):
        open_store(_settings(tmp_path, bytes(32)))


def test_an_object_of_another_archive_is_refused(place: LocalStore) -> None:
    place.put("ns/x", seal("ns/x", b"content", Key.new()))
    with pytest.raises(KeyRefused, match="keyring has no key"):
        SealedStore(place, Keyring((KEY,))).get("ns/x")
