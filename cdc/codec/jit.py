"""The kernels' door, which the wire uses too: see `cdc.jit`."""

from cdc.jit import inline, kernel

__all__ = ["inline", "kernel"]
