"""Repair: whatever is done to an object, another destination brings it back, and with it every moment."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdc.archive import Archive, Store, keeps
from cdc.archive.keeps import Keep
from cdc.archive.repair import Repaired, repair
from cdc.archive.siblings import asked
from cdc.archive.verify import told, verify
from cdc.config import AerospikeSettings, KafkaSettings, Settings
from cdc.errors import ObjectDamaged, ObjectMissing
from tests.unit.test_archive_verify import ASKED, END, KEY, KINDS, PAIRS, SHARDS, Kept, look, made, moments, read

AWAY = KafkaSettings(bootstrap="127.0.0.1:1", timeout_s=0.2)
"""No broker answers there."""
TRUTH: dict[int, Any] = {}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "encrypted"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kept, Kept]]:
    """Two destinations of the same changes, with names of their own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(KEY, "7a" * 32)
        folder = tmp_path_factory.mktemp("destinations")
        main, other = made(Kept(folder / "main", request.param)), made(Kept(folder / "other", False))
        if not TRUTH:
            TRUTH.update({at: read(Archive.open(other.store(), "test"), at) for at in ASKED})
        yield main, other


@pytest.fixture
def kept(both: tuple[Kept, Kept], tmp_path: Path) -> Kept:
    return both[0].copied(tmp_path / "main")


@pytest.fixture
def other(both: tuple[Kept, Kept], tmp_path: Path) -> Kept:
    return both[1].copied(tmp_path / "other")


def repaired(kept: Kept, *others: Kept, dry_run: bool = False, store: Store | None = None) -> Repaired:
    settings = Settings(aerospike=AerospikeSettings(namespaces=("test",)), kafka=AWAY, archive=kept.settings)
    openers = {one.path.name: one.store for one in others}
    return repair(store or kept.store(create=True), settings, openers, tier="decode", dry_run=dry_run)


def whole_again(kept: Kept) -> None:
    """A verification finds nothing damaged, and every moment is what it was."""
    found = verify(kept.store(), "test", "decode")
    assert found.damage == ()
    assert moments(found.cost.left) >= set(range(10, END + 1))
    archive = Archive.open(kept.store(), "test")
    for at in ASKED:
        assert read(archive, at) == TRUTH[at], at
    for shard in range(SHARDS):
        assert len(list(archive.chain(shard))) >= 1


def names_of(kept: Kept, kind: str) -> list[str]:
    if kind == "verified":
        assert verify(kept.store(), "test", "decode").remembered
    return kept.names(kind)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "keyring"])
