"""docs/format.md: a reader written from it alone says what the program says, and refuses what it must."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, Epoch, LocalStore, Manifest, Store, keeps, keyring, manifests, merging, sets
from cdc.archive import segments as objects
from cdc.archive.keeps import Keep
from cdc.archive.prune import prune
from cdc.archive.retention import DAY_MS
from cdc.archive.sealed import SealedStore
from cdc.archive.tiers import Merge
from cdc.archive.verify import verify
from cdc.archive.versions import concat, order
from cdc.archive.windows import namespace_windows
from cdc.clock import parse_rfc3339
from cdc.config import ArchiveSettings, CompactorSettings, RetentionSettings, Settings
from cdc.errors import FormatTooNew, NotRecoverable, ObjectDamaged
from cdc.model import END_OF_TIME, Op
from cdc.replayer.versions import ABSENT, Certainty, states
from tests.fixtures.format_reader import Reader, Refused
from tests.fixtures.sample_archive import DOCUMENT, HOME, KINDS, NAMESPACE, OUTER, document, told
from tests.fixtures.versions import change, versions

END = 40
EPOCH = Epoch(number=1, began_at=1, changes_from=0, recoverable_from=3, resolved_at=END, reconciled_at=END - 8)
SETTINGS = ArchiveSettings(block_bytes=4096)

Known = dict[bytes, tuple[int | None, str]]


def store_at(path: Path, sealed: bool) -> Store:
    store = LocalStore(path, create=True)
    if not sealed:
        return store
    return SealedStore(store, keyring.load(store, OUTER) or keyring.create(store, OUTER))


def begun(path: Path, sealed: bool = False) -> Archive:
    """An archive of one shard with one epoch."""
    archive = Archive.create(store_at(path, sealed), "test", 1)
    archive.commit(replace(archive.first(0), epochs=(EPOCH,)))
    return archive


def amend(archive: Archive, edit: Callable[[Manifest], Manifest]) -> Manifest:
    made = archive.amend(0, edit)
    assert made is not None
    return made


def add(archive: Archive, changes: list[dict[str, Any]]) -> None:
    """One more segment."""
    first = newest(archive).next_changes
    made = versions(changes, list(range(first, first + len(changes))))
    writer = objects.SegmentWriter(SETTINGS, 1)
    writer.add(made, order(made.columns.digest, made.offsets))
    info = writer.finish(archive.store, archive.directory(0, "segments"))
    amend(archive, lambda m: replace(m, segments=(*m.segments, info), next_changes=first + len(changes)))


def add_set(archive: Archive, at: int) -> None:
    manifest = newest(archive)
    made = sets.make(archive, manifest, manifest.epochs[-1], at, 0, CompactorSettings(), SETTINGS)
    amend(archive, lambda m: replace(m, sets=(*m.sets, made)))


def merge(archive: Archive) -> None:
    """All segments become one of the next tier."""
    before = newest(archive)
    wanted = Merge(1, max(s.tier for s in before.segments) + 1, before.segments)
    made = merging.merge(archive, 0, wanted, CompactorSettings(), SETTINGS)
    archive.amend(0, lambda m: merging.merged(m, wanted, made, 0))


def drop(archive: Archive, kept_from: int, marked: int) -> None:
    """Prune the changes before a moment; another one is marked to be kept."""
    keeps.add(archive.store, "test", "release", Keep(marked, 0))
    now = END + 10
    retention = RetentionSettings(changes_days=(now - kept_from) / DAY_MS, hourly_days=1)
    prune(archive, Settings(archive=SETTINGS.model_copy(update={"retention": retention})), now)


def newest(archive: Archive) -> Manifest:
    manifest = archive.shard(0)
    assert manifest is not None
    return manifest


def ours(archive: Archive, at: int) -> Known:
    """What the program says of a moment: of each record the offset that holds, and how sure. Records that are absent
    for certain are left out."""
    view = archive.view(0, at)
    made = concat(list(archive.versions(view)))
    found = states(made.columns, at, view.epoch.reconciled_at)
    said = {
        digest.tobytes(): (None if row == ABSENT else int(made.offsets[row]), Certainty(sure).name.lower())
        for digest, row, sure in zip(found.digest, found.held, found.certainty, strict=True)
    }
    return {digest: one for digest, one in said.items() if one != (None, "exact")}


def theirs(reader: Reader, at: int) -> Known:
    """The same by the independent reader."""
    said = {digest: (one.offset, one.certainty) for digest, one in reader.states(0, at).items()}
    return {digest: one for digest, one in said.items() if one != (None, "exact")}


def agree(archive: Archive, path: Path, sealed: bool) -> None:
    """Both say the same of every moment."""
    reader = Reader(path, "test", OUTER if sealed else None)
    assert [m["sequence"] for m in reader.chain(0)] == [m.sequence for m in archive.chain(0)]
    windows = namespace_windows(archive.all_shards())
    assert reader.spans(0) == [(w.start, w.end) for w in windows]
    for at in range(END + 2):
        if any(at in w for w in windows):
            assert theirs(reader, at) == ours(archive, at), at
        else:
            with pytest.raises(Refused):
                reader.states(0, at)


moment = st.integers(0, END)
a_change = st.fixed_dictionaries(
    {
        "key": st.integers(0, 3),
        "effective_at": st.integers(0, 12),
        "blind": st.integers(0, 10),
        "seen_after": st.integers(0, 6),
        "op": st.sampled_from([Op.WRITE, Op.WRITE, Op.WRITE, Op.DELETE, Op.EXPIRY, Op.TRUNCATION, Op.ASIDE]),
        "void_time": st.none() | st.integers(1, END),
        "consecutive": st.booleans(),
    }
)
a_lot = st.tuples(st.lists(a_change, min_size=1, max_size=6), st.none() | moment, st.booleans())


def fields(given_change: dict[str, Any], began: int) -> dict[str, Any]:
    """A change for `versions`, of a lot that began at a moment. Lots overlap, more than clocks would make them."""
    given = dict(given_change)
    key, after, blind, later = (given.pop(name) for name in ("key", "effective_at", "blind", "seen_after"))
    at = began + after
    until = END_OF_TIME if given["op"] == Op.ASIDE else at
    return change(key, until, unobserved_since=max(at - blind, 0), observed_at=at + later, **given)


@settings(max_examples=30, deadline=None)
@given(
    lots=st.lists(a_lot, min_size=1, max_size=5),
    kept_from=st.none() | st.tuples(moment, moment),
    sealed=st.booleans(),
)
def test_the_reader_says_what_the_program_says(
    tmp_path_factory: pytest.TempPathFactory,
    lots: list[tuple[list[dict[str, Any]], int | None, bool]],
    kept_from: tuple[int, int] | None,
    sealed: bool,
) -> None:
    path = tmp_path_factory.mktemp("archive")
    archive = begun(path, sealed)
    for number, (changes, at, merged) in enumerate(lots):
        add(archive, [fields(one, 7 * number) for one in changes])
        if at is not None:
            add_set(archive, at)
        if merged:
            merge(archive)
    agree(archive, path, sealed)
    if kept_from is not None:
        drop(archive, *kept_from)
        agree(archive, path, sealed)


@pytest.mark.parametrize("sealed", [False, True])
def test_one_record_is_read_from_few_blocks(tmp_path: Path, sealed: bool) -> None:
    archive = begun(tmp_path, sealed)
    add(archive, [change(k // 3, 5 + k % 30, bins={"b": bytes(500)}) for k in range(120)])
    reader = Reader(tmp_path, "test", OUTER if sealed else None)
    [line] = reader.manifest(0)["segments"]
    every = list(reader.rows(line))
    for digest in {row["change"]["digest"] for row in every}:
        assert list(reader.rows_of(line, digest)) == [row for row in every if row["change"]["digest"] == digest]
    assert list(reader.rows_of(line, b"\xff" * 20)) == []


def small(path: Path) -> Archive:
    archive = begun(path)
    add(archive, [change(1, 5), change(2, 6)])
    return archive


def rewrite(path: Path, kind: str, **members: object) -> None:
    """Sealed JSON again, with other members."""
    inner = json.loads(path.read_bytes())[kind] | members
    path.write_bytes(manifests.seal(kind, inner))


def test_what_is_of_a_later_version_is_refused_by_both(tmp_path: Path) -> None:
    archive = small(tmp_path)
    [index] = (tmp_path / "test/shard-0000/segments").glob("*.idx")
    index.write_bytes(b"CDCIDX03" + index.read_bytes()[8:])
    renewed = replace(newest(archive).segments[0], index_sha256=manifests.sha256(index.read_bytes()))
    amend(archive, lambda m: replace(m, segments=(renewed,)))
    with pytest.raises(FormatTooNew):
        ours(archive, 10)
    with pytest.raises(Refused, match="later version"):
        Reader(tmp_path, "test").states(0, 10)

    rewrite(sorted((tmp_path / "test/shard-0000/manifests").iterdir())[-1], "manifest", version=2)
    with pytest.raises(FormatTooNew):
        archive.shard(0)
    with pytest.raises(Refused, match="version 2"):
        Reader(tmp_path, "test").manifest(0)

    rewrite(tmp_path / "test/format.json", "format", version=2)
    with pytest.raises(FormatTooNew):
        Archive.open(archive.store, "test")
    with pytest.raises(Refused, match="version 2"):
        Reader(tmp_path, "test")


def test_a_manifest_with_a_member_that_this_version_does_not_have_is_refused(tmp_path: Path) -> None:
    archive = small(tmp_path)
    rewrite(sorted((tmp_path / "test/shard-0000/manifests").iterdir())[-1], "manifest", unheard_of=1)
    with pytest.raises(ObjectDamaged):
        archive.shard(0)


def test_the_reader_notices_what_was_changed(tmp_path: Path) -> None:
    small(tmp_path)
    shard = tmp_path / "test/shard-0000"
    for path in sorted(p for p in shard.rglob("*") if p.is_file()):
        data = path.read_bytes()
        for at in (0, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises((Refused, ValueError)):
                read_all(tmp_path)
        path.write_bytes(data)
    read_all(tmp_path)
    first, second = sorted((shard / "manifests").iterdir())
    written = first.read_bytes()
    rewrite(first, "manifest", written_at=7)
    with pytest.raises(Refused, match="was exchanged"):
        read_all(tmp_path)
    first.unlink()
    with pytest.raises(Refused, match="does not begin"):
        read_all(tmp_path)
    first.write_bytes(written)
    second.rename(second.with_name(f"{3:020d}.json"))
    with pytest.raises(Refused, match="stands elsewhere"):
        read_all(tmp_path)


def read_all(path: Path) -> None:
    reader = Reader(path, "test")
    assert list(reader.chain(0))
    assert reader.states(0, 10)


@pytest.mark.parametrize("path", sorted(HOME.glob("archive-v*")), ids=lambda path: path.name)
def test_archives_of_every_version_stay_readable(path: Path, tmp_path: Path) -> None:
    expected = json.loads((path / "expected.json").read_text())
    assert set(expected) == set(KINDS)
    for kind, moments in expected.items():
        assert told(path, kind) == moments
        shutil.copytree(path / kind, tmp_path / kind)  # a verification writes down that it was done
        behind = LocalStore(tmp_path / kind)
        ring = keyring.load(behind, OUTER)
        assert (ring is not None) == (kind == "sealed")
        archive = Archive.open(SealedStore(behind, ring) if ring else behind, NAMESPACE)
        assert verify(archive.store, NAMESPACE, "decode").damage == ()
        for at, known in moments.items():
            if known is None:
                with pytest.raises(NotRecoverable):
                    archive.view(0, parse_rfc3339(at))
                continue
            offsets = {bytes.fromhex(name): (one["offset"], one["certainty"]) for name, one in known.items()}
            assert ours(archive, parse_rfc3339(at)) == {k: v for k, v in offsets.items() if v != (None, "exact")}
    assert keeps.load(archive.store, NAMESPACE)["release-1"].at in archive.windows()[0]


def test_the_example_in_the_document_is_the_archive_that_stays() -> None:
    assert DOCUMENT.read_text() == document(HOME / f"archive-v{manifests.FORMAT_VERSION}")
