"""The journal of restores says what was said, whatever was cut off, damaged or written by another version."""

import json
import os
import resource
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, manifests
from cdc.cli.parts import part_of
from cdc.errors import RestoreError, UsageError
from cdc.model import Op, partition_of, shard_of
from cdc.replayer import journal as journals
from cdc.replayer import log as logs
from cdc.replayer.entry import Asked
from cdc.replayer.journal import Journal
from cdc.replayer.plan import Kind, Plan, plan, shard_slices
from cdc.replayer.report import Counts
from cdc.replayer.standing import LAST, Standing, following, line, read
from cdc.replayer.wanted import Part, Wanted
from tests.fixtures.versions import digest
from tests.unit.test_replayer_slices import LOOKS, SPAN, Made, archived, histories

KINDS: tuple[Kind, ...] = ("clone", "rewind")

digests = st.binary(min_size=20, max_size=20)
counts = st.dictionaries(st.sampled_from(["written", "removed", "left"]), st.integers(0, 1 << 40))
events = st.one_of(
    st.just({"event": "run"}),
    st.builds(lambda total: {"event": "write", "total": total}, st.integers(0, 1 << 40)),
    st.builds(
        lambda through, counts, touched, seconds: {
            "event": "done", "through": {str(shard): d.hex() for shard, d in through.items()}, "counts": counts,
            "touched": touched, "seconds": seconds,
        },
        st.dictionaries(st.integers(0, 9), digests), counts, st.integers(0, 1 << 40), st.floats(0, 1e6),
    ),
    st.builds(
        lambda state, error: {"event": "end", "state": state, "error": error, "exit_code": 1, "seconds": 2.5},
        st.sampled_from(["complete", "failed", "interrupted"]), st.text(),
    ),
).map(lambda event: event | {"at": 17})  # fmt: skip


@given(st.lists(events, max_size=8), st.data())
def test_what_was_cut_off_anywhere_is_what_had_been_said_by_then(
    said: list[dict[str, Any]], data: st.DataObject
) -> None:
    lines = [line(event) for event in said]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    standing, size = read(whole[:cut], "progress")
    kept = next(n for n in range(len(lines), -1, -1) if sum(map(len, lines[:n])) <= cut)
    assert size == sum(map(len, lines[:kept]))
    assert standing == read(b"".join(lines[:kept]), "progress")[0]
    done = [event for event in said[:kept] if event["event"] == "done"]
    assert standing.counts == (done[-1]["counts"] if done else {})
    assert standing.through == {int(shard): bytes.fromhex(d) for event in done for shard, d in event["through"].items()}
    assert standing.runs == sum(event["event"] == "run" for event in said[:kept])


