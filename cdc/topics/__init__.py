"""Kafka: the topics and their settings, transactions that carry changes and progress together, reading them back.

`Topics` names and creates, `Membership` shares out the shards, `Publisher` writes (fenced by the membership),
`ChangeReader` and `ProgressReader` read what was committed, `Progress` is what a transaction completed, `Metadata` what
is said of an index, a UDF, a set.
"""

from cdc.topics.aside import Aside, kept_aside
from cdc.topics.last import last_progress
from cdc.topics.membership import Membership
from cdc.topics.metadata import Kept, Metadata, kept_metadata
from cdc.topics.names import Topics
from cdc.topics.offsets import end_offsets, lag
from cdc.topics.progress import Kind, Progress
from cdc.topics.publisher import Publisher, Transaction
from cdc.topics.readers import ChangeReader, Chunk, ProgressEntry, ProgressReader

__all__ = [
    "Aside",
    "ChangeReader",
    "Chunk",
    "Kept",
    "Kind",
    "Membership",
    "Metadata",
    "Progress",
    "ProgressEntry",
    "ProgressReader",
    "Publisher",
    "Topics",
    "Transaction",
    "end_offsets",
    "kept_aside",
    "kept_metadata",
    "lag",
    "last_progress",
]  # fmt: skip
