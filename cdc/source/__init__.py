"""One Aerospike namespace as the collector and the replayer see it: observations, counts, counters, metadata.

source        Source: joined reads of bins and LUT, node clocks, and the facts below for one namespace
expressions   filters and projections as packed bytes; pure
scope         which records are captured, as an expression and in words; pure
facts         what nodes say of counts, deletion counters, truncations and themselves: parsed info answers; pure
metadata      indexes, UDFs, sets, settings, roles, users: parsed answers, and what nodes agree on; pure
describe      a look at all of that
join_kernels, join_plain   matching rows by digest, compiled and plain
"""

from cdc.source.describe import describe
from cdc.source.facts import NodeStanding, PartitionCounts, Standing, Truncations
from cdc.source.metadata import Described
from cdc.source.observed import Observed
from cdc.source.scope import Scope
from cdc.source.source import NodeClock, Source

__all__ = [
    "Described",
    "NodeClock",
    "NodeStanding",
    "Observed",
    "PartitionCounts",
    "Scope",
    "Source",
    "Standing",
    "Truncations",
    "describe",
]
