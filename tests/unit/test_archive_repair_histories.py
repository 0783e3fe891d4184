"""Repair of random histories: two destinations with boundaries, sets and retention of their own, and any damage."""

import shutil
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from cdc.archive import Archive, LocalStore
from cdc.archive.prune import prune
from cdc.archive.repair import Repaired, repair
from cdc.archive.verify import verify
from cdc.config import AerospikeSettings, KafkaSettings, Settings
from cdc.errors import ArchiveError
from tests.unit.test_archive_prune import BLOCKS, END, Made, Told, a_change, later, moment, policy

AWAY = KafkaSettings(bootstrap="127.0.0.1:1", timeout_s=0.2)


def mended(made: Made, other: Made) -> Repaired:
    of = Settings(aerospike=AerospikeSettings(namespaces=("test",)), kafka=AWAY, archive=BLOCKS)
    return repair(made.archive.store, of, {"other": lambda: other.archive.store}, tier="decode")


def truth(made: Made) -> dict[int, Told]:
    return {at: made.told(at) for at in made.moments()}


def seen(made: Made, at: int) -> Told | None:
    """What a restore says of a moment; None where it refuses."""
    try:
        return made.told(at)
    except ArchiveError:
        return None


@settings(max_examples=10, deadline=None)
@given(
    lots=st.lists(st.lists(a_change, min_size=1, max_size=4), min_size=2, max_size=6),
    sets=st.lists(st.tuples(st.booleans(), moment), max_size=4),
    horizons=st.tuples(st.none() | moment, st.none() | moment),
    damage=st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["flip", "cut", "gone"])), min_size=1, max_size=4),
)
def test_no_moment_is_ever_told_wrong_and_none_is_lost_that_the_other_has(
    tmp_path_factory: pytest.TempPathFactory,
    lots: list[list[dict[str, Any]]],
    sets: list[tuple[bool, int]],
    horizons: tuple[int | None, int | None],
    damage: list[tuple[int, str]],
) -> None:
    folder = tmp_path_factory.mktemp("both")
    main, other = Made.new(folder / "main"), Made.new(folder / "other")
    for changes in lots:
        main.segment(changes)
    for i in range(0, len(lots), 2):
        other.segment([c for changes in lots[i : i + 2] for c in changes])
    for of_main, at in sets:
        (main if of_main else other).make_set(at)
    for made, horizon in zip((main, other), horizons, strict=True):
        if horizon is not None:
            made.make_set(horizon)
            now = later()
            prune(made.archive, policy(now, horizon), now)
    before = truth(main)
    assert all(before[at] == told for at, told in truth(other).items() if at in before)

    names = [n for n in main.archive.store.list("test") if "/verified/" not in n]
    if horizons[1] is not None:
        # Manifests here claim all moments from the first on, whatever they lack. Only who has every change since makes
        # up for a last one that is damaged.
        names = [n for n in names if "/manifests/" not in n]
    for number, how in damage:
        path = folder / "main" / names[number % len(names)]
        if path.exists():
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.unlink()
            if how != "gone":
                path.write_bytes(data if how == "flip" else data[: len(data) // 2])
    hurt = verify(main.archive.store, "test", "decode").damage
    if not hurt:
        event("newest manifests that nobody saw")
    done = mended(main, other)
    event("whole" if done.error() is None else "in part")
    again = Made(Archive(LocalStore(folder / "main"), "test", main.archive.shards))
    for at in range(END + 1):
        told = seen(again, at) if at in again.moments() else None
        if told is None:
            assert done.left or at not in before or horizons != (None, None), at
        elif at in before:
            assert told == before[at], at
    if horizons == (None, None):
        assert (done.left, done.error()) == ((), None)
        assert truth(again) == before
    shutil.rmtree(folder)
