"""No record may be called exact and be wrong, whatever happens: see `claims` for what is asserted and why."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from tests.model import claims
from tests.model.drive import Drive
from tests.model.programs import Program, Round, calm, programs, rough, stepping
from tests.model.world import Delete, KillNode, Pass, Put, Rewrite, StartNode, StepClock, Touch, Truncate

EXAMPLES = int(os.environ.get("CDC_MODEL_EXAMPLES", "90"))
"""A third of them each: everything calm; clocks, nodes and processes disturbed; clocks set again and again. 10,000 on
demand: `make model`."""

pytestmark = pytest.mark.emulator_only

SHORT_LIVED = Program(10.0, 86_400.0, True, 0, (Pass(250), Round(((14, Touch(0, 1)),))))
"""A touch shortens a record's life, which is over before the next sweep, while the server still counts it."""
REPLACED_AT_ITS_END = Program(
    0.001, 86_400.0, True, 0,
    (Pass(10_000), Round(), Pass(1_000), Round(), Pass(6_020), Put(6, 9, 2), Pass(1_930), Round(((5, Pass(1_400)),))),
)  # fmt: skip
"""A version takes another's place without shortening its life, and is over when a slow sweep comes to it."""
TRUNCATED_BACK = Program(0.001, 86_400.0, True, 0, (Put(0, 2, 1), Pass(1_000), Round(((11, Truncate(None, 1)),))))
"""A truncation names an earlier moment than its own, and a version after that is never shown."""
GONE_THEN_TRUNCATED = Program(
    0.001, 5.0, True, 0, (Pass(2), KillNode(0), Truncate("s", 1), Pass(0), Round())
)  # fmt: skip
"""A truncation names an earlier moment than its own, and between them what it would have removed goes by itself."""
REWRITTEN_THEN_TRUNCATED = Program(
    0.001, 5.0, True, 0, (Touch(0, 1), Pass(2), Round(), Rewrite(0), Truncate("s", 1), Pass(0), Round())
)  # fmt: skip
"""A version survives a truncation that names an earlier moment, and expires before a look shows it."""
AWAY_AND_BACK = Program(
    0.001, 86_400.0, True, 1_000,
    (Pass(1_000), Delete(0), Pass(1_000), Round(((11, Put(0, 5)), (14, Put(0, 5)), (17, Put(0, 5))))),
)  # fmt: skip
"""A record that went before a sweep comes again between the sweep and the look at digests."""
AWAY_AND_BACK_FOR_A_MOMENT = Program(
    0.001, 86_400.0, True, 1_000,
    (Pass(1_000), Delete(0), Pass(1_000), Round(((28, Put(0, 7)), (35, Delete(0))))),
)  # fmt: skip
"""It comes again, in the generation that is known, when the look shows it, and goes before the sweep that follows."""
SET_FORWARD = Program(10.0, 86_400.0, True, 0, (Pass(100), Round(((7, StepClock(0, 60_000)),))))
"""A clock that is set forward in the middle of a round hides records whose void times lie ahead."""
BACK = StepClock(0, -60_000), StepClock(1, -60_000)
SHOWN_AGAIN = Program(
    0.001, 5.0, True, 0, (KillNode(1), Pass(40_000), Round(), Pass(0), Round(during=((1, StepClock(0, -60_000)),)))
)  # fmt: skip
"""A clock that was set back shows again what has been told to have expired."""
GONE_IN_THE_PAST = Program(0.001, 86_400.0, True, 0, (Pass(20_000), Round(), *BACK, Delete(0), Round()))
"""What a look does not show once clocks were set back was there at the moments that they pass again."""
NEW_IN_THE_PAST = Program(0.001, 86_400.0, True, 0, (Pass(20_000), Round(), *BACK, Put(0, 9), Round()))
"""Nor does a version of then hold at the watermark already."""
SET_A_LITTLE_BACK = Program(
    0.001, 86_400.0, True, 0,
    (Pass(7_000), Round(), StepClock(1, -700), Pass(1_000), Round(), Put(0, 9), Pass(600), Put(0, 8), Round()),
)  # fmt: skip
"""A clock is set back so little that no second shows it, and passes moments that were thought to be over."""
SET_A_LITTLE_FORWARD = Program(
    0.001, 86_400.0, True, 0, (Pass(7_000), Round(), StepClock(1, 700), Pass(1_000), Delete(0), Round())
)
"""What is deleted by a clock that is further than was measured was there until then."""
SHOWN_BY_A_CLOCK = Program(
    0.001, 5.0, False, 0,
    (Round(), Round(((1, Put(3, 0, 0)),)), Touch(3, 1), Round(), Put(3, 0, 20), Pass(12_000), Round(), Pass(12_000),
     Round()),
)  # fmt: skip
"""Whoever measures a clock is shown a record, but does not look at it."""
SHOWN_IN_VAIN = Program(
    0.001, 5.0, True, 0, (KillNode(0), Pass(1), Round(), Pass(1), Round(((1, Put(2, 0, 1)),), 0, "refused"))
)
"""What a look has shown is lost with its commit, and over when the next one looks."""
BACK_WITH_AN_OLDER_VERSION = Program(
    0.001, 86_400.0, True, 0,
    (Put(6, 0, 0), Pass(3_000), Round(((1, KillNode(0)),)), Put(6, 1, 0), Pass(1), Round(((7, StartNode(0)),))),
)  # fmt: skip
"""A node comes back with an older version of a higher generation, which stands from then on, and no sweep shows it."""
SET_BACK_AND_REFUSED = Program(
    0.001, 86_400.0, True, 0,
    (Pass(600), Round(), StepClock(1, -5_000), Put(0, 0, 0), Put(0, 0, 0), Pass(251),
     Round(((1, Delete(0)), (1, Put(0, 0, 0)), (1, Pass(1_000))), 0, "refused")),
)  # fmt: skip
"""The sweep that a clock's step asks for is refused, and the clock has caught up when the next one begins."""
GLIMPSED = Program(
    2.0, 5.0, True, 0,
    (Pass(250), Round(), Pass(600), Round(((1, Put(1, 0, 1)), (1, Put(0, 0)))), Pass(250), Round(((5, Put(1, 0, 1)),))),
)  # fmt: skip
"""A sweep reads a record's bins, and then the LUT of a version that prolongs its life and is over before the next."""
SET_BACK_BEFORE_A_SPREAD_SWEEP = Program(
    0.001, 86_400.0, True, 1_000,
    (Pass(7_000), Round(), StepClock(0, -6_000), StepClock(1, -6_000), Put(0, 9), Put(2, 9), Put(6, 9), Pass(2_000),
     Round(), Pass(300), Round()),
)  # fmt: skip
"""Each portion of a sweep reaches back as far as a clock's step asks for, also after others were committed."""
TORN_WITHIN_A_MILLISECOND = Program(
    0.001, 5.0, True, 0,
    (Pass(1), Round((), 1, "done", 1), Pass(0), Round(), Delete(0), Pass(0), Round((), 1, "done", 5_000)),
)  # fmt: skip
"""Of several commits in one millisecond a catalog has lost the last: its moment is that of Kafka's progress."""


