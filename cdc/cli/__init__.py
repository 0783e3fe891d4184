"""The command line: one file per subcommand, text for people and `--json` for programs.

Every command that fails says one line that names what happened and one that says what to do, and exits with the code
of its error (`cdc.errors`). A traceback is a bug.
"""

import os
import sys

INTERRUPTED = 130
UNWRITTEN = 1
"""Standard output was closed, or could not be written."""


def main() -> None:
    """Run the command in `sys.argv`; end with its exit code."""
    try:
        from cdc.cli.app import invoke  # takes a second, in which an interrupt must not end in a traceback

        code = invoke(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter tries, and fails, again
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"error: {error}\n")
        code = UNWRITTEN
    sys.exit(code)


__all__ = ["INTERRUPTED", "UNWRITTEN", "main"]
