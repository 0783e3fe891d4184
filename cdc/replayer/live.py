"""The archive against the live database: is the newest state that it holds what the database holds?

The database goes on meanwhile. A record with a last-update-time up to `resolved_at` must be in the archive as it is;
one that was written later is counted and not judged. A delete leaves no time: a record that is not there may have been
deleted after `reconciled_at`, so it is counted too. What remains is damage, or something that capture missed.
"""

from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cdc.archive import Archive, Manifest, Versions, views
from cdc.archive.versions import first_of_digest
from cdc.archive.windows import epoch_window
from cdc.clock import rfc3339
from cdc.errors import ConfigError, Differs, NotRecoverable
from cdc.model import I64, PARTITIONS, U8, U64, Bool, Op, digest_order, partition_of, partitions_of
from cdc.replayer.report import Meter, Watch
from cdc.replayer.target import Target, same_expiry
from cdc.replayer.versions import alive
from cdc.source.observed import Observed

NAMED: Final = 20
"""So many records that differ are named."""
SLICE_RECORDS: Final = 200_000
"""So many live records are held at a time, with their contents."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Live records compared with the archive, by what they turned out to be.

    `same`; `different`: written by `resolved_at`, but not with this content or expiry; `unarchived`: written by then,
    and not in the archive; `changed`: written after it; `aside`: cannot be said, and kept aside. `gone`: in the archive
    and not there, deleted since `reconciled_at` if the archive is right. `unlike` partitions have another number of
    records than the archive; -1: the counts were in flux, or the scope is a part of the namespace. `named`: digests of
    some that are different or unarchived.
    """

    namespace: str
    resolved_at: int
    reconciled_at: int
    same: int = 0
    different: int = 0
    unarchived: int = 0
    changed: int = 0
    aside: int = 0
    gone: int = 0
    unlike: int = -1
    named: tuple[str, ...] = ()

    def __add__(self, other: "Comparison") -> "Comparison":
        counts = ("same", "different", "unarchived", "changed", "aside", "gone")
        return replace(
            self,
            resolved_at=min(self.resolved_at, other.resolved_at),
            reconciled_at=min(self.reconciled_at, other.reconciled_at),
            named=(*self.named, *other.named)[:NAMED],
            **{name: getattr(self, name) + getattr(other, name) for name in counts},
        )

    def error(self) -> Differs | None:
        """What to raise for it; None where nothing differs that must not."""
        if not self.different and not self.unarchived:
            return None
        return Differs(
            f"{self.namespace} and its archive differ: {self.different:,} records have another content, "
            f"{self.unarchived:,} are not in the archive, all written by {rfc3339(self.resolved_at)}; "
            f"the first is {self.named[0]}",
            "`collect --once --audit` finds what capture missed; `verify --tier decode` what the archive has lost.",
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; moments are RFC 3339."""
        moments = {name: rfc3339(getattr(self, name)) for name in ("resolved_at", "reconciled_at")}
        return asdict(self) | moments | {"named": list(self.named), "unlike": None if self.unlike < 0 else self.unlike}


def compare(archive: Archive, target: Target, watch: Watch | None = None) -> Comparison:
    """Compare every live record with the newest state in the archive, shard by shard.

    Memory: some sixty bytes a record of a shard, and SLICE_RECORDS contents. Raises NotRecoverable where a shard has no
    window, ConfigError where the archive is about another scope, Cancelled, and what reading and querying raise.
    """
    watch = watch or Watch()
    shards = [_current(archive, k) for k in range(archive.shards)]
    scope = target.source.scope
    for manifest in shards:
        if manifest.epochs[-1].scope != scope.text():
            raise ConfigError(
                f"the archive of {archive.namespace} is about {manifest.epochs[-1].scope or 'everything'}, "
                f"the settings say {scope.text() or 'everything'}",
                "`collect --once` begins what the settings say.",
            )
    counts = target.source.partition_counts()
    settled = counts.settled and scope.everything
    meter = Meter(max(int(np.maximum(counts.records, 0).sum()), 1), "compare", watch)
    parts, unlike = [], 0
    for manifest in shards:
        newest = _newest(archive, manifest, target.now(), watch)
        mine = np.array(partitions_of(manifest.shard, archive.shards), np.int64)
        unlike += int(np.count_nonzero(newest.counts()[mine] != counts.records[mine]))
        epoch = manifest.epochs[-1]
        found = Comparison(archive.namespace, epoch.resolved_at, epoch.reconciled_at)
        for observed in target.source.observations(mine.tolist(), slice_records=SLICE_RECORDS):
            found = newest.compared(found, observed)
            meter.add(len(observed))
        parts.append(replace(found, gone=newest.unseen(target.now())))
    meter.finish()
    return replace(reduce(lambda a, b: a + b, parts), unlike=unlike if settled else -1)


@dataclass(slots=True)
class _Newest:
    """What a shard's records were when they were captured last, by ascending digest, and which were seen since."""

    digest: U8
    checksum: U64
    void_time: I64
    unsaid: Bool  # its content could only be kept aside
    key: npt.NDArray[np.void] = field(init=False)
    seen: Bool = field(init=False)

    def __post_init__(self) -> None:
        self.key = digest_order(self.digest)
        self.seen = np.zeros(len(self.key), np.bool_)

    def counts(self) -> I64:
        """Records of each partition."""
        return np.bincount(partition_of(self.digest), minlength=PARTITIONS).astype(np.int64)

    def compared(self, before: Comparison, observed: Observed) -> Comparison:
        """Add what some live records are."""
        records = observed.records
        row = self._rows(records.digest)
        known = row >= 0
        place = np.where(known, row, 0)
        if len(self.key):
            self.seen[place[known]] = True
            equal = (records.checksum == self.checksum[place]) & same_expiry(records.void_time, self.void_time[place])
            unsaid = known & self.unsaid[place]
        else:
            equal = unsaid = known
        same = known & equal & ~unsaid
        late = ~same & (observed.lut > before.resolved_at)
        judged = ~same & ~late & ~unsaid
        asides = [one.digest for one in records.rejected if len(one.digest) == self.digest.shape[1]]
        rejected = np.frombuffer(b"".join(asides), np.uint8).reshape(-1, self.digest.shape[1])
        there = self._rows(rejected)
        self.seen[there[there >= 0]] = True
        wrong = [digest.tobytes().hex() for digest in records.digest[judged][:NAMED]]
        return replace(
            before,
            same=before.same + int(np.count_nonzero(same)),
            changed=before.changed + int(np.count_nonzero(late)),
            aside=before.aside + int(np.count_nonzero(unsaid & ~late)) + len(records.rejected),
            different=before.different + int(np.count_nonzero(judged & known)),
            unarchived=before.unarchived + int(np.count_nonzero(judged & ~known)),
            named=(*before.named, *wrong)[:NAMED],
        )

    def unseen(self, now: int) -> int:
        """How many were not there, without those that have expired meanwhile."""
        due = (self.void_time != 0) & (self.void_time <= now + 1000)
        return int(np.count_nonzero(~self.seen & ~due))

    def _rows(self, digest: U8) -> I64:
        if not len(self.key) or not len(digest):
            return np.full(len(digest), -1, np.int64)
        keys = digest_order(digest)
        at = np.minimum(np.searchsorted(self.key, keys), len(self.key) - 1)
        return np.where(self.key[at] == keys, at, -1).astype(np.int64)


def _current(archive: Archive, shard: int) -> Manifest:
    manifest = archive.shard(shard)
    if manifest is None or not manifest.epochs or epoch_window(manifest.epochs[-1]) is None:
        raise NotRecoverable(f"shard {shard} of {archive.namespace} has no window that could be compared")
    return manifest


def _newest(archive: Archive, manifest: Manifest, now: int, watch: Watch) -> _Newest:
    epoch = manifest.epochs[-1]
    view = views.everything_beside(manifest, epoch, epoch.resolved_at, archive.listing)
    parts = []
    for versions in archive.versions(view):
        watch.step()
        parts.append(_last(versions, now))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if not columns:
        return _Newest(
            np.empty((0, 20), np.uint8), np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.bool_)
        )
    return _Newest(*columns)


def _last(versions: Versions, now: int) -> tuple[U8, U64, I64, Bool]:
    """The records of a batch that are there by their last version: digest, checksum, void time, whether kept aside."""
    columns = versions.columns
    last = np.append(np.flatnonzero(first_of_digest(columns.digest))[1:], versions.rows) - 1
    newest = columns.take(last.astype(np.int64))
    unsaid = newest.op == Op.ASIDE
    there = alive(newest, now) | unsaid
    return newest.digest[there], newest.checksum[there], newest.void_time[there], unsaid[there]
