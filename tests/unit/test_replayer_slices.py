"""Slices of an archive with segments and sets say what the plain rule says of all changes together."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, Epoch, LocalStore, Manifest
from cdc.archive.segments import SegmentWriter
from cdc.archive.versions import order
from cdc.codec import to_python
from cdc.compactor import sets
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.errors import NotRecoverable, RestoreError
from cdc.model import Op
from cdc.replayer.plan import plan, shard_slices
from cdc.replayer.slices import Slice, of_clone, of_rewind
from cdc.replayer.versions import ABSENT, Action, Certainty
from tests.fixtures.versions import change, digest, versions

LOOKS = 4
SPAN = 10
ARCHIVE = ArchiveSettings()


@dataclass(frozen=True)
class Made:
    """One look's change of a record: what it became at a moment within the look's span."""

    look: int
    key: int
    at: int
    op: Op
    void_time: int | None
    consecutive: bool
    blind: int

    def fields(self, offset: int) -> dict[str, Any]:
        return change(
            self.key, self.at, op=self.op, void_time=self.void_time, consecutive=self.consecutive,
            unobserved_since=self.blind, generation=offset + 1,
        )  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[Made]:
    made: list[Made] = []
    for look in range(LOOKS):
        for key in range(6):
            if not draw(st.booleans()):
                continue
            at = draw(st.integers(look * SPAN + 1, (look + 1) * SPAN))
            before = next((m for m in reversed(made) if m.key == key), None)
            ended = before is not None and before.op == Op.WRITE and draw(st.integers(0, 3)) == 0
            op = Op.DELETE if ended else Op.WRITE
            # A delete is found later than a write, but what ends was seen to be there when it was written.
            reconciled = draw(st.integers(0, look)) * SPAN
            blind = max(reconciled, before.at) if before and ended else look * SPAN
            void = draw(st.sampled_from([None, None, None, 25, 60])) if op == Op.WRITE else None
            made.append(Made(look, key, at, op, void, draw(st.booleans()), blind))
    return made


def archived(directory: str, made: list[Made], set_after: int | None) -> tuple[Archive, Manifest]:
    """Each look's changes as a segment, offsets in order; a restore set after one of the looks."""
    archive = Archive.create(LocalStore(Path(directory), create=True), "test", 1)
    manifest, offset = archive.first(0), 0
    for look in range(LOOKS):
        mine = [m for m in made if m.look == look]
        resolved = (look + 1) * SPAN
        epoch = Epoch(number=1, began_at=0, changes_from=0, recoverable_from=0, resolved_at=resolved, reconciled_at=99)
        segments = manifest.segments
        if mine:
            offsets = list(range(offset, offset + len(mine)))
            held = versions([m.fields(o) for m, o in zip(mine, offsets, strict=True)], offsets)
            writer = SegmentWriter(ARCHIVE, 1)
            writer.add(held, order(held.columns.digest, held.offsets))
            segments += (writer.finish(archive.store, archive.directory(0, "segments")),)
            offset += len(mine)
        manifest = archive.commit(replace(manifest, epochs=(epoch,), segments=segments, next_changes=offset))
        if look == set_after:
            new = sets.make(archive, manifest, epoch, resolved, resolved, CompactorSettings(), ARCHIVE)
            manifest = archive.commit(replace(manifest, sets=(new,)))
    return archive, manifest


def plain(made: list[Made], key: int, at: int) -> tuple[Made | None, Made | None, Certainty]:
    """Held, last and certainty of one record by the rule of the architecture."""
    mine = [m for m in made if m.key == key]
    until = [m for m in mine if m.at <= at]
    later = [m for m in mine if m.at > at]
    held = until[-1] if until else None
    certainty = Certainty.EXACT
    if later and later[0].blind < at:
        certainty = Certainty.PRESUMED if later[0].consecutive else Certainty.FUZZY
    return (held if held and alive(held, at) else None), (mine[-1] if mine else None), certainty


def alive(made: Made, now: int) -> bool:
    return made.op == Op.WRITE and (made.void_time is None or made.void_time > now)


def held_moments(parts: list[Slice], action: Action) -> dict[bytes, int]:
    """Of the records that get an action: the moment of the version that holds (0: none)."""
    found = {}
    for part in parts:
        for i in np.flatnonzero(part.decisions.action == action):
            held = part.states.held[i]
            found[part.states.digest[i].tobytes()] = (
                int(part.versions.columns.effective_at[held]) if held != ABSENT else 0
            )
    return found


