"""How far a restore is: what the lines of its progress say. Pure.

A line is a CRC-32 in hexadecimal, a space, and an event as JSON; numbers are sums over all runs. `run` begins each run.
`write` stands before a run's first write. `done` says up to which digests shards are done, and what became of those
records. `end` says how a run ended.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from cdc.errors import RestoreError
from cdc.model import DIGEST_SIZE, partition_of, shard_of

LAST: Final = b"\xff" * DIGEST_SIZE
"""The highest digest: a shard that is done up to it is done."""


@dataclass(frozen=True, slots=True)
class Standing:
    """`through`: by shard, up to which digest every record is done, which is none that the target refused; `counts`:
    what became of those, by fields of `Report`, and `touched`: how many of them were to be written or removed.

    `total`: records to be written or removed in all, 0 where that was not counted. `writing`: something may have been
    written. `ended`: how the last run ended (complete, interrupted or failed, then with `error` and `exit_code`); empty
    while it has not. Moments in milliseconds; `seconds` that all runs took.
    """

    through: Mapping[int, bytes] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    touched: int = 0
    runs: int = 0
    total: int = 0
    writing: bool = False
    ended: str = ""
    error: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    said_at: int = 0

    def low(self, shard: int) -> bytes | None:
        """The first digest of a shard that may not be done; None: all may not be."""
        through = self.through.get(shard)
        return None if through is None or through == LAST else following(through)

    def whole(self, shard: int) -> bool:
        """Whether all of a shard is done."""
        return self.through.get(shard) == LAST

    def has(self, digest: bytes, shards: int) -> bool:
        """Whether a record is done, where there are so many shards."""
        [shard] = shard_of(partition_of(np.frombuffer(digest, np.uint8).reshape(1, -1)), shards).tolist()
        return digest <= self.through.get(shard, b"")


def following(digest: bytes) -> bytes:
    """The digest after one that is not the last."""
    return (int.from_bytes(digest, "big") + 1).to_bytes(DIGEST_SIZE, "big")


def line(event: Mapping[str, Any]) -> bytes:
    """An event's line."""
    said = json.dumps(event, separators=(",", ":"), ensure_ascii=True).encode()
    return b"%08x %s\n" % (zlib.crc32(said), said)


def read(data: bytes, name: str) -> tuple[Standing, int]:
    """What the lines say, and how many bytes of them are whole: whoever was killed while it wrote left a part of the
    last one. Raises RestoreError, with the file's name, where another line is damaged."""
    lines = data.split(b"\n")
    rest = lines.pop()
    events = []
    for number, one in enumerate(lines):
        event = _event(one)
        if event is None:
            if number == len(lines) - 1 and not rest:
                rest = one + b"\n"  # its bytes did not all get to the disk
                break
            raise RestoreError(
                f"{name} is damaged in line {number + 1}, so how far the restore is cannot be known",
                "Begin it anew; what is there already is left, or overwritten with the same.",
            )
        events.append(event)
    try:
        return _folded(events), len(data) - len(rest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RestoreError(f"{name} does not have the form of a restore's progress") from error


def _event(text: bytes) -> dict[str, Any] | None:
    checksum, _, said = text.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(said):
        return None
    found = json.loads(said)
    return found if isinstance(found, dict) else None


def _folded(events: Iterable[Mapping[str, Any]]) -> Standing:
    now = Standing()
    for event in events:
        now = replace(now, said_at=event["at"])
        match event["event"]:
            case "run":
                now = replace(now, runs=now.runs + 1, ended="", error="", exit_code=0)
            case "write":
                now = replace(now, writing=True, total=event["total"])
            case "done":
                through = {int(shard): bytes.fromhex(digest) for shard, digest in event["through"].items()}
                now = replace(
                    now,
                    through={**now.through, **through},
                    counts=event["counts"],
                    touched=event["touched"],
                    seconds=event["seconds"],
                )
            case "end":
                now = replace(
                    now, ended=event["state"], error=event["error"], exit_code=event["exit_code"],
                    seconds=event["seconds"],
                )  # fmt: skip
            case other:
                raise ValueError(f"no event {other}")
    return now
