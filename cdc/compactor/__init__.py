"""From Kafka to the archive: changes become segments, progress becomes epochs, segments become restore sets.

`Compactor` is the role. `progress` (epochs), `inbox` (what may be archived) and `sets.kept` (what a set holds) are its
pure core.
"""

from cdc.compactor.compactor import Compactor, Stats

__all__ = ["Compactor", "Stats"]
