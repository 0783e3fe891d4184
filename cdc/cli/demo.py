"""`demo`: the product's story on this machine, with every record compared with the truth at the end."""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cdc.api import Replayer
from cdc.archive import Archive, open_store
from cdc.cli import common
from cdc.cli.consume import changes
from cdc.cli.list import print_windows
from cdc.cli.status import print_status
from cdc.clock import rfc3339, wall_clock
from cdc.config import (
    AerospikeSettings,
    ArchiveSettings,
    CollectorSettings,
    CompactorSettings,
    HttpSettings,
    KafkaSettings,
    ReplayerSettings,
    Settings,
)
from cdc.errors import CdcError, Differs, ObjectMissing
from cdc.service.run import ROLES
from cdc.service.run import run as run_service
from cdc.service.status import status

SHARDS = 4
QUIET_S = 3.0
"""How long nothing happens before and after the moment that is restored to, so that it lies between two sweeps."""
PATIENCE_S = 60.0


@dataclass(slots=True)
class Story:
    """What the acts share."""

    settings: Settings
    shop: Any
    measured: list[tuple[str, str]]

    @property
    def archive(self) -> Archive:
        """The demo's archive."""
        return Archive.open(open_store(self.settings.archive), self.settings.aerospike.namespace)


def demo(
    hosts: Annotated[
        str, typer.Option("--hosts", help="HOST:PORT of a server to use instead of the emulator; its data is deleted.")
    ] = "",
    namespace: Annotated[str, typer.Option("--namespace", help="The namespace to use; emptied first.")] = "test",
    orders: Annotated[int, typer.Option("--orders", min=500, help="How many orders the shop opens with.")] = 5000,
) -> None:
    """The product's story: orders change, a bad deploy damages some, a rewind to the moment before undoes it."""
    from aerospike import client as connect

    from cdc.embedded.aerospike.process import emulator_process
    from cdc.embedded.kafka import EmbeddedKafka
    from cdc.embedded.shop import Shop

    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aerospike-cdc-demo-")))
        _act("Aerospike and Kafka start")
        if not hosts:
            hosts = ",".join(stack.enter_context(emulator_process("--namespace", namespace)))
        _say(f"Aerospike: {hosts}")
        kafka = stack.enter_context(EmbeddedKafka(folder / "kafka"))
        _say(f"Kafka:     {kafka.bootstrap}")
        settings = _settings(folder, hosts.split(","), namespace, kafka.bootstrap)
        host, _, port = hosts.split(",")[0].rpartition(":")
        client = connect({"hosts": [(host, int(port))]}).connect()
        stack.callback(client.close)
        _empty(client, namespace)
        story = Story(settings, Shop(client, namespace), [])
        _open(story, orders)
        stack.enter_context(_service(settings))
        _capture(story)
        _trade(story)
        moment = _quiet(story)
        expected = story.shop.at(moment)
        _damage(story)
        _status(story)
        untouched = _rewind(story, moment)
        _consume(story)
        wrong = _compare(story, expected, untouched)
    _act("What was measured")
    story.measured.append(("the whole demo", f"{time.monotonic() - began:.0f} s"))
    for what, value in story.measured:
        _say(f"{what:<46} {value}")
    if wrong:
        raise Differs(f"{wrong} orders are not what they were at {rfc3339(moment)}", "This is a bug: please report it.")
    _say("\nEvery order is what it was at that moment.")


def _settings(folder: Path, hosts: list[str], namespace: str, bootstrap: str) -> Settings:
    return Settings(
        aerospike=AerospikeSettings(hosts=tuple(hosts), namespaces=(namespace,)),
        kafka=KafkaSettings(bootstrap=bootstrap, prefix="demo"),
        collector=CollectorSettings(
            shards=SHARDS, sweep_every_s=0.5, reconcile_every_s=1.0, catalog=folder / "catalog"
        ),
        compactor=CompactorSettings(segment_every_s=1.0),
        archive=ArchiveSettings(path=folder / "archive"),
        replayer=ReplayerSettings(journal=folder / "restores"),
        http=HttpSettings(port=0),
    )


def _empty(client: Any, namespace: str) -> None:
    """Truncate, and let its moment pass: a write in the same moment would go too."""
    client.truncate(namespace, None, 0)
    time.sleep(1.0)


def _open(story: Story, orders: int) -> None:
    _act("The shop opens")
    began = time.monotonic()
    story.shop.place(orders)
    _say(
        f"{orders:,} orders written in {time.monotonic() - began:.1f} s, each with a stored key, lists, maps and a blob"
    )


