"""What a plan says before anything is done."""

from dataclasses import fields, replace

import pytest

from cdc.archive import Epoch, Manifest, Resolution, SegmentInfo, View
from cdc.archive.looks import Span
from cdc.clock import rfc3339
from cdc.replayer.plan import OPEN_OBJECTS, Kind, Plan, ShardPlan
from cdc.replayer.report import Counts
from cdc.replayer.wanted import Existing, Wanted


def made(at: int, *spans: tuple[int, int], kind: Kind = "clone", wanted: Wanted | None = None) -> Plan:
    """A plan of one shard whose epochs lead back to these spans."""
    epochs = tuple(
        Epoch(
            n, start, 0, start, end, end, ended=f"loss {n}", writes=(Span(start, end, 5, 5),),
            deletes=(Span(start, end, 9, 9),),
        )
        for n, (start, end) in enumerate(spans, 1)
    )  # fmt: skip
    manifest = Manifest("test", 0, 1, epochs=epochs)
    view = View(0, at, next(e for e in epochs if e.began_at <= at <= e.resolved_at), None, ())
    return Plan(
        kind, "test", "other", at, at, epochs[-1].resolved_at, at, Resolution(5, 9),
        (ShardPlan(view, counts=Counts(write=3, bytes=90)),), 1000, wanted or Wanted(), (manifest,),
    )  # fmt: skip


def test_the_hole_before_the_moment_and_those_after_it_are_told() -> None:
    spans = [(1000 * n, 1000 * n + 500) for n in range(1, 5)]
    plan = made(3100, *spans)
    near = [(2500, 3000, "loss 2"), (3500, 4000, "loss 3"), (4500, 4500, "loss 4")]
    assert plan.to_dict()["holes"] == [{"start": rfc3339(a), "end": rfc3339(b), "reason": why} for a, b, why in near]
    lines = plan.to_text().splitlines()
    assert [line for line in lines if line.startswith("  hole ")] == [
        f"  hole       {rfc3339(a)} to {rfc3339(b)}: {why}" for a, b, why in near
    ]
    assert "more after it" not in plan.to_text()
    many = made(1100, *((1000 * n, 1000 * n + 500) for n in range(1, 9)))
    assert len(many.to_dict()["holes"]) == 8
    assert many.to_text().count("  hole ") == 3
    assert "and 5 more after it; `list` names them" in many.to_text()


@pytest.mark.parametrize(
    ("existing", "said"),
    [
        ("fail", "there must be none"),
        ("keep", "they stay"),
        ("newer", "they stay if they were written after"),
        ("replace", "they are replaced"),
    ],
)
def test_what_becomes_of_records_in_the_target_is_told(existing: Existing, said: str) -> None:
    plan = made(1100, (1000, 1500), wanted=Wanted(existing=existing))
    assert f"  existing   records in the target: {said}" in plan.to_text()
    assert plan.to_dict()["existing"] == existing


@pytest.mark.parametrize(
    ("objects", "workers"), [(0, 3), (1, 3), (OPEN_OBJECTS // 3, 3), (60, 2), (61, 1), (10_000, 1)]
)
def test_the_more_objects_a_shard_has_the_fewer_are_worked_on_at_a_time(objects: int, workers: int) -> None:
    plan = made(1100, (1000, 1500))
    info = SegmentInfo("s.avro", 1, *[0] * (len(fields(SegmentInfo)) - 2))  # type: ignore[arg-type]
    clone = replace(plan.shards[0], view=replace(plan.shards[0].view, segments=(info,) * objects))
    rewind = replace(plan.shards[0], changed=(info,) * objects)
    assert replace(plan, shards=(clone, *plan.shards)).workers == workers
    assert replace(plan, shards=(rewind,)).workers == workers


def test_a_rewind_tells_that_it_overwrites() -> None:
    plain, told = (made(1100, (1000, 1500), kind="rewind", wanted=Wanted(overwrite=over)) for over in (False, True))
    assert "existing" not in plain.to_text()
    assert plain.to_dict()["existing"] is None
    assert "overwrites" not in plain.to_text()
    assert "  overwrites records that changed again after they were captured last" in told.to_text()
    assert (plain.to_dict()["overwrite"], told.to_dict()["overwrite"]) == (False, True)