@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "gone"])
def test_one_damaged_object_is_brought_back_from_another_destination(
    kept: Kept, other: Kept, kind: str, how: str
) -> None:
    if (kind, how) == ("verified", "gone"):
        return  # nothing was lost
    for name in names_of(kept, kind)[:1]:
        if (kind, how) == ("last manifest", "gone"):
            assert verify(kept.store(), "test").remembered  # or it is missing to nobody
        path = kept.path / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.unlink()
        if how != "gone":
            path.write_bytes({"flipped": data, "cut": data[: len(data) // 2], "longer": bytes(data) + b"x"}[how])
        planned = repaired(kept, other, dry_run=True)
        assert planned.error() is not None
        assert planned.steps
        done = repaired(kept, other)
        assert (done.left, done.error()) == ((), None)
        assert [s.how for s in done.steps][: len(planned.steps)] == [s.how for s in planned.steps]
        whole_again(kept)
        assert repaired(kept, other).steps == ()


@pytest.mark.parametrize(("one", "other_kind"), [p for p in PAIRS if "keyring" not in p])
@pytest.mark.parametrize("how", ["swap", "duplicate"])
def test_swapped_and_doubled_objects_are_brought_back(
    kept: Kept, other: Kept, one: str, other_kind: str, how: str
) -> None:
    if kept.encrypted and PAIRS.index((one, other_kind)) % 4:
        return  # what is sealed is brought back in the same way, and takes as long
    left = kept.names(one)[:1]
    right = [n for n in kept.names(other_kind)[::-1] if n not in left][:1]
    for a, b in zip(left, right, strict=False):  # there is one format
        contents = [(kept.path / name).read_bytes() for name in (a, b)]
        (kept.path / b).write_bytes(contents[0])
        if how == "swap":
            (kept.path / a).write_bytes(contents[1])
        done = repaired(kept, other)
        assert (done.left, done.error()) == ((), None)
        whole_again(kept)


def test_an_old_manifest_that_is_played_again_and_an_odd_name_are_got_over(kept: Kept, other: Kept) -> None:
    names = [n for n in kept.names("manifest") if "shard-0001" in n]
    again = kept.path / names[-1].replace("0005.json", "0006.json")
    shutil.copy(kept.path / names[1], again)
    shutil.copy(kept.path / names[-1], kept.path / names[-1].replace(".json", "-copy.json"))
    done = repaired(kept, other)
    assert {s.how for s in done.steps} == {"remove", "manifest"}
    whole_again(kept)
    manifest = Archive.open(kept.store(), "test").shard(1)
    assert manifest is not None
    assert (manifest.sequence, manifest.first_kept, bool(manifest.repaired)) == (7, 7, True)
    look(kept.store(), Archive.open(kept.store(), "test"), manifest, 50, range(7), 115)
    newer = Archive.open(kept.store(), "test").shard(1)
    assert newer is not None
    assert (newer.sequence, newer.first_kept, newer.repaired) == (8, 7, "")
    assert verify(kept.store(), "test", "decode").damage == ()


def test_from_itself_alone_an_archive_brings_back_what_it_can(kept: Kept) -> None:
    index, listing, inner = kept.names("segment index")[0], kept.names("listing")[0], kept.names("set")[1]
    for name in (index, listing, inner):
        (kept.path / name).unlink()
    done = repaired(kept)
    assert {(s.how, s.source) for s in done.steps} == {("index", ""), ("set", ""), ("manifest", "")}
    whole_again(kept)

    segment = kept.names("segment")[0]
    (kept.path / segment).unlink()
    done = repaired(kept)
    assert [(one.name, one.why) for one in done.left] == [(segment, "nobody else has its versions")]
    assert isinstance(done.error(), ObjectMissing)
    assert "kafka" in done.problems
    assert repaired(kept, dry_run=True).left == done.left


def test_a_last_manifest_that_nobody_has_is_gone_on_from_the_one_before(kept: Kept) -> None:
    name = kept.names("last manifest")[0]
    (kept.path / name).write_bytes(b"{}")
    done = repaired(kept)
    assert "what came after" in done.steps[-1].text
    found = verify(kept.store(), "test", "decode")
    assert (found.damage, max(moments(found.cost.left))) == ((), 30)


def test_where_no_manifest_is_sound_nothing_is_committed_over_it(kept: Kept, other: Kept) -> None:
    names = [n for n in kept.names("manifest") if "shard-0001" in n]
    for name in names:
        (kept.path / name).write_bytes(b"{}")
    done = repaired(kept)
    assert {one.name for one in done.left} == set(names)
    assert kept.names("last manifest") == names[-1:]
    assert repaired(kept, other).error() is None
    whole_again(kept)


def test_several_damages_at_once_are_brought_back(kept: Kept, other: Kept) -> None:
    """All but one manifest of a shard, both of two neighbouring segments, and what a set consists of."""
    for kind in ("segment", "segment index", "set", "listing"):
        for name in kept.names(kind):
            (kept.path / name).write_bytes(b"x")
    for name in kept.names("manifest")[2:4]:
        (kept.path / name).unlink()
    done = repaired(kept, other)
    assert (done.left, done.error()) == ((), None)
    whole_again(kept)


def test_a_damaged_other_destination_is_no_help_and_does_no_harm(kept: Kept, other: Kept) -> None:
    segment = kept.names("segment")[0]
    (kept.path / segment).unlink()
    for name in other.names("segment"):
        data = bytearray((other.path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (other.path / name).write_bytes(data)
    before = kept.names("segment")
    done = repaired(kept, other)
    assert [one.name for one in done.left] == [segment]
    assert done.left[0].why.startswith("other: test/shard-0000/segments/")
    assert set(kept.names("segment")) == set(before)
    gone = other.copied(other.path.with_name("gone"))
    shutil.rmtree(gone.path)
    assert "there is no archive" in repaired(kept, gone).problems["gone"]


def test_versions_that_are_not_the_same_are_not_taken(kept: Kept, other: Kept) -> None:
    """The other destination's history is another one from the second commit on."""
    store = other.store()
    archive = Archive.open(store, "test")
    manifest = archive.shard(0)
    assert manifest is not None
    archive.commit(replace(manifest, segments=(manifest.segments[0], *manifest.segments[2:])))
    second = [n for n in kept.names("segment") if "shard-0000" in n][1]
    (kept.path / second).unlink()
    done = repaired(kept, other)
    assert [one.name for one in done.left] == [second]
    assert "of 20" in done.left[0].why or "nobody" in done.left[0].why


def test_verify_names_the_destination_that_still_has_it(kept: Kept, other: Kept) -> None:
    segment = kept.names("segment")[0]
    (kept.path / segment).unlink()
    none = Kept(kept.path.with_name("none"), False)
    found = asked(verify(kept.store(), "test"), {"other": other.store, "none": none.store})
    other_has, none_has = found.elsewhere
    assert (other_has.destination, other_has.objects, other_has.problem) == ("other", (segment,), "")
    assert other_has.moments == found.cost.lost
    assert (none_has.destination, none_has.objects) == ("none", ())
    assert "there is no archive" in none_has.problem
    assert told(found)[0]["elsewhere"] == ["other"]
    (other.path / other.names("segment")[0]).unlink()
    found = asked(verify(kept.store(), "test"), {"other": other.store})
    assert found.elsewhere[0].objects == ()
    assert found.elsewhere[0].moments == ()
    assert not other.names("verified")


def test_marks_are_brought_back_where_the_other_destination_has_the_same(kept: Kept, other: Kept) -> None:
    for one in (kept, other):
        keeps.add(one.store(), "test", "before-release", Keep(20, 1))
    keeps.add(kept.store(), "test", "mine", Keep(30, 1))
    both = [kept.path / "test" / "keeps" / f"{name}.json" for name in ("before-release", "mine")]
    contents = [path.read_bytes() for path in both]
    for path, data in zip(both, contents[::-1], strict=True):
        path.write_bytes(data)
    found = verify(kept.store(), "test")
    assert {d.name.partition("/keeps/")[2] for d in found.damage} <= {"before-release.json", "mine.json"}
    done = repaired(kept, other)
    assert [(s.name, s.how, s.source) for s in done.steps] == [("test/keeps/before-release.json", "copy", "other")]
    assert [one.name for one in done.left] == ["test/keeps/mine.json"]
    assert isinstance(done.error(), ObjectDamaged)
    keeps.remove(kept.store(), "test", "mine")
    whole_again(kept)
    assert keeps.load(kept.store(), "test") == {"before-release": Keep(20, 1)}


class Killed(BaseException):
    """Stands for kill -9: nothing that runs afterwards sees it."""


class Dying:
    """A store that dies before or after its nth change."""

    def __init__(self, store: Store, steps: int, after: bool) -> None:
        self._store, self._left, self._after = store, steps, after

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._store, name)
        return act if name not in ("put", "put_if_absent", "delete") else lambda *given: self._change(act, *given)

    def _change(self, act: Any, *given: Any) -> Any:
        self._left -= 1
        if self._left < 0 and not self._after:
            raise Killed
        answer = act(*given)
        if self._left < 0:
            raise Killed
        return answer


@pytest.mark.parametrize("after", [False, True])
def test_a_repair_that_is_killed_at_any_step_is_done_by_the_next_one(
    kept: Kept, other: Kept, after: bool, tmp_path: Path
) -> None:
    for kind in ("segment", "segment index", "listing", "last manifest", "format"):
        (kept.path / kept.names(kind)[-1]).write_bytes(b"x")
    if not kept.encrypted:
        (kept.path / "test" / "verified").mkdir()
        (kept.path / "test" / "verified" / f"{1:020d}.json").write_bytes(b"x")
    for steps in range(100):
        copy = kept.copied(tmp_path / f"{steps}-{after}")
        try:
            repaired(copy, other, store=Dying(copy.store(), steps, after))  # type: ignore[arg-type]
        except Killed:
            done = repaired(copy, other)
            assert (done.left, done.error()) == ((), None)
            whole_again(copy)
            continue
        break
    assert steps > 10


def test_another_commit_meanwhile_is_gone_on_from(kept: Kept, other: Kept) -> None:
    """A compactor commits while a segment is made again, and then while history is taken."""

    class Busy(Dying):
        def _change(self, act: Any, *given: Any) -> Any:
            if act.__name__ == "put_if_absent" and "/manifests/" in given[0] and self._left:
                self._left -= 1
                archive = Archive.open(kept.store(), "test")
                newest = archive.shard(0)
                assert newest is not None
                look(kept.store(), archive, newest, 50 + self._left, range(3), newest.next_changes)
            return act(*given)

    segment = next(n for n in kept.names("segment") if "shard-0000" in n)
    (kept.path / segment).unlink()
    done = repaired(kept, other, store=Busy(kept.store(), 2, True))  # type: ignore[arg-type]
    assert (done.left, done.error()) == ((), None)
    manifest = Archive.open(kept.store(), "test").shard(0)
    assert manifest is not None
    assert len(manifest.segments) == 6  # of both commits as well
    archive = Archive.open(kept.store(), "test")
    for at in ASKED:
        assert read(archive, at) == TRUTH[at]
