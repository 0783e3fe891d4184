"""Slices of an archive with segments and sets say what the plain rule says of all changes together."""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, Epoch, LocalStore, Manifest, sets
from cdc.archive.segments import SegmentWriter
from cdc.archive.versions import order
from cdc.clock import rfc3339
from cdc.codec import to_python
from cdc.config import ArchiveSettings, CompactorSettings
from cdc.errors import NotRecoverable
from cdc.model import END_OF_TIME, Op
from cdc.replayer.doubts import Doubt, doubts
from cdc.replayer.plan import Kind, plan, shard_slices
from cdc.replayer.report import Watch
from cdc.replayer.slices import Slice, of_clone, of_rewind
from cdc.replayer.versions import ABSENT, Action, Certainty, for_clone, states
from cdc.replayer.wanted import Part, Wanted
from tests.fixtures.versions import change, digest, versions

NEVER_SEEN = 1 << 62
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
    if blind := [m for m in later if m.blind < at]:
        certainty = Certainty.PRESUMED if all(m.consecutive for m in blind) else Certainty.FUZZY
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
            named: list[Doubt] = []
            counts = plan(archive, at, now=now, name=named.extend).counts
            assert counts is not None
            assert {d.digest: (d.certainty, d.present) for d in named} == {
                digest(key): (c, held is not None) for key, (held, _, c) in said.items() if c is not Certainty.EXACT
            }
            assert all(d.since < at < (d.until or NEVER_SEEN) for d in named)
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


@pytest.mark.parametrize("part", [Part(), Part(digests=(digest(3),)), Part(sets=("none",))])
@pytest.mark.parametrize("kind", ["clone", "rewind"])
def test_counting_tells_how_far_it_is_whatever_of_it_is_wanted(tmp_path: Path, part: Part, kind: Kind) -> None:
    made = [Made(look, key, look * SPAN + 1, Op.WRITE, None, True, 0) for look in range(2) for key in range(6)]
    archive, _ = archived(str(tmp_path), made, None)
    steps: list[tuple[int, int, str]] = []
    watch = Watch(progress=lambda *step: steps.append(step))
    planned = plan(archive, SPAN, kind, now=SPAN, wanted=Wanted(part), watch=watch)
    done = [done for done, _, _ in steps]
    assert done == sorted(done)
    assert {total for _, total, _ in steps} == {planned.rows}
    assert done[-1] == planned.rows > 0


def test_a_doubt_names_the_record_and_the_interval_in_which_nobody_looked() -> None:
    said = versions(
        [
            change(1, 10, user_key="one"), change(1, 40, op=Op.DELETE, unobserved_since=15),
            change(2, 10, user_key=b"\x00\x01"),
            change(3, 50, user_key=3, set=None, consecutive=True, unobserved_since=15),
            change(4, 10), change(4, END_OF_TIME, op=Op.ASIDE, unobserved_since=12), change(5, 10, op=Op.DELETE),
        ],
        [1, 2, 3, 4, 5, 6, 7],
    )  # fmt: skip
    at_moment = states(said.columns, 20, 18)
    part = Slice(said, at_moment, for_clone(at_moment, said.columns, 20))
    lines = [json.loads(doubt.to_json()) for doubt in doubts(part, 18)]
    counts = part.counts()
    assert len(lines) == counts.presumed + counts.fuzzy
    told = {line.pop("digest"): tuple(line.values()) for line in lines}
    assert told == {
        digest(1).hex(): ("orders", "one", "fuzzy", True, rfc3339(15), rfc3339(40)),
        digest(2).hex(): ("orders", "0001", "presumed", True, rfc3339(18), None),
        digest(3).hex(): (None, 3, "presumed", False, rfc3339(15), rfc3339(50)),
        digest(4).hex(): ("orders", None, "fuzzy", True, rfc3339(12), None),
    }


def test_a_rewind_across_a_new_beginning_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    made = [Made(0, 1, 5, Op.WRITE, None, False, 0)]
    archive, manifest = archived(str(tmp_path / "archive"), made, None)
    old = replace(manifest.epochs[0], resolved_at=20, ended="a base snapshot began from nothing")
    new = Epoch(number=2, began_at=30, changes_from=1, recoverable_from=32, resolved_at=40, reconciled_at=40)
    archive.commit(replace(manifest, epochs=(old, new)))
    assert plan(archive, 10, now=50).counts is not None
    with pytest.raises(NotRecoverable, match="new history") as caught:
        plan(archive, 10, "rewind", now=50)
    assert f"a rewind leads to: {rfc3339(32)}. A clone" in caught.value.hint
    archive.amend(0, lambda m: replace(m, epochs=(old,), changes_kept_from=15))
    with pytest.raises(NotRecoverable, match="is not recoverable"):
        plan(archive, 10, "rewind", now=50)


def test_an_archive_without_a_base_snapshot_has_no_plan(tmp_path: Path) -> None:
    archive = Archive.create(LocalStore(tmp_path / "archive", create=True), "test", 2)
    with pytest.raises(NotRecoverable, match="no base snapshot"):
        plan(archive, 10, now=50)
