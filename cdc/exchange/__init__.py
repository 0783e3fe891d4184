"""Exchange: what an archive holds as plain files that need nothing of ours, and an archive made of such files.

chosen      which versions an export is about: the state at a moment, or the changes of a span; pure, over columns
outline     Outline: what an export is, as its `export.json` says it
folder      a directory that is filled whole or not at all
avro        Avro container files of versions: written by copying, read whoever wrote them
parquet     columns for analytics: one a bin                                     (pyarrow, an extra)
exporting   export_state() and export_changes()
importing   import_state(): an archive whose one moment is an export's
"""

from cdc.exchange.exporting import export_changes, export_state
from cdc.exchange.importing import Imported, import_state
from cdc.exchange.outline import Outline

__all__ = ["Imported", "Outline", "export_changes", "export_state", "import_state"]
