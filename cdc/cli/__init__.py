"""The command line: one file per subcommand, text for people and `--json` for programs.

Every command that fails says one line that names what happened and one that says what to do, and exits with the code
of its error (`cdc.errors`). A traceback is a bug.
"""

from cdc.cli.app import main

__all__ = ["main"]
