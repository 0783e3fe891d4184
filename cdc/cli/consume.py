"""`consume`: decoded changes as JSON lines."""

import sys
from collections.abc import Iterator
from typing import Annotated, Literal

import typer

from cdc.cli import common
from cdc.cli.common import Namespace
from cdc.codec.decode import to_json
from cdc.config import Settings
from cdc.topics import ChangeReader, Topics, end_offsets
from cdc.topics.offsets import list_offsets

WAIT_S = 0.5


def consume(
    context: typer.Context,
    namespace: Namespace = "",
    start: Annotated[
        Literal["beginning", "end"], typer.Option("--from", help="Where to start: what Kafka still has, or now.")
    ] = "beginning",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more at the end.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="End after so many; 0: no limit.")] = 0,
) -> None:
    """Print the committed changes, one JSON object a line."""
    settings = common.settings(context, namespace)
    for count, line in enumerate(changes(settings, follow=follow or start == "end", from_end=start == "end"), 1):
        sys.stdout.write(line + "\n")
        if count == limit:
            break
    sys.stdout.flush()


def changes(settings: Settings, *, follow: bool, from_end: bool = False) -> Iterator[str]:
    """Committed changes as lines of JSON, each shard's in its order. Without `follow`, up to the end as of now."""
    topics = Topics(settings.kafka.prefix, settings.aerospike.namespace)
    shards = topics.shards(settings.kafka)
    ends = end_offsets(settings.kafka, topics.changes, shards)
    starts = ends if from_end else list_offsets(settings.kafka, topics.changes, shards, earliest=True)
    with ChangeReader(settings.kafka, topics, starts) as reader:
        while follow or any(max(reader.positions[k], reader.ends.get(k, 0)) < end for k, end in ends.items()):
            for chunk in reader.read(WAIT_S):
                for offset, body in zip(chunk.offsets.tolist(), chunk.bodies, strict=True):
                    if follow or offset < ends[chunk.shard]:
                        yield to_json(body)
            sys.stdout.flush()