@given(st.lists(events, min_size=2, max_size=8), st.data())
def test_no_byte_of_a_line_that_others_follow_is_taken_for_another(
    said: list[dict[str, Any]], data: st.DataObject
) -> None:
    lines = [line(event) for event in said]
    last = len(b"".join(lines[:-1])) - 1
    damaged = bytearray(b"".join(lines))
    damaged[data.draw(st.integers(0, last - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RestoreError, match="progress is damaged in line"):
        read(bytes(damaged) + line({"event": "run", "at": 1}), "progress")


@given(digests.filter(lambda d: d != LAST))
def test_what_follows_a_digest_is_the_next_one(low: bytes) -> None:
    assert int.from_bytes(following(low), "big") - int.from_bytes(low, "big") == 1


@given(digests, digests, st.sampled_from([1, 2, 8, 4096]))
def test_a_record_is_done_if_its_shard_is_done_up_to_it(record: bytes, through: bytes, shards: int) -> None:
    [shard] = shard_of(partition_of(np.frombuffer(record, np.uint8).reshape(1, -1)), shards).tolist()
    assert Standing(through={shard: through}).has(record, shards) == (record <= through)
    assert not Standing(through={shard + 1: LAST}).has(record, shards)


@given(
    st.builds(
        Part,
        sets=st.lists(st.text(max_size=5), unique=True).map(tuple),
        digests=st.sets(digests).map(lambda found: tuple(sorted(found))),
        partitions=st.sets(st.integers(0, 4095)).map(lambda found: tuple(sorted(found))),
    ),
    st.sampled_from(["keep", "leave", "shift"]),
    st.dictionaries(st.integers(0, 4095), st.builds(Counts, write=st.integers(0, 9), fuzzy=st.integers(0, 9))),
    st.sampled_from([None, Path("/somewhere/named.jsonl")]),
)
def test_what_was_asked_comes_back_as_it_was(part: Part, expired: Any, counts: dict[int, Counts], named: Any) -> None:
    asked = Asked(
        id="one", kind="clone", namespace="test", destination="main", into="other@ten:3000", hosts=("ten:3000",),
        at=1, planned_at=2, begun_at=3, wanted=Wanted(part=part, expired=expired, existing="newer"), records_per_s=4,
        manifests=((0, 7, "ab"), (1, 8, "cd")), counts=counts, named_file=named, tail=None,
    )  # fmt: skip
    assert Asked.decode(asked.encode(), "restore.json") == asked


def decided(archive: Archive, made: Plan, now: int, low: bytes | None) -> list[tuple[bytes, int, int, int]]:
    """Each record from `low` on and what is to be done: action, guard, when the version that holds took effect."""
    found = []
    for part in shard_slices(archive, made, made.shards[0], now, low):
        for i, one in enumerate(part.states.digest):
            held = int(part.states.held[i])
            at = int(part.versions.columns.effective_at[held]) if held >= 0 else -1
            found.append((one.tobytes(), int(part.decisions.action[i]), int(part.decisions.guard[i]), at))
    return found


@settings(max_examples=6, deadline=None)
@given(histories(), st.sampled_from([None, 0, 1, 2]), st.integers(0, 40))
def test_what_is_left_from_a_digest_on_is_decided_as_in_the_whole(
    made: list[Made], set_after: int | None, later: int
) -> None:
    now = LOOKS * SPAN + later
    with tempfile.TemporaryDirectory() as directory:
        archive, _ = archived(directory, made, set_after)
        for at in range(1, LOOKS * SPAN + 1, 9):
            for kind in KINDS:
                of = plan(archive, at, kind, now=now, into="other" if kind == "clone" else None, count=False)
                whole = decided(archive, of, now, None)
                for key in range(7):
                    low = following(digest(key))
                    assert decided(archive, of, now, low) == [one for one in whole if one[0] >= low]


class Clock:
    """Time that passes by a second each time that it is asked."""

    now = 1_700_000_000_000

    def __call__(self) -> int:
        self.now += 1000
        return self.now


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return archived(str(tmp_path / "archive"), [Made(0, key, 5, Op.WRITE, None, False, 0) for key in range(3)], None)[0]


@pytest.fixture
def made(archive: Archive) -> Plan:
    return plan(archive, 20, now=30, into="other")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setattr(journals, "LOCK_S", 0.01)
    monkeypatch.setattr(logs, "EVERY_S", 0.0)
    return Journal(tmp_path / "restores", Clock())


def test_it_is_planned_again_by_the_manifests_that_it_was_planned_by(
    archive: Archive, made: Plan, journal: Journal
) -> None:
    with journal.begin(made) as log:
        pass
    manifest = archive.shard(0)
    assert manifest is not None
    archive.commit(replace(manifest, segments=()))
    assert plan(archive, 20, now=30, into="other").rows == 0
    with journal.resume(log.id) as again:
        assert again.plan(archive) == made


def test_each_run_goes_on_where_the_one_before_was(made: Plan, journal: Journal) -> None:
    with journal.begin(made) as log:
        log.writing(3)
        log.done(0, digest(1), {"written": 2}, 2)
    with journal.resume("last") as log:
        assert (log.resumed, log.standing.low(0), log.standing.touched) == (True, following(digest(1)), 2)
        log.done(0, LAST, {"written": 1, "left": 4}, 1)
        log.end(complete=True)
    entry = journal.entry(log.id)
    assert (entry.state, entry.standing.counts, entry.standing.touched) == ("complete", {"written": 3, "left": 4}, 3)
    assert entry.standing.whole(0)
    assert entry.to_dict()["total"] == 3
    with pytest.raises(UsageError, match="is complete"):
        journal.resume(log.id)


def test_the_last_is_one_that_left_something_half_done(made: Plan, journal: Journal) -> None:
    with journal.begin(made) as refused:
        pass
    assert journal.last().id == refused.id
    with journal.begin(made) as half:
        half.writing(3)
    with journal.begin(made):
        pass
    assert journal.last().id == half.id


def test_a_line_that_did_not_fit_on_the_disk_is_not_taken_for_damage(made: Plan, journal: Journal) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with journal.begin(made) as log:
        log.writing(3)
        size = (journal.path / log.id / "progress").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        try:
            with pytest.raises(RestoreError, match=r"the journal of restores at .* failed: File too large"):
                log.done(0, digest(1), {"written": 2}, 2)
            assert (journal.path / log.id / "progress").stat().st_size == size + 10
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.end(complete=False)
    entry = journal.entry(log.id)
    assert (entry.state, entry.standing.counts, entry.standing.touched) == ("interrupted", {"written": 2}, 2)


def test_an_error_before_the_work_is_noted_with_how_to_go_on(made: Plan, journal: Journal) -> None:
    with journal.begin(made) as log:
        log.writing(3)
    with pytest.raises(UsageError) as caught, journal.resume(log.id):
        raise UsageError("nobody is there", "Look.")
    assert caught.value.hint == f"To go on: `aerospike-cdc restore --resume {log.id}`. Look."
    entry = journal.entry(log.id)
    assert (entry.state, entry.error, entry.standing.exit_code) == ("failed", "UsageError: nobody is there", 2)
    assert entry.goes_on
    assert not entry.over


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: (path / "restore.json").write_bytes(b"{"), "restore.json is not JSON"),
        (lambda path: (path / "restore.json").unlink(), "restore.json failed|failed: No such file"),
        (lambda path: (path / "progress").unlink(), "failed: No such file"),
        (lambda path: (path / "progress").write_bytes(b"x\ny\n"), "progress is damaged in line 1"),
        (lambda path: (path / "restore.json").write_bytes(version(99)), "format version 99"),
        (lambda path: (path / "restore.json").write_bytes(version(1)), "another version"),
    ],
)
def test_what_cannot_be_read_is_named_and_stands_in_nobodys_way(
    made: Plan, journal: Journal, harm: Any, said: str
) -> None:
    with journal.begin(made) as broken:
        broken.writing(3)
    with journal.begin(made) as sound:
        sound.writing(3)
    harm(journal.path / broken.id)
    found = {entry.id: entry for entry in journal.entries()}
    assert found[sound.id].state == "interrupted"
    assert found[broken.id].state == "damaged"
    assert json.dumps(found[broken.id].to_dict())
    with pytest.raises(RestoreError, match=said):
        journal.resume(broken.id)
    assert journal.last().id == sound.id
    journal.forget(found[broken.id])
    assert [entry.id for entry in journal.entries()] == [sound.id]


