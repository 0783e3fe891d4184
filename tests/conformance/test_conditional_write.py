"""Rows of a batch that write only where the record there is no newer than they are."""

import base64
from typing import Any

import aerospike
import numpy as np
import pytest
from aerospike_helpers import expressions as exp

from cdc import codec
from cdc.source import expressions
from cdc.wire import Cluster
from cdc.wire import messages as m
from cdc.wire.batch import values, write
from tests.fixtures.aerospike import Client, Key
from tests.unit.test_codec_batch import one

NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize("lut", [1_795_000_000_123, 4_295])
def test_the_filter_is_what_the_official_client_packs(client: Client, lut: int) -> None:
    official = client.get_expression_base64(exp.LE(exp.LastUpdateTime(), lut * 1_000_000).compile())
    (packed,) = expressions.not_after(np.array([lut]))
    assert packed.tobytes() == base64.b64decode(official)


@pytest.mark.parametrize(("later_ms", "result", "value"), [(-1, m.Result.FILTERED_OUT, "there"), (0, 0, 1), (1, 0, 1)])
def test_a_record_is_replaced_unless_it_was_updated_after_the_moment(
    cluster: Cluster, client: Client, key: Key, later_ms: int, result: int, value: Any
) -> None:
    namespace, set_name, _ = key
    client.put(key, {"b": "there"})
    digest = np.frombuffer(aerospike.calc_digest(*key), np.uint8).reshape(1, 20)
    lut = values(cluster, namespace, digest, expressions.LUT).value // expressions.NS_PER_MS
    bodies = one(digest=digest.tobytes(), set=set_name)
    filters = expressions.not_after(lut + later_ms)

    def encode(rows: np.ndarray) -> bytes:
        return codec.batch_rows(bodies, rows, namespace.encode(), NOW_MS, filters=filters[rows])

    assert write(cluster, namespace, digest, encode).tolist() == [result]
    assert client.get(key)[2] == {"b": value}


def test_a_record_that_is_not_there_is_written_whatever_its_filter_says(
    cluster: Cluster, client: Client, key: Key
) -> None:
    namespace, set_name, _ = key
    digest = np.frombuffer(aerospike.calc_digest(*key), np.uint8).reshape(1, 20)
    bodies, filters = one(digest=digest.tobytes(), set=set_name), expressions.not_after(np.array([0]))

    def encode(rows: np.ndarray) -> bytes:
        return codec.batch_rows(bodies, rows, namespace.encode(), NOW_MS, filters=filters[rows])

    assert write(cluster, namespace, digest, encode).tolist() == [m.Result.OK]
    assert client.get(key)[2] == {"b": 1}
