"""What one node holds of one namespace: partitions of records, sets, counters, and the rules of time.

The rules are the server's: a LUT is in whole milliseconds and never goes backwards while the index entry lives
(`record_ce.c`), a record is invisible once its void time is past and is removed by a later nsup cycle (`nsup.c`), a
truncation hides what has a LUT below its own (`truncate.c`). Pure: time comes in as an argument, and callers lock.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cdc.clock import CITRUSLEAF_EPOCH_S
from cdc.embedded.aerospike.record import Bins, Record
from cdc.model import PARTITIONS

EPOCH_MS = CITRUSLEAF_EPOCH_S * 1000
TTL_DEFAULT = 0
TTL_NEVER = 0xFFFF_FFFF
TTL_KEEP = 0xFFFF_FFFE
TTL_MAX = 10 * 365 * 86_400
SYSTEM_MEMORY_PCT = 50
"""How much of its machine's memory a node says is in use."""


def partition_id(digest: bytes) -> int:
    """The partition of a digest (the server's `partition.h`)."""
    return digest[0] | (digest[1] & 0x0F) << 8


def seconds_2010(now_ms: int) -> int:
    """Seconds since 2010-01-01, in which void times count."""
    return now_ms // 1000 - CITRUSLEAF_EPOCH_S


@dataclass(slots=True)
class SetState:
    """What is known of a set: it never goes away once it was written to."""

    objects: int = 0
    truncate_lut_ms: int = 0  # since 1970; 0: never truncated
    enable_index: bool = False  # told, and of no effect


@dataclass(slots=True)
class Settings:
    """A namespace's settings that `set-config` changes and writes go by; as made, the server's defaults, but that an
    nsup cycle is due each second."""

    nsup_period: int = 1
    allow_ttl_without_nsup: bool = True
    max_record_size: int = 1 << 20
    stop_writes_sys_memory_pct: int = 90

    @property
    def stop_writes(self) -> bool:
        """As `nsup.c` evaluates it, of the limits only that on the machine's memory."""
        return 0 < self.stop_writes_sys_memory_pct < SYSTEM_MEMORY_PCT

    def forbids(self, ttl: int, default_ttl: int) -> bool:
        """Whether a write with this TTL is forbidden, as nothing would ever remove the record (`rw_utils.h`)."""
        expires = ttl not in (TTL_DEFAULT, TTL_NEVER, TTL_KEEP) or (ttl == TTL_DEFAULT and default_ttl != 0)
        return expires and not self.nsup_period and not self.allow_ttl_without_nsup


