"""One Aerospike namespace as the collector and the replayer see it: observations, counts, counters, metadata.

source        Source: joined reads of bins and LUT, node clocks, and the facts below for one namespace
expressions   filters and projections as packed bytes; pure
facts         counts per partition, deletion counters, truncations, indexes, UDFs, sets: parsed info answers; pure
join_kernels, join_plain   matching rows by digest, compiled and plain
"""

from cdc.source.facts import (
    DeletionCounters,
    PartitionCounts,
    SecondaryIndex,
    SetFacts,
    Truncations,
    Udf,
)
from cdc.source.observed import Observed
from cdc.source.source import NodeClock, Source

__all__ = [
    "DeletionCounters",
    "NodeClock",
    "Observed",
    "PartitionCounts",
    "SecondaryIndex",
    "SetFacts",
    "Source",
    "Truncations",
    "Udf",
]