SETTINGS = settings(max_examples=6, deadline=None)  # each looks at many moments, and making an archive takes a while
MOMENTS = range(1, LOOKS * SPAN + 1, 3)


@SETTINGS
@given(histories(), st.sampled_from([None, 0, 1, 2]), st.integers(0, 40))
def test_a_clone_of_any_moment_is_what_the_rule_says(made: list[Made], set_after: int | None, later: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        archive, _ = archived(directory, made, set_after)
        for at in MOMENTS:
            now = at + later
            parts = list(of_clone(archive.store, archive.view(0, at), now, slice_bytes=1))
            said = {key: plain(made, key, at) for key in range(6)}
            assert held_moments(parts, Action.WRITE) == {
                digest(key): held.at for key, (held, _, _) in said.items() if held and alive(held, now)
            }
            counts = plan(archive, at, now=now).counts
            assert counts is not None
            assert counts.expired == sum(1 for held, _, _ in said.values() if held and not alive(held, now))
            assert counts.fuzzy == sum(1 for _, _, c in said.values() if c is Certainty.FUZZY)
            assert counts.presumed == sum(1 for _, _, c in said.values() if c is Certainty.PRESUMED)
            assert counts.exact == sum(1 for held, _, c in said.values() if held and c is Certainty.EXACT)


@SETTINGS
@given(histories(), st.sampled_from([None, 0, 1, 2]), st.integers(0, 40))
def test_a_rewind_to_any_moment_touches_what_changed_since_and_nothing_else(
    made: list[Made], set_after: int | None, later: int
) -> None:
    now = LOOKS * SPAN + later
    with tempfile.TemporaryDirectory() as directory:
        archive, _ = archived(directory, made, set_after)
        for at in MOMENTS:
            shard = plan(archive, at, "rewind", now=now, count=False).shards[0]
            parts = list(of_rewind(archive.store, shard.view, shard.changed, now, slice_bytes=1))
            changed = {m.key for m in made if m.at > at}
            assert {d.tobytes() for part in parts for d in part.states.digest} == {digest(key) for key in changed}
            write, remove = {}, {}
            for key in changed:
                held, last, _ = plain(made, key, at)
                assert last is not None
                if held and alive(held, now):
                    if last.at != held.at:  # every change has another content
                        write[digest(key)] = held.at
                elif alive(last, now):
                    remove[digest(key)] = held.at if held else 0
            assert held_moments(parts, Action.WRITE) == write
            assert held_moments(parts, Action.REMOVE) == remove


@settings(max_examples=4, deadline=None)
@given(histories(), st.integers(1, LOOKS * SPAN))
def test_the_bodies_of_a_slice_are_those_of_its_rows(made: list[Made], at: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        archive, _ = archived(directory, made, 1)
        whole = plan(archive, at, now=at, count=False)
        for part in shard_slices(archive, whole, whole.shards[0], at):
            for row in part.states.held[part.decisions.action == Action.WRITE].tolist():
                said = to_python(part.versions.bodies[row])
                assert said["digest"] == part.versions.columns.digest[row].tobytes()
                assert said["bins"]["n"] == part.versions.columns.effective_at[row]


def test_a_rewind_across_a_new_beginning_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    made = [Made(0, 1, 5, Op.WRITE, None, False, 0)]
    archive, manifest = archived(str(tmp_path / "archive"), made, None)
    old = replace(manifest.epochs[0], resolved_at=20, ended="a base snapshot began from nothing")
    new = Epoch(number=2, began_at=30, changes_from=1, recoverable_from=32, resolved_at=40, reconciled_at=40)
    archive.commit(replace(manifest, epochs=(old, new)))
    assert plan(archive, 10, now=50).counts is not None
    with pytest.raises(RestoreError, match="new history") as caught:
        plan(archive, 10, "rewind", now=50)
    assert "Clone" in caught.value.hint


def test_an_archive_without_a_base_snapshot_has_no_plan(tmp_path: Path) -> None:
    archive = Archive.create(LocalStore(tmp_path / "archive", create=True), "test", 2)
    with pytest.raises(NotRecoverable, match="no base snapshot"):
        plan(archive, 10, now=50)
