"""Verification: whatever is done to an object is named, no restore uses it, and what it costs is exactly that."""

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdc import metrics
from cdc.archive import (
    Archive,
    Epoch,
    Manifest,
    SegmentInfo,
    Store,
    keeps,
    listings,
    open_store,
    sets,
)
from cdc.archive import segments as objects
from cdc.archive.cost import Moments
from cdc.archive.keeps import Keep
from cdc.archive.listings import Listing
from cdc.archive.store import Around, Data
from cdc.archive.verify import Verification, verify
from cdc.archive.versions import order
from cdc.config import AerospikeSettings, ArchiveSettings, CompactorSettings, EncryptionSettings, Settings
from cdc.errors import ArchiveError, CdcError, ObjectDamaged, ObjectMissing, StoreForbidden
from cdc.model import Op
from cdc.service.verifier import Verifier
from tests.fixtures.stores import Bucket
from tests.fixtures.versions import change, versions

KEY = "VERIFY_TEST_KEY"
SHARDS = 2
SECOND = 8 << 16
"""Added to a key, it makes a digest of the second shard."""
END = 40
KINDS = (
    "segment", "segment index", "set", "set index", "listing", "manifest", "last manifest", "format", "keep", "keyring",
    "verified",
)  # fmt: skip
PAIRS = list(itertools.combinations_with_replacement(KINDS[:10], 2))


@dataclass(frozen=True, slots=True)
class Kept:
    """An archive that was made once, and is copied for every test that does something to it."""

    path: Path
    encrypted: bool

    @property
    def settings(self) -> ArchiveSettings:
        key = EncryptionSettings(key_env=KEY) if self.encrypted else EncryptionSettings()
        return ArchiveSettings(path=self.path, block_bytes=4096, encryption=key)

    def store(self, *, create: bool = False) -> Store:
        return open_store(self.settings, create=create)

    def names(self, kind: str) -> list[str]:
        """Its objects of a kind."""
        every = sorted(str(p.relative_to(self.path)) for p in self.path.rglob("*") if p.is_file())
        parts = {
            "segment": ("/segments/", ".avro"), "segment index": ("/segments/", ".idx"), "set": ("/sets/", ".avro"),
            "set index": ("/sets/", ".idx"), "listing": ("/sets/", ".json"),
            "manifest": ("/manifests/", ".json"), "format": ("/format", ".json"),
            "keep": ("/keeps/", ".json"), "keyring": ("keyring/", ".json"), "verified": ("/verified/", ".json"),
        }  # fmt: skip
        part, end = parts[kind.removeprefix("last ")]
        found = [name for name in every if part in name and name.endswith(end)]
        return found[-1:] if kind.startswith("last ") else found

    def copied(self, to: Path) -> "Kept":
        shutil.copytree(self.path, to)
        return Kept(to, self.encrypted)


def look(store: Store, archive: Archive, manifest: Manifest, at: int, keys: range, offset: int) -> Manifest:
    """A segment of changes that a look ending at `at` found; every third record has ended."""
    base = SECOND * manifest.shard
    made = [
        change(base + k, at - 3, op=Op.DELETE)
        if k % 3 == 2 and offset
        else change(base + k, at - 3, bins={"b": "x" * 90})
        for k in keys
    ]
    rows = versions([c | {"unobserved_since": at - 10} for c in made], list(range(offset, offset + len(made))))
    writer = objects.SegmentWriter(ArchiveSettings(block_bytes=4096), 1)
    writer.add(rows, order(rows.columns.digest, rows.offsets))
    info = writer.finish(store, archive.directory(manifest.shard, "segments"))
    epoch = Epoch(number=1, began_at=1, changes_from=0, recoverable_from=10, resolved_at=at, reconciled_at=at)
    return archive.commit(
        replace(manifest, epochs=(epoch,), segments=(*manifest.segments, info), next_changes=offset + len(made))
    )


