"""Folding progress into epochs. Pure.

A look counts when it is complete; until then its changes are archived, but no moment is moved by them. An epoch can be
relied on when its first progress was seen and none of its changes was lost.
"""

from dataclasses import replace

from cdc.archive import Epoch, looks
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
    began = Epoch(epochs[-1].number + 1 if epochs else 1, progress.epoch, progress.changes_from, scope=progress.scope)
    if not first or progress.sweep:
        return (*epochs, replace(began, ended="the beginning of its base snapshot is no longer in Kafka"))
    anew = not epochs or epochs[-1].scope == progress.scope
    why = "a base snapshot began from nothing" if anew else f"the scope became {progress.scope or 'everything'}"
    return (*_ended(epochs, why), began)


def fold(epochs: Epochs, progress: Progress) -> Epochs:
    """The epochs once everything that a progress record speaks of is in the archive. `begin` came before.

    Every transaction tells from when to when it could see nothing in the partitions it was about, whether it ended its
    look or not. Moments advance with the whole look only.
    """
    epoch = epochs[-1]
    if epoch.ended:
        return epochs
    if progress.kind in (Kind.SWEEP, Kind.AUDIT):
        epoch = replace(epoch, writes=looks.add(epoch.writes, progress.unobserved_since, progress.observed_at))
    if not progress.complete:
        return (*epochs[:-1], epoch)
    if progress.kind == Kind.BASE and epoch.recoverable_from is None:
        epoch = replace(epoch, recoverable_from=progress.observed_at)
    elif progress.kind == Kind.RECONCILE or progress.reconciled_at > epoch.reconciled_at:
        # What went since the last look for deletes was found now; and a record rewritten since may have been away.
        epoch = replace(epoch, deletes=looks.add(epoch.deletes, epoch.reconciled_at, progress.observed_at))
    epoch = replace(
        epoch,
        resolved_at=max(epoch.resolved_at, progress.resolved_at),
        reconciled_at=max(epoch.reconciled_at, progress.reconciled_at),
    )
    return (*epochs[:-1], epoch)


def lose(epochs: Epochs, reason: str) -> Epochs:
    """The epochs once changes of the last one were lost: it ends where it was resolved."""
    return _ended(epochs, reason)


def _ended(epochs: Epochs, reason: str) -> Epochs:
    if not epochs or epochs[-1].ended:
        return epochs
    last = epochs[-1]
    writes, deletes = (looks.thinned(s, looks.ENDED, looks.ENDED) for s in (last.writes, last.deletes))
    return (*epochs[:-1], replace(last, ended=reason, writes=writes, deletes=deletes))
