"""The command line: one file per subcommand, text for people and `--json` for programs.

Every command that fails says one line that names what happened and one that says what to do, and exits with the code
of its error (`cdc.errors`). A traceback is a bug.
"""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command in `sys.argv`; end with its exit code."""
    try:
        from cdc.cli.app import invoke  # takes a second, in which an interrupt must not end in a traceback

        code = invoke(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


__all__ = ["INTERRUPTED", "main"]
