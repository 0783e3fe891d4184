"""Whether everything that the settings name can do its part: one rule after another, changing nothing."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cdc.archive import Archive, open_store
from cdc.config import Settings
from cdc.errors import (
    CatalogError,
    CdcError,
    ConfigError,
    NamespaceUnknown,
    ObjectMissing,
    PartitionUnavailable,
    ServerRefused,
    SourceError,
    StoreForbidden,
    TargetNotEmpty,
)
from cdc.model import PARTITIONS
from cdc.service.http import listen
from cdc.topics import Topics
from cdc.wire import Cluster

DEFAULT_RECORD_BYTES = 1 << 20
"""The server's max-record-size where it is not set (0 in its answer)."""
ROOM = 1 << 16
"""What a change adds to its record, at most."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one rule; `error` is None when it holds."""

    rule: str
    detail: str
    error: CdcError | None = None


def checks(settings: Settings) -> Iterator[Outcome]:
    """Every rule in turn. A rule that needs one which failed is left out: its failure would say nothing new."""
    with ExitStack() as stack:
        clusters: list[Cluster] = []

        def connect() -> str:
            clusters.append(stack.enter_context(Cluster(settings.aerospike)))
            builds = clusters[0].builds()
            return ", ".join(f"{n.name} ({'.'.join(map(str, build))})" for n, build in builds.items())

        yield _tried("aerospike cluster answers", connect)
        if clusters:
            named = _tried("aerospike namespace exists", lambda: _namespace(clusters[0], settings))
            yield named
            if named.error is None:
                yield _tried("aerospike partitions are served", lambda: _partitions(clusters[0], settings))
                yield _tried("aerospike clocks agree", lambda: _clocks(clusters[0], settings))
                if settings.protection.query_threads:
                    yield _tried("query threads stay below the ceiling", lambda: _query_threads(clusters[0], settings))
                if settings.scope:
                    yield _tried("scope can be asked for", lambda: _scope(clusters[0], settings))
                yield _tried("largest record fits into a message", lambda: _record_size(clusters[0], settings))
        reached = _tried("kafka topics fit", lambda: _topics(settings))
        yield reached
    yield _tried("catalog can be written", lambda: _catalog(settings.collector.catalog))
    places = settings.each_destination()
    for one in places:
        which = f" (destination {one.archive.destination})" if len(places) > 1 else ""
        yield _tried(f"archive can be written{which}", partial(_archive, one))
    if settings.drill.into:
        yield _tried("drills have an empty scratch namespace", lambda: _scratch(settings))
    yield _tried("http address is free", lambda: _http(settings))


def _tried(rule: str, look: Callable[[], str]) -> Outcome:
    try:
        return Outcome(rule, look())
    except CdcError as error:
        return Outcome(rule, error.message, error)


def _namespace(cluster: Cluster, settings: Settings) -> str:
    name = settings.aerospike.namespace
    known = cluster.namespaces()
    if name not in known:
        raise NamespaceUnknown(f"the cluster has no namespace {name!r}; it has {', '.join(known)}")
    return name


def _partitions(cluster: Cluster, settings: Settings) -> str:
    served = len(cluster.owners(settings.aerospike.namespace))
    if served < PARTITIONS:
        raise PartitionUnavailable(f"{served} of {PARTITIONS} partitions are served", "A node is missing.")
    return f"{served} of {PARTITIONS}"


def _clocks(cluster: Cluster, settings: Settings) -> str:
    # numba, which reads the answer, takes a second to import.
    from cdc.source import Source

    clocks = Source(cluster, settings.aerospike.namespace).clocks()
    spread = max(c.offset_ms for c in clocks.values()) - min(c.offset_ms for c in clocks.values())
    allowed = settings.collector.skew_s * 1000
    worst = max(clocks.values(), key=lambda c: abs(c.offset_ms))
    if spread > allowed:
        raise SourceError(
            f"the nodes' clocks differ by {spread} ms; collector.skew_s allows {allowed:.0f} ms",
            "Synchronise the nodes' clocks (chrony, ntpd), or raise collector.skew_s and collector.overlap_s.",
        )
    return f"the farthest node is {worst.offset_ms:+d} ms from here (±{worst.error_ms} ms)"