def check(program: Program, directory: Path, *, calm: bool = False) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, TemporaryDirectory(dir=directory) as catalog:
        drive = Drive(program, Path(catalog), monkeypatch, calm=calm)
        drive.run()
        found = claims.check(drive)
    assert not found, "\n".join(map(str, found[:5]))


lengthy = settings(
    max_examples=EXAMPLES // 3, deadline=None, derandomize="CDC_MODEL_EXAMPLES" not in os.environ, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)  # fmt: skip


@lengthy
@given(program=programs(calm, dying=False, length=5))
@example(SHORT_LIVED)
@example(GLIMPSED)
@example(REPLACED_AT_ITS_END)
@example(SHOWN_BY_A_CLOCK)
@example(TRUNCATED_BACK)
@example(REWRITTEN_THEN_TRUNCATED)
@example(AWAY_AND_BACK)
@example(AWAY_AND_BACK_FOR_A_MOMENT)
def test_what_is_called_exact_is_so_and_a_quiet_record_is_exact(tmp_path_factory: Any, program: Program) -> None:
    check(program, tmp_path_factory.getbasetemp(), calm=True)


@lengthy
@given(program=programs(rough, dying=True, length=5))
@example(SET_FORWARD)
@example(SHOWN_IN_VAIN)
@example(BACK_WITH_AN_OLDER_VERSION)
@example(TORN_WITHIN_A_MILLISECOND)
@example(SHOWN_AGAIN)
@example(GONE_THEN_TRUNCATED)
def test_what_is_called_exact_is_so_whatever_clocks_nodes_and_processes_do(
    tmp_path_factory: Any, program: Program
) -> None:
    check(program, tmp_path_factory.getbasetemp())


@lengthy
@given(program=programs(stepping, dying=True, length=5))
@example(GONE_IN_THE_PAST)
@example(NEW_IN_THE_PAST)
@example(SET_A_LITTLE_BACK)
@example(SET_BACK_AND_REFUSED)
@example(SET_BACK_BEFORE_A_SPREAD_SWEEP)
@example(SET_A_LITTLE_FORWARD)
def test_what_is_called_exact_is_so_however_often_clocks_are_set(tmp_path_factory: Any, program: Program) -> None:
    check(program, tmp_path_factory.getbasetemp())
