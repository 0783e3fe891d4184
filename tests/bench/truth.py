"""What a namespace holds, record by record, so that what is left of it can be compared with what should be."""

import base64
from dataclasses import dataclass, replace

import numpy as np
from aerospike_helpers import expressions as exp

from cdc import codec
from cdc.model import PARTITIONS, U8, U64, digest_order
from cdc.wire import Cluster
from cdc.wire.query import query
from tests.bench.workload import Place


@dataclass(frozen=True, slots=True)
class Truth:
    """Digests in order, and of each record what it is compared by: the checksum of its content, or its bin `number`."""

    digest: U8
    content: U64

    def wrong(self, found: "Truth") -> int:
        """How many records are missing, different or too many in what was found."""
        keys, others = digest_order(self.digest), digest_order(found.digest)
        at = np.minimum(np.searchsorted(keys, others), len(keys) - 1)
        known = keys[at] == others
        different = np.count_nonzero(self.content[at[known]] != found.content[known])
        return int(len(keys) + len(others) - 2 * np.count_nonzero(known) + different)

    def taking(self, other: "Truth", digests: U8) -> "Truth":
        """The same with some records as they are in another that has the same digests."""
        rows = np.searchsorted(digest_order(self.digest), digest_order(digests))
        content = self.content.copy()
        content[rows] = other.content[rows]
        return replace(self, content=content)


def read(place: Place, namespace: str) -> Truth:
    """What a namespace holds now, by checksums: of the bins, in their order, and with every flag."""
    with Cluster(place.settings(namespace)) as cluster:
        found = [codec.records([frame]) for frame in query(cluster, namespace, range(PARTITIONS))]
    return _ordered([records.digest for records in found], [records.checksum for records in found])


def read_numbers(place: Place, namespace: str) -> Truth:
    """The same by the bin `number`: the peers write a record's bins in any order."""
    client = place.client()
    number = base64.b64decode(client.get_expression_base64(exp.IntBin("number").compile()))
    client.close()
    with Cluster(place.settings(namespace)) as cluster:
        found = codec.projections(query(cluster, namespace, range(PARTITIONS), project=number))
    return _ordered([found.digest], [found.value.astype(np.uint64)])


def _ordered(digests: list[U8], contents: list[U64]) -> Truth:
    digest = np.concatenate([np.empty((0, 20), np.uint8), *digests])
    order = np.argsort(digest_order(digest))
    return Truth(digest[order], np.concatenate([np.empty(0, np.uint64), *contents])[order])
