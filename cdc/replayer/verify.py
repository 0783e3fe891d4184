"""After a clone: is in the target what was meant to be written?"""

from dataclasses import asdict, dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from cdc import codec
from cdc.archive import Archive
from cdc.codec import Records
from cdc.errors import Differs
from cdc.model import I64, U64, Bool, digest_order, partitions_of
from cdc.replayer import slices
from cdc.replayer.parallel import each
from cdc.replayer.plan import Plan, ShardPlan
from cdc.replayer.report import Meter, Watch
from cdc.replayer.target import Target, same_expiry
from cdc.replayer.versions import Action
from cdc.wire.query import query


@dataclass(frozen=True, slots=True)
class Verification:
    """A target compared with a plan, record by record: `missing` are not there, `different` have another content or
    expiry, `extra` are not in the plan."""

    expected: int = 0
    found: int = 0
    missing: int = 0
    different: int = 0
    extra: int = 0

    def __add__(self, other: "Verification") -> "Verification":
        return Verification(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def to_dict(self) -> dict[str, int]:
        """Name to number."""
        return asdict(self)


def verify_clone(archive: Archive, plan: Plan, target: Target, watch: Watch | None = None) -> Verification:
    """Compare every record of the target with the plan: set, stored user key and bins by checksum, and the expiry.

    Nobody else may write to the target meanwhile. Raises Differs, naming the numbers; what reading the archive and
    querying raise; Cancelled when the caller wants no more.
    """
    watch = watch or Watch()
    meter = Meter(plan.counts.write if plan.counts else plan.rows, "compare", watch)
    parts = each(lambda shard: _shard(archive, shard, target, meter), plan.shards, watch)
    meter.finish()
    found = reduce(lambda a, b: a + b, parts, Verification())
    if found.missing or found.different or found.extra:
        raise Differs(
            f"{target.namespace} is not as it was meant to be: {found.missing:,} of {found.expected:,} records are "
            f"missing, {found.different:,} are different, {found.extra:,} should not be there"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a shard's records should be, by ascending digest."""

    key: npt.NDArray[np.void]
    checksum: U64
    void_time: I64
    seen: Bool
    right: Bool

    def compare(self, found: Records) -> int:
        """Notes which records are there and right; returns how many of them are not expected."""
        if not len(self.key):
            return len(found)
        keys = digest_order(found.digest)
        at = np.minimum(np.searchsorted(self.key, keys), len(self.key) - 1)
        known = self.key[at] == keys
        at = at[known]
        same = found.checksum[known] == self.checksum[at]
        self.seen[at] = True
        self.right[at] = same & same_expiry(found.void_time[known], self.void_time[at])
        return int(np.count_nonzero(~known))


def _shard(archive: Archive, shard: ShardPlan, target: Target, meter: Meter) -> Verification:
    expected = _expected(archive, shard, target.now())
    found = extra = 0
    partitions = partitions_of(shard.view.shard, archive.shards)
    for frame in query(target.source.cluster, target.namespace, partitions, connections=1):
        records = codec.records([frame])
        extra += expected.compare(records) + len(records.rejected)
        found += len(records)
        meter.add(len(records))
    # What expired while it was compared need not be there.
    due = (expected.void_time != 0) & (expected.void_time <= target.now() + 1000)
    missing = int(np.count_nonzero(~expected.seen & ~due))
    different = int(np.count_nonzero(expected.seen & ~expected.right))
    return Verification(len(expected.key), found, missing, different, extra)


def _expected(archive: Archive, shard: ShardPlan, now: int) -> _Expected:
    keys, checksums, void_times = [np.empty((0, 20), np.uint8)], [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for part in slices.of_clone(archive.store, shard.view, now):
        which = np.flatnonzero(part.decisions.action == Action.WRITE)
        rows = part.states.held[which]
        keys.append(part.states.digest[which])
        checksums.append(part.versions.columns.checksum[rows])
        void_times.append(part.versions.columns.void_time[rows])
    key = digest_order(np.concatenate(keys))
    nothing = np.zeros(len(key), np.bool_)
    return _Expected(key, np.concatenate(checksums), np.concatenate(void_times), nothing, nothing.copy())