def made(kept: Kept) -> Kept:
    store = kept.store(create=True)
    archive = Archive.create(store, "test", SHARDS)
    for shard in range(SHARDS):
        manifest = archive.first(shard)
        for at, keys, offset in ((10, range(60), 0), (20, range(20), 60), (30, range(10, 40), 80), (40, range(5), 110)):
            manifest = look(store, archive, manifest, at, keys, offset)
            if at == 20:
                new = sets.make(archive, manifest, manifest.epochs[-1], at, 0, CompactorSettings(), kept.settings)
                manifest = archive.commit(replace(manifest, sets=(new,)))
    return kept


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "encrypted"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(KEY, "7a" * 32)
        yield made(Kept(tmp_path_factory.mktemp("archive") / "whole", request.param))


@pytest.fixture
def kept(whole: Kept, tmp_path: Path) -> Kept:
    return whole.copied(tmp_path / "copy")


def read(archive: Archive, at: int) -> list[list[tuple[bytes, int, bytes]]]:
    """What a clone of a moment reads, and refuses to read, of every shard."""
    found = []
    for shard in range(SHARDS):
        view = archive.view(shard, at)
        for info in view.objects:
            objects.verify(archive.store, info)
        rows: list[tuple[bytes, int, bytes]] = []
        for part in archive.versions(view):
            rows += zip(
                [d.tobytes() for d in part.columns.digest], part.offsets.tolist(), list(part.bodies), strict=True
            )
        found.append(rows)
    return found


def checked(kept: Kept, tier: str = "decode", **how: Any) -> Verification:
    return verify(kept.store(), "test", tier, **how)


def moments(spans: tuple[Moments, ...]) -> set[int]:
    return {at for span in spans for at in range(span.start, span.end + 1)}


def outcome(kept: Kept, tier: str) -> tuple[Verification | None, str]:
    """What verification found, or why the archive does not open."""
    try:
        return checked(kept, tier), ""
    except CdcError as error:
        return None, error.message


def named(kept: Kept, names: set[str], tier: str = "decode") -> None:
    """Verification names one of the objects, or the archive does not even open and the error names it; and what a
    restore reads is what was written, or is refused, at exactly the moments that verification says."""
    found, problem = outcome(kept, tier)
    if found is None:
        assert any(name in problem for name in names), problem
        return
    assert {d.name for d in found.damage} & names, found.damage
    assert found.error() is not None
    assert not found.remembered
    refused = set()
    for at in ASKED:
        try:
            assert read(Archive.open(kept.store(), "test"), at) == TRUTH[kept.encrypted][at]
        except ArchiveError:
            refused.add(at)
    lost, left = moments(found.cost.lost) & set(ASKED), moments(found.cost.left) & set(ASKED)
    if left:
        assert (lost, left) == (refused, set(ASKED) - refused)
    else:  # what a last manifest added is known to nobody once it is damaged
        assert refused == set(ASKED) >= lost


ASKED = (10, 16, 17, 19, 20, 23, 27, 30, 37, 40)
"""Moments around those at which another object begins or ceases to be needed."""
TRUTH: dict[bool, dict[int, object]] = {}


@pytest.fixture(autouse=True)
def _truth(whole: Kept) -> None:
    if whole.encrypted not in TRUTH:
        archive = Archive.open(whole.store(), "test")
        TRUTH[whole.encrypted] = {at: read(archive, at) for at in ASKED}


def cases(kept: Kept, kind: str) -> list[str]:
    if kind == "verified":
        assert checked(kept).remembered
    if kind == "keep":
        for name, at in (("one", 20), ("two", 30)):
            keeps.add(kept.store(), "test", name, Keep(at, 0))
    found = kept.names(kind)
    if not found and not (kind == "keyring" and not kept.encrypted):
        pytest.fail(f"the archive has no {kind}")
    return found


@pytest.mark.parametrize("tier", ["presence", "hashes", "decode"])
def test_a_sound_archive_is_sound_in_every_tier(kept: Kept, tier: str) -> None:
    found = checked(kept, tier)
    assert (found.damage, found.garbage, found.error()) == ((), (), None)
    assert moments(found.cost.left) == set(range(10, END + 1))
    assert found.objects == SHARDS * (2 * 5 + 1 + 5)
    assert found.remembered


