"""Continuous backup and point-in-time recovery for Aerospike.

The story of the data, folder by folder: `source` reads one namespace, `collector` turns sweeps into changes,
`topics` carries them through Kafka, `compactor` makes segments and restore sets of them, `archive` keeps those,
`replayer` brings a moment back. `wire` and `codec` are the bytes underneath, `service` and `cli` the roof. `api` is the
door for programs: its names, and those of what it takes and gives, can be imported from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cdc.api import At as At
    from cdc.api import Outcome as Outcome
    from cdc.api import Replayer as Replayer
    from cdc.archive import Hole as Hole
    from cdc.archive import Window as Window
    from cdc.archive.drills import Drilled as Drilled
    from cdc.archive.items import MetadataState as MetadataState
    from cdc.archive.keeps import Keep as Keep
    from cdc.config import Settings as Settings
    from cdc.replayer.diff import Diff as Diff
    from cdc.replayer.differences import Difference as Difference
    from cdc.replayer.doubts import Doubt as Doubt
    from cdc.replayer.history import Captured as Captured
    from cdc.replayer.history import History as History
    from cdc.replayer.history import Shown as Shown
    from cdc.replayer.journal import Entry as Entry
    from cdc.replayer.keys import digest_of as digest_of
    from cdc.replayer.metadata_plan import MetadataReport as MetadataReport
    from cdc.replayer.plan import Plan as Plan
    from cdc.replayer.report import Cancelled as Cancelled
    from cdc.replayer.report import Counts as Counts
    from cdc.replayer.report import Report as Report
    from cdc.replayer.report import Watch as Watch
    from cdc.replayer.verified import Verification as Verification
    from cdc.replayer.versions import Certainty as Certainty
    from cdc.replayer.wanted import Part as Part
    from cdc.replayer.wanted import Wanted as Wanted
    from cdc.replayer.where import Condition as Condition
    from cdc.replayer.where import condition as condition

__version__ = "0.1.0"

_NAMES: Final = {
    "api": "At Outcome Replayer",
    "archive": "Hole Window",
    "archive.drills": "Drilled",
    "archive.items": "MetadataState",
    "archive.keeps": "Keep",
    "config": "Settings",
    "replayer.diff": "Diff",
    "replayer.differences": "Difference",
    "replayer.doubts": "Doubt",
    "replayer.history": "Captured History Shown",
    "replayer.journal": "Entry",
    "replayer.keys": "digest_of",
    "replayer.metadata_plan": "MetadataReport",
    "replayer.plan": "Plan",
    "replayer.report": "Cancelled Counts Report Watch",
    "replayer.verified": "Verification",
    "replayer.versions": "Certainty",
    "replayer.wanted": "Part Wanted",
    "replayer.where": "Condition condition",
}
"""Looked up when they are asked for: `import cdc` itself costs nothing."""
_WHERE: Final = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
