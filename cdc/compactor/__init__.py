"""From Kafka to the archive: changes become segments, progress becomes epochs, segments become restore sets.

`Compactor` is the role, `intake` what reads Kafka and commits. `progress` (epochs), `inbox` (what may be archived) and
`sets` (when a set is due) are its pure core.
"""

from cdc.compactor.compactor import Compactor, Stats

__all__ = ["Compactor", "Stats"]