@pytest.mark.parametrize("kind", KINDS)
def test_any_byte_that_is_flipped_is_named_and_refused(kept: Kept, kind: str) -> None:
    for name in cases(kept, kind)[:1]:
        path = kept.path / name
        data = bytearray(path.read_bytes())
        places = {0, 1, len(data) - 1, *np.linspace(0, len(data) - 1, 8).astype(int).tolist()}
        for place in sorted(places):
            data[place] ^= 1 << place % 8
            path.write_bytes(data)
            named(kept, {name, "test/verified"}, "hashes" if place % 2 else "decode")
            data[place] ^= 1 << place % 8
        path.write_bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_that_is_cut_or_longer_is_named_and_refused(kept: Kept, kind: str) -> None:
    for name in cases(kept, kind)[:1]:
        path = kept.path / name
        data = path.read_bytes()
        for size in (0, 1, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:size])
            named(kept, {name, "test/verified"})
        path.write_bytes(data + b"\n")
        assert checked_or_error(kept, name)


def checked_or_error(kept: Kept, name: str) -> bool:
    """Bytes behind an object's end are named as well, though whoever reads it would not see them."""
    found, problem = outcome(kept, "presence")
    return bool({d.name for d in found.damage} & {name, "test/verified"}) if found else name in problem


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("keyring", "keep", "verified", "last manifest")])
def test_any_object_that_is_gone_is_named_and_refused(kept: Kept, kind: str) -> None:
    for name in cases(kept, kind)[:1]:
        (kept.path / name).unlink()
        named(kept, {name}, "presence")


def test_a_lost_keyring_is_refused(kept: Kept) -> None:
    for name in cases(kept, "keyring"):
        (kept.path / name).unlink()
        with pytest.raises(ArchiveError, match="not encrypted, and") as told:
            kept.store()
        assert "its keyring is lost" in told.value.hint


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.parametrize("how", ["swap", "duplicate"])
def test_any_two_objects_that_are_swapped_or_doubled_are_named_and_refused(
    kept: Kept, one: str, other: str, how: str
) -> None:
    left, right = cases(kept, one)[:1], [n for n in cases(kept, other)[::-1] if n not in cases(kept, one)[:1]][:1]
    for a, b in zip(left, right, strict=False):  # a plain archive has no keyring, and there is one format
        contents = [(kept.path / name).read_bytes() for name in (a, b)]
        (kept.path / b).write_bytes(contents[0])
        if how == "swap":
            (kept.path / a).write_bytes(contents[1])
        named(kept, {b} if how == "duplicate" else {a, b})


def test_an_old_manifest_that_is_played_again_is_named_and_refused(kept: Kept) -> None:
    names = [n for n in kept.names("manifest") if "shard-0001" in n]
    again = kept.path / names[-1].replace("0005.json", "0006.json")
    assert not again.exists()
    shutil.copy(kept.path / names[1], again)
    named(kept, {str(again.relative_to(kept.path))})
    again.unlink()
    odd = kept.path / names[-1].replace(".json", "-copy.json")
    shutil.copy(kept.path / names[-1], odd)
    named(kept, {str(odd.relative_to(kept.path))})


def test_newest_manifests_that_are_gone_are_named_if_they_were_verified_once(kept: Kept) -> None:
    """What was never seen cannot be missed; and what is left is true."""
    name = kept.names("last manifest")[0]
    bare = kept.copied(kept.path.with_name("never-verified"))
    (bare.path / name).unlink()
    found = checked(bare)
    assert found.damage == ()
    assert len(found.garbage) == 2  # of the segment that only the manifest named
    assert max(moments(found.cost.left)) == 30

    assert checked(kept).remembered
    (kept.path / name).unlink()
    for only_new in (False, True):
        found = checked(kept, only_new=only_new)
        assert [(d.name, d.kind) for d in found.damage] == [(name, "missing")]
        assert "1970-01-01T00:00:00.040Z" in found.damage[0].text
        assert isinstance(found.error(), ObjectMissing)


