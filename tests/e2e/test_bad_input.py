"""What goes wrong is one clear line and an exit code, and loses nothing."""

from pathlib import Path

import pytest

from cdc.clock import rfc3339, wall_clock
from cdc.embedded.kafka import free_ports
from tests.fixtures.commands import TARGET, Operator

HOUR_MS = 3_600_000


def refused(operator: Operator, code: int, *arguments: str) -> str:
    """The one line that such a command ends with, and its hint."""
    answer = operator.run(*arguments)
    assert answer.code == code, answer
    lines = answer.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert lines.index(errors[0]) >= len(lines) - 2
    return "\n".join(lines)


def archived(operator: Operator) -> None:
    operator.shop().place(40)
    operator.good("collect", "--once")
    operator.good("compact", "--once")


def nobody() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize("command", [["collect", "--once"], ["collect"], ["run"]])
def test_an_unreachable_cluster(operator: Operator, command: list[str]) -> None:
    operator.configure(aerospike={"hosts": [nobody()], "timeout_s": 1})
    assert "127.0.0.1" in refused(operator, 11, *command)


@pytest.mark.parametrize("command", [["collect", "--once"], ["compact", "--once"], ["status"], ["consume"]])
def test_an_unreachable_broker(operator: Operator, command: list[str]) -> None:
    operator.configure(kafka={"bootstrap": nobody(), "timeout_s": 1.5})
    refused(operator, 21, *command)


def test_an_unknown_namespace(operator: Operator) -> None:
    operator.configure(aerospike={"namespaces": ["nowhere"]})
    assert "nowhere" in refused(operator, 12, "collect", "--once")


def test_a_malformed_configuration(operator: Operator) -> None:
    operator.configure(collector={"swep_every_s": 1})
    assert "did you mean collector.sweep_every_s?" in refused(operator, 3, "status")


def test_moments_that_cannot_be_restored(operator: Operator) -> None:
    archived(operator)
    future = rfc3339(wall_clock() + HOUR_MS)
    assert "in the future" in refused(operator, 61, "restore", "--at", future, "--dry-run")
    past = rfc3339(wall_clock() - HOUR_MS)
    assert "recoverable window is" in refused(operator, 61, "restore", "--at", past, "--dry-run")
    assert "no time zone" in refused(operator, 2, "restore", "--at", "2026-01-01T00:00:00", "--dry-run")


def test_nothing_archived_yet(operator: Operator) -> None:
    assert "no archive" in refused(operator, 43, "restore", "--at", "latest")
    assert "no archive" in refused(operator, 43, "list")


def test_an_archive_directory_that_cannot_be_written_costs_nothing(operator: Operator) -> None:
    operator.shop().place(40)
    operator.good("collect", "--once")
    blocked = operator.folder / "blocked"
    blocked.write_text("a file, where a directory is wanted")
    operator.configure(archive={"path": str(blocked / "archive")})
    refused(operator, 42, "compact", "--once")
    operator.configure()
    operator.good("compact", "--once")
    assert operator.good("list", "--json").json["archive"]


def test_a_damaged_segment_is_named_and_nothing_is_written(operator: Operator) -> None:
    archived(operator)
    segment = max((operator.folder / "archive").rglob("segments/*.avro"), key=lambda p: p.stat().st_size)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0x40
    segment.write_bytes(data)
    said = refused(operator, 44, "restore", "--at", "latest", "--into", TARGET, "--yes")
    assert segment.name in said
    # A server never forgets a set: its name may be there from before, with no record in it.
    assert operator.client.query(TARGET).results() == []


def test_a_missing_segment_is_named(operator: Operator) -> None:
    archived(operator)
    segment = next((operator.folder / "archive").rglob("segments/*.avro"))
    segment.unlink()
    assert segment.name in refused(operator, 43, "restore", "--at", "latest", "--into", TARGET, "--yes")


def test_a_change_in_place_needs_a_yes_unless_there_is_nothing_to_do(operator: Operator) -> None:
    archived(operator)
    assert "0 written, 0 removed" in operator.good("restore", "--at", "latest").out
    before = operator.good("list", "--json").json["windows"][-1]["end"]
    operator.client.put((operator.namespace, "late", 1), {"a": 1})
    operator.run("collect", "--once")
    operator.good("compact", "--once")
    assert "--yes" in refused(operator, 2, "restore", "--at", before)


def test_the_number_of_shards_cannot_be_changed_later(operator: Operator) -> None:
    archived(operator)
    operator.configure(collector={"shards": 4})
    assert "collector.shards" in refused(operator, 22, "collect", "--once")
    refused(operator, 3, "compact", "--once")


def test_errors_are_json_where_that_is_asked_for(operator: Operator) -> None:
    operator.configure(archive={"path": str(Path("nowhere"))})
    answer = operator.run("list", "--json")
    assert answer.code == 43
    assert '"exit_code": 43' in answer.err
