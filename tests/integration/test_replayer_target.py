"""What a target is read as: a record of which no node will speak is not taken for one that is gone."""

import numpy as np
import pytest

from cdc.codec.contents import heads_of
from cdc.config import AerospikeSettings, ReplayerSettings
from cdc.embedded.aerospike import Emulator
from cdc.errors import PartitionUnavailable
from cdc.replayer.target import Target
from cdc.source import Source
from cdc.wire import Cluster
from cdc.wire.messages import Result
from tests.unit.test_codec_batch import one


def test_a_record_that_a_node_does_not_speak_of_is_not_taken_for_gone() -> None:
    with Emulator(namespaces=("test",)) as emulator, Cluster(AerospikeSettings(hosts=emulator.hosts)) as cluster:
        target = Target.of(Source(cluster, "test"), ReplayerSettings())
        digests, heads = np.arange(20, dtype=np.uint8).reshape(1, 20), heads_of(one(), np.array([0]))
        assert [column.tolist() for column in target.read(digests, heads)] == [[False], [0], [0]]
        emulator.nodes[0].faults.refuse_records.append(int(Result.ROLE_VIOLATION))
        with pytest.raises(PartitionUnavailable, match="1 records cannot be read"):
            target.read(digests, heads)
