"""Restores: what holds at a moment, and bringing a namespace back to it.

versions   which version of each record holds at a moment, how sure that is, what to do with it; pure, over columns
at         the moment, from the words of a person; pure
plan       Plan: what a restore would read and do
slices     a shard's records with what to do, streamed from the archive in ranges of digests
clone      clone(): the state at a moment into another place         (numba: imported by name, by who writes)
rewind     rewind(): undo in place what changed since                (numba)
verify     verify_clone(): the target compared with the plan         (numba)
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
