"""Rows of a batch that update some bins of a record, remove others, and keep the rest of it."""

from typing import Any

import aerospike
import numpy as np
import pytest

from cdc import codec
from cdc.codec import bins
from cdc.wire import Cluster
from cdc.wire.batch import write
from cdc.wire.messages import Result
from tests.fixtures.aerospike import Client, Key
from tests.unit.test_codec_batch import NOW_MS, one

NAMES = ("a", "b", "c")


def updated(cluster: Cluster, key: Key, guard: int = -1, *, absent: Any = "nulls", **given: Any) -> int:
    """The result of updating the bins NAMES of a record to those given."""
    namespace, set_name, _ = key
    digest = np.frombuffer(aerospike.calc_digest(*key), np.uint8).reshape(1, 20)
    said = {"set": set_name, "void_time": NOW_MS + 60_000, "user_key": key[2]} | given
    bodies = bins.choose(one(digest=digest.tobytes(), **said), NAMES, absent).bodies

    def encode(rows: np.ndarray) -> bytes:
        return codec.batch_rows(bodies, rows, namespace.encode(), NOW_MS, np.array([guard], np.int32), update=True)

    return int(write(cluster, namespace, digest, encode)[0])


def test_an_update_keeps_other_bins_the_expiry_and_that_no_key_is_stored(
    cluster: Cluster, client: Client, key: Key
) -> None:
    client.put(key, {"a": 1, "b": 2, "other": [1, {"x": 2}]}, policy={"ttl": 5000})
    assert updated(cluster, key, bins={"a": 7, "c": "new", "elsewhere": 1}) == Result.OK
    found, meta, there = client.get(key)
    assert there == {"a": 7, "c": "new", "other": [1, {"x": 2}]}
    assert (meta["gen"], 4990 <= meta["ttl"] <= 5000) == (2, True)
    stored: list[Any] = []
    query = client.query(*key[:2])
    query.foreach(lambda record: stored.append(record[0][2]))
    assert stored == [None]
    assert found is not None


def test_a_record_whose_last_bin_is_removed_is_gone(cluster: Cluster, client: Client, key: Key) -> None:
    client.put(key, {"a": 1, "b": 2})
    assert updated(cluster, key, absent="blank") == Result.OK
    assert client.exists(key)[1] is None


@pytest.mark.parametrize("guard", [0, 1, 2, 7])
def test_an_update_is_held_to_the_generation(cluster: Cluster, client: Client, key: Key, guard: int) -> None:
    client.put(key, {"a": 1})
    client.put(key, {"a": 2})
    expected = Result.OK if guard == 2 else Result.GENERATION
    assert updated(cluster, key, guard, bins={"a": 7}) == expected
    assert client.get(key)[2] == {"a": 7 if guard == 2 else 2}


@pytest.mark.parametrize("guard", [-1, 0, 3])
def test_an_update_makes_no_record(cluster: Cluster, client: Client, key: Key, guard: int) -> None:
    assert updated(cluster, key, guard, bins={"a": 7}) == Result.NOT_FOUND
    assert client.exists(key)[1] is None


def test_an_update_in_the_name_of_another_set_is_refused(cluster: Cluster, client: Client, key: Key) -> None:
    client.put(key, {"a": 1})
    assert updated(cluster, key, bins={"a": 7}, set="another") == Result.PARAMETER
    assert updated(cluster, key, bins={"a": 7}, set=None) == Result.PARAMETER
    assert client.get(key)[2] == {"a": 1}