def _capture(story: Story) -> None:
    _act("The base snapshot is taken and the collector goes on")
    began = time.monotonic()
    _until(lambda: _windows(story) != [], "a recoverable window")
    story.measured.append(("from start to the first recoverable moment", f"{time.monotonic() - began:.1f} s"))
    print_windows(story.archive.windows(), [])


def _trade(story: Story) -> None:
    _act("The orders keep changing")
    began = time.monotonic()
    for _ in range(20):
        story.shop.trade(50)
        time.sleep(0.1)
    _say(f"1,000 changes in {time.monotonic() - began:.1f} s; {len(story.shop):,} orders are live")


def _quiet(story: Story) -> int:
    time.sleep(QUIET_S)
    moment = wall_clock()
    time.sleep(QUIET_S)
    return moment


def _damage(story: Story) -> None:
    _act("A bad deploy")
    damaged, deleted = story.shop.bad_deploy(300, 100)
    story.shop.trade(200)
    after = wall_clock()
    _say(f"{len(damaged)} orders have a negative total and no items; {len(deleted)} are gone, {deleted[0]} among them")
    _say("The shop goes on: 200 more changes, made by the same bad version.")
    began = time.monotonic()
    _until(lambda: any(min(w.end, w.reconciled_at) > after for w in _windows(story)), "the damage in the archive")
    story.measured.append(("from the last write until it was archived", f"{time.monotonic() - began:.1f} s"))


def _status(story: Story) -> None:
    _act("aerospike-cdc status")
    print_status(status(story.settings))


def _rewind(story: Story, moment: int) -> dict[str, int]:
    """Rewinds; returns the generation that every untouched order had before."""
    _act(f"aerospike-cdc restore --at {rfc3339(moment)}")
    changed = story.shop.changed_since(moment)
    before = story.shop.generations()
    with Replayer(story.settings) as replayer:
        made = replayer.plan(moment)
        _say(made.to_text())
        report = replayer.restore(made).report
    _say(
        f"\n{report.written:,} written, {report.removed:,} removed in {report.seconds:.2f} s; "
        f"{report.exact:,} exact, {report.presumed:,} presumed, {report.fuzzy:,} fuzzy"
    )
    story.measured += [
        ("records the rewind wrote or removed", f"{report.written + report.removed:,} of {len(before):,}"),
        ("duration of the rewind", f"{report.seconds:.2f} s"),
    ]
    return {order: generation for order, generation in before.items() if order not in changed}


def _consume(story: Story) -> None:
    _act("aerospike-cdc consume: anyone may read the changes")
    last: dict[str, str] = {}
    count = 0
    for line in changes(story.settings, follow=False):
        count += 1
        change = json.loads(line)
        last[f"{change['origin']} {change['op']}"] = line
    for line in last.values():
        _say(line)
    story.measured.append(("changes in Kafka", f"{count:,}"))


def _compare(story: Story, expected: dict[str, Any], untouched: dict[str, int]) -> int:
    _act("Every order is compared with the truth that the shop kept")
    differences = story.shop.differences(expected)
    for difference in differences[:5]:
        _say(f"{difference.order}: should be {difference.expected}, is {difference.found}")
    after = story.shop.generations()
    rewritten = [order for order, generation in untouched.items() if after.get(order) != generation]
    story.measured += [
        ("orders compared", f"{len(expected):,}"),
        ("orders that differ", f"{len(differences):,}"),
        ("untouched orders that were written all the same", f"{len(rewritten):,} of {len(untouched):,}"),
    ]
    _say(f"{len(expected):,} orders compared, {len(differences):,} differ; {len(untouched):,} were not to be touched, "
         f"{len(rewritten):,} of them were")  # fmt: skip
    return len(differences) + len(rewritten)


@contextmanager
def _service(settings: Settings) -> Iterator[None]:
    """The roles, in a thread of their own; an error of theirs is raised where the block ends."""
    stop = threading.Event()
    errors: list[CdcError] = []

    def work() -> None:
        try:
            run_service(settings, ROLES, stop, _say)
        except CdcError as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="service")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


def _windows(story: Story) -> list[Any]:
    try:
        return story.archive.windows()
    except ObjectMissing:
        return []


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise Differs(f"{what} did not come within {PATIENCE_S:.0f} s")
        time.sleep(0.1)


def _act(title: str) -> None:
    out = common.console()
    out.print()
    out.rule(f"[bold]{title}", align="left", style="blue")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
