"""How a record that was restored is judged by what was meant, and where a change's set and user key stand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc import codec
from cdc.codec.contents import heads_of
from cdc.codec.decode import encode_content
from cdc.errors import BodyDamaged
from cdc.model import I64
from cdc.replayer.expected import Expected, Found, Touch, Verdict, judge, right
from cdc.replayer.verified import Verification
from tests.unit.test_codec_changes import bodies_of, changes

NOW = 1_800_000_000_000
BEGAN, ENDED = NOW - 60_000, NOW - 30_000
GUARDED = Touch(BEGAN, ENDED, guarded=True)


@given(st.lists(changes(), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_heads_of_changes_are_their_encoded_sets_and_user_keys(made: list[dict[str, Any]]) -> None:
    bodies = bodies_of([codec.encode_python(c) for c in made])
    rows = np.arange(len(made))[::-1]
    expected = [encode_content(made[i]["set"], made[i]["user_key"], {})[:-1] for i in rows]
    assert list(heads_of(bodies, rows)) == expected


def test_a_change_that_is_cut_has_no_head() -> None:
    for cut in (0, 10, 24, 30):
        with pytest.raises(BodyDamaged):
            heads_of(bodies_of([bytes([0xFF] * cut)]), np.array([0]))


def one(**given: Any) -> Expected:
    made = {"there": True, "checksum": 1, "void_time": 0, "timed": True, "touched": True, "generation": 5, "lut": 1000}
    made |= given
    kinds = {"checksum": np.uint64, "void_time": np.int64, "generation": np.int32, "lut": np.int64}
    columns = {name: np.array([value], kinds.get(name, np.bool_)) for name, value in made.items()}
    return Expected(np.zeros((1, 20), np.uint8), **columns)


def there(checksum: int = 1, void_time: int = 0, *, there: bool = True, some: bool = True) -> Found:
    flags = np.array([there]), np.array([there and some])
    return Found(*flags, np.array([checksum], np.uint64), np.array([void_time], np.int64))


def verdict(wrong: Expected, lut: int, generation: int, touch: Touch = GUARDED, there: bool = True) -> Verdict:
    stood: I64 = np.array([lut])
    (found,) = judge(wrong, np.array([there]), stood, np.array([generation], np.int32), touch)
    return Verdict(found)


@pytest.mark.parametrize(
    ("wanted", "found", "fine"),
    [
        (one(), there(), True),
        (one(), there(2), False),
        (one(), there(there=False), False),
        (one(void_time=NOW + 9000), there(void_time=NOW + 10_000), True),
        (one(void_time=NOW + 9000), there(void_time=NOW + 12_000), False),
        (one(void_time=NOW + 9000), there(void_time=0), False),
        (one(void_time=NOW + 9000, timed=False), there(void_time=0), True),
        (one(void_time=NOW + 1000), there(there=False), True),  # has expired meanwhile
        (one(void_time=NOW + 1000), there(2, NOW + 1000), False),
        (one(there=False), there(there=False), True),
        (one(there=False), there(), False),
        (one(there=False), there(some=False), True),  # the bins that were to go have gone
    ],
)
def test_a_record_is_right_as_it_was_meant_to_be(wanted: Expected, found: Found, fine: bool) -> None:
    assert right(wanted, found, NOW).tolist() == [fine]


def test_what_a_slow_target_was_late_to_write_may_expire_as_much_later_and_no_earlier() -> None:
    wanted = one(void_time=NOW + 9000)
    for void_time, late_ms, fine in (
        (13_000, 2_000, True),
        (13_001, 2_000, False),
        (6_999, 2_000, False),
        (0, 2_000, False),
    ):
        assert right(wanted, there(void_time=NOW + void_time if void_time else 0), NOW, late_ms).tolist() == [fine]


@pytest.mark.parametrize(
    ("wrong", "lut", "generation", "expected"),
    [
        (one(), 1000, 5, Verdict.DIFFERENT),  # as captured: the restore did not write it
        (one(), BEGAN + 1, 6, Verdict.DIFFERENT),  # the restore's own write
        (one(), BEGAN + 1, 7, Verdict.CHANGED),  # somebody wrote after it
        (one(), BEGAN + 1, 5, Verdict.CHANGED),  # the same generation at another time
        (one(), ENDED + 1, 6, Verdict.CHANGED),
        (one(generation=0), BEGAN + 1, 1, Verdict.DIFFERENT),
        (one(generation=0xFFFF), BEGAN + 1, 1, Verdict.DIFFERENT),
        (one(there=False), 1000, 5, Verdict.EXTRA),  # was not removed
        (one(there=False), BEGAN + 1, 1, Verdict.CHANGED),  # was made anew
        (one(touched=False), 1000, 5, Verdict.DIFFERENT),
        (one(touched=False), BEGAN + 1, 6, Verdict.CHANGED),
        (one(touched=False), BEGAN, 6, Verdict.UNSEEN),  # after its last capture, before the restore
        (one(touched=False, there=False, generation=0), BEGAN + 1, 1, Verdict.CHANGED),
    ],
)
def test_what_others_did_since_a_guarded_restore_is_not_called_wrong(
    wrong: Expected, lut: int, generation: int, expected: Verdict
) -> None:
    assert verdict(wrong, lut, generation) == expected


@pytest.mark.parametrize("touched", [True, False])
def test_what_is_gone_is_missing_if_it_was_to_be_written_and_was_not_known_of_if_it_was_left(touched: bool) -> None:
    expected = Verdict.MISSING if touched else Verdict.UNSEEN
    assert verdict(one(touched=touched), 0, 0, there=False) == expected


@pytest.mark.parametrize(
    ("existing", "lut", "expected"),
    [
        ("fail", BEGAN - 1, Verdict.DIFFERENT),
        ("replace", BEGAN - 1, Verdict.DIFFERENT),
        ("keep", BEGAN - 1, Verdict.KEPT),
        ("keep", BEGAN + 1, Verdict.DIFFERENT),
        ("keep", ENDED + 1, Verdict.CHANGED),
        ("newer", BEGAN - 1, Verdict.KEPT),
        ("newer", 1000, Verdict.DIFFERENT),  # not newer than the version: it was to be replaced
    ],
)
def test_what_a_clone_was_told_to_keep_is_not_called_wrong(existing: Any, lut: int, expected: Verdict) -> None:
    touch = replace(GUARDED, guarded=False, existing=existing)
    assert verdict(one(generation=-1), lut, 3, touch) == expected


def test_a_verification_without_wrong_records_has_no_error_and_one_with_them_counts_them() -> None:
    fine = Verification("space", expected=10, found=10, right=8, changed=1, apart=1)
    assert fine.error() is None
    assert fine.to_text() == (
        "8 of 10 records are as they were meant to be; 1 changed by others since, 1 refused or not touched"
    )
    bad = (fine + Verification("space", expected=3, missing=1, different=1, extra=1)).error()
    assert bad is not None
    assert "1 of 13 records are missing, 1 are different, 1 should not be there" in bad.message