class NamespaceStore:
    """One namespace on one node. Every method expects the caller to hold the emulator's lock."""

    def __init__(self, name: str, default_ttl: int = 0, *, persisted: bool = False) -> None:
        self.name = name
        self.raw_name = name.encode()
        self.default_ttl = default_ttl
        self.persisted = persisted
        self.settings = Settings()
        self.partitions: list[dict[bytes, Record]] = [{} for _ in range(PARTITIONS)]
        self.sets: defaultdict[bytes, SetState] = defaultdict(SetState)
        self.counters: Counter[str] = Counter()
        self.truncate_lut_ms = 0
        self.objects = 0
        self._any_truncation = False
        self._device: dict[bytes, Record] = {}
        self._next_void_s = 0  # no record's void time is lower; 0: none expires

    def find(self, digest: bytes) -> Record | None:
        """The index entry, whether it is visible or not."""
        return self.partitions[digest[0] | (digest[1] & 0x0F) << 8].get(digest)

    def hidden(self, record: Record, now_s: int) -> bool:
        """Whether a record is expired (its void time lies before this second) or truncated."""
        void = record.void_time_s
        return (void != 0 and void < now_s) or (self._any_truncation and self._truncated(record))

    def may_hide(self, now_s: int) -> bool:
        """Whether any record can be hidden at all."""
        return self._any_truncation or 0 < self._next_void_s < now_s

    def _truncated(self, record: Record) -> bool:
        if record.lut_ms < self.truncate_lut_ms:
            return True
        state = self.sets.get(record.set_name) if record.set_name else None
        return state is not None and record.lut_ms < state.truncate_lut_ms

    def truncated_now(self, set_name: bytes, now_ms: int) -> bool:
        """Whether a record created now would be truncated at once: the clock has gone back behind a truncation."""
        state = self.sets.get(set_name) if set_name else None
        return now_ms < self.truncate_lut_ms or (state is not None and now_ms < state.truncate_lut_ms)

    def void_time(self, old: Record | None, ttl: int, now_ms: int) -> int:
        """The void time that a write with this TTL gives, in seconds since 2010; 0 never."""
        if ttl == TTL_KEEP and old is not None:
            return old.void_time_s
        if ttl in (TTL_DEFAULT, TTL_KEEP):
            ttl = self.default_ttl or TTL_NEVER
        return 0 if ttl == TTL_NEVER else seconds_2010(now_ms) + ttl

    def successor(
        self, old: Record | None, digest: bytes, set_name: bytes, ttl: int, now_ms: int, bins: Bins
    ) -> Record:  # fmt: skip
        """The record that a write makes of `old` (None: there is no living index entry)."""
        void = self.void_time(old, ttl, now_ms)
        if old is None:
            return Record(digest, set_name, None, 1, now_ms, void, bins)
        lut = old.lut_ms if old.lut_ms > now_ms else now_ms
        return Record(digest, old.set_name, old.key, old.generation + 1 & 0xFFFF or 1, lut, void, bins)

    def put(self, record: Record) -> None:
        """Store a record in place of what has its digest."""
        digest = record.digest
        partition = self.partitions[digest[0] | (digest[1] & 0x0F) << 8]
        if digest not in partition:
            self.objects += 1
            self.sets[record.set_name].objects += 1
        partition[digest] = record
        if self.persisted:
            self._device[digest] = record
        void = record.void_time_s
        if void and (void < self._next_void_s or not self._next_void_s):
            self._next_void_s = void

    def drop(self, digest: bytes) -> None:
        """Take an index entry away. A device keeps what was written: Community Edition has no tombstones."""
        record = self.partitions[partition_id(digest)].pop(digest)
        self.objects -= 1
        self.sets[record.set_name].objects -= 1

    def take_partition(self, partition: int) -> dict[bytes, Record]:
        """All records of a partition, which is empty afterwards."""
        records = self.partitions[partition]
        self.partitions[partition] = {}
        self.objects -= len(records)
        for record in records.values():
            self.sets[record.set_name].objects -= 1
        return records

    def expire(self, now_ms: int) -> int:
        """One nsup cycle: removes what is expired, counts it, returns the number."""
        now_s = seconds_2010(now_ms)
        if not self._next_void_s or self._next_void_s >= now_s:
            return 0
        expired, following = [], 0
        for record in self.all_records():
            void = record.void_time_s
            if not void:
                continue
            if void < now_s:
                expired.append(record.digest)
            elif void < following or not following:
                following = void
        for digest in expired:
            self.drop(digest)
        self._next_void_s = following
        self.counters["expired_objects"] += len(expired)
        return len(expired)

    def evict(self, digests: Iterable[bytes]) -> None:
        """Remove records as nsup does once a limit is reached, and count them."""
        for digest in list(digests):
            self.drop(digest)
            self.counters["evicted_objects"] += 1

    def truncate(self, set_name: bytes | None, lut_ms: int) -> None:
        """Remove every record (of a set) with a LUT below `lut_ms`. An unknown set, or a lower LUT, does nothing."""
        if set_name is None:
            if lut_ms <= self.truncate_lut_ms:
                return
            self.truncate_lut_ms = lut_ms
        else:
            state = self.sets.get(set_name)
            if state is None or lut_ms <= state.truncate_lut_ms:
                return
            state.truncate_lut_ms = lut_ms
        self._any_truncation = True
        for digest in [r.digest for r in self.all_records() if self._truncated(r)]:
            self.drop(digest)

    def cold_restart(self, now_ms: int) -> None:
        """Forget memory; a device's records come back, deleted and truncated ones too. Expired ones do not."""
        now_s = seconds_2010(now_ms)
        device, self._device = self._device, {}
        for partition in range(PARTITIONS):
            self.partitions[partition] = {}
        self.sets.clear()
        self.counters.clear()
        self.objects = self.truncate_lut_ms = self._next_void_s = 0
        self._any_truncation = False
        for record in device.values():
            if not self.hidden(record, now_s):
                self.put(record)

    def all_records(self) -> Iterator[Record]:
        """Every index entry, in no order."""
        for partition in self.partitions:
            yield from partition.values()
