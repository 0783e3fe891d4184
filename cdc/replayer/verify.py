"""After a restore: is in the target what it was meant to leave there?

A clone into an empty namespace is compared with all that the namespace holds: first how many records each partition
has, then every record. Any other restore is looked up record by record, by digest: it answers for what it was about.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, Final

import numpy as np

from cdc import codec
from cdc.archive import Archive
from cdc.codec import bins, gather
from cdc.codec.contents import heads_of
from cdc.codec.decode import to_python
from cdc.errors import CdcError
from cdc.model import DIGEST_SIZE, I64, PARTITIONS, U8, Bodies, Bool, digest_order, partition_of, partitions_of
from cdc.replayer.expected import Expected, Found, Touch, Verdict, expected, judge, right
from cdc.replayer.lines import Lines
from cdc.replayer.parallel import each
from cdc.replayer.plan import Plan, ShardPlan, shard_slices
from cdc.replayer.report import Cancelled, Meter, Report, Watch, printable
from cdc.replayer.resettled import resettled
from cdc.replayer.target import EXPIRY_ERROR_MS, Target
from cdc.replayer.verified import Verification
from cdc.source.facts import PartitionCounts
from cdc.wire.messages import Result
from cdc.wire.query import query

AT_ONCE: Final = 200_000
"""About so many records of a shard are compared at a time."""
_NAMED: Final = frozenset({Verdict.MISSING, Verdict.DIFFERENT, Verdict.EXTRA, Verdict.UNSEEN})


def verify(
    archive: Archive,
    plan: Plan,
    target: Target,
    watch: Watch | None = None,
    *,
    report: Report | None = None,
    named_file: Path | None = None,
) -> Verification:
    """Compare the target with what a plan was to leave in it: set, user key, bins and expiry.

    `report` is the restore's, by which what it named is not judged, and what was written after its end is known to be
    others' doing; without it the restore is taken to have run between the plan and now. Memory: about AT_ONCE records.
    Raises what reading the archive and the target raise; Cancelled when the caller wants no more.
    """
    watch, began = watch or Watch(), time.monotonic()
    id = "" if report is None else report.id
    work = _Work(archive, plan, target, _touch(plan, target, report), _digests(report), named_file, id)
    counts = plan.counts
    total = plan.rows if counts is None else counts.write + counts.remove + counts.leave
    meter = Meter(max(total, 1), "compare", watch)
    try:
        parts = each(lambda shard: work.shard(shard, meter), plan.shards, watch, plan.workers)
        parts += work.beyond()
        meter.finish()
    finally:
        work.close()
    found = reduce(lambda a, b: a + b, parts, work.nothing)
    named = work.lines.path if work.lines is not None and (found.wrong or found.unseen) else None
    return replace(found, named_file=named, seconds=time.monotonic() - began)


def verified(
    archive: Archive, plan: Plan, target: Target, report: Report, named_file: Path | None, watch: Watch | None
) -> Report:
    """A restore's report, with its verification where the restore was complete and the caller does not cancel it.

    What is wrong is named beside `named_file`, in `NAME.differs.jsonl`. Raises what `verify` raises; the error has the
    report.
    """
    if not report.complete:
        return report
    beside = None if named_file is None else named_file.with_suffix(f".differs{named_file.suffix}")
    try:
        return replace(report, verification=verify(archive, plan, target, watch, report=report, named_file=beside))
    except Cancelled:
        return report
    except CdcError as error:
        error.message += "; the restore itself was done, but could not be verified"
        error.report = report
        raise


def _touch(plan: Plan, target: Target, report: Report | None) -> Touch:
    began_at = report.began_at if report is not None and report.began_at else plan.planned_at
    ended_at = report.ended_at if report is not None and report.ended_at else target.now()
    guarded = plan.kind == "rewind" and not plan.wanted.overwrite
    return Touch(began_at, ended_at, guarded, plan.wanted.existing if plan.kind == "clone" else "replace")


def _digests(report: Report | None) -> np.ndarray:
    """The sortable digests of what a report names."""
    named = b"" if report is None else report.named
    return np.sort(digest_order(np.frombuffer(named, np.uint8).reshape(-1, DIGEST_SIZE)))


@dataclass(slots=True)
class _Work:
    archive: Archive
    plan: Plan
    target: Target
    touch: Touch
    apart: np.ndarray
    named_file: Path | None
    id: str = ""
    lines: Lines | None = field(init=False)
    counts: PartitionCounts | None = field(init=False, default=None)
    nothing: Verification = field(init=False)

    def __post_init__(self) -> None:
        self.lines = Lines(self.named_file, self.id) if self.named_file is not None else None
        if self.alone:
            counts = self.target.source.partition_counts()
            self.counts = counts if counts.settled else None
        self.nothing = Verification(self.target.namespace, unlike=None if self.counts is None else 0)

    def close(self) -> None:
        if self.lines is not None:
            self.lines.close()

    @property
    def alone(self) -> bool:
        """Whether the target holds what the plan brought, and nothing else."""
        wanted = self.plan.wanted
        return self.plan.kind == "clone" and wanted.existing == "fail" and not wanted.into_set

    def shard(self, shard: ShardPlan, meter: Meter) -> Verification:
        if self.alone:
            return self._scanned(shard, meter)
        found = self.nothing
        for wanted, there, source in self._looked_up(shard):
            found += self._judged(shard, wanted, there, source)
            meter.add(len(wanted))
        return found

    def beyond(self) -> list[Verification]:
        """Of shards that the plan is not about, where nothing should be."""
        left = set(range(self.archive.shards)) - {shard.view.shard for shard in self.plan.shards}
        if not self.alone or not left:
            return []
        partitions = np.concatenate([np.array(partitions_of(k, self.archive.shards)) for k in sorted(left)])
        return [self._compared(None, Expected.nothing(np.empty((0, DIGEST_SIZE), np.uint8)), partitions, None)]

    def _slices(self, shard: ShardPlan) -> Iterator[tuple[Expected, Bodies, I64]]:
        plan = self.plan
        # What expires about now is expected, and need not be there.
        now = self.target.now() - EXPIRY_ERROR_MS
        rewind, overwrite = plan.kind == "rewind", plan.wanted.overwrite
        for part in shard_slices(self.archive, plan, shard, now):
            wanted, told = expected(part, now, rewind=rewind, overwrite=overwrite)
            yield wanted, part.versions.bodies, told

    # Record by record

    def _looked_up(self, shard: ShardPlan) -> Iterator[tuple[Expected, Found, U8]]:
        """What is expected, what is there, and under which digests the archive has them."""
        names = self.plan.wanted.part.bins if self.plan.kind == "rewind" else ()
        into_set = self.plan.wanted.into_set
        for wanted, bodies, told in self._slices(shard):
            source = wanted.digest
            if into_set:
                bodies, digests, known = resettled(bodies, told, into_set)
                wanted = replace(wanted.take(known), digest=digests, checksum=codec.columns(bodies).checksum)
                source, told = source[known], np.arange(len(bodies))
            there, checksum, void_time = self.target.read(wanted.digest, heads_of(bodies, told), names)
            some = there
            if names and len(told):
                blank = bins.choose(gather(bodies, told[:1]), names, "blank").checksum
                some = there & (checksum != blank)
            yield wanted, Found(there, some, checksum, void_time), source

    # All that is there

    def _scanned(self, shard: ShardPlan, meter: Meter) -> Verification:
        """Compare in portions: within a shard a partition's lower eight bits are a digest's first byte, so all records
        with one first byte have been read from the archive when the next one comes."""
        mine = np.array(partitions_of(shard.view.shard, self.archive.shards))
        held, done, found = [], 0, self.nothing
        for wanted, _, _ in self._slices(shard):
            if not len(wanted):
                continue
            held.append(wanted)
            upto = int(wanted.digest[-1, 0])
            if upto > done and sum(map(len, held)) >= AT_ONCE:
                both = Expected.concat(held)
                ready = both.digest[:, 0] < upto
                portion = mine[((mine & 0xFF) >= done) & ((mine & 0xFF) < upto)]
                found += self._compared(shard, both.take(ready), portion, meter)
                held, done = [both.take(~ready)], upto
        rest = Expected.concat(held) if held else Expected.nothing(np.empty((0, DIGEST_SIZE), np.uint8))
        return found + self._compared(shard, rest, mine[(mine & 0xFF) >= done], meter)

    def _compared(
        self, shard: ShardPlan | None, wanted: Expected, partitions: np.ndarray, meter: Meter | None
    ) -> Verification:
        """Some records against all that some partitions hold."""
        n = len(wanted)
        unlike = None
        if self.counts is not None:
            should = np.bincount(partition_of(wanted.digest), minlength=PARTITIONS)
            unlike = int(np.count_nonzero(should[partitions] != self.counts.records[partitions]))
        keys = digest_order(wanted.digest)
        there, checksum, void_time = np.zeros(n, np.bool_), np.zeros(n, np.uint64), np.zeros(n, np.int64)
        extra: list[U8] = []
        for frame in query(self.target.source.cluster, self.target.namespace, partitions.tolist(), connections=1):
            records = codec.records([frame])
            at, known = _places(keys, records.digest)
            there[at[known]] = True
            checksum[at[known]], void_time[at[known]] = records.checksum[known], records.void_time[known]
            extra.append(records.digest[~known])
            unread = [one.digest for one in records.rejected if len(one.digest) == DIGEST_SIZE]
            if unread:  # there, and of no content that a checksum could be right of
                odd = np.frombuffer(b"".join(unread), np.uint8).reshape(-1, DIGEST_SIZE)
                at, known = _places(keys, odd)
                there[at[known]] = True
                extra.append(odd[~known])
            if meter is not None:
                meter.add(len(records))
        more = np.unique(np.concatenate([*extra, np.empty((0, DIGEST_SIZE), np.uint8)]), axis=0)
        found = self._judged(shard, wanted, Found(there, there, checksum, void_time), wanted.digest)
        others = Expected.nothing(more)
        all_there = np.ones(len(more), np.bool_)
        nothing = np.zeros(len(more), np.int64)
        found += replace(
            self._judged(shard, others, Found(all_there, all_there, nothing.astype(np.uint64), nothing), more),
            expected=0,
        )
        return replace(found, unlike=unlike)

    # Judging

    def _judged(self, shard: ShardPlan | None, wanted: Expected, there: Found, source: U8) -> Verification:
        fine = right(wanted, there, self.target.now(), self.target.delay.most_ms)
        wrong = np.flatnonzero(~fine)
        verdicts = self._verdicts(wanted.take(wrong), there.there[wrong], source[wrong])
        self._name(shard, source[wrong], verdicts)
        counts = np.bincount(verdicts, minlength=len(Verdict))
        return replace(
            self.nothing, expected=len(wanted), found=int(np.count_nonzero(there.there)),
            right=int(np.count_nonzero(fine)), missing=int(counts[Verdict.MISSING]),
            different=int(counts[Verdict.DIFFERENT]), extra=int(counts[Verdict.EXTRA]),
            kept=int(counts[Verdict.KEPT]), changed=int(counts[Verdict.CHANGED]), apart=int(counts[Verdict.APART]),
            unseen=int(counts[Verdict.UNSEEN]),
        )  # fmt: skip

    def _verdicts(self, wrong: Expected, there: Bool, source: U8) -> U8:
        if not len(wrong):
            return np.empty(0, np.uint8)
        lut, generation, result = self.target.source.luts(wrong.digest)
        gone = result == Result.NOT_FOUND
        verdicts = judge(wrong, there & ~gone, lut, generation.astype(np.int32), self.touch)
        verdicts[there & gone] = Verdict.CHANGED  # it went between the two looks
        _, named = _places(self.apart, source)
        verdicts[named] = Verdict.APART
        return verdicts

    def _name(self, shard: ShardPlan | None, digests: U8, verdicts: U8) -> None:
        """Name what is wrong, with set and user key where the archive has them."""
        if self.lines is None:
            return
        bad = np.flatnonzero(np.isin(verdicts, list(_NAMED)))
        if not len(bad):
            return
        by_digest = bad[np.argsort(digest_order(digests[bad]))]
        said: dict[bytes, dict[str, Any]] = {}
        if shard is not None:
            for versions in self.archive.versions(shard.view, digests=np.ascontiguousarray(digests[by_digest])):
                for row in range(versions.rows):
                    digest, version = versions.columns.digest[row].tobytes(), to_python(versions.bodies[row])
                    if digest not in said or version["user_key"] is not None:  # an end has none
                        said[digest] = version
        self.lines.write(_line(digests[i].tobytes(), Verdict(verdicts[i]), said) for i in by_digest)


def _line(digest: bytes, verdict: Verdict, said: dict[bytes, dict[str, Any]]) -> str:
    known = said.get(digest, {})
    line = {"digest": digest.hex(), "set": known.get("set"), "key": printable(known.get("user_key"))}
    return json.dumps(line | {"outcome": verdict.name.lower()}, ensure_ascii=False)


def _places(keys: np.ndarray, digests: U8) -> tuple[I64, Bool]:
    """Where among ascending keys each digest stands, and whether it does."""
    if not len(keys):
        return np.zeros(len(digests), np.int64), np.zeros(len(digests), np.bool_)
    wanted = digest_order(digests)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted
