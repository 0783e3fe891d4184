"""The one door to numba, typed. Importing this takes about a second: commands that need no kernel must not."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile at first use, keep the result on disk, and run without the interpreter's lock."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))


def inline(function: F) -> F:
    """A piece of a kernel, put into its callers."""
    return cast(F, numba.njit(cache=True, nogil=True, inline="always")(function))