def test_a_manifest_of_another_history_breaks_the_chain(kept: Kept, tmp_path: Path) -> None:
    other = made(Kept(tmp_path / "other", kept.encrypted))
    for name in kept.names("manifest")[1:2]:
        shutil.copy(other.path / name, kept.path / name)
        found = checked(kept)
        assert {d.kind for d in found.damage} == ({"key"} if kept.encrypted else {"chain", "missing"})
        assert moments(found.cost.left) == set(range(10, END + 1))


def test_what_nobody_names_is_garbage_and_no_damage(kept: Kept) -> None:
    assert checked(kept).remembered
    copied = [kept.names(kind)[0] for kind in ("segment", "set index", "verified")]
    copies = [kept.path / name.replace(".", "-copy.", 1) for name in copied]
    for path in copies:
        path.write_bytes(b"x")
    found = checked(kept)
    assert found.damage == ()
    assert sorted(found.garbage) == sorted(str(p.relative_to(kept.path)) for p in copies)


def test_new_looks_at_what_came_since_and_misses_what_is_gone(kept: Kept) -> None:
    began = itertools.count(1000)
    first = checked(kept, "hashes", clock=lambda: next(began))
    again = checked(kept, "hashes", only_new=True)
    assert (again.since, again.bytes, again.garbage) == (first.began_at, 0, ())
    store = kept.store()
    archive = Archive.open(store, "test")
    manifest = archive.shard(0)
    assert manifest is not None
    look(store, archive, manifest, 50, range(7), 115)
    newer = checked(kept, "hashes", only_new=True)
    assert newer.objects == again.objects + 3
    assert newer.bytes > 0
    assert checked(kept, "decode", only_new=True).since is None  # that was never done
    (kept.path / kept.names("segment")[0]).unlink()
    assert [d.kind for d in checked(kept, "presence", only_new=True).damage] == ["missing"]
    assert len(kept.names("verified")) == 1


def test_what_was_written_wrong_is_found_though_every_hash_is_right(kept: Kept) -> None:
    store = kept.store()
    archive = Archive.open(store, "test")
    manifest = archive.shard(0)
    assert manifest is not None
    wrong: dict[str, Callable[[SegmentInfo], SegmentInfo]] = {
        "is not as its manifest says: rows": lambda s: replace(s, rows=s.rows + 1),
        "is not as its manifest says: max_observed_at": lambda s: replace(s, max_observed_at=1),
        "is not as its manifest says: last_digest": lambda s: replace(s, last_digest="ff" * 20),
    }
    for text, change_of in wrong.items():
        info = change_of(manifest.segments[0])
        archive.commit(replace(manifest, segments=(info, *manifest.segments[1:])))
        found = checked(kept)
        assert [text in d.text for d in found.damage] == [True]
        assert checked(kept, "hashes", only_new=True).damage == ()
        newest = archive.shard(0)
        assert newest is not None
        (kept.path / f"{archive.directory(0, 'manifests')}/{newest.sequence:020d}.json").unlink()
        for name in kept.names("verified"):
            (kept.path / name).unlink()


def test_records_that_do_not_belong_into_a_set_or_a_shard_are_found(kept: Kept) -> None:
    store = kept.store()
    archive = Archive.open(store, "test")
    manifest = archive.shard(0)
    assert manifest is not None

    def written(rows: list[dict[str, Any]]) -> SegmentInfo:
        held = versions(rows, list(range(len(rows))))
        writer = objects.SegmentWriter(ArchiveSettings(), 1)
        writer.add(held, order(held.columns.digest, held.offsets))
        return writer.finish(store, archive.directory(0, "sets"))

    ended = written([change(1, 5, op=Op.DELETE)])
    expired = written([change(2, 5, void_time=8)])
    later = written([change(3, 50)])
    twice = written([change(4, 5), change(4, 6)])
    strange = written([change(SECOND + 5, 5)])
    good = [written([change(k, 5)]) for k in (6, 7)]
    bad = (ended, expired, later, twice, strange)
    wrong = [
        listings.write(store, archive.directory(0, "sets"), Listing(infos), at=20, through=100, epoch=1, made_at=0)
        for infos in (*((info,) for info in bad), (good[1], good[0]))
    ]
    archive.commit(replace(manifest, sets=(*manifest.sets, *wrong)))
    assert checked(kept, "hashes").damage == ()
    assert {d.name for d in checked(kept).damage} == {info.name for info in (*bad, good[0])}


