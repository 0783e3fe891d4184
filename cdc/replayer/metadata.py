"""Indexes and UDF modules in a target, as they were at a moment. What is missing is made; nothing else is touched.

Sets' and the namespace's settings, users and roles are told with their values, and are a person's to set: they belong
to the target's machines and people. One setting is an index: a set with `enable-index` is given it.
"""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from cdc.errors import ClusterUnreachable, ProtocolError
from cdc.model import Item, ItemKind
from cdc.replayer.metadata_plan import Done, MetadataPlan, MetadataReport, Outcome, word
from cdc.replayer.report import Watch
from cdc.source import Described, describe
from cdc.source.metadata import refused
from cdc.wire import Cluster

WAIT_S: Final = 10.0
"""So long it is waited until all nodes tell of what was made, and until an index can be read."""
POLL_S: Final = 0.05


def restore(
    planned: MetadataPlan, cluster: Cluster, namespace: str, *, watch: Watch | None = None, wait_s: float = WAIT_S
) -> MetadataReport:
    """Make what is missing in a namespace, one after the other, and look whether it is as it was.

    It waits up to `wait_s` until every node tells of it; an index that is still being built then is told as `building`.
    Again does nothing twice. Raises ClusterUnreachable, and Cancelled where the watch wants no more.
    """
    watch = watch or Watch()
    known = {one.told.item.name: one.told.item for one in planned.wanted if one.told.item.kind == ItemKind.UDF}
    watch.progress(0, len(planned.wanted), "metadata")
    done = []
    for number, one in enumerate(planned.wanted, 1):
        watch.step()
        item = one.told.item
        outcome, detail = judged(item, describe(cluster, namespace, known))
        if outcome is None:
            outcome, detail = _made(cluster, namespace, item, known, watch, wait_s)
        done.append(Done(item.kind, item.name, outcome, one.exact, detail))
        watch.progress(number, len(planned.wanted), "metadata")
    return MetadataReport(namespace, planned.at, planned.looked_at, tuple(done), planned.others)


def judged(item: Item, there: Described) -> tuple[Outcome | None, str]:
    """What becomes of an item where these are; None: it is to be made. Pure."""
    if item.kind in there.failed:
        return "refused", there.failed[item.kind].message
    found = {one.name: one for one in there.items[item.kind]}
    mine = found.get(item.name)
    if item.kind == ItemKind.SET:
        return ("left", "") if mine is not None and mine.facts.get("enable-index") == "true" else (None, "")
    if mine is not None:
        same = _definition(mine) == _definition(item)
        return ("left", "") if same else ("conflict", f"{word(item.kind)} of this name is another: {_facts(mine)}")
    if item.kind == ItemKind.INDEX:
        # Another name for the same definition would take the index away from whoever uses it under the first one.
        twins = [one.name for one in found.values() if one.facts == item.facts]
        if twins:
            return "left", f"it is there under the name {twins[0]}"
    unsaid = [text for text in (item.name, *item.facts, *item.facts.values()) if ";" in text or "\n" in text]
    if unsaid:
        return "refused", f"no command can say {unsaid[0]!r}"
    torn = [key for key in item.facts if "@" in key]
    if torn:
        return "refused", f"nodes did not agree on its {torn[0].partition('@')[0]}"
    return None, ""


def commands(item: Item, namespace: str) -> str:
    """The info command that makes an item."""
    if item.kind == ItemKind.UDF:
        content = base64.b64encode(item.content or b"").decode()
        kind = item.facts.get("type", "LUA")
        return f"udf-put:filename={item.name};content={content};content-len={len(content)};udf-type={kind};"
    if item.kind == ItemKind.SET:
        return f"set-config:context=namespace;namespace={namespace};set={item.name};enable-index=true"
    parameters = "".join(f";{key}={value}" for key, value in item.facts.items())
    return f"sindex-create:namespace={namespace};indexname={item.name}{parameters}"


def _made(
    cluster: Cluster, namespace: str, item: Item, known: Mapping[str, Item], watch: Watch, wait_s: float
) -> tuple[Outcome, str]:
    command = commands(item, namespace)
    # What nodes have in common is told to one; a setting is each one's own.
    nodes = cluster.nodes() if item.kind == ItemKind.SET else cluster.nodes()[:1]
    for node in nodes:
        try:
            refused(cluster.ask(node, command)[command])
        except ProtocolError as error:
            return "refused", error.message

    def told() -> bool:
        there = describe(cluster, namespace, known)
        disputed = any(item.name in text for text in there.disputed)
        return judged(item, there) == ("left", "") and not disputed

    if not _until(told, watch, wait_s):
        return "refused", f"it was taken, and {wait_s:.0f} s later not every node has it as it was"
    if item.kind != ItemKind.UDF and not _until(lambda: _readable(cluster, namespace, item), watch, wait_s):
        return "building", "it cannot be read yet"
    return "made", ""


def _readable(cluster: Cluster, namespace: str, item: Item) -> bool:
    """Whether an index is built on every node."""
    if item.kind == ItemKind.SET:
        return all("index_populating=true" not in said for said in _answers(cluster, f"sets/{namespace}/{item.name}"))
    command = f"sindex-stat:namespace={namespace};indexname={item.name}"
    return all("load_pct=100" in said for said in _answers(cluster, command))


def _answers(cluster: Cluster, command: str) -> Iterator[str]:
    for said in cluster.ask_all(command).values():
        if isinstance(said, ClusterUnreachable):
            raise said
        yield said[command]


def _until(condition: Callable[[], bool], watch: Watch, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        watch.step()
        time.sleep(POLL_S)
    return True


def _definition(item: Item) -> object:
    # The hash of a module is of the server's own form of it.
    return item.content if item.kind == ItemKind.UDF else dict(item.facts)


def _facts(item: Item) -> str:
    if item.content is not None:
        return f"{len(item.content):,} bytes, hash {item.facts.get('hash', '')[:12]}"
    return " ".join(f"{key}={value}" for key, value in sorted(item.facts.items()))
