"""All versions of one record: of each object that may hold it the index and the block, several objects at once."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from cdc.archive import segments as objects
from cdc.archive.manifests import SegmentInfo
from cdc.archive.merged import counting
from cdc.archive.store import Store
from cdc.archive.versions import Versions, concat, empty
from cdc.archive.views import View

AT_ONCE: Final = 16
"""Objects asked at a time: a cloud answers in tens of milliseconds, and an index must come before its block."""
WAITED_S: Final = 0.01
"""Where an object takes less, nothing is waited for, and threads cost more work than they save time."""


def versions(store: Store, infos: Sequence[SegmentInfo], digest: bytes) -> list[Versions]:
    """What each of some objects has of a record, in order of offset. Objects whose span of digests does not have it are
    not asked. Raises ObjectMissing, ObjectDamaged, FormatTooNew."""
    name, wanted = digest.hex(), np.frombuffer(digest, np.uint8).reshape(1, -1)

    def read(info: SegmentInfo) -> Versions:
        if not info.first_digest <= name <= info.last_digest:
            return empty()
        return concat(list(objects.read(store, info, digests=wanted)))

    found: list[Versions] = []
    waited = False
    while len(found) < len(infos) and not waited:
        began = time.perf_counter()
        found.append(read(infos[len(found)]))
        waited = time.perf_counter() - began > WAITED_S
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="record") as pool:
        return [*found, *pool.map(read, infos[len(found) :])]


def of_view(store: Store, view: View, digest: bytes) -> Versions:
    """What a restore would read of a record, in order of offset, as `merged.stream` gives it. Raises as `versions`."""
    found = versions(store, view.objects, digest)
    if view.base is not None:
        beside = range(len(view.base_segments), len(found))
        for i in beside:
            found[i] = found[i].take(counting(view.base, found[i].offsets, found[i].columns.effective_at))
    whole = concat(found)
    return whole.take(np.argsort(whole.offsets, kind="stable"))
