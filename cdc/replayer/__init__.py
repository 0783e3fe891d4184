"""Restores: what holds at a moment, and bringing a namespace back to it.

versions   which version of each record holds at a moment, how sure that is, what to do with it; pure, over columns
at         the moment, from the words of a person; pure
plan       Plan: what a restore would read and do; told: the plan in words
wanted     what a restore is to do: which records and bins, and what becomes of what is there; where: conditions; pure
resettled  records in another set, under other digests; pure
within     which records a part has, and the bins that it is limited to
slices     a shard's records with what to do, streamed from the archive in ranges of digests
history    history() and show(): one record; keys: a key in words
tail       reach(): the archive with what Kafka has beyond it; tails: the directories for that
diff       diff(): what differs between two moments; differences: how, record by record; pure
clone      clone(): the state at a moment into another place         (numba: imported by name, by who writes)
rewind     rewind(): undo in place what changed since                (numba)
verify     verify(): the target compared with the plan               (numba)
expected   what a restore leaves, and how what is there is judged by it; pure; verified: what was found
refusals   why a target takes no record, and what to do; rates: how fast restores were, beside the journal
live       compare(): the live database against the archive          (numba)
reach      which archive counts, which moment is meant; place: where a restore goes; carry: from plan to report (numba)
journal    restores that were begun, and how far they are (log, entry, standing); turns: what other machines do
drill      drill(): a restore that is rehearsed (sample, scratch, unchanged)    (numba)
metadata   indexes and UDF modules into a target; metadata_plan: which; pure
target, writer, pace, parallel, run     how slices are written; report: Report, Watch, Counts
"""

from cdc.replayer.at import resolve
from cdc.replayer.plan import Kind, Plan, ShardPlan
from cdc.replayer.report import Cancelled, Counts, Progress, Report, Watch
from cdc.replayer.versions import Certainty

__all__ = [
    "Cancelled",
    "Certainty",
    "Counts",
    "Kind",
    "Plan",
    "Progress",
    "Report",
    "ShardPlan",
    "Watch",
    "resolve",
]
