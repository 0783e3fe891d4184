"""The embedded Kafka says why it does not start."""

import functools
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cdc.embedded.kafka import EmbeddedKafka, free_ports
from cdc.errors import EmbeddedKafkaFailed


def test_a_broker_that_does_not_start_quotes_its_log(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedKafkaFailed, match=r"not-a-number") as caught:
        EmbeddedKafka(tmp_path, overrides={"num.io.threads": "not-a-number"}).start()
    assert str(tmp_path / "kafka.log") in caught.value.hint


def test_a_broker_run_in_the_background_ends_when_told(tmp_path: Path) -> None:
    """A shell without job control starts background jobs with SIGINT ignored."""
    command = [
        sys.executable,
        "-m",
        "cdc.embedded.kafka",
        "run",
        "--data",
        str(tmp_path),
        "--port",
        str(free_ports(1)[0]),
    ]
    ignoring = functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=ignoring) as process:
        assert process.stdout is not None
        assert "listens on" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
