"""What can be made to go wrong at a node. Tests set the attributes while the node serves."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Faults:
    """Failures to inject at one node; as made, none."""

    delay_s: float = 0.0
    """A slow node: it waits this long before every frame it sends."""
    cut_frames: int = 0
    """This many of the next frames (not of info or login) are cut in the middle, and their connections closed."""
    refuse_queries: deque[int] = field(default_factory=deque)
    """Result codes that the next queries are answered with."""
    refuse_records: deque[int] = field(default_factory=deque)
    """Result codes that the next single-record requests and batch rows are answered with."""
    before_partition: Callable[[int], None] | None = None
    """Called before a query reads a partition, with its number and without a lock: the place for a migration in
    mid-query. What it raises surfaces when the emulator is closed."""
    proxy: bool = True
    """Whether a record's request that another node must serve is passed on, as servers do; otherwise it gets 11."""
    migrations_remaining: int = 0
    """What the node says of partitions that still migrate."""
