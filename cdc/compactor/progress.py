"""Folding progress into epochs. Pure.

A look counts when it is complete; until then its changes are archived, but nothing is said about them. An epoch can be
relied on when its first progress was seen and none of its changes was lost.
"""

from dataclasses import replace

from cdc.archive import Epoch
from cdc.topics import Progress
from cdc.topics.progress import Kind

Epochs = tuple[Epoch, ...]


def begin(epochs: Epochs, progress: Progress, *, first: bool) -> Epochs:
    """The epochs once a progress record is seen: one more if it is the first of its epoch.

    `first` says that nothing that stood before this record in the topic is missing. An epoch whose beginning may be
    missing can never be restored to.
    """
    if epochs and epochs[-1].began_at == progress.epoch:
        return epochs
    began = Epoch(number=len(epochs) + 1, began_at=progress.epoch, changes_from=progress.changes_from)
    if not first or progress.sweep:
        return (*epochs, replace(began, ended="the beginning of its base snapshot is no longer in Kafka"))
    return (*_ended(epochs, "a base snapshot began from nothing"), began)


def fold(epochs: Epochs, progress: Progress) -> Epochs:
    """The epochs once everything that a progress record speaks of is in the archive. `begin` came before."""
    epoch = epochs[-1]
    if epoch.ended or not progress.complete:
        return epochs
    recoverable_from = epoch.recoverable_from
    if progress.kind == Kind.BASE and recoverable_from is None:
        recoverable_from = progress.observed_at
    resolution_ms = epoch.resolution_ms
    if progress.kind != Kind.BASE:
        resolution_ms = max(resolution_ms, progress.resolved_at - progress.unobserved_since)
        if epoch.reconciled_at:  # between two looks for deletes a record may have been away
            resolution_ms = max(resolution_ms, progress.reconciled_at - epoch.reconciled_at)
    folded = replace(
        epoch,
        recoverable_from=recoverable_from,
        resolved_at=max(epoch.resolved_at, progress.resolved_at),
        reconciled_at=max(epoch.reconciled_at, progress.reconciled_at),
        resolution_ms=resolution_ms,
    )
    return (*epochs[:-1], folded)


def lose(epochs: Epochs, reason: str) -> Epochs:
    """The epochs once changes of the last one were lost: it ends where it was resolved."""
    return _ended(epochs, reason)


def _ended(epochs: Epochs, reason: str) -> Epochs:
    if not epochs or epochs[-1].ended:
        return epochs
    return (*epochs[:-1], replace(epochs[-1], ended=reason))
