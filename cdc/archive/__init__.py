"""The archive: an object store, segments of versions, manifests that commit them, and the moments they lead back to.

`Archive` is the door: `shard`, `windows`, `view` and `versions` for whoever restores, `commit` for the compactor.
`segments` reads and writes single objects; `manifests` and `windows` are pure. Importing this brings no numba.
"""

from cdc.archive.archive import Archive
from cdc.archive.local import LocalStore
from cdc.archive.manifests import Epoch, Manifest, RestoreSet, SegmentInfo
from cdc.archive.store import Store
from cdc.archive.stores import open_store
from cdc.archive.versions import Versions
from cdc.archive.views import View, changed_after
from cdc.archive.windows import CoarseSpan, Hole, Resolution, Window

__all__ = [
    "Archive",
    "CoarseSpan",
    "Epoch",
    "Hole",
    "LocalStore",
    "Manifest",
    "Resolution",
    "RestoreSet",
    "SegmentInfo",
    "Store",
    "Versions",
    "View",
    "Window",
    "changed_after",
    "open_store",
]