def test_it_ends_when_it_is_told_to_and_remembers_nothing(kept: Kept) -> None:
    stop = threading.Event()
    stop.set()
    found = checked(kept, stop=stop)
    assert (found.bytes, found.remembered) == (0, False)


def test_who_may_only_read_verifies_as_well_but_the_role_says_that_it_cannot_go_on_from_there(kept: Kept) -> None:
    class ReadOnly(Around):
        def put_if_absent(self, name: str, data: Data) -> bool:
            raise StoreForbidden(f"{name}: Permission denied")

    found = verify(ReadOnly(kept.store()), "test", "decode")
    assert (found.damage, found.error(), found.remembered) == ((), None, False)
    assert found.forgotten == f"test/verified/{1:020d}.json: Permission denied"
    settings_ = Settings(aerospike=AerospikeSettings(namespaces=("test",)), archive=kept.settings)
    with pytest.raises(StoreForbidden, match="Permission denied"):
        Verifier(settings_, store=ReadOnly(kept.store())).round()
    (kept.path / kept.names("segment")[0]).unlink()
    assert verify(ReadOnly(kept.store()), "test").error() is not None


def test_the_role_verifies_what_is_new_and_gets_over_damage(kept: Kept) -> None:
    settings_ = Settings(
        aerospike=AerospikeSettings(namespaces=("test",)),
        archive=kept.settings.model_copy(update={"verify_every_s": 0.01}),
    )
    role, stop = Verifier(settings_, clock=lambda: 5_000), threading.Event()
    done: list[CdcError | None] = []
    name = kept.path / kept.names("segment")[0]

    def success() -> None:
        done.append(None)
        if len(done) == 1:
            name.rename(name.with_suffix(".gone"))
        else:
            stop.set()

    def failure(error: CdcError) -> None:
        done.append(error)
        assert metrics.DAMAGED.labels("test", "main", "hashes")._value.get() == 1
        name.with_suffix(".gone").rename(name)

    role.run(stop, success, failure)
    assert [type(one) for one in done] == [type(None), ObjectMissing, type(None)]
    assert metrics.VERIFIED.labels("test", "main", "hashes")._value.get() == 5
    assert metrics.DAMAGED.labels("test", "main", "hashes")._value.get() == 0


def test_the_role_waits_for_an_archive(tmp_path: Path) -> None:
    assert Verifier(Settings(archive=ArchiveSettings(path=tmp_path / "none"))).round() is None
    (tmp_path / "empty").mkdir()
    assert Verifier(Settings(archive=ArchiveSettings(path=tmp_path / "empty"))).round() is None
    with pytest.raises(ObjectMissing, match="holds nothing"):
        verify(open_store(ArchiveSettings(path=tmp_path / "empty")), "test")


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_a_bucket_is_verified_as_a_directory_is(bucket: Bucket, tmp_path: Path) -> None:
    kept = made(Kept(tmp_path / "plain", encrypted=False))
    store, names = bucket.store(), [str(p.relative_to(kept.path)) for p in kept.path.rglob("*") if p.is_file()]
    for name in names:
        store.put(name, (kept.path / name).read_bytes())
    assert verify(store, "test", "decode").remembered
    damaged, gone = kept.names("set")[0], kept.names("segment index")[0]
    data = bytearray(store.get(damaged))
    data[-20] ^= 1
    store.delete(damaged)
    store.put(damaged, bytes(data))
    store.delete(gone)
    found = verify(store, "test", "hashes")
    assert {(d.name, d.kind) for d in found.damage} == {(damaged, "damaged"), (gone, "missing")}
    assert isinstance(found.error(), ObjectDamaged)
