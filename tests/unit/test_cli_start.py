"""How the command line starts."""

import subprocess
import sys


def test_a_command_that_needs_no_kernel_does_not_wait_for_their_compiler() -> None:
    program = "import sys, cdc.cli.app; print('numba' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"