def _query_threads(cluster: Cluster, settings: Settings) -> str:
    # As for the clocks, what reads answers takes a second to import.
    from cdc.source import Source

    threads = Source(cluster, settings.aerospike.namespace).threads_a_query()
    ceiling = settings.protection.query_threads
    if threads > ceiling:
        raise ServerRefused(
            f"single-query-threads is {threads}: one query may use more than protection.query_threads = {ceiling}",
            "Lower the namespace's single-query-threads, or raise the ceiling; until then one connection is used.",
        )
    return f"single-query-threads is {threads}, protection.query_threads {ceiling}"


def _scope(cluster: Cluster, settings: Settings) -> str:
    # As for the clocks.
    from cdc.source import Scope, Source, facts

    namespace = settings.aerospike.namespace
    scope = Scope.of(settings.scope[namespace])
    source = Source(cluster, namespace, scope=scope, connections=1)
    source.digests([0])
    command = f"sets/{namespace}"
    answers = [cluster.ask(node, command)[command] for node in cluster.nodes()]
    known = {line["set"] for answer in answers for line in facts.set_lines(answer)}
    unknown = sorted(name for name in (*scope.include, *scope.exclude) if name and name not in known)
    detail = scope.text() or "everything"
    return f"{detail}; nothing was ever written to {', '.join(unknown)}" if unknown else detail


def _record_size(cluster: Cluster, settings: Settings) -> str:
    # As for the clocks.
    from cdc.source import facts

    namespace = settings.aerospike.namespace
    largest = 0
    for node in cluster.nodes():
        found = facts.pairs(cluster.info(node, f"get-config:context=namespace;namespace={namespace}"))
        largest = max(largest, int(found.get("max-record-size", "0")) or DEFAULT_RECORD_BYTES)
    limit = settings.kafka.max_message_bytes
    if largest + ROOM > limit:
        raise ServerRefused(
            f"max-record-size is {largest}, too much for kafka.max_message_bytes = {limit}",
            "Raise kafka.max_message_bytes (and the topics' and brokers' limits); larger records are kept aside.",
        )
    return f"max-record-size {largest}, kafka.max_message_bytes {limit}"


def _topics(settings: Settings) -> str:
    topics = Topics(settings.kafka.prefix, settings.aerospike.namespace)
    missing = topics.check(settings.kafka, settings.collector.shards)
    return f"will be created: {', '.join(missing)}" if missing else f"{topics.changes} and the others are there"


def _catalog(path: Path) -> str:
    problem = _unwritable(path)
    if problem:
        raise CatalogError(f"{path}: {problem}", "Choose another collector.catalog, or its permissions.")
    return str(path)


def _archive(settings: Settings) -> str:
    place, namespace = settings.archive.place, settings.aerospike.namespace
    problem = "" if settings.archive.url else _unwritable(settings.archive.path)
    if problem:
        raise StoreForbidden(f"{place}: {problem}")
    try:
        archive = Archive.open(open_store(settings.archive), namespace)
    except ObjectMissing:
        return f"{place}, nothing of {namespace} in it yet"
    if archive.shards != settings.collector.shards:
        raise ConfigError(f"the archive has {archive.shards} shards, collector.shards is {settings.collector.shards}")
    return f"{place}, {archive.shards} shards"


def _unwritable(path: Path) -> str:
    """Why nothing can be written in the directory, or where it would have to be made; empty if it can."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not there.is_dir():
        return f"{there} is not a directory"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _scratch(settings: Settings) -> str:
    # As for the clocks.
    from cdc.replayer.place import place_of
    from cdc.replayer.scratch import require_other
    from cdc.replayer.target import Target
    from cdc.source import Source

    place = place_of(settings.aerospike, settings.drill.into)
    with Cluster(settings.aerospike) as live, Cluster(place.aerospike) as there:
        require_other(live, settings.aerospike.namespace, there, place.namespace)
        if Target.of(Source(there, place.namespace), settings.replayer).holds_records():
            raise TargetNotEmpty(f"{settings.drill.into} holds records: a drill wants it empty")
    return f"{settings.drill.into}, empty"


def _http(settings: Settings) -> str:
    with listen(settings.http):
        return f"{settings.http.host}:{settings.http.port}"
