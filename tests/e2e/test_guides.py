"""What the guides tell to do is done, line by line, as it stands there."""

import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from cdc import Replayer, Watch
from cdc.clock import parse_rfc3339, rfc3339, wall_clock
from cdc.embedded.shop import Shop
from tests.fixtures.commands import TARGET, Operator, empty_namespace

DOCS = Path(__file__).parents[2] / "docs"


def blocks(document: str, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language, and at which line of the document each begins."""
    text = (DOCS / document).read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)
    return [(text[: one.start(1)].count("\n"), one[1]) for one in found]


def captured(operator: Operator) -> None:
    operator.good("collect", "--once")
    operator.good("compact", "--once")


@pytest.fixture
def shop(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Orders were placed, a bad deploy hurt some of them, and all of it is in the archive. The mark `before-deploy` is
    the moment before it, `after-deploy` the one after."""
    shop = operator.shop()
    shop.place(120)
    captured(operator)
    moments = [between()]
    shop.bad_deploy(corrupt=30, delete=10)
    captured(operator)
    moments.append(between())
    captured(operator)  # the window ends where the look began that found the deletes
    for name, moment in zip(("before-deploy", "after-deploy"), moments, strict=True):
        operator.good("keep", name, "--at", moment)
    monkeypatch.chdir(operator.folder)
    return shop


def between() -> str:
    """A moment clearly between what was written before and what is written after."""
    time.sleep(0.2)
    now = rfc3339(wall_clock())
    time.sleep(0.2)
    return now


@pytest.mark.usefixtures("shop")
def test_every_example_in_python(operator: Operator) -> None:
    examples = blocks("python.md", "python")
    assert examples
    names: dict[str, object] = {"__name__": "guide"}
    for line, text in examples:
        source = text.replace('"scratch"', repr(TARGET))
        if source != text:
            empty_namespace(operator.client, TARGET)
        exec(compile("\n" * line + source, str(DOCS / "python.md"), "exec"), names)
    assert {entry["state"] for entry in operator.good("restores", "--json").json["restores"]} == {"complete", "failed"}


def test_every_command_of_the_restore_guide(operator: Operator, shop: Shop) -> None:
    before, after = (
        keep["at"] for keep in sorted(operator.good("list", "--json").json["keeps"], key=lambda k: k["at"])
    )
    words = {
        "2026-01-31T02:55:00Z": before, "2026-01-31T03:05:00Z": after,
        "restore@10.0.0.7:3000": f"{TARGET}@{operator.hosts.split(',')[0]}",
    }  # fmt: skip
    then = shop.at(parse_rfc3339(before))
    (operator.folder / "hurt.txt").write_text("orders\torder-000001\norders\torder-000002\n")

    def interrupted() -> None:
        operator.good("collect", "--once")
        stop = Event()
        with Replayer.from_file(operator.folder / "aerospike-cdc.toml") as replayer:
            plan = replayer.plan(before)
            stop.set()
            assert not replayer.restore(plan, watch=Watch(cancel=stop)).report.complete

    first: dict[str, Callable[[], object]] = {
        "restore --at 2026-01-31T03:05:00Z": lambda: operator.good("collect", "--once"),
        "restore --resume last": interrupted,
        "drill --into restore --yes": lambda: empty_namespace(operator.client, TARGET),
    }
    differ: dict[str, tuple[int, str]] = {
        "restore --at 2026-01-31T02:55:00Z": (0, ""),
        "restore --at 2026-01-31T03:05:00Z": (40, ""),
        "restore --at 2026-01-31T02:55:00Z --into restore": (0, TARGET),
        "restore --resume last": (0, ""),
    }
    lines = [
        line.removeprefix("aerospike-cdc ") for _, text in blocks("restore.md", "sh") for line in text.splitlines()
    ]
    assert {*first, *differ} <= set(lines)
    for line in lines:
        first.get(line, lambda: None)()
        arguments = [words.get(word, word) for word in shlex.split(line)]
        asks = line.startswith("restore ") and "--dry-run" not in line  # and a test has nobody to answer
        operator.good(*arguments, *(["--yes"] if asks else []))
        if line in differ:
            count, namespace = differ[line]
            assert len(shop.differences(then, namespace)) == count, line
