"""One record: its key in words, its history and what it was at a moment, from segments and restore sets."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdc.archive import Archive, LocalStore, Manifest, record, sets
from cdc.archive import segments as objects
from cdc.archive.versions import concat
from cdc.archive.windows import epoch_at
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.errors import NotRecoverable, UsageError
from cdc.model import END_OF_TIME, Op
from cdc.replayer.history import History, Shown, history, recoverable, show
from cdc.replayer.keys import digest_of, parse_digest, user_key
from cdc.replayer.versions import Certainty
from tests.faults import history as known
from tests.fixtures.one_shard import END, EPOCH, counted, one_shard
from tests.fixtures.versions import change, digest, versions

KEY = digest(7)


def told(found: History) -> list[tuple[int, str]]:
    return [(v.offset, v.change["op"]) for v in found.versions]


def test_every_version_is_told_in_order_and_no_other_records(tmp_path: Path) -> None:
    archive = one_shard(
        tmp_path,
        [change(k, 10, bins={"b": bytes(500)}) for k in range(40)],
        [change(7, 20, generation=2, consecutive=True), change(8, 20), change(7, 30, op=Op.DELETE)],
        [change(9, 40)],
    )
    found = history(archive, KEY)
    assert told(found) == [(7, "WRITE"), (40, "WRITE"), (42, "DELETE")]
    assert [v.change["generation"] for v in found.versions] == [1, 2, 1]
    assert [v.within for v in found.versions] == [Certainty.FUZZY, Certainty.PRESUMED, Certainty.FUZZY]
    assert (found.digest, found.manifest.shard) == (KEY, 0)
    assert told(history(archive, digest(99))) == []


def test_epochs_stand_one_after_the_other_though_offsets_begin_anew(tmp_path: Path) -> None:
    archive = one_shard(tmp_path, [change(1, 5), change(7, 10)])
    later = versions([change(7, 50)], [0])
    writer = objects.SegmentWriter(ArchiveSettings(), 2)
    writer.add(later)
    info = writer.finish(archive.store, archive.directory(0, "segments"))
    second = replace(EPOCH, number=2, recoverable_from=45)

    def begin(manifest: Manifest) -> Manifest:
        first = replace(EPOCH, resolved_at=40, ended="Kafka was lost")
        return replace(manifest, epochs=(first, second), segments=(*manifest.segments, info))

    archive.amend(0, begin)
    assert [(v.epoch, v.offset) for v in history(archive, KEY).versions] == [(1, 1), (2, 0)]
    assert [(w.start, w.end) for w in recoverable(archive, KEY)] == [(3, 40), (45, END)]
    held = show(archive, KEY, 60).held
    assert held is not None
    assert held.epoch == 2


def test_one_block_of_an_object_is_read_and_none_of_those_that_cannot_hold_the_record(tmp_path: Path) -> None:
    archive = one_shard(
        tmp_path,
        [change(k, 10, bins={"b": bytes(500)}) for k in range(100)],
        [change(k, 20, bins={"b": bytes(500)}) for k in range(50, 100)],
    )
    with counted(archive, tmp_path) as asked:
        history(archive, KEY)
    first, second = (s.name for s in archive.shard(0).segments)  # type: ignore[union-attr]
    assert [name for name, _ in asked if name == first] == [first]
    assert sum(length for _, length in asked) < 10_000
    assert second not in {name for name, _ in asked}


def test_what_is_read_of_one_record_is_what_a_restore_reads_of_it(tmp_path: Path) -> None:
    archive = Archive.create(LocalStore(tmp_path, create=True), known.NAMESPACE, known.SHARDS)
    known.days(archive, 2)
    newest = archive.shard(0)
    assert newest is not None
    for at in (known.T0 + 20 * known.HOUR, known.T0 + 30 * known.HOUR):
        epoch = epoch_at(newest, at)
        assert epoch is not None
        made = sets.make(archive, newest, epoch, at, at, CompactorSettings(), ArchiveSettings())
        newest = archive.commit(replace(newest, sets=(*newest.sets, made)))
    compared = 0
    for at in known.moments(known.spans(archive)):
        view = archive.view(0, at)
        for key in range(60):
            mine = np.frombuffer(digest(key), np.uint8)[None]
            whole = concat(list(archive.versions(view, digests=mine)))
            found = record.of_view(archive.store, view, digest(key))
            assert found.offsets.tolist() == whole.offsets.tolist()
            assert list(found.bodies) == list(whole.bodies)
            compared += found.rows
    assert compared


def test_the_history_of_one_record_in_fifty_segments_takes_less_than_100_ms_of_work(tmp_path: Path) -> None:
    # Segments of several whole blocks: of each one is read, so that more or longer segments cost the same.
    lots = [[change(k, t, bins={"n": t, "b": bytes(60)}) for k in range(1500)] for t in range(1, 51)]
    archive = one_shard(tmp_path, *lots, block_bytes=ArchiveSettings().block_bytes)
    taken = []
    while len(taken) < 20 and (not taken or taken[-1] >= 0.1):  # the first loads the kernels; others may work beside it
        began = time.process_time()
        assert len(history(archive, KEY).versions) == 50
        taken.append(time.process_time() - began)
    assert min(taken) < 0.1


def shown(path: Path, at: int, *changes: dict[str, Any], **epoch: Any) -> Shown:
    return show(one_shard(path, list(changes), epoch=replace(EPOCH, **epoch)), KEY, at)


def test_a_moment_outside_all_blind_intervals_is_exact(tmp_path: Path) -> None:
    found = shown(tmp_path, 30, change(7, 20), change(7, 50, unobserved_since=40))
    assert found.held is not None
    assert (found.held.offset, found.certainty, found.blind, found.reason) == (0, Certainty.EXACT, None, "")


@pytest.mark.parametrize(("consecutive", "sure"), [(True, Certainty.PRESUMED), (False, Certainty.FUZZY)])
def test_a_moment_in_a_blind_interval_says_so(tmp_path: Path, consecutive: bool, sure: Certainty) -> None:
    late = change(7, 50, unobserved_since=25, consecutive=consecutive)
    found = shown(tmp_path, 30, change(7, 20), late)
    assert found.held is not None
    assert (found.held.offset, found.certainty, found.blind) == (0, sure, (25, 50))
    assert found.reason.startswith("nothing was seen of it from 1970-01-01T00:00:00.025Z to 1970-01-01T00:00:00.050Z")
    assert ("generations" in found.reason) == consecutive


def test_what_ended_a_record_is_told(tmp_path: Path) -> None:
    deleted = shown(tmp_path / "a", 60, change(7, 20), change(7, 50, op=Op.DELETE, unobserved_since=40))
    assert deleted.held is None
    assert deleted.ended is not None
    assert (deleted.ended.offset, deleted.certainty) == (1, Certainty.EXACT)
    expired = shown(tmp_path / "b", 60, change(7, 20, void_time=60))
    assert expired.held is None
    assert expired.ended is not None
    assert expired.ended.change["op"] == "WRITE"
    never = shown(tmp_path / "c", 10, change(7, 20, unobserved_since=5))
    assert (never.held, never.ended, never.certainty) == (None, None, Certainty.FUZZY)
    unknown = shown(tmp_path / "d", 10, change(8, 5))
    assert (unknown.held, unknown.ended, unknown.certainty) == (None, None, Certainty.EXACT)


def test_why_a_state_is_presumed_is_told(tmp_path: Path) -> None:
    undeleted = shown(tmp_path / "a", 60, change(7, 20), reconciled_at=55)
    assert (undeleted.certainty, undeleted.blind) == (Certainty.PRESUMED, None)
    assert "may have been deleted since 1970-01-01T00:00:00.055Z" in undeleted.reason
    truncated = shown(tmp_path / "b", 30, change(7, 20), change(7, 25, op=Op.TRUNCATION, observed_at=40))
    assert (truncated.certainty, truncated.held) == (Certainty.PRESUMED, None)
    assert "truncation" in truncated.reason
    aside = change(7, END_OF_TIME, op=Op.ASIDE, unobserved_since=25, observed_at=30)
    kept_aside = shown(tmp_path / "c", 60, change(7, 20), aside)
    assert (kept_aside.certainty, kept_aside.blind) == (Certainty.FUZZY, (25, END_OF_TIME))
    assert "to its next change" in kept_aside.reason


def test_where_changes_were_pruned_the_versions_of_restore_sets_are_told(tmp_path: Path) -> None:
    archive = one_shard(tmp_path, [change(7, 20), change(7, 30)], [change(7, 50)])
    manifest = archive.shard(0)
    assert manifest is not None
    made = [
        sets.make(archive, manifest, manifest.epochs[-1], at, 0, CompactorSettings(), ArchiveSettings())
        for at in (25, 40)
    ]
    kept = replace(manifest, sets=tuple(made), segments=manifest.segments[1:], changes_kept_from=40)
    archive.amend(0, lambda _: kept)
    assert told(history(archive, KEY)) == [(0, "WRITE"), (1, "WRITE"), (2, "WRITE")]
    archive.amend(0, lambda m: replace(m, sets=m.sets[1:]))
    assert told(history(archive, KEY)) == [(1, "WRITE"), (2, "WRITE")]


def test_moments_outside_the_windows_are_refused(tmp_path: Path) -> None:
    archive = one_shard(tmp_path, [change(7, 20)])
    for at in (2, END + 1):
        with pytest.raises(NotRecoverable):
            show(archive, KEY, at)
    empty = Archive.create(LocalStore(tmp_path / "empty", create=True), "test", 1)
    assert recoverable(empty, KEY) == []
    assert told(history(empty, KEY)) == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("17", 17), ("-1", -1), ("int:17", 17), ("alice", "alice"), ("str:17", "17"), ("str:", ""),
        ("hex:00fF", b"\x00\xff"), ("1.5", "1.5"), ("order:17", "order:17"), (str((1 << 63) - 1), (1 << 63) - 1),
        ("0", 0), ("0017", "0017"), ("-0", "-0"), ("-07", "-07"), ("int:0017", 17), ("0" * 30, "0" * 30),
    ],
)  # fmt: skip
def test_keys_in_words(text: str, key: object) -> None:
    assert user_key(text) == key


@pytest.mark.parametrize("text", ["int:x", "int:", "hex:0", "hex:zz", str(1 << 63)])
def test_words_that_are_no_keys(text: str) -> None:
    with pytest.raises(UsageError):
        user_key(text)


@pytest.mark.parametrize(
    ("set_name", "key", "digest"),
    [
        # RIPEMD-160 of the set, the particle type and the key, reckoned by OpenSSL.
        ("s", 5, "1094a3a7fdd88695d0b614beac7e5259f4697f22"),
        (None, 5, "4404a2d4b5709a4988299b8821910f8eab2efe50"),
        (None, "5", "b27df0c8fbb8be6bf9e50dbf5062facbe488de7c"),
        (None, b"a\0b", "39b937dd21be9c1eab9c08a801d53fdab0ae1190"),
    ],
)
def test_digests_are_the_servers(set_name: str | None, key: int | str | bytes, digest: str) -> None:
    assert digest_of(set_name, key).hex() == digest


@pytest.mark.parametrize(("set_name", "key"), [("s" * 64, 1), ("s", b""), ("s", "a\0b")])
def test_what_the_client_takes_for_no_key_is_refused(set_name: str, key: str | int | bytes) -> None:
    with pytest.raises(UsageError):
        digest_of(set_name, key)


def test_digests_in_words() -> None:
    assert parse_digest("0x" + "0A" * 20) == b"\x0a" * 20
    for wrong in ("", "0a", "0g" * 20, "0a" * 21):
        with pytest.raises(UsageError):
            parse_digest(wrong)
