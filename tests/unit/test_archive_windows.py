"""Windows and holes from epochs."""

from cdc.archive import Epoch, Hole, Manifest, Window
from cdc.archive.windows import epoch_at, namespace_holes, namespace_windows, shard_windows


def epoch(number: int, start: int | None, end: int, *, resolution: int = 5, ended: str = "") -> Epoch:
    return Epoch(number, number * 1000, 0, start, end, end - 1, resolution, ended)


def shard(number: int, *epochs: Epoch) -> Manifest:
    return Manifest("test", number, 2, epochs=epochs)


def test_a_window_opens_when_the_base_is_complete_and_something_later_is_resolved() -> None:
    assert shard_windows([epoch(1, None, 0)]) == []
    assert shard_windows([epoch(1, 100, 99)]) == []
    assert shard_windows([epoch(1, 100, 100)]) == [Window(100, 100, 5, 99)]


def test_the_namespaces_window_is_what_all_shards_share() -> None:
    shards = [shard(0, epoch(1, 100, 200, resolution=7)), shard(1, epoch(1, 120, 180, resolution=3))]
    assert namespace_windows(shards) == [Window(120, 180, 7, 179)]
    assert namespace_holes(shards) == []


def test_a_shard_with_nothing_leaves_no_window_and_is_named() -> None:
    whole = shard(0, epoch(1, 100, 200))
    assert namespace_windows([whole, None]) == []
    assert namespace_holes([whole, None]) == [Hole(0, 0, "shard 1 has nothing in the archive")]
    assert [h.reason for h in namespace_holes([whole, shard(1, epoch(1, None, 0))])] == [
        "shard 1 has an unfinished base snapshot, begun 1970-01-01T00:00:01.000Z"
    ]
    assert namespace_windows([]) == []


def test_a_new_epoch_leaves_a_hole_with_its_reason() -> None:
    shards = [shard(k, epoch(1, 100, 200 + k, ended="lost"), epoch(2, 300 - k, 400)) for k in (0, 1)]
    assert [(w.start, w.end) for w in namespace_windows(shards)] == [(100, 200), (300, 400)]
    assert namespace_holes(shards) == [Hole(200, 300, "lost")]


def test_a_history_that_has_ended_says_so_behind_its_window() -> None:
    shards = [shard(0, epoch(1, 100, 200, ended="gone")), shard(1, epoch(1, 100, 250))]
    assert namespace_holes(shards) == [Hole(200, 250, "gone")]


def test_shards_without_a_common_moment_are_told() -> None:
    shards = [shard(0, epoch(1, 100, 200)), shard(1, epoch(1, 300, 400))]
    assert namespace_windows(shards) == []
    assert [h.reason for h in namespace_holes(shards)] == ["the shards' windows have no moment in common"]


def test_where_epochs_overlap_the_newer_one_is_used() -> None:
    epochs = (epoch(1, 100, 300), epoch(2, 200, 400))
    assert [getattr(epoch_at(epochs, at), "number", None) for at in (99, 100, 199, 200, 400, 401)] == [
        None, 1, 1, 2, 2, None,
    ]  # fmt: skip