def version(number: int) -> bytes:
    return manifests.seal("restore", {"version": number, "wanted": {"part": {}}})


def test_many_that_are_over_are_forgotten_and_none_that_can_go_on(
    made: Plan, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "KEPT", 2)
    with journal.begin(made) as waiting:
        waiting.writing(3)
    for _ in range(4):
        with journal.begin(made) as log:
            log.end(complete=True)
    (journal.path / ".draft").mkdir()
    states = [entry.state for entry in journal.entries()]
    assert states == ["interrupted", "complete", "complete", "complete"]
    over = journal.entries()[-1]
    journal.forget(over)
    journal.forget(over)  # as two would who tidy up at once
    assert journal.entries()[0].id == waiting.id


def test_what_others_keep_in_the_journals_directory_stays(made: Plan, journal: Journal) -> None:
    with journal.begin(made) as log:
        log.end(complete=True)
    died = f".{log.id}"
    for name in (".git", ".ssh", ".2024", ".hidden-file", died):
        (journal.path / name).mkdir()
        (journal.path / name / "precious").write_text("x")
        os.utime(journal.path / name, (0, 0))
    with journal.begin(made):
        pass
    found = {path.name for path in journal.path.glob(".*")}
    assert found == {".git", ".ssh", ".2024", ".hidden-file"}


def test_the_command_that_begins_it_anew_is_limited_as_it_was() -> None:
    part = part_of(sets=["a b"], partitions=["3-5", "9"], where=["v == 'x y'"], bins="v,w")
    wanted = Wanted(part, expired="leave", existing="newer", metadata="after")
    asked = Asked(
        id="one", kind="clone", namespace="test", destination="far", into="other@ten:3000", hosts=("ten:3000",),
        at=20, planned_at=2, begun_at=3, wanted=wanted, records_per_s=4, manifests=(), counts={}, named_file=None,
        tail=None,
    )  # fmt: skip
    words = shlex.split(asked.anew)
    assert words[:2] == ["aerospike-cdc", "restore"]
    pairs = list(zip(words[2::2], words[3::2], strict=True))
    given = {option: [value for name, value in pairs if name == option] for option, _ in pairs}
    again = part_of(given["--set"], None, None, "", given["--partition"], given["--where"], given["--bins"][0])
    assert again == part
    assert [given[f"--{name}"] for name in ("namespace", "destination", "into", "existing", "expired", "metadata")] == [
        ["test"], ["far"], ["other@ten:3000"], ["newer"], ["leave"], ["after"],
    ]  # fmt: skip
    alone = replace(asked, kind="rewind", into="test", wanted=Wanted(Part(digests=(digest(1),)), overwrite=True))
    assert f"--digest {digest(1).hex()} --overwrite" in alone.anew
    assert "--into" not in alone.anew
    many = replace(alone, wanted=Wanted(Part(digests=tuple(map(digest, range(50))))))
    assert many.anew.endswith("--keys-file FILE")


def test_nothing_is_made_before_the_first_begins(journal: Journal) -> None:
    assert journal.entries() == []
    with pytest.raises(UsageError, match="no restore nobody"):
        journal.entry("nobody")
    with pytest.raises(UsageError, match="no restore"):
        journal.entry("../restores")
    assert not journal.path.exists()
