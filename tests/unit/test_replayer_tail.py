"""When a restore asks Kafka for what lies beyond the archive, and what it says where that is not to be had."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.archive import Archive, Epoch, LocalStore, Window
from cdc.config import ArchiveSettings, KafkaSettings, Settings
from cdc.errors import BrokerUnreachable, NotRecoverable
from cdc.replayer.tail import Tail, explain, needed, reach
from cdc.topics.reachable import require_reachable

moments = st.integers(0, 1000)
windows = st.lists(st.builds(lambda a, b, c: Window(min(a, b), max(a, b), c), moments, moments, moments), max_size=4)


@given(windows, st.none() | moments)
def test_nothing_is_asked_for_that_the_archive_knows_all_of(windows: list[Window], at: int | None) -> None:
    last = max(windows, key=lambda w: w.end, default=None)
    sure = last is not None and at is not None and at <= last.end and at <= last.reconciled_at
    assert needed("auto", at, windows) != sure
    assert needed("always", at, windows)
    assert not needed("never", at, windows)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.create(LocalStore(tmp_path / "archive", create=True), "test", 1)


@pytest.mark.parametrize(("at", "said"), [(10, ""), (30, "The collector is 20 ms behind"), (41, "")])
def test_a_moment_that_has_passed_and_was_not_captured_yet_is_explained(archive: Archive, at: int, said: str) -> None:
    error = NotRecoverable("no", "Nearest.")
    explain(error, Tail(archive), at, [Window(0, 20, 20)], now=40)
    assert error.hint.startswith(said)
    assert error.hint.endswith("Nearest.")
    assert bool(said) == (error.hint != "Nearest.")


def test_that_kafka_could_not_be_asked_is_the_explanation_where_it_could_not(archive: Archive) -> None:
    error = NotRecoverable("no", "Nearest.")
    explain(error, Tail(archive, BrokerUnreachable("nobody there")), 30, [Window(0, 20, 20)], now=40)
    assert error.hint == "what Kafka has beyond the archive is not known: nobody there. Nearest."


@pytest.mark.parametrize("form", ["{}", "PLAINTEXT://{}", "{0}, {0}", "127.0.0.1:1,{}", "not:a:broker,{}"])
def test_a_broker_that_answers_is_found(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        require_reachable(KafkaSettings(bootstrap=form.format(f"127.0.0.1:{port}")))


def test_a_broker_that_refuses_is_told_at_once() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        named = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(BrokerUnreachable, match=f"{named}: Connection refused"):
            require_reachable(KafkaSettings(bootstrap=named))


def test_an_archive_that_was_imported_has_nothing_in_kafka(archive: Archive, tmp_path: Path) -> None:
    epoch = Epoch(1, 0, 0, recoverable_from=1, resolved_at=9, reconciled_at=9)
    archive.commit(replace(archive.first(0), epochs=(epoch,)))
    nobody = KafkaSettings(bootstrap="127.0.0.1:1")
    settings = Settings(kafka=nobody, archive=ArchiveSettings(path=tmp_path / "archive"))
    reached = reach(settings, tmp_path / "tail", "always")
    assert [(w.start, w.end) for w in reached.archive.windows()] == [(1, 9)]
    assert list((tmp_path / "tail").iterdir()) == []
